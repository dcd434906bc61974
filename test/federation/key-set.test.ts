import assert from "node:assert/strict";
import { generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { findKey, readKeySet } from "../../src/federation/key-set.ts";

type Jwk = Record<string, unknown>;

const ec: Jwk = {
  ...makeKeyPair("P-256").publicKey.export({ format: "jwk" }),
  kid: "ec",
};
const rsaPair = generateKeyPairSync("rsa", { modulusLength: 2048 });
const rsa: Jwk = { ...rsaPair.publicKey.export({ format: "jwk" }), kid: "rsa" };
const ed: Jwk = { ...makeKeyPair("Ed25519").publicKey.export({ format: "jwk" }), kid: "ed" };

const kids = (keys: unknown[], use: "sig" | "jwt-svid" = "sig"): (string | undefined)[] =>
  readKeySet({ keys }, use).map((key) => key.kid);

test("RSA, EC and Ed25519 keys are used, with or without use: sig", () => {
  assert.deepEqual(kids([rsa, { ...ec, use: "sig" }, { ...ed, key_ops: ["verify"] }]), ["rsa", "ec", "ed"]);
});

test("A-JWT-16 weak, private, symmetric, foreign and malformed keys are left out, and the good ones stay", () => {
  const weak: Jwk = {
    ...generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" }),
    kid: "weak",
  };
  const bad = [
    weak,
    { ...rsa, e: "AQ", kid: "exponent 1" },
    { ...rsa, e: "AQAC", kid: "even exponent" },
    { ...ec, y: ec["x"], kid: "off the curve" },
    { ...rsaPair.privateKey.export({ format: "jwk" }), kid: "private" },
    { kty: "oct", k: "c2VjcmV0", kid: "symmetric", alg: "HS256" },
    { ...rsa, kid: "encryption", use: "enc" },
    { ...rsa, kid: "operations", key_ops: ["encrypt"] },
    { ...rsa, kid: 7 },
    { kty: "EC", crv: "secp256k1", x: ec["x"], y: ec["y"], kid: "curve" },
    { kty: "AKP", alg: "ML-DSA-44", pub: "AA", kid: "of tomorrow" },
    { kid: "nothing" },
    null,
    "key",
    [],
  ];
  assert.deepEqual(kids([...bad, ec]), ["ec"]);
});

test("a document without a list of keys, or with more than 100, is no key set", () => {
  for (const keys of [undefined, null, {}, "x", Array.from({ length: 101 }, () => ec)]) {
    assert.throws(() => readKeySet({ keys }, "sig"), { name: "IssuerDocumentError", problem: "keys" });
  }
  assert.equal(readKeySet({ keys: Array.from({ length: 100 }, () => ec) }, "sig").length, 100);
});

test("a SPIFFE bundle's keys count only with use jwt-svid and a kid (JWT-SVID §5)", () => {
  const { kid: _kid, ...nameless } = ec;
  const bundle = [
    { ...ec, use: "jwt-svid" },
    { ...rsa, use: "x509-svid" },
    { ...nameless, use: "jwt-svid" },
    ed,
    { ...ed, use: "sig" },
  ];
  assert.deepEqual(kids(bundle, "jwt-svid"), ["ec"]);
  assert.deepEqual(kids([{ ...ec, use: "jwt-svid" }]), []);
});

test("a key is found by its exact kid and only for its own algorithms", () => {
  const keys = readKeySet({ keys: [rsa, ec, ed] }, "sig");
  assert.equal(findKey(keys, { alg: "ES256", kid: "ec" })?.kid, "ec");
  assert.equal(findKey(keys, { alg: "RS256", kid: "ec" }), undefined);
  assert.equal(findKey(keys, { alg: "ES256", kid: "EC" }), undefined);
  assert.equal(
    findKey(readKeySet({ keys: [{ ...rsa, alg: "RS256" }] }, "sig"), { alg: "PS256", kid: "rsa" }),
    undefined,
  );
});

test("without a kid the only key that fits is taken, and none when several do", () => {
  assert.equal(findKey(readKeySet({ keys: [rsa, ec] }, "sig"), { alg: "ES256" })?.kid, "ec");
  assert.equal(findKey(readKeySet({ keys: [ec, { ...ec, kid: "ec2" }] }, "sig"), { alg: "ES256" }), undefined);
  assert.equal(findKey(readKeySet({ keys: [ec, { ...ec }] }, "sig"), { alg: "ES256", kid: "ec" }), undefined);
});
