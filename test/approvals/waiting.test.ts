import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { plain, stage, until, type Raw } from "../proxy/stage.ts";
import { decide, decideAs, work, type Notice, type Work } from "./approval-stage.ts";

const GRANTS = `
  - { agent: release-bot, resource: crm, actions: [read] }
  - { agent: release-bot, resource: crm, actions: [write], name: release-writes, approval: { by: [owner, { agent: watch-bot }], within: 5m } }
  - { agent: lonely-bot, resource: crm, actions: [write], approval: { by: owner, within: 10s } }
  - { agent: release-bot, resource: narrow, actions: [write], name: narrow-writes, approval: { by: owner } }
  - { agent: watch-bot, resource: ephor, actions: [approve], name: watch-approves }`;
const s = await stage(
  { after },
  {
    resource: `
  narrow:
    http: http://127.0.0.1:9
    actions: { write: ["POST /contacts"] }
    limits: { concurrent: 2 }`,
    grants: GRANTS,
  },
);
const { w, crm } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

const waiting = { prefer: "wait=300" };

/** Fails where something does not end that should. */
function soon<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("it still waits")), 20_000);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

interface Held {
  readonly answer: Promise<Raw>;
  /** The approval that it waits for. */
  readonly id: string;
  isOver(): boolean;
}

/** Approvals of a chain that are pending, oldest first. */
async function pendingOf({ txn }: Pick<Work, "txn">): Promise<string[]> {
  const list = await w.operator("GET", `/v1/approvals?limit=200&txn=${txn}`);
  const items = list.body["items"] as { id: string; txn: string }[];
  assert.ok(items.every((one) => one.txn === txn));
  return items.map(({ id }) => id).toReversed();
}

/** Calls that a replica holds. */
async function waitingAt(url: string): Promise<number> {
  const { text } = await w.request("GET", `${url}/metrics`);
  return Number(/^ephor_waiting_calls (\d+)$/m.exec(text)?.[1]);
}

/** A call that is held until somebody decides: it waits when this returns. */
async function held(
  job: Work,
  body: unknown,
  o: { headers?: Record<string, string>; url?: string } = {},
): Promise<Held> {
  const { url = w.url } = o;
  const [before, others] = [await pendingOf(job), await waitingAt(url)];
  let isOver = false;
  const answer = soon(job.post(body, { ...o, headers: { ...waiting, ...o.headers } }));
  void answer.then(() => (isOver = true));
  let id: string | undefined;
  await until(async () => {
    assert.ok(!isOver, (await Promise.race([answer, undefined]))?.text);
    id = (await pendingOf(job)).find((one) => !before.includes(one));
    return id !== undefined && (await waitingAt(url)) === others + 1;
  }, "somebody is asked");
  return { answer, id: id ?? "", isOver: () => isOver };
}

/** Time for whatever would answer a call: several requests, and as many looks at what waits. */
async function aWhile(): Promise<void> {
  const end = performance.now() + 400;
  while (performance.now() < end) await w.operator("GET", "/v1/approvals?limit=1");
}

const callsOf = async ({ txn }: Pick<Work, "txn">): Promise<Record<string, unknown>[]> =>
  (await w.events({ txn })).filter((event) => event["type"] === "call.forward");

/** Newest first. */
const refusalsOf = async (job: Pick<Work, "txn">, id: string): Promise<unknown[]> =>
  (await callsOf(job))
    .filter((event) => event["decision"] === "refused" && JSON.stringify(event).includes(id))
    .map((event) => event["reason"]);

const problemOf = ({ status, text }: Raw): Notice & { code: string } => {
  assert.equal(status, 403, text);
  return JSON.parse(text) as Notice & { code: string };
};

