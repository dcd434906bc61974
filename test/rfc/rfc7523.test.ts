import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import { dpopKey } from "../support/dpop-key.ts";
import {
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_BEARER,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const { granted, refused } = await faces(w);
const { issuer } = w.server;

const asClient = (assertion: string): Form => ({ client_assertion: assertion, client_assertion_type: ASSERTION_TYPE });
const credentials = (assertion: string, form: Form = {}): Promise<Answer> =>
  w.post("/token", {
    grant_type: "client_credentials",
    ...asClient(assertion),
    resource: BILLING,
    scope: "billing:refund",
    ...form,
  });
const bearer = (assertion: string | undefined, form: Form = {}, headers?: Record<string, string>): Promise<Answer> =>
  w.post(
    "/token",
    { grant_type: JWT_BEARER, assertion, resource: BILLING, scope: "billing:read_invoice", ...form },
    headers,
  );
/** Any header, signed with the agent's key. */
const signed = (header: Record<string, unknown>, claims: Record<string, unknown> = {}): string =>
  signJws("ES256", w.agentKey, {
    encodedHeader: Buffer.from(JSON.stringify(header)).toString("base64url"),
    claims: decodeClaims(w.privateKeyJwt(claims)),
  });
const decodeClaims = (token: string): Record<string, unknown> => ({ ...decodeJwt(token) });

test("private_key_jwt with iss and sub the agent's name, our issuer as aud, jti and exp is a client (RFC 7523 §2.2, §3)", async () => {
  assert.equal(granted(await credentials(w.privateKeyJwt())).claims["client_id"], "keyed-bot");
  granted(await credentials(w.privateKeyJwt(), { client_id: "keyed-bot" }));
});

test("whatever is wrong with a client assertion, the answer is the same 401 invalid_client (RFC 7523 §3, §3.2)", async () => {
  const now = w.now();
  const bad: [string, string, Reason][] = [
    ["iss is not sub", w.privateKeyJwt({ sub: "release-bot" }), "client_mismatch"],
    ["an agent without keys", w.privateKeyJwt({ iss: "release-bot", sub: "release-bot" }), "token_signature"],
    ["an unknown agent", w.privateKeyJwt({ iss: "nobody", sub: "nobody" }), "client_unknown"],
    ["no sub", w.privateKeyJwt({ sub: undefined }), "token_claim_missing"],
    ["no exp", w.privateKeyJwt({ exp: undefined }), "token_claim_missing"],
    ["no jti", w.privateKeyJwt({ jti: undefined }), "token_claim_missing"],
    ["expired", w.privateKeyJwt({ iat: now - 120, exp: now - 60 }), "token_expired"],
    ["good for more than five minutes", w.privateKeyJwt({ exp: now + 301 }), "token_lifetime"],
    ["of the future", w.privateKeyJwt({ iat: now + 120, exp: now + 180 }), "token_not_yet_valid"],
    ["not valid yet", w.privateKeyJwt({ nbf: now + 120 }), "token_not_yet_valid"],
    ["another key's", otherKey(), "token_signature"],
    ["no JWT", "assertion", "token_malformed"],
  ];
  const bodies = new Set<string>();
  for (const [label, assertion, reason] of bad) {
    const answer = await credentials(assertion);
    await refused(answer, "invalid_client", reason, { label });
    bodies.add(answer.text);
  }
  assert.equal(bodies.size, 1);
  granted(await credentials(w.privateKeyJwt()));
});

function otherKey(): string {
  const { privateKey } = makeKeyPair("P-256");
  return signJws("ES256", privateKey, {
    encodedHeader: Buffer.from('{"alg":"ES256"}').toString("base64url"),
    claims: decodeClaims(w.privateKeyJwt()),
  });
}

test("aud is our issuer and nothing else: not the token endpoint, no list, no other spelling (draft-ietf-oauth-rfc7523bis audience)", async () => {
  const others = [
    `${issuer}/token`,
    `${issuer}/`,
    [issuer, "https://elsewhere.example"],
    [issuer],
    "https://elsewhere.example",
    issuer.toUpperCase(),
  ];
  for (const aud of others)
    await refused(await credentials(w.privateKeyJwt({ aud })), "invalid_client", "token_audience", {
      label: String(aud),
    });
  await refused(await credentials(w.privateKeyJwt({ aud: undefined })), "invalid_client", "token_claim_missing");
});

test("a client assertion works once, at whichever endpoint and replica (RFC 7523 §3 jti)", async () => {
  const assertion = w.privateKeyJwt();
  granted(await credentials(assertion));
  await refused(await credentials(assertion), "invalid_client", "token_replayed");
  for (const path of ["/introspect", "/revoke"]) {
    await refused(await w.post(path, { token: "x", ...asClient(assertion) }), "invalid_client", "token_replayed", {
      label: path,
    });
    const other = w.privateKeyJwt();
    await w.post(path, { token: "x", ...asClient(other) });
    await refused(await credentials(other), "invalid_client", "token_replayed", { label: path });
  }
  const replica = await w.replica();
  const { body, status } = await w.post(`${replica.url}/token`, {
    grant_type: "client_credentials",
    ...asClient(assertion),
    resource: BILLING,
    scope: "billing:refund",
  });
  assert.deepEqual([status, body["error"]], [401, "invalid_client"]);
});

test("a client whose clock is half a minute ahead is a client, with five minutes from its own iat (RFC 7523 §3)", async () => {
  const ahead = w.now() + 25;
  granted(await credentials(w.privateKeyJwt({ iat: ahead, exp: ahead + 300 })));
  await refused(
    await credentials(w.privateKeyJwt({ iat: ahead, exp: ahead + 301 })),
    "invalid_client",
    "token_lifetime",
  );
});

test("typ client-authentication+jwt is what new clients send, none and JWT what old ones do; others are refused (draft-ietf-oauth-rfc7523bis typ)", async () => {
  for (const typ of ["client-authentication+jwt", "JWT", undefined])
    granted(await credentials(signed({ alg: "ES256", typ })), String(typ));
  for (const typ of ["at+jwt", "dpop+jwt", "oauth-id-jag+jwt", "secevent+jwt"]) {
    await refused(await credentials(signed({ alg: "ES256", typ })), "invalid_client", "token_typ", { label: typ });
  }
});

test("the key of a client assertion is a registered one, never one from its header (RFC 7523 §3, RFC 8725 §3.10)", async () => {
  const jwk = w.agentKey.export({ format: "jwk" });
  for (const header of [
    { jwk: { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y } },
    { jku: "https://evil.example/jwks" },
    { x5u: "https://evil.example/x5u" },
    { crit: ["x"], x: 1 },
  ]) {
    const answer = await credentials(signed({ alg: "ES256", ...header }));
    await refused(answer, "invalid_client", "token_header_member", { label: Object.keys(header)[0] ?? "" });
  }
  for (const alg of ["none", "HS256"])
    await refused(await credentials(signed({ alg })), "invalid_client", "token_alg", { label: alg });
  granted(await credentials(signed({ alg: "ES256" })));
});

test("client_assertion and client_assertion_type go together, and other types are not served (RFC 7521 §4.2, RFC 7523 §2.2)", async () => {
  await refused(
    await credentials(w.privateKeyJwt(), { client_assertion_type: undefined }),
    "invalid_request",
    "parameter_missing",
  );
  await refused(await credentials("", {}), "invalid_request", "parameter_missing");
  for (const type of ["saml2-bearer", "jwt-spiffe", "nonsense"]) {
    const form = { client_assertion_type: `urn:ietf:params:oauth:client-assertion-type:${type}` };
    await refused(await credentials(w.privateKeyJwt(), form), "invalid_client", "token_type_unsupported", {
      label: type,
    });
  }
  await refused(await credentials("", { client_assertion_type: undefined }), "invalid_client", "client_missing");
});

test("a client assertion says who acts in a token exchange too (RFC 7523 §2.2, RFC 8693 §2.1)", async () => {
  await w.apply(
    "grants:\n  - { agent: keyed-bot, resource: ledger, actions: [read], on_behalf_of: { issuer: okta } }\n",
    "keyed.yaml",
  );
  const form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human("00u-7523"),
    subject_token_type: ID_TOKEN_TYPE,
    audience: "ledger",
    scope: "ledger:read",
  };
  const { claims } = granted(await w.post("/token", { ...form, ...asClient(w.privateKeyJwt()) }));
  assert.deepEqual([claims.sub, claims["act"]], ["okta|00u-7523", { sub: "agent|keyed-bot" }]);
  await refused(await w.post("/token", { ...form, ...asClient(otherKey()) }), "invalid_client", "token_signature");
});

