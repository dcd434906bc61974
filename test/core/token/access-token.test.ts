import assert from "node:assert/strict";
import { test } from "node:test";
import { checkAccessToken } from "../../../src/core/token/access-token.ts";
import { buildAccessTokenClaims } from "../../../src/core/token/build.ts";

const NOW = 1795312800;
const issuer = "https://sts.acme.example";
const audience = "https://sts.acme.example/mcp/tickets";
const claims = buildAccessTokenClaims({
  issuer,
  audience,
  subject: "okta|00u1ab",
  path: ["triage-bot", "summary-bot"],
  scopes: ["tickets:get_ticket"],
  txn: "01JD9Z6Q4V01JD9Z6Q4V01JD9Z",
  purpose: "triage inbox",
  jti: "01JD9Z6Q4V01JD9Z6Q4V01JD9A",
  issuedAt: NOW,
  lifetimeSeconds: 45,
  jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
  once: true,
});
const rules = { issuer, audience, now: NOW };
const payload = (changes: object) => JSON.parse(JSON.stringify({ ...claims, ...changes })) as Record<string, unknown>;
const refuses = (changes: object, reason: string, more: object = {}) =>
  assert.throws(
    () => checkAccessToken(payload(changes), { ...rules, ...more }),
    { name: "RefusedToken", reason },
    JSON.stringify(changes),
  );

test("what was built is read back the same", () => {
  assert.deepEqual(checkAccessToken(payload({}), rules), claims);
  assert.deepEqual(Object.keys(checkAccessToken(payload({}), rules)), Object.keys(claims));
});

test("members we do not know are ignored and left out (RFC 7519 §4)", () => {
  assert.deepEqual(checkAccessToken(payload({ roles: ["admin"], may_act: {} }), rules), claims);
});

test("A-JWT-17 another issuer, by however little, is refused", () => {
  for (const iss of [
    "https://STS.acme.example",
    "https://sts.acme.example/",
    "https://sts.acme.example:443",
    "https://sts.acme.example.",
  ]) {
    refuses({ iss }, "token_issuer_unknown");
  }
  refuses({ iss: undefined }, "token_claim_missing");
});

test("INV-05 only the audience asked for is accepted, and always as one string", () => {
  refuses({ aud: "https://sts.acme.example/mcp/other" }, "token_audience");
  refuses({ aud: [audience] }, "token_claim_type");
  refuses({ aud: undefined }, "token_claim_missing");
  const { audience: _audience, ...anywhere } = rules;
  assert.equal(checkAccessToken(payload({ aud: "https://other.example" }), anywhere).aud, "https://other.example");
});

test("A-JWT-08 at exp it is over; INV-01 a longer life than 59 s is refused though we had signed it", () => {
  assert.ok(checkAccessToken(payload({}), { ...rules, now: NOW + 44 }));
  refuses({}, "token_expired", { now: NOW + 45 });
  assert.ok(checkAccessToken(payload({ exp: NOW + 59 }), rules));
  refuses({ exp: NOW + 60 }, "token_lifetime");
  refuses({ iat: undefined }, "token_claim_missing");
  refuses({ exp: NOW }, "token_expired");
  refuses({ exp: NOW, iat: NOW }, "token_expired");
});

test("a replica's clock may be 5 s ahead of ours, not 6 (INV-25)", () => {
  assert.ok(checkAccessToken(payload({}), { ...rules, now: NOW - 5 }));
  refuses({}, "token_not_yet_valid", { now: NOW - 6 });
});

test("every claim must be there with its type", () => {
  for (const claim of ["sub", "client_id", "scope", "txn", "jti"]) {
    refuses({ [claim]: undefined }, "token_claim_missing");
    for (const value of ["", 1, null, ["a"], {}]) refuses({ [claim]: value }, "token_claim_type");
  }
  refuses({ purpose: 1 }, "token_claim_type");
  for (const once of [false, "true", 1, null]) refuses({ once }, "token_claim_type");
});

test("a cnf that is not exactly a thumbprint is refused (RFC 7800 §3.1)", () => {
  const jkt = claims.cnf?.jkt;
  for (const cnf of [
    null,
    "x",
    [],
    {},
    { jkt: "" },
    { jkt: "AAAA" },
    { jkt: 1 },
    { jkt: null },
    { jkt, "x5t#S256": "x" },
    { jwk: {} },
  ]) {
    refuses({ cnf }, "token_claim_type");
  }
});

test("A-CHN-09 an act deeper than the limit is refused", () => {
  const act = (depth: number): object =>
    depth === 1 ? { sub: "agent|a1" } : { sub: `agent|a${depth}`, act: act(depth - 1) };
  assert.ok(checkAccessToken(payload({ act: act(8) }), rules));
  refuses({ act: act(9) }, "chain_depth");
  refuses({ act: act(3) }, "chain_depth", { maxDepth: 2 });
  for (const bad of [
    null,
    {},
    [],
    "agent|a",
    { sub: "okta|x" },
    { sub: "agent|a", iss: "x" },
    { sub: "agent|a", act: null },
    { act: { sub: "agent|a" } },
  ]) {
    refuses({ act: bad }, "token_claim_type");
  }
});