test("Prefer: wait holds a call until it is approved, and it goes on once, in the same request", async () => {
  const job = await work(s);
  const body = { name: "Ann" };
  const call = await held(job, body);
  await aWhile();
  assert.ok(!call.isOver());
  assert.equal(crm.seen.length, 0);
  w.clock.advance(7);
  const done = await decide(s, call.id);
  assert.equal(done.body["status"], "approved", done.text);
  const answer = await call.answer;
  assert.equal(answer.status, 200, answer.text);
  assert.equal(crm.seen.length, 1);
  assert.equal(crm.seen[0]?.body, JSON.stringify(body));
  const used = await w.operator("GET", `/v1/approvals/${call.id}`);
  assert.equal(used.body["status"], "used");
  assert.deepEqual(await refusalsOf(job, call.id), ["approval_required"]);
  const granted = (await callsOf(job)).find((event) => event["decision"] === "granted");
  assert.match(JSON.stringify(granted), /"waited":7/);
  const next = problemOf(await job.post(body));
  assert.notEqual(next.approval.id, call.id, "used, and not once more");
  assert.equal(crm.seen.length, 1);
});

test("a call without Prefer: wait is answered at once, and so is one that waits for nothing", async () => {
  const job = await work(s);
  for (const headers of [{}, { prefer: "wait=0" }, { prefer: "return=minimal" }, { prefer: "waiting=9" }])
    assert.equal(problemOf(await job.post({ name: "Bo" }, { headers })).approval.status, "pending");
});

test("a denial ends the wait: refused as denied, nothing is forwarded", async () => {
  const job = await work(s);
  const call = await held(job, { name: "Cy" });
  await decide(s, call.id, "deny");
  const { code, approval } = problemOf(await call.answer);
  assert.deepEqual([code, approval.id, approval.status], ["approval_denied", call.id, "denied"]);
  assert.deepEqual(await refusalsOf(job, call.id), ["approval_denied", "approval_required"]);
  assert.equal(crm.seen.length, 0);
});

test("nobody decides: the call is answered with its approval 5 s before its token ends, or when Prefer says, if that is sooner", async () => {
  const job = await work(s);
  const long = await held(job, { name: "Di" });
  const short = await held(job, { name: "Di", second: true }, { headers: { prefer: "respond-async, wait=10" } });
  w.clock.advance(9);
  await aWhile();
  assert.ok(!short.isOver());
  w.clock.advance(1);
  assert.equal(problemOf(await short.answer).approval.id, short.id);
  w.clock.advance(29);
  await aWhile();
  assert.ok(!long.isOver(), "39 s of 45");
  w.clock.advance(1);
  const { code, approval, decision } = problemOf(await long.answer);
  assert.deepEqual([code, approval.id, approval.status], ["approval_required", long.id, "pending"]);
  assert.equal((await w.operator("GET", `/v1/explain/${decision}`)).status, 200);
  await decide(s, long.id);
  assert.equal((await job.post({ name: "Di" })).status, 200, "the same call with a fresh token");
  assert.equal(crm.seen.length, 1);
});

test("A-APP-06 the approval's time passes while the call waits: DENIED, and recorded so", async () => {
  const job = await work(s, { agent: "lonely-bot" });
  const call = await held(job, { name: "Ed" });
  w.clock.advance(9);
  await aWhile();
  assert.ok(!call.isOver());
  w.clock.advance(1);
  const { code, approval } = problemOf(await call.answer);
  assert.deepEqual([code, approval.id, approval.status], ["approval_denied", call.id, "expired"]);
  assert.deepEqual(await refusalsOf(job, call.id), ["approval_expired", "approval_required"]);
  assert.equal((await decide(s, call.id)).status, 409);
  assert.equal(crm.seen.length, 0);
});

