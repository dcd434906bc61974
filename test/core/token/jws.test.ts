import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { OUTSIDE_TOKEN_MAX_BYTES, OWN_TOKEN_MAX_BYTES, readCompactJws, readJws } from "../../../src/core/token/jws.ts";
import { RefusedToken } from "../../../src/core/token/refused.ts";
import { cpuMs } from "../../support/cpu-time.ts";

const limits = { maxBytes: OUTSIDE_TOKEN_MAX_BYTES };
const b64 = (text: string | object) =>
  Buffer.from(typeof text === "string" ? text : JSON.stringify(text)).toString("base64url");
const HEADER = { alg: "ES256", typ: "at+jwt", kid: "k1" };
const CLAIMS = { iss: "https://issuer.example", sub: "a", exp: 1795312845 };
const SIGNATURE = Buffer.alloc(64, 7).toString("base64url");
const token = (header: string | object = HEADER, claims: string | object = CLAIMS, signature = SIGNATURE) =>
  `${b64(header)}.${b64(claims)}.${signature}`;
const refuses = (text: string, reason: string, message?: string) =>
  assert.throws(() => readJws(text, limits), { name: "RefusedToken", reason }, message ?? text.slice(0, 80));

test("a JWT is read into header, payload, signing input and signature (RFC 7515 §5.2)", () => {
  const jws = readJws(token(), limits);
  assert.deepEqual(jws.header, HEADER);
  assert.deepEqual(jws.payload, CLAIMS);
  assert.equal(jws.signingInput, `${b64(HEADER)}.${b64(CLAIMS)}`);
  assert.deepEqual(Buffer.from(jws.signature), Buffer.alloc(64, 7));
});

test("header members of no meaning to us are ignored (RFC 7515 §4), but not in a token of our own", () => {
  const header = { ...HEADER, x5t: "AAAA", "x5t#S256": "AAAA", "pi.atm": "1" };
  assert.deepEqual(readJws(token(header), limits).header, HEADER);
  assert.deepEqual(readJws(token(), { ...limits, ownHeader: true }).header, HEADER);
  assert.throws(() => readJws(token(header), { ...limits, ownHeader: true }), { reason: "token_header_member" });
});

test("A-JWT-01 no algorithm but the asymmetric ones is read", () => {
  for (const alg of [
    "none",
    "None",
    "nOnE",
    "NONE",
    "HS256",
    "es256",
    "ES256 ",
    "ES256K",
    "dir",
    "",
    "__proto__",
    "constructor",
  ]) {
    refuses(token({ ...HEADER, alg }), "token_alg", alg);
  }
  for (const alg of [undefined, null, 1, ["ES256"], { a: 1 }])
    refuses(token({ ...HEADER, alg }), "token_alg", String(alg));
});

test("A-JWT-01 an empty signature is refused", () => {
  refuses(token(HEADER, CLAIMS, ""), "token_malformed");
});

test("A-JWT-04 header members that carry or fetch a key, or change the meaning, are refused", () => {
  const jwk = { kty: "EC", crv: "P-256", x: "x", y: "y" };
  const members = {
    jwk,
    jku: "https://evil.example/",
    x5u: "https://evil.example/",
    x5c: ["AAAA"],
    zip: "DEF",
    b64: false,
  };
  for (const [name, value] of Object.entries({
    ...members,
    crit: ["b64"],
    cty: "JWT",
    enc: "A128GCM",
    p2c: 1e6,
    epk: jwk,
  })) {
    refuses(token({ ...HEADER, [name]: value }), "token_header_member", name);
  }
  assert.deepEqual(readJws(token({ ...HEADER, jwk }), { ...limits, allowJwk: true }).header.jwk, jwk);
  assert.throws(() => readJws(token({ ...HEADER, jku: "x" }), { ...limits, allowJwk: true }), {
    reason: "token_header_member",
  });
});

test("A-JWT-05 duplicate members in header, payload and nested objects are refused", () => {
  refuses(token('{"alg":"ES256","alg":"ES256"}'), "token_duplicate_member");
  refuses(token(HEADER, '{"sub":"a","s\\u0075b":"b"}'), "token_duplicate_member");
  refuses(token(HEADER, '{"act":{"sub":"a","sub":"b"}}'), "token_duplicate_member");
  refuses(token(HEADER, '{"aud":"a","exp":1,"aud":"b"}'), "token_duplicate_member");
});

test("A-JWT-09 anything but three parts is refused", () => {
  const good = token();
  const [h = "", p = "", s = ""] = good.split(".");
  for (const text of [
    "",
    ".",
    "..",
    "...",
    h,
    `${h}.${p}`,
    `${good}.`,
    `${good}.${s}`,
    `${good}.${s}.${s}`,
    `.${p}.${s}`,
    `${h}..${s}`,
  ]) {
    refuses(text, "token_malformed");
  }
  for (const text of [
    ` ${good}`,
    `${good} `,
    `${good}\n`,
    `Bearer ${good}`,
    `${h}.Bearer .${s}`,
    `${h}. ${p}.${s}`,
    `"${good}"`,
  ]) {
    refuses(text, "token_malformed");
  }
  refuses(JSON.stringify({ protected: h, payload: p, signature: s }), "token_malformed");
});

test("A-JWT-09 a megabyte of dots, or of anything, is refused at once", () => {
  const ms = cpuMs(() => {
    for (const text of [".".repeat(1 << 20), "A".repeat(1 << 20), "{".repeat(1 << 20)]) {
      assert.throws(() => readJws(text, { maxBytes: 2 << 20 }), { reason: "token_malformed" });
      refuses(text, "token_too_large");
    }
  });
  // Six readings of 1 MiB; the case asks for 50 ms each.
  assert.ok(ms < 300, `${ms} ms`);
});

