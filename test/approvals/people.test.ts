/** People decide, over `/v1` with a session: who may, as whom it is recorded, and when it counts no more. */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from "jose";
import { signedIn, withConsole, type SignedInClient } from "../operators/people-stage.ts";
import { plain, stage, type Raw } from "../proxy/stage.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, type Answer } from "../support/world.ts";
import { decide } from "./approval-stage.ts";

const BEHALF = "on_behalf_of: { issuer: okta }";
const OPERATORS = `operators:
  dana: { email: dana@acme.example, sign_in: { issuer: okta, claims: { sub: dana } } }
  sam: { email: sam@acme.example, sign_in: { issuer: okta, claims: { sub: sam } }, groups: [payments] }
  eve: { sign_in: { issuer: okta, claims: { sub: eve } }, groups: [payments], roles: [read] }
`;
const s = await stage(
  { after },
  {
    edit: (trust) => `${withConsole(trust)}${OPERATORS}`,
    grants: `
  - { agent: triage-bot, resource: crm, actions: [write], name: by-owner, ${BEHALF}, approval: { by: owner } }
  - { agent: keyed-bot, resource: crm, actions: [write], name: by-group, ${BEHALF}, approval: { by: { group: payments } } }
  - { agent: summary-bot, resource: crm, actions: [write], name: by-self, ${BEHALF}, approval: { by: self } }
  - { agent: release-bot, resource: crm, actions: [write], name: by-two, ${BEHALF}, approval: { by: [self, owner, { group: payments }], count: 2 } }`,
  },
);
const { w, crm } = s;

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
});

let calls = 0;

/** A call of an agent on behalf of a human that waits for somebody. */
async function waiting(agent: string, human: string): Promise<{ id: string; again(): Promise<Raw> }> {
  const subject = w.human(human);
  const body = JSON.stringify({ n: ++calls });
  const again = async (): Promise<Raw> => {
    const actor =
      agent === "keyed-bot"
        ? {
            client_assertion: w.privateKeyJwt(),
            client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
          }
        : { actor_token: w.workload(agent), actor_token_type: JWT_TYPE };
    const access = await s.token("crm:write", {
      form: { token: subject, subject_token_type: ID_TOKEN_TYPE, ...actor },
    });
    return await s.send("POST", "/http/crm/contacts", {
      token: access,
      headers: { "content-type": "application/json" },
      body,
    });
  };
  const first = await again();
  assert.equal(first.status, 403, first.text);
  return { id: (JSON.parse(first.text) as { approval: { id: string } }).approval.id, again };
}

const say = (who: SignedInClient, id: string, decision = "approve"): Promise<Answer> =>
  who.send("POST", `/v1/approvals/${id}`, { decision, reason: "looked at it" });

const statusOf = async (id: string): Promise<unknown> =>
  (await w.operator("GET", `/v1/approvals/${id}`)).body["status"];

/** The decision was refused for this reason, which is in the ledger with who it was. */
async function refused(answer: Answer, agent: string, reason: string, status = 403): Promise<void> {
  assert.equal(answer.status, status, answer.text);
  const [event] = await w.events({ type: "approval.decide", decision: "refused", limit: "1" });
  assert.deepEqual([event?.["agent"], event?.["reason"]], [agent, reason]);
}

test("the owner decides by name; ledger and signed claim say who, which human, and by which way", async () => {
  const { id, again } = await waiting("triage-bot", "ann");
  const answer = await say(await signedIn(w, "dana", { ago: 7_000 }), id);
  assert.deepEqual([answer.status, answer.body["status"]], [200, "approved"], answer.text);
  const decision = (answer.body["decisions"] as Record<string, unknown>[])[0];
  assert.deepEqual([decision?.["by"], decision?.["via"]], ["operator:dana", "console"]);
  const [event] = await w.events({ type: "approval.decide", limit: "1" });
  assert.equal(event?.["agent"], "operator:dana");
  for (const fact of ['"via":"console"', '"person":"okta|dana"', '"why":"looked at it"'])
    assert.ok(JSON.stringify(event).includes(fact), fact);
  assert.equal((await again()).status, 200);
  const raw = crm.seen.at(-1)?.rawHeaders ?? [];
  const claim = raw[raw.findIndex((name) => name.toLowerCase() === "ephor-approval") + 1] ?? "";
  const jwks = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;
  const { payload } = await compactVerify(claim, createLocalJWKSet(jwks));
  const { decided_by: decidedBy } = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  assert.deepEqual(decidedBy, [{ by: "operator:dana", at: w.now(), via: "console" }]);
});

