import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from "jose";
import { canonicalJson } from "../../src/core/canonical-json.ts";
import { ApprovalRefusedError, createApprovalVerifier, type ApprovalVerifier } from "../../src/sdk/verify.ts";
import { sha256Base64url } from "../../src/system/hash.ts";
import { eventsOf, plain, stage } from "../proxy/stage.ts";
import { decide, decideAs, work } from "./approval-stage.ts";

const s = await stage(
  { after },
  {
    resource: `
  doubled:
    http: http://127.0.0.1:9
    actions: { careful: ["POST /things"], free: ["POST /things"] }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read] }
  - { agent: release-bot, resource: crm, actions: [write], name: release-writes, approval: { by: owner, within: 5m } }
  - { agent: lonely-bot, resource: crm, actions: [write], approval: { by: { agent: watch-bot } } }
  - { agent: summary-bot, resource: crm, actions: [write], approval: { by: [owner, { agent: watch-bot }], count: 2 } }
  - { agent: release-bot, resource: doubled, actions: [careful], name: careful, approval: { by: owner } }
  - { agent: release-bot, resource: doubled, actions: [free], name: free }
  - { agent: watch-bot, resource: ephor, actions: [approve], name: watch-approves }
  - { agent: lonely-bot, resource: ephor, actions: [approve], name: lonely-approves }
  - { agent: triage-bot, resource: ephor, actions: [approve], name: triage-approves }`,
  },
);
const { w, crm, send } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

const headerOf = (name: string): string | undefined => {
  const raw = crm.seen.at(-1)?.rawHeaders ?? [];
  const at = raw.findIndex((one, i) => i % 2 === 0 && one.toLowerCase() === name);
  return at < 0 ? undefined : raw[at + 1];
};

const statusOf = async (id: string): Promise<unknown> => {
  const answer = await w.operator("GET", `/v1/approvals/${id}`);
  assert.equal(answer.status, 200, answer.text);
  return answer.body["status"];
};

test("a call that needs an approval waits without reaching the upstream, is shown whole, and once approved works once", async () => {
  const { post, waits, txn } = await work(s);
  const body = { name: "Ann", vip: true };
  const first = await waits(body, { query: "?notify=1" });
  assert.deepEqual(first.approval.by, ["owner"]);
  assert.equal(first.approval.uri, `${w.server.issuer}/console/approvals/${first.approval.id}`);
  assert.equal(first.approval.expires_at, new Date((w.now() + 300) * 1_000).toISOString());
  const again = await waits(body, { query: "?notify=1" });
  assert.equal(again.approval.id, first.approval.id, "the same call waits for the same decision");
  assert.notEqual(again.decision, first.decision);
  assert.equal(crm.seen.length, 0);
  const explained = await w.operator("GET", `/v1/explain/${first.decision}`);
  assert.equal(explained.status, 200, explained.text);
  assert.match(String(explained.body["difference"]), /once somebody approves it/);

  const { id } = first.approval;
  const list = await w.operator("GET", "/v1/approvals");
  const item = (list.body["items"] as Record<string, unknown>[]).find((one) => one["id"] === id);
  assert.deepEqual(
    [item?.["status"], item?.["agent"], item?.["txn"], item?.["action"]],
    ["pending", "release-bot", txn, "write"],
  );
  assert.ok(!JSON.stringify(item).includes("Ann"));
  const shown = await w.operator("GET", `/v1/approvals/${id}`);
  assert.deepEqual(shown.body["arguments"], { query: "notify=1", body });
  assert.equal((shown.body["call"] as Record<string, unknown>)["path"], "/contacts");
  assert.equal((await post(body, { query: "?notify=1" })).status, 403, "looking at it approves nothing");

  const done = await decide(s, id);
  assert.deepEqual([done.status, done.body["status"]], [200, "approved"], done.text);
  const passed = await post(body, { query: "?notify=1" });
  assert.equal(passed.status, 200, passed.text);
  assert.equal(crm.seen.length, 1);
  assert.equal(crm.seen[0]?.body, JSON.stringify(body));
  assert.equal(await statusOf(id), "used");
  const call = (await eventsOf(w, "call.forward")).find((event) => event["decision"] === "granted");
  assert.match(JSON.stringify(call), new RegExp(`"approval":"${id}"`));
  const [decision] = await eventsOf(w, "approval.decide");
  assert.match(JSON.stringify(decision), /"why":"looked at it"/);
  assert.equal(decision?.["agent"], "operator:operator");
  assert.equal((await eventsOf(w, "approval.ask")).length, 1);

  const next = await waits(body, { query: "?notify=1" });
  assert.notEqual(next.approval.id, id, "A-APP-02: it was used");
  assert.equal(crm.seen.length, 1);
});

