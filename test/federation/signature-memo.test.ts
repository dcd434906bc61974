import assert from "node:assert/strict";
import { test } from "node:test";
import { createSignatureMemo } from "../../src/federation/signature-memo.ts";

test("the memo knows what was added and nothing else", () => {
  const memo = createSignatureMemo(10);
  memo.add("a");
  assert.equal(memo.has("a"), true);
  assert.equal(memo.has("b"), false);
});

test("the memo is bounded and forgets what was not used for longest", () => {
  const memo = createSignatureMemo(4);
  for (const entry of ["a", "b", "c"]) memo.add(entry);
  assert.equal(memo.has("a"), true);
  memo.add("d");
  assert.ok(memo.size <= 4);
  assert.deepEqual(
    ["a", "b", "c", "d"].map((entry) => memo.has(entry)),
    [true, false, true, true],
  );
});
