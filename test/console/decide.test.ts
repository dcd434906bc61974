import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { work } from "../approvals/approval-stage.ts";
import { eventsOf, plain, until } from "../proxy/stage.ts";
import { consoleStage, FORM, FROM_US } from "./console-stage.ts";

const s = await consoleStage({ after });
const { w, crm } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

test("an operator signs in with the key, sees the call whole, approves it with a reason, and it goes through once", async () => {
  const { post, waits, txn } = await work(s);
  const body = { name: "Ann", tags: ["b", "a"], vip: true };
  const { approval } = await waits(body, { query: "?notify=1" });
  assert.equal(approval.uri, `${w.server.issuer}/console/approvals/${approval.id}`);
  const page = `/console/approvals/${approval.id}`;

  const b = s.browser();
  const away = await b.get(page);
  assert.deepEqual([away.status, away.headers.location], [303, `/console/sign-in?next=${encodeURIComponent(page)}`]);
  const start = await b.signIn(w.operatorKey);
  assert.equal(start.status, 200);
  assert.match(start.text, /1 waiting/);
  assert.match(start.text, new RegExp(`href="${page}"`));

  const shown = await b.get(page);
  assert.equal(shown.status, 200, shown.text);
  for (const said of [
    txn,
    "release-bot",
    "dana@acme.example",
    "notify=1",
    "&quot;Ann&quot;",
    "60 minutes left",
    "/contacts",
  ])
    assert.ok(shown.text.includes(said), said);
  assert.equal((await post(body, { query: "?notify=1" })).status, 403, "looking approves nothing");

  const done = await b.post(page, { decision: "approve", reason: "agreed with sales" });
  assert.deepEqual([done.status, done.headers.location], [303, page]);
  const decided = await b.get(page);
  assert.match(decided.text, /class="state approved"/);
  assert.match(decided.text, /operator:operator/);
  assert.match(decided.text, /agreed with sales/);
  assert.doesNotMatch(decided.text, /<form class="decide"/);
  assert.equal((await post(body, { query: "?notify=1" })).status, 200);
  assert.equal(crm.seen.length, 1);
  assert.match((await b.get(page)).text, /class="state used"/);
  const [event] = await eventsOf(w, "approval.decide");
  assert.deepEqual([event?.["agent"], event?.["decision"]], ["operator:operator", "granted"]);
  assert.match(JSON.stringify(event), /"why":"agreed with sales"/);
  assert.equal((await eventsOf(w, "operator.sign_in"))[0]?.["agent"], "operator:operator");

  w.clock.advance(1);
  const next = await waits(body, { query: "?notify=1" });
  const compared = await b.get(`/console/approvals/${next.approval.id}`);
  assert.match(compared.text, /to the letter/);
  const other = await waits({ ...body, name: "Bob" }, { query: "?notify=1" });
  const changed = await b.get(`/console/approvals/${other.approval.id}`);
  assert.match(changed.text, /\/arguments\/body\/name/);
  assert.match(changed.text, /&quot;Ann&quot;/);
});

test("a denied call stays denied; a reason is needed; what is over says so and changes nothing", async () => {
  const { post, waits } = await work(s);
  const { approval } = await waits({ n: 1 });
  const page = `/console/approvals/${approval.id}`;
  const b = s.browser();
  await b.signIn(w.operatorKey);
  for (const reason of ["", "   ", "x".repeat(501)]) {
    const without = await b.post(page, { decision: "approve", reason });
    assert.equal(without.status, 400, reason);
    assert.match(without.text, /say why/);
    assert.match(without.text, /class="state pending"/);
  }
  assert.equal((await b.post(page, { decision: "perhaps", reason: "x" })).status, 400);
  assert.equal((await b.post(page, { decision: "approve", reason: "x", also: "y" })).status, 400);
  assert.equal((await b.post(page, { decision: "deny", reason: "not this <b>customer</b>" })).status, 303);
  const denied = await b.get(page);
  assert.match(denied.text, /class="state denied"/);
  assert.match(denied.text, /not this &lt;b&gt;customer&lt;\/b&gt;/);
  const again = await b.post(page, { decision: "approve", reason: "after all" });
  assert.equal(again.status, 409);
  assert.match(again.text, /It was denied already/);
  assert.match(again.text, /class="state denied"/);
  assert.equal((await post({ n: 1 })).status, 403);
  assert.equal(crm.seen.length, 0);
  const list = await b.get("/console/approvals?status=all");
  assert.match(list.text, new RegExp(approval.id));
  assert.doesNotMatch((await b.get("/console/approvals")).text, new RegExp(approval.id));
});

