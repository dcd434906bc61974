import assert from "node:assert/strict";
import { test } from "node:test";
import { createSignatureMemo } from "../../src/keys/signature-memo.ts";

test("the memo knows a whole token under the key that signed it, and neither another token nor another key", () => {
  const memo = createSignatureMemo();
  memo.add("k1", "a.b.c");
  assert.equal(memo.has("k1", "a.b.c"), true);
  assert.equal(memo.has("k2", "a.b.c"), false);
  assert.equal(memo.has("k1", "a.b.d"), false);
  assert.equal(memo.has("k1", "a.b.c "), false);
});

test("the memo is bounded: the oldest are forgotten, the latest generation never", () => {
  const memo = createSignatureMemo(10);
  for (let i = 0; i < 100; i++) memo.add("k", `t${i}`);
  const known = Array.from({ length: 100 }, (_, i) => i).filter((i) => memo.has("k", `t${i}`));
  assert.ok(known.length <= 20);
  for (let i = 91; i < 100; i++) assert.ok(known.includes(i));
});
