import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { columns, printable, printableJson } from "../../src/cli/printable.ts";

test("letters of every script, marks and emoji stay as they are", () => {
  for (const text of ["Ærøskøbing", "日本語", "naïve – “quoted”", "🦊"]) assert.equal(printable(text), text);
});

test("what a terminal obeys or hides is shown as its code point", () => {
  assert.equal(
    printable("a\u001b[31mb\r\n\u007f\u009b\u202e\u200b\u2028\ud800"),
    "a\\u{1b}[31mb\\u{d}\\u{a}\\u{7f}\\u{9b}\\u{202e}\\u{200b}\\u{2028}\\u{d800}",
  );
});

test("nothing that a terminal obeys survives, whatever the text", () => {
  fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => !/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u.test(printable(text))));
});

test("JSON for a terminal reads back as what it was", () => {
  fc.assert(
    fc.property(fc.jsonValue(), fc.string({ unit: "binary" }), (value, text) => {
      const shown = printableJson(JSON.stringify({ value, text }, null, 2));
      assert.deepEqual(JSON.parse(shown), JSON.parse(JSON.stringify({ value, text })));
      assert.doesNotMatch(shown.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
    }),
  );
});

test("columns are as wide as their widest cell, and rows have no blanks at the end", () => {
  assert.deepEqual(
    columns([
      ["a", "bb", ""],
      ["ccc", "d", "e"],
    ]),
    ["a    bb", "ccc  d   e"],
  );
});
