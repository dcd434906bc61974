import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createRemoteJWKSet, decodeProtectedHeader, jwtVerify, type JWTVerifyResult } from "jose";
import { settled, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
/** A next key signs only when it has been published this long, in seconds (a verifier may keep the key set for half of it). */
const NOTICE_SECONDS = 600;
/** A retired key stays published this long, in seconds. */
const RETIRED_PUBLISHED_SECONDS = 900;

const w = await world({ after });
const jwksUrl = new URL(`${w.server.issuer}/.well-known/jwks.json`);
const fresh = async (): Promise<string> => {
  const answer = await settled(() => w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice" }));
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};
type KeySet = ReturnType<typeof createRemoteJWKSet>;
/** A tool server, which keeps its key set; it may ask again at once for a key that it does not know. */
const keySet = (): KeySet => createRemoteJWKSet(jwksUrl, { cooldownDuration: 0 });
const verify = (
  token: string,
  keys: KeySet,
  more: { audience?: string; typ?: string } = {},
): Promise<JWTVerifyResult> =>
  jwtVerify(token, keys, {
    issuer: w.server.issuer,
    audience: BILLING,
    typ: "at+jwt",
    algorithms: ["ES256"],
    requiredClaims: ["sub", "client_id", "txn", "jti"],
    clockTolerance: 0,
    currentDate: new Date(w.clock.nowMs()),
    ...more,
  });
const rotate = async (): Promise<void> => {
  const answer = await w.operator("POST", "/v1/keys/rotate", { reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};

test("jose verifies our tokens by the published keys as a tool server would", async () => {
  const { payload } = await verify(await fresh(), keySet());
  assert.equal(payload.sub, "agent|release-bot");
});

test("jose refuses our token for another audience, as another kind, changed, and from its exp on", async () => {
  const keys = keySet();
  const token = await fresh();
  await assert.rejects(verify(token, keys, { audience: "https://ledger.acme.example" }), {
    code: "ERR_JWT_CLAIM_VALIDATION_FAILED",
  });
  await assert.rejects(verify(token, keys, { typ: "JWT" }), { code: "ERR_JWT_CLAIM_VALIDATION_FAILED" });
  await assert.rejects(verify(`${token.slice(0, -6)}AAAAAA`, keys), { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" });
  await assert.rejects(verify(w.workload("release-bot"), keys));
  w.clock.advance(44);
  await verify(token, keys);
  w.clock.advance(1);
  await assert.rejects(verify(token, keys), { code: "ERR_JWT_EXPIRED" });
});

test("a tool server sees every rotation without one failed verification, whether it asks for keys again or kept them", async () => {
  const kept = keySet();
  await verify(await fresh(), kept);
  const kids = new Set<unknown>();
  for (let i = 0; i < 3; i++) {
    w.clock.advance(NOTICE_SECONDS);
    const old = await fresh();
    kids.add(decodeProtectedHeader(old).kid);
    await rotate();
    const young = await fresh();
    assert.notEqual(decodeProtectedHeader(young).kid, decodeProtectedHeader(old).kid);
    for (const token of [old, young]) {
      await verify(token, kept);
      await verify(token, keySet());
    }
  }
  assert.equal(kids.size, 3);
});

test("the next key is published before it signs: a tool server that never asks again survives one rotation", async () => {
  w.clock.advance(NOTICE_SECONDS);
  const kept = createRemoteJWKSet(jwksUrl, { cooldownDuration: Infinity, cacheMaxAge: Infinity });
  await verify(await fresh(), kept);
  await rotate();
  await verify(await fresh(), kept);
  w.clock.advance(NOTICE_SECONDS);
  await rotate();
  await assert.rejects(verify(await fresh(), kept), { code: "ERR_JWKS_NO_MATCHING_KEY" });
});

test("a retired key leaves the published set after a quarter of an hour, long after its last token", async () => {
  w.clock.advance(NOTICE_SECONDS);
  const token = await fresh();
  const { kid } = decodeProtectedHeader(token);
  await rotate();
  const published = async (): Promise<boolean> => {
    const { body } = await w.request("GET", "/.well-known/jwks.json");
    return (body["keys"] as { kid: string }[]).some((key) => key.kid === kid);
  };
  w.clock.advance(RETIRED_PUBLISHED_SECONDS - 1);
  await fresh();
  assert.equal(await published(), true);
  w.clock.advance(1);
  await fresh();
  assert.equal(await published(), false);
});
