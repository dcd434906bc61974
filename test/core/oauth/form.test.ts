import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { checkContentType, decodeFormComponent, readForm } from "../../../src/core/oauth/form.ts";

const read = (text: string | Uint8Array, options = {}) =>
  readForm(typeof text === "string" ? Buffer.from(text) : text, options);
const refuses = (text: string | Uint8Array, reason: string, options = {}) =>
  assert.throws(() => read(text, options), { code: "invalid_request", status: 400, reason }, String(text).slice(0, 60));

test("whatever is accepted, URLSearchParams reads alike", () => {
  const piece = fc.constantFrom(
    "a",
    "scope",
    "resource",
    "=",
    "&",
    "+",
    "%20",
    "%2B",
    "%C3%A9",
    "%e9",
    "%",
    "%zz",
    "é",
    "%00",
    ";",
    "",
    "x",
  );
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 20 }), (pieces) => {
      const text = pieces.join("");
      let form;
      try {
        form = read(text);
      } catch (error) {
        assert.ok(
          ["malformed_request", "parameter_repeated"].includes((error as { reason: string }).reason),
          String(error),
        );
        return;
      }
      const other = new URLSearchParams(text);
      for (const name of new Set(other.keys())) {
        const all = other.getAll(name).filter((value) => value !== "");
        assert.deepEqual(form.getAll(name), all);
        if (all.length < 2) assert.equal(form.get(name), all[0]);
      }
    }),
    { numRuns: 3000 },
  );
});

test("a form that URLSearchParams writes is read back, for any text without NUL", () => {
  const text = fc.string({ unit: "grapheme" }).filter((value) => !value.includes("\0"));
  fc.assert(
    fc.property(fc.dictionary(text, text, { maxKeys: 8 }), (parameters) => {
      const form = read(new URLSearchParams(parameters).toString());
      for (const [name, value] of Object.entries(parameters))
        assert.equal(form.get(name), value === "" ? undefined : value);
    }),
  );
});

test("A-TX-01 A-TX-02 a repeated parameter is refused, even with the same value, an empty one, or another spelling", () => {
  assert.equal(read("grant_type=a").get("grant_type"), "a");
  for (const text of [
    "grant_type=a&grant_type=a",
    "subject_token=a&subject_token=b",
    "scope=&scope=a",
    "scope&scope",
    "s%63ope=a&scope=b",
    "x=1&x=2",
  ]) {
    refuses(text, "parameter_repeated");
  }
});

test("resource and audience may be repeated (RFC 8693 §2.1), but never read as one", () => {
  const form = read("resource=a&audience=b&resource=c&resource=");
  assert.deepEqual(form.getAll("resource"), ["a", "c"]);
  assert.equal(form.get("audience"), "b");
  assert.throws(() => form.get("resource"), { code: "invalid_request", reason: "parameter_repeated" });
  assert.equal(read("resource=&resource=a").get("resource"), "a");
  refuses("resource=a&resource=b", "parameter_repeated", { repeatable: [] });
});

test("a parameter without value is absent (RFC 6749 §3.2)", () => {
  const form = read("scope=&purpose&ttl=5&&");
  assert.equal(form.get("scope"), undefined);
  assert.equal(form.has("purpose"), false);
  assert.deepEqual(form.getAll("scope"), []);
  assert.equal(form.has("ttl"), true);
  assert.equal(read("").get("ttl"), undefined);
});

test("plus is a blank, percent-encoded plus a plus", () => {
  assert.equal(read("scope=a+b%2Bc%20d").get("scope"), "a b+c d");
  assert.equal(read("scope=a=b=c").get("scope"), "a=b=c");
  assert.equal(decodeFormComponent("p%2Bs+s%25%C3%A4"), "p+s s%ä");
});

test("A-TX-14 broken percent-encoding, invalid UTF-8 and NUL are refused, in names and in values", () => {
  for (const bad of ["%zz", "%", "%4", "%C3", "%C0%80", "%ED%A0%80", "%FF", "%00", "a%00b"]) {
    refuses(`scope=${bad}`, "malformed_request");
    refuses(`${bad}=x`, "malformed_request");
  }
  refuses(Uint8Array.of(0x61, 0x3d, 0xff), "malformed_request");
  refuses("a=\0", "malformed_request");
});

test("A-TX-16 __proto__ and constructor are parameters like any other, and pollute nothing", () => {
  const form = read("__proto__=x&constructor=y&foo=bar");
  assert.equal(form.get("__proto__"), "x");
  assert.equal(form.get("constructor"), "y");
  assert.equal(form.get("toString"), undefined);
  assert.equal(({} as { x?: string }).x, undefined);
});

test("64 parameters are read, one more is refused, a megabyte of separators is read at once", () => {
  const many = (count: number) => Array.from({ length: count }, (_, index) => `p${index}=1`).join("&");
  assert.equal(read(many(64)).get("p63"), "1");
  refuses(many(65), "malformed_request");
  refuses(many(3), "malformed_request", { maxParameters: 2 });
  assert.equal(read("&".repeat(1 << 20)).get("a"), undefined);
});

test("A-TX-04 A-TX-05 only a form in UTF-8 is a form", () => {
  const type = "application/x-www-form-urlencoded";
  for (const value of [
    type,
    type.toUpperCase(),
    `${type};charset=UTF-8`,
    `${type}; Charset="utf-8"`,
    `${type} ; charset=utf-8 `,
  ]) {
    checkContentType(value);
  }
  for (const value of [
    undefined,
    "",
    "application/json",
    "multipart/form-data; boundary=x",
    "text/plain",
    `${type}; charset=utf-16`,
    `${type}; charset=utf-8; charset=utf-16`,
    `${type}, application/json`,
    `${type};`,
    `${type}x`,
    ` ${type}`,
    `${type}; charset='utf-8'`,
  ]) {
    assert.throws(
      () => checkContentType(value),
      { code: "invalid_request", status: 415, reason: "content_type" },
      value,
    );
  }
});
