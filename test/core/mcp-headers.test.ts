import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeHeaderValue, encodeHeaderValue, namedTarget } from "../../src/core/mcp-headers.ts";

const encoded = (value: string): string => `=?base64?${Buffer.from(value, "utf8").toString("base64")}?=`;

test("a value goes as it is where a header carries it unharmed, and encoded otherwise; it comes back the same", () => {
  for (const value of ["get_ticket", "a b", "file:///a?b=c", "~", "=?utf-8?x?="]) {
    assert.equal(encodeHeaderValue(value), value);
    assert.equal(decodeHeaderValue(value), value);
  }
  const others = [
    "",
    " a",
    "a ",
    "a\tb",
    "a\r\nX-Evil: 1",
    "café",
    "🎫",
    "\uFEFFa",
    "\u0000",
    "=?base64?YQ==?=",
    "ÿ".repeat(301),
  ];
  for (const value of others) {
    assert.equal(encodeHeaderValue(value), encoded(value), JSON.stringify(value));
    assert.equal(decodeHeaderValue(encoded(value)), value, JSON.stringify(value));
  }
});

test("A-MCP-06 what looks encoded and is not, or is spelled in another way, is no value", () => {
  assert.equal(decodeHeaderValue("=?base64?YQ==?="), "a");
  for (const text of ["YQ", "YQ=", "YR==", "YQ===", "Y", "!!", "Y Q==", "_w==", "/w==", "4oLCrA==", "YQ==YQ=="])
    assert.equal(decodeHeaderValue(`=?base64?${text}?=`), undefined, text);
  for (const value of ["=?base64?YQ==", "=?base64?YQ==?= ", "=?base64?"])
    assert.equal(decodeHeaderValue(value), undefined);
});

test("a target is the name of a tool or a prompt, or the address of a resource, and only a string", () => {
  assert.equal(namedTarget({ method: "tools/call", params: { name: "a", uri: "b" } }), "a");
  assert.equal(namedTarget({ method: "prompts/get", params: { name: "a" } }), "a");
  assert.equal(namedTarget({ method: "resources/read", params: { name: "a", uri: "b" } }), "b");
  for (const message of [
    { method: "tools/call", params: { name: 1 } },
    { method: "tools/call" },
    { method: "tools/list", params: { name: "a" } },
    { method: "constructor", params: { name: "a" } },
  ])
    assert.equal(namedTarget(message), undefined, message.method);
});