test("the upstream gets a claim that it can check offline by the record keys; a call without approval, and an agent's own header, bring none", async () => {
  const { post, waits, txn } = await work(s);
  const body = { b: 1, a: [1.5, "ü"] };
  const { approval } = await waits(body);
  await decide(s, approval.id);
  assert.equal((await post(body, { headers: { "ephor-approval": "mine" } })).status, 200);
  const claim = headerOf("ephor-approval") ?? "";
  const jwks = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;
  const { payload, protectedHeader } = await compactVerify(claim, createLocalJWKSet(jwks));
  assert.equal(protectedHeader.typ, "ephor-approval+jwt");
  const claims = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  assert.deepEqual(
    { ...claims, decided_by: undefined },
    {
      iss: w.server.issuer,
      aud: `${w.server.issuer}/http/crm`,
      jti: approval.id,
      iat: w.now(),
      exp: w.now() + 60,
      sub: "agent|release-bot",
      txn,
      path: ["release-bot"],
      resource: "crm",
      action: "write",
      method: "POST",
      target: "/contacts",
      args_digest: sha256Base64url(canonicalJson({ query: null, body })),
      grants: ["release-writes"],
      decided_by: undefined,
    },
  );
  assert.deepEqual(claims["decided_by"], [{ by: "operator:operator", at: w.now() }]);
  const read = await send("GET", "/http/crm/contacts/7", {
    token: await s.token("crm:read"),
    headers: { "ephor-approval": "mine" },
  });
  assert.equal(read.status, 200);
  assert.equal(headerOf("ephor-approval"), undefined);
});

test("ephor/verify takes a claim for its own call, once, and no other: changed arguments, action, path, resource, time, key", async () => {
  const { post, waits } = await work(s);
  const body = { amount: 7 };
  const { approval } = await waits(body);
  await decide(s, approval.id);
  assert.equal((await post(body)).status, 200);
  const claim = headerOf("ephor-approval") ?? "";
  const resource = `${w.server.issuer}/http/crm`;
  const make = (more: object = {}): ApprovalVerifier =>
    createApprovalVerifier({ issuer: w.server.issuer, resource, clock: w.clock, ...more });
  const call = {
    action: "write",
    method: "POST",
    target: "/contacts",
    arguments: { body: { amount: 7.0 }, query: null },
  };
  const verifier = make();
  const refused = async (promise: Promise<unknown>, reason: string): Promise<void> => {
    await assert.rejects(promise, (error) => error instanceof ApprovalRefusedError && error.reason === reason);
  };
  await refused(verifier.verify(claim, { ...call, arguments: { body: { amount: 8 }, query: null } }), "approval_void");
  await refused(verifier.verify(claim, { ...call, action: "read" }), "approval_void");
  await refused(verifier.verify(claim, { ...call, method: "PATCH" }), "approval_void");
  await refused(verifier.verify(claim, { ...call, target: "/contacts/7" }), "approval_void");
  await refused(verifier.verify(null, call), "approval_required");
  await refused(verifier.verify(await s.token("crm:write"), call), "token_typ");
  await refused(verifier.verify(`${claim.slice(0, -4)}AAAA`, call), "token_signature");
  await refused(make({ resource: `${w.server.issuer}/http/other` }).verify(claim, call), "token_audience");
  const taken = await verifier.verify(claim, call);
  assert.deepEqual([taken.id, taken.path, taken.sub], [approval.id, ["release-bot"], "agent|release-bot"]);
  assert.deepEqual(taken.decidedBy, [{ by: "operator:operator", at: w.now() }]);
  await refused(verifier.verify(claim, call), "replayed");
  const later = { nowMs: () => w.clock.nowMs() + 65_000, monotonicMs: () => 0 };
  await refused(make({ clock: later }).verify(claim, call), "token_expired");
});

test("A-APP-01 the same canonical value is the same call; a changed value, query, path or header is another", async () => {
  const { waits, post, token } = await work(s);
  const same = ['{"a":1,"b":{"c":"x","d":[1,2]}}', '{"b":{"d":[1.0,2e0],"c":"\\u0078"},"a":1.00}'];
  const { approval } = await waits(same[0]);
  assert.equal((await waits(same[1])).approval.id, approval.id);
  const others = [
    await waits('{"a":2,"b":{"c":"x","d":[1,2]}}'),
    await waits('{"a":"1","b":{"c":"x","d":[1,2]}}'),
    await waits('{"a":1,"b":{"c":"x","d":[2,1]}}'),
    await waits('{"a":1,"b":{"c":"x","d":[1,2]},"e":null}'),
    await waits(same[0], { query: "?force=1" }),
  ].map((notice) => notice.approval.id);
  const patch = await send("PATCH", "/http/crm/contacts/7", {
    token: await token(),
    headers: { "content-type": "application/json" },
    body: same[0] ?? "",
  });
  const paged = await post(same[0], { headers: { "x-page": "2" } });
  for (const answer of [patch, paged])
    others.push((JSON.parse(answer.text) as { approval: { id: string } }).approval.id);
  assert.equal(new Set([approval.id, ...others]).size, 8);
  await decide(s, approval.id);
  for (const body of ['{"a":2,"b":{"c":"x","d":[1,2]}}', "{}"]) assert.equal((await post(body)).status, 403);
  assert.equal((await post(same[0], { query: "?force=1" })).status, 403);
  assert.equal(crm.seen.length, 0);
  assert.equal((await post(same[1])).status, 200);
});

