import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, jwtVerify, type JSONWebKeySet } from "jose";
import { dpopKey } from "../support/dpop-key.ts";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_BEARER,
  JWT_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { faces } from "./faces.ts";

const TXN_TYPE = "urn:ietf:params:oauth:token-type:txn_token";
const DOMAIN = "prod.acme.example";
const w = await world({ after }, { env: { EPHOR_TRUST_DOMAIN: DOMAIN } });
const { granted, refused } = await faces(w);

const ask = (form: Form = {}, headers?: Record<string, string>): Promise<Answer> =>
  w.post(
    "/token",
    {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.human("00u-txn"),
      subject_token_type: ID_TOKEN_TYPE,
      actor_token: w.workload("triage-bot"),
      actor_token_type: JWT_TYPE,
      requested_token_type: TXN_TYPE,
      audience: DOMAIN,
      scope: "billing:read_invoice ledger:read",
      ...form,
    },
    headers,
  );

test("a transaction token is answered as txn_token with token_type N_A (draft-ietf-oauth-transaction-tokens-10 response)", async () => {
  const { body } = granted(await ask());
  const { access_token: token, ...rest } = body;
  assert.equal(typeof token, "string");
  assert.deepEqual(rest, {
    issued_token_type: TXN_TYPE,
    token_type: "N_A",
    expires_in: 45,
    scope: "billing:read_invoice ledger:read",
  });
});

test("its header is typ txntoken+jwt and a published key's, its claims those of the draft (draft-ietf-oauth-transaction-tokens-10 claims)", async () => {
  const { token, claims, header } = granted(await ask());
  assert.equal(header["typ"], "txntoken+jwt");
  const jwks = (await w.request("GET", "/.well-known/jwks.json")).body as unknown as JSONWebKeySet;
  await jwtVerify(token, createLocalJWKSet(jwks), {
    audience: DOMAIN,
    typ: "txntoken+jwt",
    currentDate: new Date(w.clock.nowMs()),
  });
  assert.deepEqual(Object.keys(claims).sort(), ["aud", "exp", "iat", "iss", "jti", "req_wl", "scope", "sub", "txn"]);
  assert.equal(claims.sub, "okta|00u-txn");
  assert.equal(claims["req_wl"], "triage-bot");
  assert.ok(Number(claims.exp) - Number(claims.iat) <= 59);
});

test("request_details become tctx and request_context rctx; what is no small JSON object is invalid_request (draft-ietf-oauth-transaction-tokens-10 request)", async () => {
  const details = { repo: "acme/widgets", pr: 17 };
  const context = { req_ip: "203.0.113.9" };
  const { claims } = granted(
    await ask({ request_details: JSON.stringify(details), request_context: JSON.stringify(context) }),
  );
  assert.deepEqual(claims["tctx"], details);
  assert.deepEqual(claims["rctx"], context);
  for (const bad of ["[]", "1", "null", "{", '{"a":1,"a":2}', JSON.stringify({ a: "x".repeat(3000) })]) {
    await refused(await ask({ request_details: bad }), "invalid_request", "parameter_invalid", {
      label: bad.slice(0, 20),
    });
  }
});

test("its audience is the trust domain: any other target, and none, is invalid_target (draft-ietf-oauth-transaction-tokens-10 request)", async () => {
  for (const audience of ["billing", "https://billing.acme.example", `${w.server.issuer}/agents/summary-bot`]) {
    await refused(await ask({ audience }), "invalid_target", "target_unknown", { label: audience });
  }
  for (const audience of ["dev.acme.example", `${DOMAIN}.`, DOMAIN.toUpperCase()]) {
    await refused(await ask({ audience }), "invalid_target", "target_malformed", { label: audience });
  }
  await refused(await ask({ audience: [DOMAIN, "billing"] }), "invalid_target", "target_several");
  await refused(await ask({ audience: undefined }), "invalid_target", "target_missing");
});

test("the trust domain is a target of transaction tokens only (draft-ietf-oauth-transaction-tokens-10 request)", async () => {
  const answer = await ask({ requested_token_type: ACCESS_TOKEN_TYPE });
  assert.equal(answer.body["error"], "invalid_target");
  granted(await ask({ requested_token_type: ACCESS_TOKEN_TYPE, audience: "billing", scope: "billing:read_invoice" }));
});

test("its scope is needed and never wider than what is granted (draft-ietf-oauth-transaction-tokens-10 request)", async () => {
  await refused(await ask({ scope: undefined }), "invalid_scope", "scope_missing");
  await refused(await ask({ scope: "billing:read_invoice ledger:write" }), "invalid_scope", "scope_not_granted");
  await refused(await ask({ scope: "nowhere:read" }), "invalid_scope", "scope_unknown");
});

test("a refresh token is no subject token (draft-ietf-oauth-transaction-tokens-10 request)", async () => {
  const answer = await ask({ subject_token_type: "urn:ietf:params:oauth:token-type:refresh_token" });
  await refused(answer, "invalid_request", "token_type_unsupported");
});

test("a transaction token keeps the txn of its chain and is not bound to a key (draft-ietf-oauth-transaction-tokens-10 claims)", async () => {
  const human = w.human("00u-chain");
  const access = granted(
    await ask({ subject_token: human, requested_token_type: undefined, audience: "billing", scope: "billing:refund" }),
  );
  const key = await dpopKey();
  const htu = `${w.server.issuer}/token`;
  const nonce = (await ask({}, { dpop: key.proof({ htu, iat: w.now() }) })).headers.get("dpop-nonce") ?? "";
  const { claims } = granted(await ask({ subject_token: human }, { dpop: key.proof({ htu, iat: w.now(), nonce }) }));
  assert.equal(claims["txn"], access.claims["txn"]);
  assert.equal(claims["cnf"], undefined);
});

test("a transaction token authenticates nobody: no access token, subject, actor, client or assertion (draft-ietf-oauth-transaction-tokens-10 use)", async () => {
  const { token } = granted(await ask());
  const answer = await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.deepEqual(answer.body, { active: false });
  for (const type of [ACCESS_TOKEN_TYPE, JWT_TYPE, TXN_TYPE]) {
    assert.equal(
      (await ask({ subject_token: token, subject_token_type: type })).body["error"],
      "invalid_request",
      type,
    );
  }
  assert.equal((await ask({ actor_token: token })).body["error"], "invalid_request");
  const assertion = await w.post("/token", {
    grant_type: JWT_BEARER,
    assertion: token,
    audience: "billing",
    scope: "billing",
  });
  assert.equal(assertion.body["error"], "invalid_grant");
  const client = { grant_type: "client_credentials", client_assertion: token, client_assertion_type: ASSERTION_TYPE };
  assert.equal(
    (await w.post("/token", { ...client, audience: "billing", scope: "billing" })).body["error"],
    "invalid_client",
  );
  assert.equal((await w.request("GET", "/v1/agents", { headers: { authorization: `Bearer ${token}` } })).status, 401);
});

test("without a configured trust domain no transaction tokens are served (draft-ietf-oauth-transaction-tokens-10 request)", async (t) => {
  const other = await world(t);
  const answer = await other.self("release-bot", {
    requested_token_type: TXN_TYPE,
    audience: "billing",
    scope: "billing",
  });
  assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"]);
});
