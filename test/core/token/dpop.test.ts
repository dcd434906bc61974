import assert from "node:assert/strict";
import { createHash, generateKeyPairSync } from "node:crypto";
import { test } from "node:test";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import { checkDpopProof, normaliseTarget } from "../../../src/core/token/dpop.ts";
import type { DpopRules } from "../../../src/core/token/dpop.ts";
import type { JwsAlgorithm } from "../../../src/core/token/jws.ts";
import { importVerificationKey } from "../../../src/system/jwk.ts";
import { signJws, verifyJwsSignature } from "../../../src/system/jws-signature.ts";

const NOW = 1795312800;
const URL_OF_TOKEN = "https://sts.acme.example/token";
const ec = makeKeyPair("P-256");
const jwk = ec.publicKey.export({ format: "jwk" });
const sha256 = (text: string) => createHash("sha256").update(text).digest("base64url");
const rules: DpopRules = {
  method: "POST",
  url: URL_OF_TOKEN,
  now: NOW,
  verify: (sent) => verifyJwsSignature(sent.alg, importVerificationKey(sent.jwk).key, sent),
  sha256Base64url: sha256,
};
const CLAIMS = { jti: "k3J9", htm: "POST", htu: URL_OF_TOKEN, iat: NOW };

function proof(
  claims: object = {},
  header: object = {},
  { key = ec.privateKey, alg = "ES256" as JwsAlgorithm } = {},
): string {
  const encodedHeader = Buffer.from(JSON.stringify({ typ: "dpop+jwt", alg, jwk, ...header })).toString("base64url");
  return signJws(alg, key, { encodedHeader, claims: { ...CLAIMS, ...claims } });
}
const refuses = (value: string, reason: string, more: Partial<DpopRules> = {}) =>
  assert.throws(() => checkDpopProof(value, { ...rules, ...more }), { name: "RefusedToken", reason });

test("a good proof gives thumbprint, jti and iat (RFC 9449 §4.3, RFC 7638)", () => {
  const jkt = sha256(`{"crv":"P-256","kty":"EC","x":"${jwk.x}","y":"${jwk.y}"}`);
  assert.deepEqual(checkDpopProof(proof(), rules), { jkt, jti: "k3J9", iat: NOW });
});

test("every published algorithm works with its key, and with no other", () => {
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const ed = makeKeyPair("Ed25519");
  const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
  for (const [alg, pair] of [
    ["RS256", rsa],
    ["PS256", rsa],
    ["Ed25519", ed],
    ["EdDSA", ed],
    ["ES384", p384],
  ] as const) {
    const own = pair.publicKey.export({ format: "jwk" });
    assert.ok(checkDpopProof(proof({}, { jwk: own }, { key: pair.privateKey, alg }), rules), alg);
    refuses(proof({}, { jwk }, { key: pair.privateKey, alg }), "dpop_malformed");
  }
  const p521 = generateKeyPairSync("ec", { namedCurve: "P-521" });
  const own = p521.publicKey.export({ format: "jwk" });
  refuses(proof({}, { jwk: own }, { key: p521.privateKey, alg: "ES512" }), "dpop_malformed");
});

test("a key that is private, weak, symmetric or missing is refused", () => {
  refuses(proof({}, { jwk: ec.privateKey.export({ format: "jwk" }) }), "dpop_malformed");
  const weak = generateKeyPairSync("rsa", { modulusLength: 1024 }).publicKey.export({ format: "jwk" });
  for (const bad of [
    undefined,
    null,
    "x",
    [],
    {},
    weak,
    { kty: "oct", k: "AAAA" },
    { ...jwk, x: "AAAA" },
    { ...jwk, crv: "P-384" },
  ]) {
    refuses(proof({}, { jwk: bad }), "dpop_malformed");
  }
  for (const member of ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]) {
    refuses(proof({}, { jwk: { ...jwk, [member]: "AAAA" } }), "dpop_malformed");
  }
});

