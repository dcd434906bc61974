import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import { compactVerify, CompactSign } from "jose";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import type { JwsAlgorithm } from "../../src/core/token/jws.ts";
import { readJws } from "../../src/core/token/jws.ts";
import { encodeJwsHeader, signJws, verifyJwsSignature } from "../../src/system/jws-signature.ts";

const pairs = {
  rsa: generateKeyPairSync("rsa", { modulusLength: 2048 }),
  p256: makeKeyPair("P-256"),
  p384: generateKeyPairSync("ec", { namedCurve: "P-384" }),
  p521: generateKeyPairSync("ec", { namedCurve: "P-521" }),
  ed25519: makeKeyPair("Ed25519"),
};
const RSA: JwsAlgorithm[] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];
const KEY_OF: Record<JwsAlgorithm, keyof typeof pairs> = {
  ...(Object.fromEntries(RSA.map((alg) => [alg, "rsa"])) as Record<
    "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512",
    "rsa"
  >),
  ES256: "p256",
  ES384: "p384",
  ES512: "p521",
  EdDSA: "ed25519",
  Ed25519: "ed25519",
};
const algorithms = Object.keys(KEY_OF) as JwsAlgorithm[];
const limits = { maxBytes: 16_384 };

test("every algorithm signs what jose verifies, and verifies what jose signs", async () => {
  for (const alg of algorithms) {
    const { privateKey, publicKey } = pairs[KEY_OF[alg]];
    const encodedHeader = encodeJwsHeader({ typ: "at+jwt", alg, kid: "k1" });
    const ours = signJws(alg, privateKey, { encodedHeader, claims: { sub: "a" } });
    const verified = await compactVerify(ours, publicKey);
    assert.deepEqual(verified.protectedHeader, { typ: "at+jwt", alg, kid: "k1" });
    const theirs = await new CompactSign(Buffer.from('{"sub":"b"}')).setProtectedHeader({ alg }).sign(privateKey);
    assert.equal(verifyJwsSignature(alg, publicKey, readJws(theirs, limits)), true, alg);
  }
});

test("A-JWT-03 a key verifies under no other type's, curve's or hash's algorithm", () => {
  for (const alg of algorithms) {
    const encodedHeader = encodeJwsHeader({ typ: "at+jwt", alg, kid: "k1" });
    const jws = readJws(signJws(alg, pairs[KEY_OF[alg]].privateKey, { encodedHeader, claims: {} }), limits);
    for (const other of algorithms) {
      const isSame = other === alg || (KEY_OF[alg] === "ed25519" && KEY_OF[other] === "ed25519");
      assert.equal(verifyJwsSignature(other, pairs[KEY_OF[alg]].publicKey, jws), isSame, `${alg} as ${other}`);
    }
    for (const [name, pair] of Object.entries(pairs)) {
      assert.equal(verifyJwsSignature(alg, pair.publicKey, jws), name === KEY_OF[alg], `${alg} with ${name}`);
    }
  }
});

test("A-JWT-15 zero, short, long, DER and altered signatures are refused", () => {
  for (const alg of algorithms) {
    const { privateKey, publicKey } = pairs[KEY_OF[alg]];
    const encodedHeader = encodeJwsHeader({ typ: "at+jwt", alg, kid: "k1" });
    const { signingInput, signature } = readJws(signJws(alg, privateKey, { encodedHeader, claims: {} }), limits);
    const verifies = (bytes: Uint8Array) => verifyJwsSignature(alg, publicKey, { signingInput, signature: bytes });
    assert.equal(verifies(signature), true);
    assert.equal(verifies(new Uint8Array(signature.length)), false);
    assert.equal(verifies(new Uint8Array(0)), false);
    assert.equal(verifies(signature.slice(1)), false);
    assert.equal(verifies(Uint8Array.of(...signature, 0)), false);
    assert.equal(verifies(Uint8Array.of(0, ...signature)), false);
    assert.equal(verifies(signature.map((byte, index) => (index === 5 ? byte ^ 1 : byte))), false);
    assert.equal(verifyJwsSignature(alg, publicKey, { signingInput: `${signingInput}A`, signature }), false);
  }
  const der = sign("sha256", Buffer.from("x.y"), pairs.p256.privateKey);
  assert.equal(verifyJwsSignature("ES256", pairs.p256.publicKey, { signingInput: "x.y", signature: der }), false);
});

test("A-JWT-16 an RSA key of 1024 bit verifies nothing and signs nothing", () => {
  const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 1024 });
  const signature = sign("sha256", Buffer.from("x.y"), privateKey);
  assert.equal(verifyJwsSignature("RS256", publicKey, { signingInput: "x.y", signature }), false);
  assert.throws(() => signJws("RS256", privateKey, { encodedHeader: "x", claims: {} }), TypeError);
});

test("signing with a key of another type is a bug", () => {
  const claims = { sub: "a" };
  assert.throws(() => signJws("ES256", pairs.rsa.privateKey, { encodedHeader: "x", claims }), TypeError);
  assert.throws(() => signJws("ES256", pairs.p384.privateKey, { encodedHeader: "x", claims }), TypeError);
});