test("a caller that went away is waited for no more; what is approved then waits for its next call", async () => {
  const job = await work(s);
  const [before, others] = [await pendingOf(job), await waitingAt(w.url)];
  const leaving = new AbortController();
  const gone = fetch(`${w.url}/http/crm/contacts`, {
    method: "POST",
    signal: leaving.signal,
    headers: { authorization: `Bearer ${await job.token()}`, "content-type": "application/json", ...waiting },
    body: '{"name":"Flo"}',
  });
  await until(
    async () => (await pendingOf(job)).length > before.length && (await waitingAt(w.url)) === others + 1,
    "somebody is asked",
  );
  const [id = ""] = await pendingOf(job);
  leaving.abort();
  await assert.rejects(gone);
  await until(async () => (await waitingAt(w.url)) === others, "its wait is over");
  await decide(s, id);
  await aWhile();
  assert.equal(crm.seen.length, 0);
  assert.equal((await w.operator("GET", `/v1/approvals/${id}`)).body["status"], "approved");
  assert.equal((await job.post({ name: "Flo" })).status, 200);
});

for (const [what, target] of [
  ["its chain", (job: Work) => ({ txn: job.txn })],
  ["the resource", () => ({ resource: "crm", for: "1m" })],
] as const)
  test(`a kill of ${what} cuts a waiting call at once, and approving it afterwards brings nothing`, async (t) => {
    t.after(() => w.operator("POST", "/v1/restore", { resource: "crm", reason: "test" }));
    const job = await work(s);
    const call = await held(job, { name: "Gus", what });
    const killed = await w.operator("POST", "/v1/kill", { ...target(job), reason: "test" });
    assert.equal(killed.status, 200, killed.text);
    const answer = await call.answer;
    assert.equal(answer.status, 401, answer.text);
    const [last] = await callsOf(job);
    assert.deepEqual([last?.["decision"], last?.["reason"]], ["refused", "killed"]);
    assert.equal((await decide(s, call.id)).status, 409);
    assert.equal(crm.seen.length, 0);
  });

test("two that wait for one approval: one passes, the other waits for another (A-APP-02)", async () => {
  const job = await work(s);
  const first = await held(job, { name: "Hal" });
  const second = soon(job.post({ name: "Hal" }, { headers: waiting }));
  await until(async () => (await refusalsOf(job, first.id)).length === 2, "both ask");
  await decide(s, first.id);
  await until(async () => (await pendingOf(job)).length === 1, "another approval is asked for");
  const [next = ""] = await pendingOf(job);
  assert.notEqual(next, first.id);
  await decide(s, next, "deny");
  const answers = await Promise.all([first.answer, second]);
  assert.deepEqual(answers.map(({ status }) => status).toSorted(), [200, 403]);
  assert.equal(crm.seen.length, 1);
});

test("A-APP-03 a change of what it hangs on is seen while it waits: another grant asks anew, no grant refuses", async () => {
  const usual = { agent: "summary-bot", resource: "crm", actions: ["write"], approval: { by: "owner", within: "5m" } };
  assert.ok((await w.operator("PUT", "/v1/grants/changing", usual)).status < 300);
  const job = await work(s, { agent: "summary-bot" });
  const call = await held(job, { name: "Ida" });
  const changed = await w.operator("PUT", "/v1/grants/changing", {
    ...usual,
    approval: { by: "owner", within: "4m" },
  });
  assert.ok(changed.status < 300, changed.text);
  let next: string | undefined;
  await until(async () => {
    next = (await pendingOf(job)).find((id) => id !== call.id);
    return next !== undefined;
  }, "asked anew");
  assert.ok(!call.isOver());
  const gone = await w.operator("DELETE", "/v1/grants/changing");
  assert.ok(gone.status < 300, gone.text);
  const answer = await call.answer;
  assert.equal((JSON.parse(answer.text) as { code: string }).code, "access_denied");
  const [last] = await callsOf(job);
  assert.deepEqual([last?.["decision"], last?.["reason"]], ["refused", "scope_not_granted"]);
  assert.equal(crm.seen.length, 0);
});

test("waiting calls are calls in progress: beyond the resource's limit the next is 429", async () => {
  const job = await work(s, { resource: "narrow" });
  const post = async (n: number): Promise<Raw> =>
    await soon(
      s.send("POST", "/http/narrow/contacts", {
        token: await job.token(),
        headers: { "content-type": "application/json", ...waiting },
        body: JSON.stringify({ n }),
      }),
    );
  const two = [post(1), post(2)];
  await until(async () => (await pendingOf(job)).length === 2, "both wait");
  const third = await post(3);
  assert.equal(third.status, 429, third.text);
  assert.equal((JSON.parse(third.text) as { code: string }).code, "too_many_streams");
  for (const id of await pendingOf(job)) await decide(s, id, "deny");
  assert.deepEqual(
    (await Promise.all(two)).map(({ status }) => status),
    [403, 403],
  );
});

