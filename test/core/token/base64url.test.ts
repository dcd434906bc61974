import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeBase64url, encodeBase64url } from "../../../src/core/token/base64url.ts";

test("base64url round trip agrees with Node's for any bytes (RFC 4648 §5)", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const text = Buffer.from(bytes).toString("base64url");
      assert.equal(encodeBase64url(bytes), text);
      assert.deepEqual(decodeBase64url(text), Uint8Array.from(bytes));
    }),
  );
});

test("a text that is decoded is the only spelling of its bytes (RFC 7515 §2)", () => {
  const character = fc.constantFrom(..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/= \n.é");
  fc.assert(
    fc.property(fc.array(character, { maxLength: 12 }), (characters) => {
      const text = characters.join("");
      const bytes = decodeBase64url(text);
      if (bytes !== undefined) assert.equal(encodeBase64url(bytes), text);
    }),
    { numRuns: 2000 },
  );
});

test("A-JWT-10 padding, the standard alphabet, blanks, non-ASCII and impossible lengths are refused", () => {
  assert.deepEqual(decodeBase64url("_-8"), Uint8Array.of(0xff, 0xef));
  for (const text of ["_-8=", "/+8", "_- 8", " _-8", "_-8\n", "_", "AAAAA", "_-\u0138", "ＡAAA", "_-8\0"]) {
    assert.equal(decodeBase64url(text), undefined, JSON.stringify(text));
  }
});

test("stray trailing bits are refused, for they give one signature several spellings", () => {
  assert.deepEqual(decodeBase64url("AA"), Uint8Array.of(0));
  assert.deepEqual(decodeBase64url("AAA"), Uint8Array.of(0, 0));
  for (const text of ["AB", "AP", "AAB", "AAD"]) assert.equal(decodeBase64url(text), undefined, text);
});

test("the empty text is no bytes", () => {
  assert.deepEqual(decodeBase64url(""), new Uint8Array(0));
  assert.equal(encodeBase64url(new Uint8Array(0)), "");
});