test("A-APP-04 somebody else than the owner, or than the group, does not decide; the operator key is no group", async () => {
  const owned = await waiting("triage-bot", "ann");
  await refused(await say(await signedIn(w, "sam"), owned.id), "operator:sam", "approver_not_asked");
  const grouped = await waiting("keyed-bot", "ann");
  await refused(await say(await signedIn(w, "dana"), grouped.id), "operator:dana", "approver_not_asked");
  await refused(await decide(s, grouped.id), "operator:operator", "approver_not_asked");
  assert.deepEqual([await statusOf(owned.id), await statusOf(grouped.id)], ["pending", "pending"]);
  assert.equal((await say(await signedIn(w, "sam"), grouped.id)).body["status"], "approved");
  assert.equal((await grouped.again()).status, 200);
});

test("an operator without the role approve sees and decides nothing of others'", async () => {
  const { id } = await waiting("keyed-bot", "ann");
  const eve = await signedIn(w, "eve");
  assert.equal((await eve.send("GET", `/v1/approvals/${id}`)).status, 404);
  for (const decision of ["approve", "deny"])
    await refused(await say(eve, id, decision), "operator:eve", "role_missing");
  assert.equal(await statusOf(id), "pending");
});

test("A-APP-04 INV-20 the human on whose behalf the call is made is the requester, owner or not; he may deny as an operator", async () => {
  const { id, again } = await waiting("triage-bot", "dana");
  const dana = await signedIn(w, "dana");
  await refused(await say(dana, id), "human:okta|dana", "approver_is_requester");
  assert.equal((await again()).status, 403);
  const denied = await say(dana, id, "deny");
  assert.deepEqual([denied.status, denied.body["status"]], [200, "denied"], denied.text);
});

test("self is the human himself, freshly signed in, and sees what asks him and nothing else", async () => {
  const { id, again } = await waiting("summary-bot", "ann");
  const others = await waiting("summary-bot", "bob");
  const stale = await signedIn(w, "ann", { ago: 301 });
  const listed = await stale.send("GET", "/v1/approvals");
  assert.deepEqual(
    (listed.body["items"] as { id: string }[]).map((item) => item.id),
    [id],
  );
  assert.equal((await stale.send("GET", `/v1/approvals/${id}`)).status, 200);
  assert.equal((await stale.send("GET", `/v1/approvals/${others.id}`)).status, 404);
  const late = await say(stale, id);
  await refused(late, "human:okta|ann", "sign_in_too_old", 401);
  assert.equal(late.body["code"], "insufficient_user_authentication");
  assert.match(late.headers.get("www-authenticate") ?? "", /error="insufficient_user_authentication", max_age="300"/);
  const ann = await signedIn(w, "ann", { ago: 300 });
  await refused(await say(ann, others.id), "human:okta|ann", "approver_not_asked");
  await refused(await say(await signedIn(w, "dana"), id), "operator:dana", "approver_not_asked");
  await refused(await decide(s, id), "operator:operator", "approver_not_asked");
  const done = await say(ann, id);
  assert.deepEqual([done.status, done.body["status"]], [200, "approved"], done.text);
  assert.equal((done.body["decisions"] as Record<string, unknown>[])[0]?.["by"], "human:okta|ann");
  assert.equal((await again()).status, 200);
  assert.equal((await others.again()).status, 403);
});

test("an owner who is that human counts as self where the grant says so, and as nobody else beside", async () => {
  const { id, again } = await waiting("release-bot", "dana");
  const dana = await signedIn(w, "dana");
  const first = await say(dana, id);
  assert.deepEqual([first.status, first.body["status"]], [200, "pending"], first.text);
  assert.equal((await say(dana, id)).status, 409, "the same human twice is one");
  assert.equal((await say(await signedIn(w, "dana"), id)).status, 409, "in another session too");
  assert.equal((await again()).status, 403);
  const second = await say(await signedIn(w, "sam"), id);
  assert.deepEqual([second.status, second.body["status"]], [200, "approved"], second.text);
  assert.equal((await again()).status, 200);
});

test("count: 2 takes two people: owner and group, or the owner and the operator key", async () => {
  const one = await waiting("release-bot", "ann");
  assert.equal((await say(await signedIn(w, "dana"), one.id)).body["status"], "pending");
  assert.equal((await say(await signedIn(w, "sam"), one.id)).body["status"], "approved");
  assert.equal((await one.again()).status, 200);
  const two = await waiting("release-bot", "ann");
  assert.equal((await say(await signedIn(w, "dana"), two.id)).body["status"], "pending");
  assert.equal((await decide(s, two.id)).body["status"], "approved");
});