test("A-JWT-10 padding, the standard alphabet and blanks are refused in every part", () => {
  const parts = token(HEADER, '{"sub":"a"}').split(".");
  for (const part of [0, 1, 2]) {
    for (const spoil of [
      (text: string) => `${text}=`,
      (text: string) => `${text.slice(0, -1)}+`,
      (text: string) => ` ${text}`,
    ]) {
      refuses(parts.map((text, index) => (index === part ? spoil(text) : text)).join("."), "token_malformed");
    }
  }
});

test("A-JWT-11 a token of 16 KiB is read, one byte more refused before anything else is looked at", () => {
  const withoutPurpose = token(HEADER, { p: "" }).length;
  const padded = (bytes: number) => token(HEADER, { p: "x".repeat(bytes) });
  let size = Math.floor(((OUTSIDE_TOKEN_MAX_BYTES - withoutPurpose) * 3) / 4);
  while (padded(size + 1).length <= OUTSIDE_TOKEN_MAX_BYTES) size++;
  assert.ok(readJws(padded(size), limits));
  refuses(padded(size + 1), "token_too_large");
  assert.throws(() => readJws(padded(size), { maxBytes: OWN_TOKEN_MAX_BYTES }), { reason: "token_too_large" });
});

test("A-JWT-11 a token of exactly the limit is read, one byte longer refused", () => {
  const text = token();
  assert.ok(readJws(text, { maxBytes: text.length }));
  assert.throws(() => readJws(text, { maxBytes: text.length - 1 }), { reason: "token_too_large" });
});

test("A-JWT-11 a payload nested deeper than 32 is refused", () => {
  const nested = (depth: number) => `{"a":${"[".repeat(depth - 1)}${"]".repeat(depth - 1)}}`;
  assert.ok(readJws(token(HEADER, nested(32)), limits));
  refuses(token(HEADER, nested(33)), "token_malformed");
});

test("A-JWT-12 a payload that is not an object, or not clean text, is refused", () => {
  for (const payload of [
    "[]",
    '"a"',
    "1",
    "null",
    "true",
    "",
    '\ufeff{"a":1}',
    '{"a":"\\ud800"}',
    '{"sub":"a\\u0000"}',
    '{"a":1}x',
  ]) {
    refuses(token(HEADER, payload), "token_malformed", payload);
  }
  const invalidUtf8 = Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]).toString("base64url");
  refuses(`${b64(HEADER)}.${invalidUtf8}.${SIGNATURE}`, "token_malformed");
});

test("A-JWT-14 a kid is any text of at most 512 characters, and nothing else", () => {
  for (const kid of ["../../etc/passwd", "' OR 1=1", "__proto__", "", "k".repeat(512)]) {
    assert.equal(readJws(token({ ...HEADER, kid }), limits).header.kid, kid);
  }
  for (const kid of [1, null, ["k"], {}, "k".repeat(513)]) refuses(token({ ...HEADER, kid }), "token_malformed");
  assert.equal("kid" in readJws(token({ alg: "ES256" }), limits).header, false);
});

test("typ is text where it is there", () => {
  for (const typ of [1, null, ["JWT"], "t".repeat(129)]) refuses(token({ ...HEADER, typ }), "token_malformed");
});

test("a payload of other bytes is read by readCompactJws only", () => {
  const text = token(HEADER, "foo");
  assert.equal(Buffer.from(readCompactJws(text, limits).payloadBytes).toString(), "foo");
  refuses(text, "token_malformed");
});

test("no mutation of a token makes the reader throw anything but RefusedToken, or read what another reader would not", () => {
  const good = Buffer.from(token());
  const edit = fc.tuple(fc.constantFrom("set", "insert", "delete"), fc.nat(good.length - 1), fc.nat(127));
  fc.assert(
    fc.property(fc.array(edit, { minLength: 1, maxLength: 4 }), (edits) => {
      const mutant = [...good];
      for (const [kind, index, byte] of edits) {
        if (kind === "set") mutant[index] = byte;
        else mutant.splice(index, kind === "delete" ? 1 : 0, ...(kind === "insert" ? [byte] : []));
      }
      readsAlike(Buffer.from(mutant).toString("latin1"));
    }),
    { numRuns: 5000 },
  );
  fc.assert(fc.property(fc.string({ unit: "binary", maxLength: 300 }), readsAlike), { numRuns: 1000 });
});

function readsAlike(text: string): void {
  let jws;
  try {
    jws = readJws(text, limits);
  } catch (error) {
    assert.ok(error instanceof RefusedToken, String(error));
    return;
  }
  const [header = "", payload = "", signature = ""] = text.split(".");
  assert.deepEqual(jws.payload, JSON.parse(Buffer.from(payload, "base64url").toString()));
  assert.equal(jws.header.alg, (JSON.parse(Buffer.from(header, "base64url").toString()) as { alg: string }).alg);
  assert.equal(Buffer.from(jws.signature).toString("base64url"), signature);
}

test("a refusal carries no part of the token", () => {
  const secret = "c2VjcmV0";
  for (const text of [
    `${secret}.${secret}.`,
    token({ ...HEADER, [secret]: 1, jwk: secret }),
    token(HEADER, `{"a":"${secret}`),
  ]) {
    assert.throws(
      () => readJws(text, limits),
      (error: RefusedToken) => !JSON.stringify([error.message, error.facts, error.reason]).includes(secret),
    );
  }
});
