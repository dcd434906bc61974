import assert from "node:assert/strict";
import { test } from "node:test";
import { chain as chainShape } from "../../src/api/chains.ts";
import { drawChain } from "../../src/core/delegation/draw.ts";
import type { Chain, ChainNode } from "../../src/api/chains.ts";
import { taskChain } from "../../src/tasks/chain.ts";
import { strike } from "../audit/ledger-world.ts";
import { HUMAN, id, taskWorld, type TaskWorld } from "./task-world.ts";

const read = async (world: TaskWorld): Promise<Chain> => {
  const found = await taskChain(world.deps, world.txn);
  assert.ok(found);
  return found;
};

/** agent: status, tokens, refusals; and the same below. */
function outline(node: ChainNode): unknown[] {
  return [
    node.agent,
    node.status,
    node.tokens.map((token) => `${token.kind} ${token.status}`),
    ...node.children.map(outline),
  ];
}

test("the chain of a task nests its agents, each with what it was given", async (t) => {
  const world = await taskWorld(t);
  const chain = await read(world);
  assert.deepEqual(outline(chain.root), [
    "triage-bot",
    "open",
    ["access live", "hand_over live"],
    ["summary-bot", "open", ["access live", "hand_over live"], ["writer-bot", "open", ["access live"]]],
  ]);
  assert.deepEqual(
    [chain.sub, chain.subject, chain.opener, chain.purpose, chain.status],
    [HUMAN, "human", "triage-bot", "triage inbox", "open"],
  );
  assert.deepEqual(chain.root.children[0]?.scopes, ["billing:read_invoice"]);
});

test("of the human's claims the chain tells none but sub and email", async (t) => {
  const world = await taskWorld(t);
  const chain = await read(world);
  assert.equal(chain.email, "ana@acme.example");
  assert.doesNotMatch(JSON.stringify(chain), /\+1 555 0100|support/);
});

test("the chain fits its wire shape", async (t) => {
  const world = await taskWorld(t);
  chainShape.parse(await read(world));
});

test("the chain draws the same after the records of its tokens were swept", async (t) => {
  const world = await taskWorld(t);
  world.hand.advance(50);
  const before = await read(world);
  await world.admin("delete from ephor.hops");
  assert.deepEqual(await read(world), before);
  assert.deepEqual(
    before.root.tokens.map(({ status }) => status),
    ["expired", "expired"],
  );
});

test("a killed agent is dead with all below it, and the one above lives", async (t) => {
  const world = await taskWorld(t);
  const killId = await strike(world, ["agent:summary-bot"]);
  const chain = await read(world);
  assert.deepEqual(outline(chain.root), [
    "triage-bot",
    "open",
    ["access live", "hand_over live"],
    ["summary-bot", "killed", ["access killed", "hand_over killed"], ["writer-bot", "killed", ["access killed"]]],
  ]);
  assert.deepEqual([chain.status, chain.kill_ids], ["open", [killId]]);
});

test("a killed task, an ended one and an expired one say so", async (t) => {
  const world = await taskWorld(t);
  world.hand.advance(3_600);
  assert.deepEqual([(await read(world)).status, (await read(world)).root.children[0]?.status], ["expired", "expired"]);
  await world.admin("update ephor.tasks set ended_at = $1", [world.clock.now()]);
  assert.deepEqual([(await read(world)).status, (await read(world)).root.children[0]?.status], ["ended", "ended"]);
  await strike(world, [`txn:${world.txn}`]);
  assert.deepEqual([(await read(world)).status, (await read(world)).root.children[0]?.status], ["killed", "killed"]);
});

test("a token of an ended task is not shown as live", async (t) => {
  const world = await taskWorld(t);
  await world.admin("update ephor.tasks set ended_at = $1", [world.clock.now()]);
  assert.deepEqual(
    (await read(world)).root.tokens.map(({ status }) => status),
    ["expired", "expired"],
  );
});

test("a refusal is told at the node that it concerns, at its agent's node, or apart for a stranger", async (t) => {
  const world = await taskWorld(t);
  await strike(world, ["agent:writer-bot"]);
  assert.equal((await world.token(world.writer)).outcome, "killed");
  const refuse = (agent: string) =>
    world.recorderOne.refused(
      { type: "token.issue", agent, txn: world.txn, resource: "crm", facts: { scope: "crm:write" } },
      "scope_not_granted",
    );
  await refuse("summary-bot");
  await refuse("thief-bot");
  const chain = await read(world);
  const summary = chain.root.children[0];
  assert.deepEqual(
    summary?.children[0]?.refusals.map(({ reason, agent }) => [agent, reason]),
    [["writer-bot", "killed"]],
  );
  assert.deepEqual(
    summary?.refusals.map(({ reason, resource, scopes }) => [reason, resource, scopes]),
    [["scope_not_granted", "crm", ["crm:write"]]],
  );
  assert.deepEqual(
    chain.refusals.map(({ agent }) => agent),
    ["thief-bot"],
  );
  assert.deepEqual(chain.root.refusals, []);
});

test("a task that is not there has no chain", async (t) => {
  const world = await taskWorld(t);
  assert.equal(await taskChain(world.deps, id()), undefined);
  assert.equal(await taskChain(world.deps, world.toSummary), undefined);
});

test("drawChain draws the tree as text", async (t) => {
  const world = await taskWorld(t);
  await strike(world, ["agent:summary-bot"], "kill_1");
  const lines = drawChain(await read(world));
  const shape = lines.map((line) => line.replaceAll(/[0-9A-HJKMNP-TV-Z]{26}/g, "ID"));
  assert.deepEqual(shape, [
    "task ID  open until 2026-11-22T03:00:00Z",
    'for okta|00u1ab (ana@acme.example), "triage inbox"',
    "killed by kill_1",
    "triage-bot  open",
    "├─ token ID  billing:read_invoice at https://billing.acme.example  live until 2026-11-22T02:00:45Z",
    "├─ hand-over ID  billing:read_invoice at https://sts.acme.example/agents/summary-bot  live until 2026-11-22T02:00:45Z",
    "└─ summary-bot  killed  at most billing:read_invoice",
    "   ├─ token ID  billing:read_invoice at https://billing.acme.example  killed",
    "   ├─ hand-over ID  billing:read_invoice at https://sts.acme.example/agents/writer-bot  killed",
    "   └─ writer-bot  killed  at most billing:read_invoice",
    "      └─ token ID  billing:read_invoice at https://billing.acme.example  killed",
  ]);
});

test("drawChain draws the newest tokens of a long task and counts the rest", async (t) => {
  const world = await taskWorld(t);
  const chain = await read(world);
  const [token] = chain.root.tokens;
  assert.ok(token);
  const tokens = Array.from({ length: 20 }, (_, i) => ({ ...token, jti: `j${i}` }));
  const lines = drawChain({ ...chain, root: { ...chain.root, tokens } }, { maxTokens: 3 });
  assert.ok(lines.includes("├─ (17 older tokens)"));
  assert.deepEqual(
    lines.flatMap((line) => /token (j\d+)/.exec(line)?.[1] ?? []),
    ["j17", "j18", "j19"],
  );
});
