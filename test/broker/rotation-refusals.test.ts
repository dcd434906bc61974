import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { holdLock } from "../support/held-lock.ts";
import type { Answer } from "../support/world.ts";
import { first, letsIn, login, rotate, set, told, until, versionOf, w, waiting } from "./rotation-stage.ts";

test("A-SEC what cannot be rotated is refused: unknown, unused, static, shared by several kinds or places", async () => {
  await w.operator("PUT", "/v1/secrets/crm-key", { value: "crm" });
  await w.operator("PUT", "/v1/secrets/unused", { value: "unused" });
  await w.operator("PUT", "/v1/secrets/mixed-admin", { value: "mixed" });
  const cases = [
    ["nothing", 404, "not_found", /^undefined$/],
    ["unused", 422, "unprocessable", /no credential resource uses/],
    ["crm-key", 422, "unprocessable", /cannot change it at its upstream; change it there and set it; crm-key$/],
    ["mixed-admin", 422, "unprocessable", /mixed-db; mixed-key$/],
    ["shared-admin", 409, "conflict", /several places.*shared-db; shared-elsewhere$/],
  ] as const;
  for (const [name, status, code, detail] of cases) {
    const answer = await w.operator("POST", `/v1/secrets/${name}/rotate`);
    assert.equal(answer.status, status, answer.text);
    assert.equal(answer.body["code"], code);
    assert.match(String(answer.body["detail"]), detail);
  }
  assert.equal(await letsIn("shared", first.shared), true);
  assert.deepEqual(await told("shared"), ["refused not_served several_places"]);
});

test("INV-08 an agent rotates with the scope secrets of ephor, and not without it", async () => {
  const tokenFor = async (agent: string, scope: string): Promise<string> => {
    const answer = await w.self(agent, { resource: `${w.server.issuer}/v1`, scope });
    assert.equal(answer.status, 200, answer.text);
    return String(answer.body["access_token"]);
  };
  const ask = async (token?: string): Promise<Answer> =>
    w.request("POST", "/v1/secrets/calm-admin/rotate", token ? { headers: { authorization: `Bearer ${token}` } } : {});
  const before = await versionOf("calm");
  const without = await ask(await tokenFor("watch-bot", "ephor:read"));
  assert.deepEqual([without.status, without.body["code"]], [403, "insufficient_scope"]);
  assert.equal((await ask()).status, 401);
  assert.equal(await versionOf("calm"), before);
  assert.equal((await ask(await tokenFor("release-bot", "ephor:secrets"))).status, 200);
  assert.equal(await versionOf("calm"), Number(before) + 1);
  const { body } = await w.operator("GET", "/v1/secrets/calm-admin");
  assert.equal(body["updated_by"], "release-bot");
});

const KILLS: readonly [what: string, named: object, isRestored: boolean][] = [
  ["as a subject", { subject: "agent|release-bot" }, true],
  ["by the issuer that vouched for it", { issuer: "cluster" }, true],
  ["by its name, and restored", { agent: "release-bot" }, true],
  ["by its name", { agent: "release-bot" }, false],
];
for (const [what, named, isRestored] of KILLS) {
  test(`CONTRACT §2 rule 7 an agent that is killed while it waits for its turn rotates nothing: ${what}`, () =>
    killedWhileWaiting(named, isRestored));
}

async function killedWhileWaiting(named: object, isRestored: boolean): Promise<void> {
  const access = await w.self("release-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:secrets" });
  const before = await versionOf("calm");
  const requests = async (): Promise<number> =>
    (await w.events({ type: "admin.request", agent: "release-bot" })).length;
  const known = await requests();
  const hash = createHash("sha256").update("ephor one at a time\0calm-admin").digest("hex");
  const turn = await holdLock(
    w.databaseUrl,
    `select pg_advisory_lock(4202173, ${Number.parseInt(hash.slice(0, 8), 16) | 0})`,
  );
  const asking = w.request("POST", "/v1/secrets/calm-admin/rotate", {
    headers: { authorization: `Bearer ${String(access.body["access_token"])}` },
  });
  // The intent to wait is in memory: that it was let in at the edge is on the ledger.
  await until("the request", async () => (await requests()) > known);
  for (const order of isRestored ? ["kill", "restore"] : ["kill"]) {
    const killed = await w.operator("POST", `/v1/${order}`, { ...named, reason: "test" });
    assert.equal(killed.status, 200, killed.text);
  }
  await turn.release();
  const answer = await asking;
  assert.equal(answer.status, 401, answer.text);
  assert.equal(await versionOf("calm"), before);
  assert.deepEqual(await waiting("calm"), []);
}

test("a password that could not be set again as it was is not touched", async () => {
  const value = JSON.stringify({ username: login("young"), password: "pässword" });
  await set("young", value);
  const answer = await rotate("young");
  assert.equal(answer.status, 422, answer.text);
  assert.match(String(answer.body["detail"]), /secret_malformed, password_not_ascii/);
});
