import assert from "node:assert/strict";
import { test } from "node:test";
import { createRecent } from "../../src/system/recent.ts";

test("a recent map knows what was set and nothing else", () => {
  const recent = createRecent<number>(10);
  recent.set("a", 1);
  recent.set("a", 2);
  assert.equal(recent.get("a"), 2);
  assert.equal(recent.get("b"), undefined);
});

test("a recent map is bounded and forgets what was not used for longest", () => {
  const recent = createRecent<number>(4);
  for (const [at, key] of ["a", "b", "c"].entries()) recent.set(key, at);
  assert.equal(recent.get("a"), 0);
  recent.set("d", 3);
  assert.equal(recent.get("b"), undefined);
  assert.deepEqual(
    ["a", "c", "d"].map((key) => recent.get(key)),
    [0, 2, 3],
  );
});

test("a recent map never holds more than it may, however it is used", () => {
  const recent = createRecent<number>(100);
  for (let i = 0; i < 10_000; i++) {
    recent.set(`k${i}`, i);
    recent.get(`k${(i * 7) % (i + 1)}`);
    assert.ok(recent.size <= 100, `${recent.size}`);
  }
  assert.equal(recent.get("k9999"), 9999);
});