test("a platform's own token is a client assertion under its issuer's rules (RFC 7521 §4.2, CONTRACT §5)", async () => {
  const token = w.workload("release-bot");
  const form = { scope: "billing:read_invoice" };
  assert.equal(granted(await credentials(token, form)).claims.sub, "agent|release-bot");
  granted(await credentials(token, { ...form, client_id: "release-bot" }));
  await refused(await credentials(token, { ...form, client_id: "triage-bot" }), "invalid_client", "client_mismatch");
  await refused(
    await credentials(w.workload("release-bot", { aud: "https://elsewhere.example" }), form),
    "invalid_client",
    "token_audience",
  );
  await refused(await credentials(w.human(), form), "invalid_client", "actor_not_workload");
});

test("a client assertion serves at /introspect and /revoke by the same rules (RFC 7523 §2.2)", async () => {
  const { token } = granted(await credentials(w.privateKeyJwt()));
  const assertion = w.privateKeyJwt({ aud: `${issuer}/revoke` });
  await refused(await w.post("/revoke", { token, ...asClient(assertion) }), "invalid_client", "token_audience");
  assert.equal((await w.post("/revoke", { token, ...asClient(w.privateKeyJwt()) })).status, 200);
  const { body } = await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.deepEqual(body, { active: false });
});