test("INV-20 a decision that was not used is void when its operator is changed or removed, and for a new one he is not asked", async () => {
  const put = (spec: object): Promise<Answer> => w.operator("PUT", "/v1/operators/temp", spec);
  const TEMP = { sign_in: { issuer: "okta", claims: { sub: "temp" } }, groups: ["payments"] };
  assert.equal((await put(TEMP)).status, 201);
  const temp = await signedIn(w, "temp");
  const { url } = await w.replica();
  const changes: [string, () => Promise<Answer>][] = [
    ["out of the group", () => put({ ...TEMP, groups: [] })],
    ["another person", () => put({ ...TEMP, sign_in: { issuer: "okta", claims: { sub: "other" } } })],
    ["without the role", () => put({ ...TEMP, roles: ["read"] })],
    ["removed", () => w.operator("DELETE", "/v1/operators/temp")],
  ];
  for (const [label, change] of changes) {
    assert.ok((await put(TEMP)).status < 300);
    const { id, again } = await waiting("keyed-bot", "ann");
    assert.equal((await say(temp, id)).body["status"], "approved", label);
    assert.equal((await change()).status, 200, label);
    assert.equal(await statusOf(id), "void", label);
    assert.equal((await again()).status, 403, label);
    const { id: next } = await waiting("keyed-bot", "ann");
    const at = await temp.send("POST", `${url}/v1/approvals/${next}`, { decision: "approve", reason: "x" });
    assert.equal(at.status, 403, label);
    assert.equal(await statusOf(next), "pending", label);
  }
  assert.equal(crm.seen.length, 0);
});

test("an operator who is killed as a human stays signed in and decides nothing; what he decided before is void", async () => {
  const before = await waiting("keyed-bot", "ann");
  const sam = await signedIn(w, "sam");
  assert.equal((await say(sam, before.id)).body["status"], "approved");
  const later = await waiting("keyed-bot", "ann");
  assert.equal((await w.operator("POST", "/v1/kill", { subject: "okta|sam", reason: "test" })).status, 200);
  assert.equal(await statusOf(before.id), "void");
  assert.equal((await before.again()).status, 403);
  assert.equal((await sam.send("GET", "/v1/agents")).status, 200);
  for (const decision of ["approve", "deny"]) assert.equal((await say(sam, later.id, decision)).status, 403);
  assert.equal((await w.operator("POST", "/v1/restore", { subject: "okta|sam", reason: "test" })).status, 200);
  assert.equal((await say(sam, later.id)).status, 403, "nor by a sign-in from before the kill");
  assert.equal((await say(await signedIn(w, "sam"), later.id)).body["status"], "approved");
});

test("A-APP-04 a link, a GET and a forged form decide nothing", async () => {
  const { id } = await waiting("triage-bot", "ann");
  const dana = await signedIn(w, "dana");
  assert.equal((await dana.send("GET", `/v1/approvals/${id}?decision=approve`)).status, 400);
  const forged = await dana.send(
    "POST",
    `/v1/approvals/${id}`,
    { decision: "approve", reason: "x" },
    { "ephor-csrf": "x" },
  );
  assert.equal(forged.status, 403, forged.text);
  assert.equal(await statusOf(id), "pending");
});

test("the step that stores a decision looks once more: an operator changed since he was judged is judged again, one killed decides nothing", async () => {
  const { id } = await waiting("keyed-bot", "ann");
  const version = async (): Promise<number> =>
    (await w.db.query<{ v: number }>("select trust_version as v from ephor.gate where id = 1"))[0]?.v ?? 0;
  const store = async (operator: string, trustVersion: number, keys: readonly string[]): Promise<unknown> => {
    const decision = { decider: `operator:${operator}`, decision: "approve", reason: "x", via: "slack", operator };
    const [row] = await w.db.query<{ r: string }>(
      "select ephor.decide_approval($1, $2, $3::jsonb, 'approved', 0, '{}'::jsonb) as r",
      [w.now() * 1_000, id, JSON.stringify({ ...decision, kill_keys: keys, trust_version: trustVersion })],
    );
    return row?.r;
  };
  const judgedAt = await version();
  const SPEC = { sign_in: { issuer: "okta", claims: { sub: "late" } } };
  assert.equal((await w.operator("PUT", "/v1/operators/late", SPEC)).status, 201);
  assert.equal(await store("late", judgedAt, ["operator:late"]), "moved");
  assert.equal((await w.operator("DELETE", "/v1/operators/late")).status, 200);
  assert.equal(await store("late", (await version()) - 1, ["operator:late"]), "moved");
  assert.equal((await w.operator("POST", "/v1/kill", { subject: "okta|late", reason: "test" })).status, 200);
  assert.equal(await store("late", await version(), ["operator:late", "subject:okta|late"]), "killed");
  assert.equal(await statusOf(id), "pending");
  assert.equal((await say(await signedIn(w, "sam"), id)).body["status"], "approved");
});
