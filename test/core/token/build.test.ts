import assert from "node:assert/strict";
import { test } from "node:test";
import type { AccessTokenFacts } from "../../../src/core/token/build.ts";
import { buildAccessTokenClaims } from "../../../src/core/token/build.ts";
import { OWN_TOKEN_MAX_BYTES } from "../../../src/core/token/jws.ts";

const NOW = 1795312800;
const facts: AccessTokenFacts = {
  issuer: "https://sts.acme.example",
  audience: "https://sts.acme.example/mcp/tickets",
  subject: "okta|00u1ab",
  path: ["triage-bot", "summary-bot"],
  scopes: ["tickets:get_ticket"],
  txn: "01JD9Z6Q4V01JD9Z6Q4V01JD9Z",
  purpose: "triage inbox",
  jti: "01JD9Z6Q4V01JD9Z6Q4V01JD9A",
  issuedAt: NOW,
  lifetimeSeconds: 45,
  jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
};

test("claims are those of the contract, in its order (CONTRACT §5, RFC 8693 §4.1)", () => {
  assert.equal(
    JSON.stringify(buildAccessTokenClaims(facts)),
    '{"iss":"https://sts.acme.example","aud":"https://sts.acme.example/mcp/tickets","sub":"okta|00u1ab",' +
      '"client_id":"summary-bot","act":{"sub":"agent|summary-bot","act":{"sub":"agent|triage-bot"}},' +
      '"scope":"tickets:get_ticket","txn":"01JD9Z6Q4V01JD9Z6Q4V01JD9Z","purpose":"triage inbox",' +
      '"jti":"01JD9Z6Q4V01JD9Z6Q4V01JD9A","iat":1795312800,"exp":1795312845,' +
      '"cnf":{"jkt":"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"}}',
  );
});

test("an agent acting for itself has no act; another acting for it has only itself in act", () => {
  const itself = buildAccessTokenClaims({ ...facts, subject: "agent|triage-bot", path: ["triage-bot"] });
  assert.equal("act" in itself, false);
  assert.equal(itself.client_id, "triage-bot");
  const handedOver = buildAccessTokenClaims({ ...facts, subject: "agent|triage-bot" });
  assert.deepEqual(handedOver.act, { sub: "agent|summary-bot" });
});

test("once is carried only when it holds, purpose and cnf only when they are there", () => {
  assert.equal(buildAccessTokenClaims({ ...facts, once: true }).once, true);
  assert.equal("once" in buildAccessTokenClaims({ ...facts, once: false }), false);
  const { purpose: _purpose, jkt: _jkt, ...bare } = facts;
  assert.deepEqual(
    Object.keys(buildAccessTokenClaims(bare)),
    "iss aud sub client_id act scope txn jti iat exp".split(" "),
  );
});

test("a token that could exceed 8 KiB is refused, the largest accepted one fits with any signature of ours", () => {
  const withScopes = (count: number) => ({
    ...facts,
    scopes: Array.from({ length: count }, (_, index) => `tickets:action_${String(index).padStart(40, "0")}`),
  });
  let count = 1;
  for (; count < 200; count++) {
    try {
      buildAccessTokenClaims(withScopes(count + 1));
    } catch (error) {
      assert.deepEqual(
        [(error as { code: string }).code, (error as { reason: string }).reason],
        ["invalid_scope", "scope_too_large"],
      );
      break;
    }
  }
  const header = Buffer.from(JSON.stringify({ typ: "txntoken+jwt", alg: "RS256", kid: "k".repeat(43) })).toString(
    "base64url",
  );
  const payload = Buffer.from(JSON.stringify(buildAccessTokenClaims(withScopes(count)))).toString("base64url");
  const rsa4096 = Buffer.alloc(512).toString("base64url");
  assert.ok(`${header}.${payload}.${rsa4096}`.length <= OWN_TOKEN_MAX_BYTES);
  assert.ok(count > 50 && count < 200, String(count));
});

test("bytes count, not characters", () => {
  const purpose = "語".repeat(2000);
  assert.throws(() => buildAccessTokenClaims({ ...facts, purpose }), { reason: "scope_too_large" });
  assert.ok(buildAccessTokenClaims({ ...facts, purpose: "x".repeat(2000) }));
});

test("INV-01 a life beyond 59 s, or none, is a bug that stops here", () => {
  assert.ok(buildAccessTokenClaims({ ...facts, lifetimeSeconds: 59 }));
  for (const lifetimeSeconds of [60, 0, 1.5, Number.NaN]) {
    assert.throws(() => buildAccessTokenClaims({ ...facts, lifetimeSeconds }), RangeError);
  }
  assert.throws(() => buildAccessTokenClaims({ ...facts, issuedAt: NOW + 0.5 }), RangeError);
  assert.throws(() => buildAccessTokenClaims({ ...facts, path: [] }), RangeError);
});