test("jwt-bearer takes a workload's token without client authentication: the agent for itself, no refresh token, no issued_token_type (RFC 7523 §2.1, MCP SEP-1933)", async () => {
  const { body, claims } = granted(await bearer(w.workload("release-bot")));
  assert.deepEqual(Object.keys(body).sort(), ["access_token", "expires_in", "scope", "token_type"]);
  assert.equal(claims.sub, "agent|release-bot");
  assert.equal(claims["act"], undefined);
  granted(await bearer(w.workload("release-bot"), { client_id: "release-bot" }));
});

test("whatever is wrong with a bearer assertion, POST /token answers 400 invalid_grant (RFC 7523 §3, §3.1)", async () => {
  const now = w.now();
  const bad: [string, string, Reason][] = [
    ["expired", w.workload("release-bot", { iat: now - 700, nbf: now - 700, exp: now - 100 }), "token_expired"],
    ["no exp", w.workload("release-bot", { exp: undefined }), "token_claim_missing"],
    ["no sub", w.workload("release-bot", { sub: undefined }), "token_claim_missing"],
    ["no aud", w.workload("release-bot", { aud: undefined }), "token_claim_missing"],
    ["another audience", w.workload("release-bot", { aud: `${issuer}/token` }), "token_audience"],
    ["several audiences", w.workload("release-bot", { aud: [issuer, "https://elsewhere.example"] }), "token_audience"],
    ["an unknown issuer", w.workload("release-bot", { iss: "https://stranger.example" }), "token_issuer_unknown"],
    ["not valid yet", w.workload("release-bot", { nbf: now + 300 }), "token_not_yet_valid"],
    ["a human's", w.human(), "actor_not_workload"],
    ["nobody's", w.workload("unheard-of"), "no_rule_matches"],
    ["an agent's own key's", w.privateKeyJwt(), "token_issuer_unknown"],
    ["no JWT", "x", "token_malformed"],
  ];
  for (const [label, assertion, reason] of bad)
    await refused(await bearer(assertion), "invalid_grant", reason, { label });
  granted(await bearer(w.workload("release-bot")));
});

