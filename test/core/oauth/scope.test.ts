import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  decodeAction,
  encodeAction,
  isObjectName,
  parseScope,
  scopeOf,
  splitScope,
} from "../../../src/core/oauth/scope.ts";

const refuses = (text: string | undefined, reason: string) =>
  assert.throws(() => parseScope(text), { code: "invalid_scope", reason }, JSON.stringify(text?.slice(0, 40)));

test("scopes are parted by single blanks, each kept once, in order (RFC 6749 §3.3)", () => {
  assert.deepEqual(parseScope("tickets:get_ticket"), ["tickets:get_ticket"]);
  assert.deepEqual(parseScope("b:x a:y b:x"), ["b:x", "a:y"]);
  assert.deepEqual(parseScope("!#[]~^"), ["!#[]~^"]);
});

test("A-TX-12 no scope is refused: there is no default", () => {
  refuses(undefined, "scope_missing");
  refuses("", "scope_missing");
});

test("A-TX-11 anything but printable ASCII without quote and backslash is refused", () => {
  for (const text of [
    "a\tb",
    "a\nb",
    'a"b',
    "a\\b",
    "a  b",
    " a",
    "a ",
    " ",
    "admin\0",
    "a\u00a0b",
    "é",
    "a\x7f",
    "a\r",
  ]) {
    refuses(text, "scope_malformed");
  }
});

test("A-TX-11 100 scopes are read, 101 refused, and 500 thousand as fast", () => {
  const many = (count: number) => Array.from({ length: count }, (_, index) => `r:a${index}`).join(" ");
  assert.equal(parseScope(many(100)).length, 100);
  refuses(many(101), "scope_malformed");
  refuses(many(500_000), "scope_malformed");
});

test("a scope is parted at its first colon; a resource alone asks for what is granted there", () => {
  assert.deepEqual(splitScope("tickets:get_ticket"), { resource: "tickets", action: "get_ticket" });
  assert.deepEqual(splitScope("tickets:files/read.v2"), { resource: "tickets", action: "files/read.v2" });
  assert.deepEqual(splitScope("tickets:a%3Ab"), { resource: "tickets", action: "a%3Ab" });
  assert.deepEqual(splitScope("tickets"), { resource: "tickets" });
  assert.equal(scopeOf("tickets", "get_ticket"), "tickets:get_ticket");
});

test("what can name neither resource nor action is refused", () => {
  for (const scope of [
    "",
    ":",
    ":a",
    "tickets:",
    "Tickets:a",
    "-a:b",
    "a b:c",
    "tickets:*",
    "tickets:a:b",
    "tickets:a%3ab",
    "tickets:a%",
    "a".repeat(64),
  ]) {
    assert.throws(() => splitScope(scope), { code: "invalid_scope", reason: "scope_unknown" }, scope);
  }
});

test("object names are lower-case letters, digits and dashes, 1 to 63, not starting with a dash", () => {
  for (const name of ["a", "0", "triage-bot", "a".repeat(63)]) assert.equal(isObjectName(name), true);
  for (const name of ["", "-a", "A", "a_b", "a.b", "a".repeat(64), "é", "a\n"]) assert.equal(isObjectName(name), false);
});

test("every tool name has exactly one action, which is a scope's and leads back to it", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", minLength: 1 }), (name) => {
      const action = encodeAction(name);
      assert.equal(decodeAction(action), name);
      assert.equal(splitScope(parseScope(scopeOf("tickets", action))[0] as string).action, action);
    }),
  );
  assert.equal(encodeAction("get_ticket"), "get_ticket");
  assert.equal(encodeAction("get ticket:v2%é"), "get%20ticket%3Av2%25%C3%A9");
});

test("a second spelling of an action names no tool", () => {
  for (const action of ["%41", "%3a", "%", "%C3", "a b", "%ED%A0%80", ""])
    assert.equal(decodeAction(action), undefined, action);
});
