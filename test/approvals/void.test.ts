import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { CRM_KEY, plain, stage } from "../proxy/stage.ts";
import { decide, work, type Work } from "./approval-stage.ts";

const s = await stage({ after });
const { w, crm } = s;

const AGENT = {
  owner: "dana@acme.example",
  trust: [{ issuer: "cluster", claims: { sub: "system:serviceaccount:agents:desk-bot" } }],
};
const RESOURCE = {
  http: `${crm.url}/api`,
  actions: { write: ["POST /contacts"] },
  inject: { header: "X-Api-Key", value: "{secret:crm-key}" },
};
const GRANT = { agent: "desk-bot", resource: "desk", actions: ["write"], approval: { by: "owner", within: "5m" } };

const ok = async (method: string, path: string, body?: unknown): Promise<void> => {
  const answer = await w.operator(method, path, body);
  assert.ok(answer.status < 300, `${method} ${path}: ${answer.status} ${answer.text}`);
};
await ok("PUT", "/v1/agents/desk-bot", AGENT);
await ok("PUT", "/v1/resources/desk", RESOURCE);
await ok("PUT", "/v1/grants/desk-writes", GRANT);
await ok("PUT", "/v1/grants/lonely-writes", { ...GRANT, agent: "lonely-bot" });

const atDesk = (o: { subject?: string } = {}): Promise<Work> => work(s, { agent: "desk-bot", resource: "desk", ...o });

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

const statusOf = async (id: string): Promise<unknown> =>
  (await w.operator("GET", `/v1/approvals/${id}`)).body["status"];

/** Two calls of one node: one approved, one that waits. */
async function approved(of: Work, n: number): Promise<{ approved: string; waits: string }> {
  const one = await of.waits({ n, which: "approved" });
  const other = await of.waits({ n, which: "waits" });
  assert.equal((await decide(s, one.approval.id)).status, 200);
  return { approved: one.approval.id, waits: other.approval.id };
}

/** Both are void: using asks anew or is refused, deciding conflicts. */
async function isVoid(of: Work, n: number, ids: { approved: string; waits: string }): Promise<void> {
  assert.deepEqual([await statusOf(ids.approved), await statusOf(ids.waits)], ["void", "void"]);
  assert.equal((await decide(s, ids.waits)).status, 409);
  assert.equal((await decide(s, ids.approved)).status, 409);
  const next = await of.waits({ n, which: "approved" });
  assert.notEqual(next.approval.id, ids.approved);
  assert.equal(crm.seen.length, 0);
}

test("A-APP-03 a changed grant voids it; the same grant applied again does not", async () => {
  const mine = await atDesk();
  const ids = await approved(mine, 1);
  await ok("PUT", "/v1/grants/desk-writes", GRANT);
  assert.equal(await statusOf(ids.approved), "approved");
  await ok("PUT", "/v1/grants/desk-writes", { ...GRANT, ttl: "30s" });
  await isVoid(mine, 1, ids);
  await ok("PUT", "/v1/grants/desk-writes", GRANT);

  const kept = await approved(mine, 2);
  await ok("PUT", "/v1/grants/lonely-writes", { ...GRANT, agent: "lonely-bot", ttl: "30s" });
  assert.equal((await mine.post({ n: 2, which: "approved" })).status, 200, "another grant is not this one");
  assert.equal(await statusOf(kept.approved), "used");
});

test("A-APP-03 what was changed at one replica counts at another at once", async () => {
  const another = await w.replica();
  const mine = await atDesk();
  await approved(mine, 20);
  await ok("PUT", "/v1/grants/desk-writes", { ...GRANT, once: true });
  const answer = await mine.post({ n: 20, which: "approved" }, { url: another.url });
  assert.equal(answer.status, 403, answer.text);
  await ok("PUT", "/v1/grants/desk-writes", GRANT);
});

test("A-APP-03 a secret that is replaced voids it; another one does not", async () => {
  const mine = await atDesk();
  const ids = await approved(mine, 3);
  await ok("PUT", "/v1/secrets/other-key", { value: "something" });
  assert.equal(await statusOf(ids.approved), "approved");
  await ok("PUT", "/v1/secrets/crm-key", { value: CRM_KEY });
  await isVoid(mine, 3, ids);
});

