import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { GATE_LOCK, holdLock } from "../support/held-lock.ts";
import { eventsOf, until } from "./stage.ts";
import { awsStage, sessionsOf, factsOf } from "./aws-stage.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const s = await awsStage({ after });
const { w, sts, dynamo } = s;
const second = await w.replica();
beforeEach(() => {
  w.clock.advance(1);
  dynamo.seen.length = 0;
});

async function kill(what: Record<string, unknown>): Promise<void> {
  const killed = await w.operator("POST", "/v1/kill", { ...what, reason: "a test" });
  assert.equal(killed.status, 200, killed.text);
}
async function restore(what: Record<string, unknown>): Promise<void> {
  const restored = await w.operator("POST", "/v1/restore", { ...what, reason: "a test" });
  assert.equal(restored.status, 200, restored.text);
}
/** Leases that have not ended. */
const open = (): Promise<{ id: string }[]> =>
  w.admin<{ id: string }>("select id from ephor.leases where status <> 'ended'");
const leaseOf = async (): Promise<string> => String(factsOf((await eventsOf(w, "call.forward"))[0])["lease"]);

test("INV-08, A-KILL-04 a killed chain's sessions serve no further call on any replica, and their leases end", async () => {
  const workload = w.workload("release-bot");
  const token = await s.token("orders", { workload });
  assert.equal((await s.getItem(token)).status, 200);
  assert.equal((await s.getItem(token, { url: second.url })).status, 200);
  // Each replica has a session of its own.
  assert.equal(new Set(dynamo.seen.map(({ signer }) => signer)).size, 2);
  const txn = (await eventsOf(w, "call.forward"))[0]?.["txn"];
  await kill({ txn });
  const before = sessionsOf(sts).length;
  for (const url of [w.url, second.url]) assert.equal((await s.getItem(token, { url })).status, 401);
  assert.deepEqual([dynamo.seen.length, sessionsOf(sts).length], [2, before]);
  await until(async () => (await open()).length === 0, "the leases end");
});

test("a killed lease is used no more, and the next call has another session", async () => {
  const workload = w.workload("release-bot");
  assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
  const lease = await leaseOf();
  assert.match(lease, /^lease_/);
  await kill({ lease });
  assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
  const [first, next] = dynamo.seen.map(({ signer }) => signer);
  assert.notEqual(first, next);
  assert.notEqual(await leaseOf(), lease);
});

test("A-KILL-05 a killed credential resource stops every call that needs it, until it is restored; its session never comes back", async () => {
  const workload = w.workload("release-bot");
  assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
  await kill({ resource: "aws-prod" });
  for (const url of [w.url, second.url]) {
    const token = await s.token("orders", { workload });
    assert.equal((await s.getItem(token, { url })).status, 401);
  }
  assert.equal(dynamo.seen.length, 1);
  // By their task: two replicas have no order within a second that stands still.
  const txn = String((await eventsOf(w, "call.forward"))[0]?.["txn"]);
  const calls = (await w.events({ txn })).filter(({ type }) => type === "call.forward");
  assert.deepEqual(calls.map(({ reason }) => reason).toSorted(), ["killed", "killed", undefined]);
  await restore({ resource: "aws-prod" });
  assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
  const [first, next] = dynamo.seen.map(({ signer }) => signer);
  assert.notEqual(first, next);
});

test("A-KILL-03, INV-12 a kill while the role is taken up leaves no session that a call could use", async () => {
  const workload = w.workload("release-bot");
  const token = await s.token("orders", { workload });
  const before = sessionsOf(sts).length;
  // AWS answers after the kill.
  sts.next({ code: "ServiceUnavailable", status: 503, meanwhile: () => kill({ agent: "release-bot" }) });
  assert.equal((await s.getItem(token)).status, 401);
  assert.equal(dynamo.seen.length, 0);
  assert.ok(sessionsOf(sts).length > before);
  await restore({ agent: "release-bot" });
  await until(async () => (await open()).length === 0, "the lease ends");
});

test("a completed task ends its sessions' leases, and its token is nothing any more", async () => {
  const workload = w.workload("release-bot");
  const token = await s.token("orders", { workload });
  assert.equal((await s.getItem(token)).status, 200);
  const txn = String((await eventsOf(w, "call.forward"))[0]?.["txn"]);
  const headers = { authorization: `Bearer ${workload}` };
  assert.equal((await w.request("POST", `/v1/tasks/${txn}/complete`, { headers })).status, 200);
  const late = await s.getItem(token);
  assert.ok([401, 409].includes(late.status), late.text);
  assert.equal(dynamo.seen.length, 1);
  await until(async () => (await open()).length === 0, "the lease ends");
});

test("INV-24 while the gate cannot be asked, a session that is there signs nothing", async () => {
  const workload = w.workload("release-bot");
  const token = await s.token("orders", { workload });
  assert.equal((await s.getItem(token)).status, 200);
  const lock = await holdLock(w.databaseUrl, "select pg_advisory_xact_lock($1)", [GATE_LOCK]);
  try {
    const answer = await s.getItem(token);
    assert.equal(answer.status, 503, answer.text);
  } finally {
    await lock.release();
  }
  assert.equal(dynamo.seen.length, 1);
});

test("INV-09 a kill that is committed while a call waits for the gate is seen there, also where only its session is killed", async () => {
  for (const of of ["lease", "resource"] as const) {
    const workload = w.workload("release-bot");
    const token = await s.token("orders", { workload });
    assert.equal((await s.getItem(token)).status, 200);
    const { length } = dynamo.seen;
    const lease = await leaseOf();
    const lock = await holdLock(w.databaseUrl, "select pg_advisory_xact_lock($1)", [GATE_LOCK]);
    // In this order: the kill first, the call after it.
    const killed = kill(of === "lease" ? { lease } : { resource: "aws-prod" });
    await lock.waiting(1);
    const called = s.getItem(token);
    await lock.waiting(2);
    await lock.release();
    await killed;
    assert.equal((await called).status, 401, of);
    assert.equal(dynamo.seen.length, length);
    if (of === "resource") await restore({ resource: "aws-prod" });
  }
});

test("what was made by an entry that was changed meanwhile goes nowhere", async () => {
  const token = await s.token("orders", { workload: w.workload("release-bot") });
  const changed = s.trust.replace("secret: aws-root", "secret: aws-root\n        tags: { team: data }");
  // AWS answers after the change.
  sts.next({ code: "ServiceUnavailable", status: 503, meanwhile: () => w.apply(changed, "aws.yaml") });
  assert.equal((await s.getItem(token)).status, 503);
  assert.equal(dynamo.seen.length, 0);
  assert.equal((await s.getItem(token)).status, 200);
  assert.equal(sts.sessions.get(dynamo.seen[0]?.signer ?? "")?.tags["team"], "data");
  await w.apply(s.trust, "aws.yaml");
});

test("a credential resource that is changed makes a new session, with its next call", async () => {
  const workload = w.workload("release-bot");
  const call = async () => assert.equal((await s.getItem(await s.token("orders", { workload }))).status, 200);
  await call();
  await w.apply(s.trust.replace("secret: aws-root", "secret: aws-root\n        tags: { team: platform }"), "aws.yaml");
  await call();
  await call();
  const teams = dynamo.seen.map(({ signer }) => sts.sessions.get(signer)?.tags["team"]);
  assert.deepEqual(teams, [undefined, "platform", "platform"]);
  assert.equal(new Set(dynamo.seen.map(({ signer }) => signer)).size, 2);
});
