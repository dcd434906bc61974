import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, decodeJwt, jwtVerify, type JSONWebKeySet } from "jose";
import {
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const JWT_ANSWER = "application/token-introspection+jwt";
const INACTIVE = { active: false };
const w = await world({ after });
const { granted, refused } = await faces(w);

const fresh = async (): Promise<string> =>
  granted(await w.self("release-bot", { resource: BILLING, scope: "billing" })).token;
const carried = (form: Form = {}) =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human("00u-7662"),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:refund",
    ...form,
  });
const basic = (id: string, secret: string): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`${encodeURIComponent(id)}:${encodeURIComponent(secret)}`).toString("base64")}`,
});
const introspect = (form: Form, headers: Record<string, string> = basic("billing", BILLING_SECRET)): Promise<Answer> =>
  w.post("/introspect", form, headers);
const inactive = async (token: string, label: string): Promise<void> => {
  const answer = await introspect({ token });
  assert.equal(answer.status, 200, label);
  assert.deepEqual(answer.body, INACTIVE, label);
};

test("POST /introspect 200 active with the token's own claims and its token_type (RFC 7662 §2.2)", async () => {
  const { token, claims } = granted(await carried());
  const answer = await introspect({ token });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), "application/json");
  assert.equal(answer.headers.get("cache-control"), "no-store");
  assert.deepEqual(answer.body["act"], { sub: "agent|triage-bot" });
  assert.deepEqual(answer.body, { active: true, token_type: "Bearer", ...claims });
});

test("token_type_hint does not change the outcome, right, wrong or unknown (RFC 7662 §2.1)", async () => {
  const token = await fresh();
  for (const hint of ["access_token", "refresh_token", "nonsense", ""]) {
    assert.equal((await introspect({ token, token_type_hint: hint })).body["active"], true, hint);
  }
});

test("whatever is no live token of ours is active: false and nothing else, without a reason (RFC 7662 §2.2)", async () => {
  const token = await fresh();
  const [header, payload, signature] = token.split(".") as [string, string, string];
  await inactive("garbage", "garbage");
  await inactive(w.workload("release-bot"), "a workload's token");
  await inactive(w.human(), "a human's token");
  await inactive(`${header}.${payload}.${signature.slice(0, -4)}AAAA`, "another signature");
  await inactive(`${token}x`, "one character more");
  const { token: handOver } = granted(
    await carried({ resource: `${w.server.issuer}/agents/summary-bot`, scope: "billing:read_invoice" }),
  );
  await inactive(handOver, "a hand-over token");
  assert.equal((await introspect({ token })).body["active"], true);
});

test("a token is inactive from the second of its exp on (RFC 7662 §2.2, §4)", async () => {
  const token = await fresh();
  w.clock.advance(44);
  assert.equal((await introspect({ token })).body["active"], true);
  w.clock.advance(1);
  await inactive(token, "at exp");
});

test("a token for another resource is inactive: the endpoint is no oracle for what came to the wrong hands (RFC 7662 §2.2, §4)", async () => {
  const { token } = granted(await carried({ resource: undefined, audience: "ledger", scope: "ledger:read" }));
  await inactive(token, "billing asks about a token for ledger");
  const assertion = { client_assertion: w.workload("billing-svc"), client_assertion_type: ASSERTION_TYPE };
  assert.equal((await introspect({ token, ...assertion }, {})).body["active"], true);
});

test("a revoked token, a killed agent's and an ended task's are inactive at once (RFC 7662 §4)", async () => {
  const revoked = await fresh();
  assert.equal((await w.post("/revoke", { token: revoked }, basic("billing", BILLING_SECRET))).status, 200);
  await inactive(revoked, "revoked");

  const ofTask = granted(await carried());
  const ended = await w.request("POST", `/v1/tasks/${String(ofTask.claims["txn"])}/complete`, {
    headers: { authorization: `Bearer ${w.workload("triage-bot")}` },
  });
  assert.equal(ended.status, 200, ended.text);
  await inactive(ofTask.token, "task ended");

  const killed = await fresh();
  await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  await inactive(killed, "agent killed");
  await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
  await inactive(killed, "agent restored");
  assert.equal((await introspect({ token: await fresh() })).body["active"], true);
});

test("a caller authenticates by client_secret_basic, client_secret_post or an assertion (RFC 7662 §2.1)", async () => {
  const token = await fresh();
  const post = { client_id: "billing", client_secret: BILLING_SECRET };
  assert.equal((await introspect({ token })).body["active"], true);
  assert.equal((await introspect({ token, ...post }, {})).body["active"], true);
  const { token: forLedger } = granted(
    await carried({ resource: undefined, audience: "ledger", scope: "ledger:read" }),
  );
  const assertion = { client_assertion: w.workload("billing-svc"), client_assertion_type: ASSERTION_TYPE };
  assert.equal((await introspect({ token: forLedger, ...assertion }, {})).body["active"], true);
});

test("POST /introspect 401 invalid_client, the same without, with wrong and with unknown credentials (RFC 7662 §2.3, §4)", async () => {
  const token = await fresh();
  const wrong: [
    string,
    Form,
    Record<string, string>,
    "client_missing" | "client_secret_wrong" | "client_unknown" | "malformed_request",
  ][] = [
    ["none", {}, {}, "client_missing"],
    ["an id only", { client_id: "billing" }, {}, "client_missing"],
    ["a wrong secret", {}, basic("billing", `${BILLING_SECRET}x`), "client_secret_wrong"],
    ["an unknown client", {}, basic("nobody", BILLING_SECRET), "client_unknown"],
    ["a resource without a secret", {}, basic("ledger", BILLING_SECRET), "client_unknown"],
    ["a header that is not Basic's", {}, { authorization: "Basic !!!" }, "malformed_request"],
    ["an access token", {}, { authorization: `Bearer ${token}` }, "client_missing"],
  ];
  const bodies = new Set<string>();
  for (const [label, form, headers, reason] of wrong) {
    const answer = await introspect({ token, ...form }, headers);
    await refused(answer, "invalid_client", reason, { label });
    assert.match(answer.headers.get("www-authenticate") ?? "", /^(Basic|Bearer) realm=/, label);
    bodies.add(answer.text);
  }
  assert.equal(bodies.size, 1);
});

test("an agent that is no resource's introspection client is 401 invalid_client (RFC 7662 §2.1, §4)", async () => {
  const token = await fresh();
  const by = (agent: string) =>
    introspect({ token, client_assertion: w.workload(agent), client_assertion_type: ASSERTION_TYPE }, {});
  await refused(await by("release-bot"), "invalid_client", "client_not_allowed");
  assert.deepEqual((await by("billing-svc")).body, INACTIVE);
});

test("a killed agent introspects nothing until it is restored (RFC 7662 §2.1, CONTRACT §6)", async () => {
  const by = async () =>
    introspect({ token: "x", client_assertion: w.workload("billing-svc"), client_assertion_type: ASSERTION_TYPE }, {});
  await w.operator("POST", "/v1/kill", { agent: "billing-svc", reason: "test" });
  await refused(await by(), "invalid_client", "killed");
  await w.operator("POST", "/v1/restore", { agent: "billing-svc", reason: "test" });
  assert.deepEqual((await by()).body, INACTIVE);
});

test("POST /introspect 400 invalid_request for two authentication methods, for no token and for two (RFC 7662 §2.1, RFC 6749 §2.3)", async () => {
  const token = await fresh();
  const twice = { token, client_id: "billing", client_secret: BILLING_SECRET };
  await refused(await introspect(twice), "invalid_request", "client_several_methods");
  await refused(await introspect({}), "invalid_request", "parameter_missing");
  await refused(await introspect({ token: [token, token] }), "invalid_request", "parameter_repeated");
});

test("/introspect takes POST only, and nothing from the URL (RFC 7662 §2.1)", async () => {
  const token = await fresh();
  const get = await w.request("GET", "/introspect");
  assert.equal(get.status, 405);
  assert.equal(get.headers.get("allow"), "POST");
  const answer = await w.post(`/introspect?token=${token}`, {}, basic("billing", BILLING_SECRET));
  await refused(answer, "invalid_request", "parameter_in_query");
});

test("Basic credentials are form-encoded inside, and a client_id beside them must agree (RFC 7662 §2.1, RFC 6749 §2.3.1)", async () => {
  const token = await fresh();
  const encoded = [...BILLING_SECRET].map((c) => `%${c.charCodeAt(0).toString(16)}`).join("");
  const header = { authorization: `Basic ${Buffer.from(`billing:${encoded}`).toString("base64")}` };
  assert.equal((await introspect({ token, client_id: "billing" }, header)).body["active"], true);
  await refused(await introspect({ token, client_id: "ledger" }), "invalid_client", "client_mismatch");
});

test("Accept: application/token-introspection+jwt is answered by a signed JWT for the caller alone (RFC 9701 §4, §5)", async () => {
  const { token, claims } = granted(await carried());
  const answer = await introspect({ token }, { ...basic("billing", BILLING_SECRET), accept: JWT_ANSWER });
  assert.equal(answer.status, 200);
  assert.equal(answer.headers.get("content-type"), JWT_ANSWER);
  const jwks = (await w.request("GET", "/.well-known/jwks.json")).body as unknown as JSONWebKeySet;
  const { payload } = await jwtVerify(answer.text, createLocalJWKSet(jwks), {
    issuer: w.server.issuer,
    audience: "billing",
    typ: "token-introspection+jwt",
    algorithms: ["ES256"],
    currentDate: new Date(w.clock.nowMs()),
  });
  // No `sub` and no `exp` on top: it must not pass for an access token (RFC 9701 §5, §8.1).
  assert.deepEqual(Object.keys(payload).sort(), ["aud", "iat", "iss", "token_introspection"]);
  assert.deepEqual(payload["token_introspection"], { active: true, token_type: "Bearer", ...claims });
});

test("the signed answer about an inactive token says only that (RFC 9701 §5)", async () => {
  const answer = await introspect(
    { token: "x" },
    { ...basic("billing", BILLING_SECRET), accept: `${JWT_ANSWER}, */*;q=0.1` },
  );
  assert.deepEqual(decodeJwt(answer.text)["token_introspection"], INACTIVE);
});

test("without that Accept header the answer is JSON, and errors always are (RFC 9701 §4)", async () => {
  const token = await fresh();
  for (const accept of ["*/*", "application/json", "application/jwt"]) {
    const answer = await introspect({ token }, { ...basic("billing", BILLING_SECRET), accept });
    assert.equal(answer.headers.get("content-type"), "application/json", accept);
    assert.equal(answer.body["active"], true);
  }
  await refused(await introspect({ token }, { accept: JWT_ANSWER }), "invalid_client", "client_missing");
});

test("a signed introspection answer is no token: neither introspected, nor a subject, nor a client (RFC 9701 §8.1)", async () => {
  const token = await fresh();
  const { text: jwt } = await introspect({ token }, { ...basic("billing", BILLING_SECRET), accept: JWT_ANSWER });
  await inactive(jwt, "its own answer");
  await refused(
    await w.self("release-bot", { token: jwt, resource: BILLING, scope: "billing" }),
    "invalid_request",
    "token_issuer_unknown",
  );
  const api = await w.request("GET", "/v1/agents", { headers: { authorization: `Bearer ${jwt}` } });
  assert.equal(api.status, 401);
});

test("a token that works in a task goes on living when the task goes on (RFC 7662 §2.2)", async () => {
  const { claims } = granted(await carried());
  w.clock.advance(300);
  const handle = { subject_token: String(claims["txn"]), subject_token_type: TASK_TYPE };
  const { token } = granted(await carried(handle));
  assert.equal((await introspect({ token })).body["active"], true);
});
