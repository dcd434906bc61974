import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { Bounds } from "../../../src/core/delegation/attenuate.ts";
import { attenuate, requireWithin } from "../../../src/core/delegation/attenuate.ts";

const scopes = fc.option(fc.uniqueArray(fc.constantFrom("t:a", "t:b", "t:c", "u:a", "u:b"), { maxLength: 5 }), {
  nil: null,
});
const deadline = fc.integer({ min: 0, max: 100 });
const isWithin = (child: Bounds, parent: Bounds) =>
  child.deadline <= parent.deadline &&
  (parent.scopes === null || (child.scopes !== null && child.scopes.every((scope) => parent.scopes?.includes(scope))));

test("INV-02 no sequence of steps ever widens anything", () => {
  const step = fc.record({ scopes, deadline: fc.option(deadline, { nil: undefined }) });
  fc.assert(
    fc.property(fc.record({ scopes, deadline }), fc.array(step, { maxLength: 6 }), (root, steps) => {
      const line: Bounds[] = [root];
      for (const asked of steps) {
        const parent = line.at(-1) as Bounds;
        let child: Bounds;
        try {
          child = attenuate(parent, {
            scopes: asked.scopes,
            ...(asked.deadline === undefined ? {} : { deadline: asked.deadline }),
          });
        } catch (error) {
          assert.equal((error as { reason: string }).reason, "scope_above_ceiling");
          assert.ok(!isWithin({ scopes: asked.scopes, deadline: 0 }, parent));
          continue;
        }
        for (const ancestor of line) assert.ok(isWithin(child, ancestor));
        // Nothing is narrowed silently either: what was asked for is what one gets.
        if (asked.scopes !== null) assert.deepEqual(child.scopes, asked.scopes);
        line.push(child);
      }
    }),
    { numRuns: 1000 },
  );
});

test("A-CHN-02 one scope too many refuses all of them", () => {
  const parent = { scopes: ["t:a", "t:b"], deadline: 100 };
  assert.deepEqual(attenuate(parent, { scopes: ["t:b"] }), { scopes: ["t:b"], deadline: 100 });
  for (const asked of [["t:b", "t:c"], ["t"], ["T:a"], ["t:a "]]) {
    assert.throws(() => attenuate(parent, { scopes: asked }), { code: "invalid_scope", reason: "scope_above_ceiling" });
  }
});

test("without a ceiling of its own a child has its parent's; an empty ceiling holds nothing", () => {
  assert.deepEqual(attenuate({ scopes: ["t:a"], deadline: 9 }, { scopes: null }), { scopes: ["t:a"], deadline: 9 });
  assert.deepEqual(attenuate({ scopes: null, deadline: 9 }, { scopes: null, deadline: 10 }), {
    scopes: null,
    deadline: 9,
  });
  assert.throws(() => attenuate({ scopes: [], deadline: 9 }, { scopes: ["t:a"] }), { reason: "scope_above_ceiling" });
});

test("scopes must lie within every ceiling", () => {
  requireWithin(["t:a"], [null, ["t:a", "t:b"], ["t:a"]]);
  requireWithin([], [[]]);
  assert.throws(() => requireWithin(["t:a"], [["t:a"], null, ["t:b"]]), {
    code: "invalid_scope",
    reason: "scope_above_ceiling",
  });
});
