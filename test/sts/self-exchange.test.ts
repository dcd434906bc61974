import assert from "node:assert/strict";
import { test } from "node:test";
import { createLocalJWKSet, jwtVerify } from "jose";
import { ACCESS_TOKEN_TYPE, BILLING_SECRET, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";

test("POST /token 200 an agent's own platform token becomes a task-bound token under 60 s (RFC 8693 §2.2.1)", async (t) => {
  const w = await world(t);
  const answer = await w.self("release-bot", {
    resource: BILLING,
    scope: "billing:read_invoice",
    purpose: "cut release 7",
  });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(Object.keys(answer.body).sort(), [
    "access_token",
    "expires_in",
    "issued_token_type",
    "scope",
    "token_type",
  ]);
  assert.equal(answer.body["issued_token_type"], ACCESS_TOKEN_TYPE);
  assert.equal(answer.body["token_type"], "Bearer");
  assert.equal(answer.headers.get("cache-control"), "no-store");
  const jwks = (await w.request("GET", "/.well-known/jwks.json")).body as never;
  const { payload, protectedHeader } = await jwtVerify(answer.body["access_token"] as string, createLocalJWKSet(jwks), {
    issuer: w.server.issuer,
    audience: BILLING,
    typ: "at+jwt",
    algorithms: ["ES256"],
    currentDate: new Date(w.clock.nowMs()),
  });
  assert.equal(protectedHeader.alg, "ES256");
  assert.equal(payload.sub, "agent|release-bot");
  assert.equal(payload["act"], undefined);
  assert.equal(payload["scope"], "billing:read_invoice");
  assert.equal(payload["purpose"], "cut release 7");
  assert.equal((payload.exp as number) - (payload.iat as number), answer.body["expires_in"]);
  assert.equal(answer.body["expires_in"], 45);
});

test("POST /token 400 invalid_scope for an action that is not granted, and for none", async (t) => {
  const w = await world(t);
  for (const scope of ["billing:refund", "billing:read_invoice billing:refund", undefined, "", "ledger:read"]) {
    const answer = await w.self("release-bot", { resource: BILLING, scope });
    assert.equal(answer.status, 400);
    assert.equal(answer.body["error"], "invalid_scope", String(scope));
  }
});

test("introspection says active with the token's claims, and inactive after its end", async (t) => {
  const w = await world(t);
  const token = (await w.self("release-bot", { resource: BILLING, scope: "billing" })).body["access_token"] as string;
  const introspect = () => w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  const live = await introspect();
  assert.equal(live.status, 200, live.text);
  assert.equal(live.body["active"], true);
  assert.equal(live.body["sub"], "agent|release-bot");
  w.clock.advance(46);
  assert.deepEqual((await introspect()).body, { active: false });
});