test("A-APP-04 the key stands in for owners only: where the grant asks a reviewing agent it may deny, and its approval is refused", async () => {
  const { waits } = await work(s, { agent: "lonely-bot" });
  const { approval } = await waits({ n: 2 });
  const page = `/console/approvals/${approval.id}`;
  const b = s.browser();
  await b.signIn(w.operatorKey);
  const shown = await b.get(page);
  assert.doesNotMatch(shown.text, /value="approve"/);
  const refused = await b.post(page, { decision: "approve", reason: "I want to" });
  assert.equal(refused.status, 403);
  assert.match(refused.text, /class="state pending"/);
  const [event] = await eventsOf(w, "approval.decide");
  assert.deepEqual([event?.["decision"], event?.["reason"]], ["refused", "approver_not_asked"]);
  assert.equal((await b.post(page, { decision: "deny", reason: "no" })).status, 303);
});

test("A-APP-04 A-ADM-01 an approval is decided by no GET, no replayed form of another session, no link", async () => {
  const { waits, post } = await work(s);
  const { approval } = await waits({ n: 3 });
  const page = `/console/approvals/${approval.id}`;
  const b = s.browser();
  await b.signIn(w.operatorKey);
  for (const path of [page, `${page}?decision=approve&reason=x`, `/v1/approvals/${approval.id}?decision=approve`])
    assert.ok([200, 400].includes((await b.get(path)).status), path);
  const other = s.browser();
  const { csrf } = await other.signIn(w.operatorKey);
  assert.notEqual(csrf, "");
  const replayed = await b.post(page, { csrf, decision: "approve", reason: "x" });
  assert.equal(replayed.status, 403);
  // The same sign-in's own form works.
  assert.equal((await post({ n: 3 })).status, 403);
  await b.get(page);
  assert.equal((await b.post(page, { decision: "approve", reason: "x" })).status, 303);
});

test("what is not there, and ids that are none, are 404 pages", async () => {
  const b = s.browser();
  await b.signIn(w.operatorKey);
  for (const path of [
    "/console/approvals/apr_01J0000000000000000000000A",
    "/console/approvals/apr_x",
    "/console/approvals/%2e%2e",
    "/console/approvals/apr_01J0000000000000000000000A/more",
    "/console/nothing",
    "/console/",
  ]) {
    const answer = await b.get(path);
    assert.equal(answer.status, path.includes("%2e") ? 400 : 404, path);
    if (answer.status === 404) assert.match(answer.text, /nothing here/);
  }
  assert.equal((await b.get("/consolex")).status, 404);
});

test("an operator's session calls /v1 with its proof, and is its agent's nowhere", async () => {
  const { waits } = await work(s);
  const { approval } = await waits({ n: 4 });
  const b = s.browser();
  const { csrf } = await b.signIn(w.operatorKey);
  const path = `/v1/approvals/${approval.id}`;
  const json = { "content-type": "application/json" };
  assert.equal((await b.get(path)).status, 200);
  const body = JSON.stringify({ decision: "approve", reason: "by a script of the console" });
  const refused: Record<string, string>[] = [
    json,
    { ...json, ...FROM_US },
    { ...json, "ephor-csrf": csrf },
    { ...json, "ephor-csrf": csrf, "sec-fetch-site": "cross-site" },
    { ...json, "ephor-csrf": csrf, "sec-fetch-site": "same-site" },
    { ...json, "ephor-csrf": csrf, origin: "https://evil.example" },
    { ...json, ...FROM_US, "ephor-csrf": `${csrf}x` },
    { "content-type": FORM, ...FROM_US, "ephor-csrf": `${csrf}x` },
  ];
  for (const headers of refused) {
    const answer = await b.send("POST", path, { headers, body });
    assert.equal(answer.status, 403, JSON.stringify(headers));
  }
  const newest = async (): Promise<unknown> => (await eventsOf(w, "admin.request"))[0]?.["reason"];
  await until(async () => (await newest()) === "form_forged", "the refusal, which is written beside its answer");
  assert.equal((await b.send("GET", "/v1/tasks/01J00000000000000000000000")).status, 401);
  const done = await b.send("POST", path, { headers: { ...json, ...FROM_US, "ephor-csrf": csrf }, body });
  assert.equal(done.status, 200, done.text);
  assert.equal((await b.send("GET", path, { headers: { cookie: "ephor=x" } })).status, 401);
});