test("several calls of one chain wait at once, each for an approval of its own under the chain's txn", async () => {
  const [job, other] = [await work(s), await work(s, { subject: w.workload("release-bot", { jti: "another" }) })];
  const calls = [await held(job, { n: 1 }), await held(job, { n: 2 }), await held(job, { n: 3 })];
  const apart = await held(other, { n: 1 });
  assert.notEqual(job.txn, other.txn);
  assert.deepEqual((await pendingOf(job)).toSorted(), calls.map(({ id }) => id).toSorted());
  assert.deepEqual(await pendingOf(other), [apart.id]);
  await decide(s, calls[1]?.id ?? "");
  await decide(s, calls[2]?.id ?? "", "deny");
  assert.deepEqual([(await calls[1]?.answer)?.status, (await calls[2]?.answer)?.status], [200, 403]);
  assert.deepEqual(
    crm.seen.map(({ body }) => body),
    ['{"n":2}'],
  );
  assert.deepEqual(await pendingOf(job), [calls[0]?.id]);
  for (const call of [calls[0], apart]) await decide(s, call?.id ?? "", "deny");
  await Promise.all([calls[0]?.answer, apart.answer]);
});

test("a decision at another replica, by a reviewing agent, is heard", async () => {
  const { url } = await w.replica();
  const job = await work(s);
  const call = await held(job, { name: "Jo" }, { url });
  const done = await decideAs(s, "watch-bot", { id: call.id });
  assert.equal(done.body["status"], "approved", done.text);
  assert.equal((await call.answer).status, 200);
  assert.equal(crm.seen.length, 1);
});

test("how long is waited is no part of the call; any other preference is, and all of them reach the upstream", async () => {
  const job = await work(s);
  const body = { name: "Kim" };
  const first = problemOf(await job.post(body, { headers: { prefer: "return=minimal" } }));
  const plainly = problemOf(await job.post(body));
  assert.notEqual(plainly.approval.id, first.approval.id);
  await decide(s, first.approval.id);
  const prefer = "wait=5 , return=minimal";
  const answer = await soon(job.post(body, { headers: { prefer } }));
  assert.equal(answer.status, 200, answer.text);
  const raw = crm.seen.at(-1)?.rawHeaders ?? [];
  assert.equal(raw[raw.findIndex((name, i) => i % 2 === 0 && name.toLowerCase() === "prefer") + 1], prefer);
});

test("A-APP-01 a preference that hides in how long is waited, for who reads the header otherwise, makes it another call", async () => {
  const job = await work(s);
  const body = { name: "Kit" };
  const { approval } = await job.waits(body);
  await decide(s, approval.id);
  for (const prefer of [
    'wait="1, return=minimal',
    'wait="1, return=minimal, x"',
    "wait; return=minimal",
    "wait=soon",
  ]) {
    const { approval: other } = problemOf(await job.post(body, { headers: { prefer } }));
    assert.notEqual(other.id, approval.id, prefer);
  }
  assert.equal((await job.post(body, { headers: { prefer: 'Wait = "1"' } })).status, 200);
});

test("a server that shuts down answers its waiting calls first", async () => {
  const { url, server } = await w.replica();
  const job = await work(s);
  const call = await held(job, { name: "Leo" }, { url });
  const startedMs = performance.now();
  const closed = server.close();
  const answered = await call.answer;
  assert.ok(performance.now() - startedMs < 8_000, "before its grace of 10 s is over");
  await closed;
  const { code, approval } = problemOf(answered);
  assert.deepEqual([code, approval.id], ["approval_required", call.id]);
});
