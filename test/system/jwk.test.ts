import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { importPublicJwk, importVerificationKey } from "../../src/system/jwk.ts";

const p256 = makeKeyPair("P-256").publicKey;
const jwk = p256.export({ format: "jwk" });

test("keys of every type are imported, with the algorithms they may verify", () => {
  assert.ok(importPublicJwk(jwk).equals(p256));
  for (const { publicKey } of [
    makeKeyPair("Ed25519"),
    generateKeyPairSync("rsa", { modulusLength: 2048 }),
    generateKeyPairSync("ec", { namedCurve: "P-521" }),
  ]) {
    assert.ok(importPublicJwk(publicKey.export({ format: "jwk" })).equals(publicKey));
  }
  assert.deepEqual(importVerificationKey({ ...jwk, kid: "k", use: "sig", alg: "ES256" }).algorithms, ["ES256"]);
});

test("A-JWT-16 a point that is not on the curve is refused", () => {
  const y = Buffer.from(jwk.y as string, "base64url");
  y[31] = (y[31] as number) ^ 1;
  assert.throws(() => importPublicJwk({ ...jwk, y: y.toString("base64url") }), {
    name: "JwkError",
    problem: "coordinates",
  });
  const zero = Buffer.alloc(32).toString("base64url");
  assert.throws(() => importPublicJwk({ ...jwk, x: zero, y: zero }), { name: "JwkError", problem: "coordinates" });
});

test("A-JWT-16 a private key is refused, not stripped", () => {
  const { privateKey } = makeKeyPair("P-256");
  assert.throws(() => importPublicJwk(privateKey.export({ format: "jwk" })), { name: "JwkError", problem: "private" });
});

test("a refusal carries nothing of the key", () => {
  assert.throws(
    () => importPublicJwk({ ...jwk, x: jwk.y }),
    (error: Error) => !`${error.message}${JSON.stringify(error)}`.includes((jwk.y as string).slice(0, 8)),
  );
});