test("A-APP-03 a changed resource, and another owner of the agent, void it", async () => {
  const mine = await atDesk();
  const ids = await approved(mine, 4);
  await ok("PUT", "/v1/resources/desk", { ...RESOURCE, forward: ["X-Page"] });
  await isVoid(mine, 4, ids);
  await ok("PUT", "/v1/resources/desk", RESOURCE);

  const later = await approved(mine, 5);
  await ok("PUT", "/v1/agents/desk-bot", { ...AGENT, owner: "sam@acme.example" });
  await isVoid(mine, 5, later);
  await ok("PUT", "/v1/agents/desk-bot", AGENT);
});

test("A-APP-03 a kill voids it, also when what was killed is restored; a kill of something else does not", async () => {
  const mine = await atDesk();
  const ids = await approved(mine, 5);
  await ok("POST", "/v1/kill", { agent: "watch-bot", reason: "test" });
  assert.equal(await statusOf(ids.approved), "approved");
  await ok("POST", "/v1/kill", { resource: "desk", reason: "test" });
  await ok("POST", "/v1/restore", { resource: "desk", reason: "test" });
  await isVoid(mine, 5, ids);

  const later = await approved(mine, 6);
  await ok("POST", "/v1/kill", { txn: mine.txn, reason: "test" });
  assert.deepEqual([await statusOf(later.approved), await statusOf(later.waits)], ["void", "void"]);
  assert.equal((await decide(s, later.waits)).status, 409);
});

test("A-APP-03 the end of its task voids it", async () => {
  const subject = w.workload("desk-bot");
  const mine = await atDesk({ subject });
  const ids = await approved(mine, 7);
  const done = await w.request("POST", `/v1/tasks/${mine.txn}/complete`, {
    headers: { authorization: `Bearer ${w.workload("desk-bot")}` },
  });
  assert.equal(done.status, 200, done.text);
  assert.deepEqual([await statusOf(ids.approved), await statusOf(ids.waits)], ["void", "void"]);
  assert.equal((await decide(s, ids.waits)).status, 409);
});

test("A-APP-03 a token that is revoked takes nothing with it: an approval is not bound to the token", async () => {
  const mine = await atDesk();
  const ids = await approved(mine, 8);
  const { jti } = JSON.parse(Buffer.from((await mine.token()).split(".")[1] ?? "", "base64url").toString()) as {
    jti: string;
  };
  await ok("POST", "/v1/kill", { jti, reason: "test" });
  assert.equal((await mine.post({ n: 8, which: "approved" })).status, 200);
  assert.equal(await statusOf(ids.approved), "used");
});

test("A-APP-06 when its time is over nothing is decided and nothing passes; a second before it does", async () => {
  const mine = await atDesk();
  const late = await approved(mine, 9);
  const intime = await approved(mine, 10);
  w.clock.advance(299);
  assert.equal((await mine.post({ n: 10, which: "approved" })).status, 200);
  assert.equal((await decide(s, intime.waits)).status, 200);
  w.clock.advance(1);
  const next = await mine.waits({ n: 9, which: "approved" });
  assert.notEqual(next.approval.id, late.approved);
  assert.deepEqual([await statusOf(late.approved), await statusOf(late.waits)], ["expired", "expired"]);
  assert.equal((await decide(s, late.waits)).status, 409);
  assert.notEqual(
    (await mine.waits({ n: 10, which: "waits" })).approval.id,
    intime.waits,
    "approved, and not used in time",
  );
});

test("a crowd of calls of one chain is bounded, and another chain asks on", async () => {
  const mine = await atDesk();
  for (let n = 0; n < 100; n++) await mine.waits({ crowd: n });
  const refused = await mine.post({ crowd: 100 });
  assert.equal(refused.status, 403);
  assert.match(refused.text, /access_denied/);
  await mine.waits({ crowd: 3 });
  await (await atDesk()).waits({ crowd: 100 });
});
