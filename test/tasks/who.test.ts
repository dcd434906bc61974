import assert from "node:assert/strict";
import { test } from "node:test";
import { whoAnswer } from "../../src/api/who.ts";
import { sha256Base64url, sha256Hex } from "../../src/system/hash.ts";
import { whoIs } from "../../src/tasks/who.ts";
import { ask, strike } from "../audit/ledger-world.ts";
import { HUMAN, id, taskWorld } from "./task-world.ts";

test("a jti leads to the human, the agents with their owners, the task, the grants and the state", async (t) => {
  const world = await taskWorld(t);
  const [row] = await world.admin<{ jti: string }>("select jti from ephor.hops where actor = 'writer-bot'");
  const { matches } = await whoIs(world.deps, row?.jti ?? "");
  assert.equal(matches.length, 1);
  const [match] = matches;
  assert.deepEqual(
    [match?.kind, match?.sub, match?.path, match?.txn, match?.status, match?.grants, match?.scopes, match?.resource],
    [
      "jti",
      HUMAN,
      ["triage-bot", "summary-bot", "writer-bot"],
      world.txn,
      "live",
      ["billing-read"],
      ["billing:read_invoice"],
      "billing",
    ],
  );
  assert.equal(match?.owner, "owner-of-writer-bot@acme.example");
  assert.deepEqual(match?.owners, {
    "triage-bot": "owner-of-triage-bot@acme.example",
    "summary-bot": "owner-of-summary-bot@acme.example",
    "writer-bot": "owner-of-writer-bot@acme.example",
  });
});

test("a jti answers the same after the token, its task and its node are gone", async (t) => {
  const world = await taskWorld(t);
  const before = (await whoIs(world.deps, world.opened)).matches[0];
  world.hand.advance(40 * 86_400);
  for (const table of ["hops", "nodes", "tasks"]) await world.admin(`delete from ephor.${table}`);
  const after = (await whoIs(world.deps, world.opened)).matches;
  assert.deepEqual(after, [{ ...before, status: "expired" }]);
});

test("a hand-over's jti is a token and the node that was made of it", async (t) => {
  const world = await taskWorld(t);
  const { matches } = await whoIs(world.deps, world.toSummary);
  assert.deepEqual(
    matches.map(({ kind, path }) => [kind, path]),
    [
      ["jti", ["triage-bot"]],
      ["node", ["triage-bot", "summary-bot"]],
    ],
  );
});

test("a txn leads to who opened it and for whom, also when its row was swept", async (t) => {
  const world = await taskWorld(t);
  const { matches } = await whoIs(world.deps, world.txn);
  assert.deepEqual(
    matches.map(({ kind, sub, path, purpose, status }) => [kind, sub, path, purpose, status]),
    [["txn", HUMAN, ["triage-bot"], "triage inbox", "open"]],
  );
  for (const table of ["hops", "nodes", "tasks"]) await world.admin(`delete from ephor.${table}`);
  const swept = (await whoIs(world.deps, world.txn)).matches;
  assert.deepEqual(
    swept.map(({ kind, sub, path, status }) => [kind, sub, path, status]),
    [["txn", HUMAN, ["triage-bot"], "expired"]],
  );
});

test("a trace id leads to every chain that carried it, one line each", async (t) => {
  const world = await taskWorld(t);
  await world.gateOne.submit(ask({ agent: "other-bot" }));
  const { matches } = await whoIs(world.deps, "4bf92f3577b34da6a3ce929d0e0e4736");
  assert.deepEqual(matches.map(({ kind, path }) => [kind, path]).sort(), [
    ["trace", ["other-bot"]],
    ["trace", ["triage-bot"]],
  ]);
});

test("an event id and a kill id lead to who did it", async (t) => {
  const world = await taskWorld(t);
  const killId = await strike(world, ["agent:summary-bot"]);
  const [kill] = (await whoIs(world.deps, killId)).matches;
  assert.deepEqual([kill?.kind, kill?.path, kill?.purpose], ["kill", ["operator:dana"], "test"]);
  const [event] = (await whoIs(world.deps, kill?.event_id ?? "")).matches;
  assert.deepEqual([event?.kind, event?.path, event?.status], ["event", ["operator:dana"], undefined]);
});

test("a killed token is told as killed, its sibling as live", async (t) => {
  const world = await taskWorld(t);
  await strike(world, [`jti:${world.opened}`]);
  assert.equal((await whoIs(world.deps, world.opened)).matches[0]?.status, "killed");
  assert.equal((await whoIs(world.deps, world.toSummary)).matches[0]?.status, "live");
});

test("ids that name nothing have no match: unknown ones, SHA-256 of a token, and what is no id", async (t) => {
  const world = await taskWorld(t);
  for (const unknown of [
    id(),
    `evt_${id()}`,
    `kill_${id()}`,
    sha256Hex("x"),
    sha256Base64url("x"),
    "f".repeat(32),
    "%' or 1=1",
    "x",
  ]) {
    assert.deepEqual((await whoIs(world.deps, unknown)).matches, [], unknown);
  }
});

test("the answer fits its wire shape", async (t) => {
  const world = await taskWorld(t);
  for (const asked of [
    world.opened,
    world.txn,
    world.toSummary,
    "4bf92f3577b34da6a3ce929d0e0e4736",
    await strike(world, ["agent:x"]),
  ]) {
    const who = await whoIs(world.deps, asked);
    assert.ok(who.matches.length > 0);
    whoAnswer.parse(who);
  }
});
