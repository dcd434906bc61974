import assert from "node:assert/strict";
import { test } from "node:test";
import { constantTimeEqual, digestsEqual, sha256Base64url, sha256Hex } from "../../src/system/hash.ts";
import { randomBytes, randomToken, ulid } from "../../src/system/random.ts";

test("ulid is 26 Crockford characters whose first ten spell the time", () => {
  assert.match(ulid(0), /^0{10}[0-9A-HJKMNP-TV-Z]{16}$/);
  assert.equal(ulid(1_469_918_176_385).slice(0, 10), "01ARYZ6S41");
  assert.equal(ulid(2 ** 48 - 1).slice(0, 10), "7ZZZZZZZZZ");
});

test("ulids sort by time and do not repeat", () => {
  assert.ok(ulid(1_000) < ulid(1_001));
  assert.equal(new Set(Array.from({ length: 1_000 }, () => ulid(5))).size, 1_000);
});

test("ulid refuses a time that does not fit", () => {
  for (const time of [-1, 2 ** 48, Number.NaN]) assert.throws(() => ulid(time), RangeError);
});

test("randomToken is base64url of as many bytes as asked for", () => {
  assert.match(randomToken(32), /^[A-Za-z0-9_-]{43}$/);
  assert.equal(randomBytes(16).byteLength, 16);
});

test("digests agree with FIPS 180's example", () => {
  assert.equal(sha256Hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  assert.equal(sha256Base64url(new TextEncoder().encode("abc")), "ungWv48Bz-pBQUDeXa4iI7ADYaOWF3qctBD_YfIAFa0");
});

test("constantTimeEqual compares strings of any length", () => {
  assert.equal(constantTimeEqual("abc", "abc"), true);
  assert.equal(constantTimeEqual("abc", "abd"), false);
  assert.equal(constantTimeEqual("abc", "abcd"), false);
});

test("digestsEqual tells digests apart, and a digest from anything shorter", () => {
  assert.equal(digestsEqual(sha256Hex("abc"), sha256Hex("abc")), true);
  assert.equal(digestsEqual(sha256Hex("abc"), sha256Hex("abd")), false);
  assert.equal(digestsEqual(sha256Hex("abc"), sha256Hex("abc").slice(1)), false);
  assert.equal(digestsEqual(sha256Hex("abc"), ""), false);
});

test("ulids stay different where the pool of random bytes is filled again", () => {
  const made = Array.from({ length: 5_000 }, () => ulid(7));
  assert.equal(new Set(made.map((id) => id.slice(10))).size, made.length);
});