test("A-APP-02 fifty uses at once over two replicas pass once", async () => {
  const another = await w.replica();
  const { waits, post } = await work(s);
  const { approval } = await waits({ race: 1 });
  await decide(s, approval.id);
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => post({ race: 1 }, i % 2 === 0 ? {} : { url: another.url })),
  );
  const passed = answers.filter(({ status }) => status === 200);
  // A machine that stalls fences a replica, which then releases nothing: one of these may be the one that used it up.
  const fenced = answers.filter(({ status }) => status === 503);
  assert.ok(passed.length === 1 || (passed.length === 0 && fenced.length > 0), `${passed.length} passed`);
  assert.equal(crm.seen.length, passed.length);
  const next = new Set(
    answers
      .filter(({ status }) => status !== 200 && status !== 503)
      .map(({ text }) => (JSON.parse(text) as { approval?: { id: string } }).approval?.id),
  );
  assert.equal(next.size, 1, "all others wait for one new decision");
  assert.ok(!next.has(approval.id) && !next.has(undefined));
});

test("the same call of another node is another, and nobody else uses an approval", async () => {
  const mine = await work(s);
  const { approval } = await mine.waits({ n: 1 });
  await decide(s, approval.id);
  const other = await work(s);
  assert.notEqual((await other.waits({ n: 1 })).approval.id, approval.id);
  assert.equal((await mine.post({ n: 1 })).status, 200);
});

test("A-APP-04 whoever asks never approves, nor does anybody whom the grant does not name; an operator may always deny", async () => {
  const { waits, post, txn } = await work(s, { agent: "lonely-bot" });
  const { approval } = await waits({ n: 2 });
  assert.deepEqual(approval.by, [{ agent: "watch-bot" }]);
  const { id } = approval;
  const refusedAs = async (answer: { status: number; text: string }, reason: string): Promise<void> => {
    assert.equal(answer.status, 403, answer.text);
    const [event] = await eventsOf(w, "approval.decide");
    assert.deepEqual([event?.["decision"], event?.["reason"]], ["refused", reason]);
  };
  await refusedAs(await decideAs(s, "lonely-bot", { id }), "approver_is_requester");
  await refusedAs(await decideAs(s, "triage-bot", { id }), "approver_not_asked");
  await refusedAs(await decide(s, id), "approver_not_asked");
  assert.equal(
    (await w.request("POST", `/v1/approvals/${id}`, { body: { decision: "approve", reason: "x" } })).status,
    401,
  );
  const noScope = await w.self("watch-bot", { scope: "ephor:read", resource: `${w.server.issuer}/v1` });
  const weak = { authorization: `Bearer ${String(noScope.body["access_token"])}` };
  assert.equal(
    (await w.request("POST", `/v1/approvals/${id}`, { body: { decision: "approve", reason: "x" }, headers: weak }))
      .status,
    403,
  );
  for (const path of [`/v1/approvals/${id}`, `/v1/approvals/${id}?decision=approve`])
    assert.ok((await w.operator("GET", path)).status < 500);
  assert.equal((await w.operator("PUT", `/v1/approvals/${id}`, { decision: "approve", reason: "x" })).status, 405);
  assert.equal((await decide(s, `${id.slice(0, -1)}${id.endsWith("0") ? "1" : "0"}`)).status, 404);
  assert.equal((await w.operator("POST", `/v1/approvals/${id}`, { decision: "approve" })).status, 400);
  assert.equal(await statusOf(id), "pending");
  assert.equal((await post({ n: 2 })).status, 403);

  const listed = async (agent: string): Promise<unknown[]> => {
    const answer = await w.self(agent, { scope: "ephor:approve", resource: `${w.server.issuer}/v1` });
    const headers = { authorization: `Bearer ${String(answer.body["access_token"])}` };
    return (await w.request("GET", "/v1/approvals", { headers })).body["items"] as unknown[];
  };
  assert.deepEqual([(await listed("watch-bot")).length, (await listed("triage-bot")).length], [1, 0]);
  const done = await decideAs(s, "watch-bot", { id });
  assert.deepEqual([done.status, done.body["status"]], [200, "approved"], done.text);
  assert.equal((await decideAs(s, "watch-bot", { id })).status, 409);
  assert.equal((await post({ n: 2 })).status, 200);
  assert.ok(txn.length > 0);

  const next = await waits({ n: 2 });
  const denied = await decide(s, next.approval.id, "deny");
  assert.deepEqual([denied.status, denied.body["status"]], [200, "denied"], denied.text);
  const refused = await post({ n: 2 });
  assert.equal(refused.status, 403);
  const told = JSON.parse(refused.text) as { code: string; approval: { id: string; status: string } };
  assert.deepEqual(
    [told.code, told.approval.id, told.approval.status],
    ["approval_denied", next.approval.id, "denied"],
  );
  assert.equal((await decideAs(s, "watch-bot", { id: next.approval.id })).status, 409);
});