test("typ must be dpop+jwt, alg asymmetric, other key members absent", () => {
  for (const typ of [undefined, "JWT", "at+jwt"]) refuses(proof({}, { typ }), "dpop_malformed");
  for (const alg of ["none", "HS256", undefined]) refuses(proof({}, { alg }), "dpop_malformed");
  for (const extra of [{ jku: "https://evil.example" }, { x5c: [] }, { crit: ["x"] }])
    refuses(proof({}, extra), "dpop_malformed");
});

test("what is not one JWS is refused, two headers joined by a comma among it", () => {
  for (const value of ["", "x", `${proof()}, ${proof()}`, `${proof()},${proof()}`, ` ${proof()}`, "A".repeat(5000)]) {
    refuses(value, "dpop_malformed");
  }
});

test("claims that are missing or of another type are refused", () => {
  for (const claim of ["jti", "htm", "htu", "iat"]) {
    for (const value of [undefined, null, [], "", {}]) refuses(proof({ [claim]: value }), "dpop_malformed");
  }
  assert.ok(checkDpopProof(proof({ jti: "j".repeat(256) }), rules));
  refuses(proof({ jti: "j".repeat(257) }), "dpop_malformed");
  refuses(proof({ iat: NOW + 0.5 }), "dpop_malformed");
});

test("a signature by another key is refused", () => {
  refuses(proof({}, {}, { key: makeKeyPair("P-256").privateKey }), "dpop_invalid");
});

test("htm is compared exactly, htu after normalisation and without query and fragment (RFC 9449 §4.3 no. 9)", () => {
  for (const htm of ["post", "GET", "POST "]) refuses(proof({ htm }), "dpop_invalid");
  for (const htu of [
    "HTTPS://STS.acme.example:443/token",
    "https://sts.acme.example/%74oken",
    "https://sts.acme.example/x/../token",
  ]) {
    assert.ok(checkDpopProof(proof({ htu }), rules), htu);
  }
  for (const htu of [
    `${URL_OF_TOKEN}?a=b`,
    `${URL_OF_TOKEN}#`,
    `${URL_OF_TOKEN}/`,
    "https://sts.acme.example/Token",
    "http://sts.acme.example/token",
    "https://sts.acme.example:8443/token",
    "https://u@sts.acme.example/token",
    "https://sts.acme.example\\token",
    "https:sts.acme.example/token",
    "https://sts.acme.example/token ",
    "https://sts.acme.example/token%3F",
    "/token",
    "https://evil.example/token",
  ]) {
    refuses(proof({ htu }), "dpop_invalid");
  }
});

test("an htu that is no URL matches no configured URL, even an unusable one", () => {
  refuses(proof({ htu: "nonsense" }), "dpop_invalid", { url: "nonsense?" });
  assert.equal(normaliseTarget("nonsense"), undefined);
  assert.equal(normaliseTarget("https://h"), "https://h/");
  assert.equal(normaliseTarget("https://h/%7ea%2fb"), "https://h/~a%2Fb");
});

test("iat may lie 60 s back and 5 s ahead, not one second more", () => {
  for (const iat of [NOW - 60, NOW + 5]) assert.ok(checkDpopProof(proof({ iat }), rules));
  for (const iat of [NOW - 61, NOW + 6]) refuses(proof({ iat }), "dpop_invalid");
});

test("a nonce is judged where one is in use, after everything else", () => {
  const isNonceGood = (nonce: string | undefined) => nonce === "n-42";
  assert.ok(checkDpopProof(proof({ nonce: "n-42" }), { ...rules, isNonceGood }));
  assert.ok(checkDpopProof(proof({ nonce: "whatever" }), rules));
  refuses(proof(), "dpop_nonce", { isNonceGood });
  refuses(proof({ nonce: "n-41" }), "dpop_nonce", { isNonceGood });
  refuses(proof({ nonce: 42 }), "dpop_malformed", { isNonceGood });
  refuses(proof({ htm: "GET" }), "dpop_invalid", { isNonceGood });
});

test("ath binds the proof to the token as sent (RFC 9449 §4.2, §7)", () => {
  const ath = sha256("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU");
  assert.equal(ath, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo");
  assert.ok(checkDpopProof(proof({ ath }), { ...rules, ath }));
  refuses(proof(), "dpop_invalid", { ath });
  refuses(proof({ ath: sha256("other") }), "dpop_invalid", { ath });
});
