import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import { checkPublicJwk, thumbprintInput } from "../../../src/core/token/public-jwk.ts";

const sha256 = (text: string) => createHash("sha256").update(text).digest("base64url");
const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 }).publicKey.export({ format: "jwk" });
const p256 = makeKeyPair("P-256").publicKey.export({ format: "jwk" });
const refuses = (jwk: object, problem: string) =>
  assert.throws(
    () => checkPublicJwk(jwk as Record<string, unknown>),
    { name: "JwkError", problem },
    JSON.stringify(jwk),
  );
const b64 = (bytes: number[]) => Buffer.from(bytes).toString("base64url");

test("thumbprints are those of RFC 7638 §3.1, RFC 9449 §6.1 and RFC 8037 A.3", () => {
  const rfc7638 = {
    kty: "RSA",
    n: "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw",
    e: "AQAB",
    alg: "RS256",
    kid: "2011-04-29",
  };
  assert.equal(sha256(thumbprintInput(rfc7638)), "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
  assert.deepEqual(checkPublicJwk(rfc7638).algorithms, ["RS256"]);
  const rfc9449 = {
    kty: "EC",
    x: "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
    y: "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA",
    crv: "P-256",
  };
  assert.equal(sha256(checkPublicJwk(rfc9449).thumbprintInput), "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
  const rfc8037 = { kty: "OKP", crv: "Ed25519", x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" };
  assert.equal(sha256(checkPublicJwk(rfc8037).thumbprintInput), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
});

test("a key verifies what its type and curve allow, or less when it says so (RFC 8725 §3.1)", () => {
  assert.deepEqual(checkPublicJwk(p256).algorithms, ["ES256"]);
  assert.deepEqual(checkPublicJwk(rsa).algorithms, ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]);
  assert.deepEqual(checkPublicJwk({ ...rsa, alg: "PS384" }).algorithms, ["PS384"]);
  refuses({ ...p256, alg: "RS256" }, "alg");
  refuses({ ...rsa, alg: "HS256" }, "alg");
  refuses({ ...rsa, alg: null }, "alg");
});

test("a key for encryption is refused, one for verifying accepted", () => {
  assert.ok(checkPublicJwk({ ...p256, use: "sig", key_ops: ["verify"], kid: "k", x5c: ["AAAA"] }));
  refuses({ ...p256, use: "enc" }, "use");
  refuses({ ...p256, use: null }, "use");
  for (const key_ops of [[], ["encrypt"], "verify", {}, null]) refuses({ ...p256, key_ops }, "use");
});

test("A-JWT-16 private and symmetric members are refused, whatever they hold", () => {
  for (const name of ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]) {
    refuses({ ...rsa, [name]: "AAAA" }, "private");
    refuses({ ...p256, [name]: undefined }, "private");
  }
});

test("A-JWT-16 RSA moduli under 2048 bit, over 8192 bit or even are refused", () => {
  const modulus = (bits: number, last = 1) => {
    const bytes = Buffer.alloc(Math.ceil(bits / 8), 0xa5);
    bytes[0] = 1 << ((bits - 1) % 8);
    bytes[bytes.length - 1] = last;
    return bytes.toString("base64url");
  };
  assert.ok(checkPublicJwk({ ...rsa, n: modulus(2048) }));
  assert.ok(checkPublicJwk({ ...rsa, n: modulus(8192) }));
  refuses({ ...rsa, n: modulus(2047) }, "rsa_size");
  refuses({ ...rsa, n: modulus(1024) }, "rsa_size");
  refuses({ ...rsa, n: modulus(8193) }, "rsa_size");
  refuses({ ...rsa, n: modulus(2048, 2) }, "weak");
  refuses({ ...rsa, n: "" }, "rsa_size");
  refuses({ ...rsa, n: undefined }, "coordinates");
  refuses({ ...rsa, n: `${rsa.n}=` }, "coordinates");
  refuses({ ...rsa, n: "A".repeat(100_000) }, "coordinates");
});

test("A-JWT-16 a modulus of the shape of CVE-2017-15361 is refused, its neighbour accepted", () => {
  // A power of 65537 is one modulo every prime as well.
  const modulus = (value: bigint) => Buffer.from(value.toString(16).padStart(514, "0"), "hex").toString("base64url");
  refuses({ ...rsa, n: modulus(65537n ** 128n) }, "weak");
  assert.ok(checkPublicJwk({ ...rsa, n: modulus(65537n ** 128n + 2n) }));
});

test("A-JWT-16 an exponent of 1, an even one or a huge one is refused", () => {
  for (const e of [[3], [1, 0, 1], [0xff, 0xff, 0xff, 0xff]]) assert.ok(checkPublicJwk({ ...rsa, e: b64(e) }));
  for (const e of [[], [0], [1], [2], [1, 0, 0], [1, 0, 0, 0, 1]]) refuses({ ...rsa, e: b64(e) }, "rsa_exponent");
  refuses({ ...rsa, e: 65537 }, "coordinates");
});

test("a leading zero octet does not make a modulus longer", () => {
  const bytes = [...Buffer.from(rsa.n as string, "base64url")];
  assert.ok(checkPublicJwk({ ...rsa, n: b64([0, ...bytes]) }));
  refuses({ ...rsa, n: b64([0, ...bytes.slice(1)]) }, "rsa_size");
});

test("curves and coordinates must fit each other", () => {
  refuses({ ...p256, crv: "P-384" }, "coordinates");
  refuses({ ...p256, crv: "secp256k1" }, "curve");
  refuses({ ...p256, crv: "constructor" }, "curve");
  refuses({ ...p256, crv: "Ed25519" }, "curve");
  refuses({ ...p256, kty: "OKP" }, "curve");
  refuses({ ...p256, y: undefined }, "coordinates");
  refuses({ ...p256, x: `${p256.x}A` }, "coordinates");
  refuses({ kty: "OKP", crv: "Ed448", x: "A".repeat(76) }, "curve");
  refuses({ kty: "OKP", crv: "Ed25519", x: "AAAA" }, "coordinates");
  for (const kty of ["oct", "ec", undefined, 1, null, "AKP"]) refuses({ ...p256, kty }, "kty");
});