test("a reviewing agent that is killed takes its approvals with it", async () => {
  const { waits, post } = await work(s, { agent: "lonely-bot" });
  const { approval } = await waits({ n: 3 });
  assert.equal((await decideAs(s, "watch-bot", { id: approval.id })).status, 200);
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "watch-bot", reason: "test" })).status, 200);
  assert.equal((await post({ n: 3 })).status, 403);
  assert.equal(await statusOf(approval.id), "void");
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "watch-bot", reason: "test" })).status, 200);
  assert.equal(crm.seen.length, 0);
});

test("a reviewing agent that is suspended before the call is made has not approved it, and decides nothing", async () => {
  const { waits, post } = await work(s, { agent: "lonely-bot" });
  const { approval } = await waits({ n: 3, of: "suspended" });
  assert.equal((await decideAs(s, "watch-bot", { id: approval.id })).status, 200);
  const status = async (value: string): Promise<number> =>
    (await w.operator("PUT", "/v1/agents/watch-bot/status", { status: value, reason: "test" })).status;
  assert.equal(await status("suspended"), 200);
  assert.equal(await statusOf(approval.id), "void");
  assert.equal((await post({ n: 3, of: "suspended" })).status, 403);
  assert.equal(crm.seen.length, 0);
  assert.equal(await status("active"), 200);
});

test("count: 2 needs two different ones of those named", async () => {
  const { waits, post } = await work(s, { agent: "summary-bot" });
  const { approval } = await waits({ n: 4 });
  const first = await decide(s, approval.id);
  assert.deepEqual([first.status, first.body["status"]], [200, "pending"], first.text);
  assert.equal((await decide(s, approval.id)).status, 409, "the same one twice is one");
  assert.equal((await post({ n: 4 })).status, 403);
  assert.equal((await decideAs(s, "watch-bot", { id: approval.id })).body["status"], "approved");
  assert.equal((await post({ n: 4 })).status, 200);
});

test("two who decide at the same moment are both heard; a yes and a no at once end in one of them", async () => {
  const { waits, post } = await work(s, { agent: "summary-bot" });
  const { approval } = await waits({ n: 5 });
  const both = await Promise.all([decide(s, approval.id), decideAs(s, "watch-bot", { id: approval.id })]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  );
  assert.equal(await statusOf(approval.id), "approved");
  assert.equal((await post({ n: 5 })).status, 200);

  const mine = await work(s);
  const next = (await mine.waits({ n: 6 })).approval.id;
  const [yes, no] = await Promise.all([decide(s, next), decide(s, next, "deny")]);
  assert.deepEqual([yes.status, no.status].toSorted(), [200, 409]);
  assert.equal(await statusOf(next), yes.status === 200 ? "approved" : "denied");
  assert.equal((await mine.post({ n: 6 })).status, yes.status === 200 ? 200 : 403);
});

test("an approval that was given at one replica is used at another, and one that starts afterwards", async () => {
  const { waits, post } = await work(s);
  const one = await w.replica();
  const { approval } = await waits({ n: 7 });
  await decide(s, approval.id);
  const two = await w.replica();
  assert.equal((await post({ n: 7 }, { url: two.url })).status, 200);
  assert.equal((await post({ n: 7 }, { url: one.url })).status, 403);
});

test("a body that nobody knows before it has flown by is not asked about", async () => {
  const { token } = await work(s);
  const answer = await send("POST", "/http/crm/contacts", {
    token: await token(),
    headers: { "content-type": "text/plain" },
    body: "anything",
  });
  assert.equal(answer.status, 415, answer.text);
  assert.equal(crm.seen.length, 0);
});

test("of two actions that stand for a call the one without approval is taken", async () => {
  const order = async (scope: string): Promise<number> => {
    const access = await s.token(scope, { resource: "http/doubled" });
    const answer = await send("POST", "/http/doubled/things", {
      token: access,
      headers: { "content-type": "application/json" },
      body: "{}",
    });
    return answer.status;
  };
  assert.equal(await order("doubled:careful doubled:free"), 502, "forwarded to where nobody listens");
  assert.equal(await order("doubled:careful"), 403);
});