test("POST /token 400 invalid_request without an assertion or with two of them (RFC 7523 §2.1)", async () => {
  await refused(await bearer(undefined), "invalid_request", "parameter_missing");
  const token = w.workload("release-bot");
  await refused(await bearer(undefined, { assertion: [token, token] }), "invalid_request", "parameter_repeated");
});

test("client authentication beside a bearer assertion is checked, and must name the same agent (RFC 7523 §3.1)", async () => {
  granted(await bearer(w.workload("release-bot"), asClient(w.workload("release-bot"))));
  await refused(
    await bearer(w.workload("release-bot"), asClient(w.privateKeyJwt())),
    "invalid_request",
    "client_mismatch",
  );
  await refused(await bearer(w.workload("release-bot"), asClient("x")), "invalid_client", "token_malformed");
});

test("a killed agent's bearer assertion is invalid_grant (RFC 7523 §3.1)", async () => {
  await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  await refused(await bearer(w.workload("release-bot")), "invalid_grant", "killed");
  await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
  granted(await bearer(w.workload("release-bot")));
});

/** An ID-JAG for `triage-bot`, by the IdP of humans. */
const idJag = (
  claims: Record<string, unknown> = {},
  header: Record<string, unknown> = { typ: "oauth-id-jag+jwt" },
): string =>
  w.humans.mint(
    { sub: "00u-jag", aud: issuer, client_id: "triage-bot", jti: crypto.randomUUID(), groups: ["support"], ...claims },
    { now: w.now(), ttl: 300, header },
  );
const redeem = (assertion: string, form: Form = {}, headers?: Record<string, string>): Promise<Answer> =>
  bearer(assertion, { ...asClient(w.workload("triage-bot")), ...form }, headers);

test("an ID-JAG by an authenticated client is the human, carried by that agent (draft-ietf-oauth-identity-assertion-authz-grant-04 redemption)", async () => {
  const { body, claims } = granted(await redeem(idJag()));
  assert.equal(claims.sub, "okta|00u-jag");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
  assert.deepEqual(Object.keys(body).sort(), ["access_token", "expires_in", "scope", "token_type"]);
  granted(await redeem(idJag({}, { typ: "application/oauth-id-jag+jwt" })));
});

test("an ID-JAG without client authentication is invalid_client (draft-ietf-oauth-identity-assertion-authz-grant-04 redemption, MCP EMA)", async () => {
  await refused(await bearer(idJag()), "invalid_client", "client_missing");
  await refused(await bearer(idJag(), { client_id: "triage-bot" }), "invalid_client", "client_missing");
});

test("an ID-JAG is for one client, one server and one use; anything else is invalid_grant (draft-ietf-oauth-identity-assertion-authz-grant-04 redemption)", async () => {
  const now = w.now();
  const used = idJag();
  granted(await redeem(used));
  const bad: [string, string, Reason][] = [
    ["used before", used, "replayed"],
    ["another client's", idJag({ client_id: "summary-bot" }), "client_mismatch"],
    ["no client", idJag({ client_id: undefined }), "token_claim_missing"],
    ["no jti", idJag({ jti: undefined }), "token_claim_missing"],
    ["no iat", idJag({ iat: undefined }), "token_claim_missing"],
    ["expired", idJag({ iat: now - 700, nbf: now - 700, exp: now - 300 }), "token_expired"],
    ["our token endpoint", idJag({ aud: `${issuer}/token` }), "token_audience"],
    ["several servers", idJag({ aud: [issuer, "https://elsewhere.example"] }), "token_audience"],
    ["an ID token", idJag({}, { typ: "JWT" }), "actor_not_workload"],
    [
      "of an issuer of workloads",
      w.workload("triage-bot", { client_id: "triage-bot" }, { header: { typ: "oauth-id-jag+jwt" } }),
      "subject_not_human",
    ],
  ];
  for (const [label, assertion, reason] of bad)
    await refused(await redeem(assertion), "invalid_grant", reason, { label });
});

test("scope and resource of an ID-JAG bound what is asked for (draft-ietf-oauth-identity-assertion-authz-grant-04 redemption)", async () => {
  const bound = { scope: "billing:read_invoice", resource: BILLING };
  granted(await redeem(idJag(bound)));
  await refused(await redeem(idJag(bound), { scope: "billing:refund" }), "invalid_scope", "scope_above_ceiling");
  const ledger = { resource: undefined, audience: "ledger", scope: "ledger:read" };
  await refused(await redeem(idJag({ resource: BILLING }), ledger), "invalid_target", "target_not_granted");
  granted(
    await redeem(idJag({ resource: [BILLING, "https://ledger.acme.example"] }), {
      ...ledger,
      audience: undefined,
      resource: "https://ledger.acme.example",
    }),
  );
});

test("scope and resource of an ID-JAG bound the whole task that it opens, and the bare name of a resource is all of it (draft-ietf-oauth-identity-assertion-authz-grant-04 redemption)", async () => {
  const later = (txn: unknown, form: Form): Promise<Answer> =>
    w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token: String(txn),
      subject_token_type: TASK_TYPE,
      ...asClient(w.workload("triage-bot")),
      ...form,
    });
  const refund = { audience: "billing", scope: "billing:refund" };
  const ledger = { audience: "ledger", scope: "ledger:read" };

  const byScope = granted(await redeem(idJag({ scope: "openid billing:read_invoice" }))).claims["txn"];
  granted(await later(byScope, { ...refund, scope: "billing:read_invoice" }));
  await refused(await later(byScope, refund), "invalid_scope", "scope_above_ceiling");
  await refused(await later(byScope, ledger), "invalid_scope", "scope_above_ceiling");
  const away = { resource: `${issuer}/agents/summary-bot`, scope: "billing:refund" };
  await refused(await later(byScope, away), "invalid_scope", "scope_above_ceiling");

  const byResource = granted(await redeem(idJag({ resource: BILLING, scope: "billing ledger:read" }))).claims["txn"];
  granted(await later(byResource, refund));
  await refused(await later(byResource, ledger), "invalid_scope", "scope_above_ceiling");

  const unbound = granted(await redeem(idJag())).claims["txn"];
  granted(await later(unbound, refund));
  granted(await later(unbound, ledger));
});

test("an ID-JAG that is bound to a key needs a proof by that key (draft-ietf-oauth-identity-assertion-authz-grant-04 key binding)", async () => {
  const [key, other] = [await dpopKey(), await dpopKey()];
  const htu = `${issuer}/token`;
  const nonce = (await redeem(idJag(), {}, { dpop: key.proof({ htu, iat: w.now() }) })).headers.get("dpop-nonce") ?? "";
  const proof = (by: typeof key) => ({ dpop: by.proof({ htu, iat: w.now(), nonce }) });
  const bound = () => idJag({ cnf: { jkt: key.jkt } });
  await refused(await redeem(bound()), "invalid_grant", "dpop_missing");
  await refused(await redeem(bound(), {}, proof(other)), "invalid_dpop_proof", "dpop_key_mismatch");
  const { body, claims } = granted(await redeem(bound(), {}, proof(key)));
  assert.equal(body["token_type"], "DPoP");
  assert.deepEqual(claims["cnf"], { jkt: key.jkt });
});
