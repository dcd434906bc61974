import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import {
  actClaim,
  agentNameOf,
  agentSub,
  appendActor,
  MAX_DEPTH,
  pathOf,
  readActClaim,
} from "../../../src/core/delegation/chain.ts";
import type { ActClaim } from "../../../src/core/token/claims.ts";

const HUMAN = "okta|00u1ab";

test("INV-03 a chain only grows at its end, by agents not on it yet, up to the limit (model: a list)", () => {
  const names = fc.array(fc.constantFrom("a", "b", "c", "d", "e", "f", "g", "h", "i", "j"), { maxLength: 30 });
  fc.assert(
    fc.property(names, fc.boolean(), (arrivals, isHuman) => {
      const model: string[] = [];
      let path: readonly string[] = [];
      for (const name of arrivals) {
        const expected = model.includes(name) ? "chain_loop" : model.length >= MAX_DEPTH ? "chain_depth" : undefined;
        const before = [...path];
        if (expected === undefined) {
          path = appendActor(path, name);
          model.push(name);
        } else assert.throws(() => appendActor(path, name), { code: "invalid_request", reason: expected });
        assert.deepEqual(path, model);
        assert.deepEqual(path.slice(0, before.length), before);
      }
      if (model.length === 0) return;
      // The claim names everyone, newest outermost, and leads back to the same list.
      const sub = isHuman ? HUMAN : agentSub(model[0] as string);
      const act = actClaim(sub, path);
      assert.deepEqual(pathOf({ sub, ...(act && { act }) }), model);
      assert.deepEqual(flatten(act), (isHuman ? model : model.slice(1)).map(agentSub).reverse());
      if (act !== undefined) assert.deepEqual(readActClaim(JSON.parse(JSON.stringify(act))), act);
    }),
    { numRuns: 500 },
  );
});

function flatten(act: ActClaim | undefined): string[] {
  return act === undefined ? [] : [act.sub, ...flatten(act.act)];
}

test("A-CHN-09 eight actors, then one more", () => {
  const eight = Array.from({ length: 8 }, (_, index) => `agent-${index}`);
  assert.deepEqual(eight.reduce<readonly string[]>(appendActor, []), eight);
  assert.throws(() => appendActor(eight, "ninth"), { code: "invalid_request", reason: "chain_depth" });
});

test("A-CHN-10 A → B → A is refused, and so is A → A", () => {
  assert.deepEqual(appendActor(["a"], "b"), ["a", "b"]);
  assert.throws(() => appendActor(["a", "b"], "a"), { code: "invalid_request", reason: "chain_loop" });
  assert.throws(() => appendActor(["a"], "a"), { code: "invalid_request", reason: "chain_loop" });
});

test("an agent acting for itself is the subject, not an actor", () => {
  assert.equal(actClaim("agent|a", ["a"]), undefined);
  assert.deepEqual(actClaim("agent|a", ["a", "b"]), { sub: "agent|b" });
  assert.deepEqual(actClaim(HUMAN, ["a", "b"]), { sub: "agent|b", act: { sub: "agent|a" } });
  assert.deepEqual(pathOf({ sub: "agent|a" }), ["a"]);
});

test("only agent|<name> is an agent's sub; a human cannot look like one", () => {
  assert.equal(agentNameOf("agent|triage-bot"), "triage-bot");
  for (const sub of [HUMAN, "agent|", "agent|A", "Agent|a", "agent|a|b", "agent|a\n", "agents|a", "okta|agent|a"]) {
    assert.equal(agentNameOf(sub), undefined, sub);
  }
});

test("an act claim of other shape is refused", () => {
  assert.deepEqual(readActClaim({ act: { sub: "agent|a" }, sub: "agent|b" }), {
    sub: "agent|b",
    act: { sub: "agent|a" },
  });
  for (const bad of [
    undefined,
    null,
    1,
    "agent|a",
    [],
    {},
    { sub: 1 },
    { sub: "a" },
    { sub: "agent|a", iss: "x" },
    { sub: "agent|a", act: [] },
  ]) {
    assert.throws(() => readActClaim(bad), { name: "RefusedToken", reason: "token_claim_type" }, JSON.stringify(bad));
  }
});

test("an act 20,000 deep is refused without recursion", () => {
  let act: object = { sub: "agent|a" };
  for (let depth = 0; depth < 20_000; depth++) act = { sub: "agent|a", act };
  assert.throws(() => readActClaim(act), { name: "RefusedToken", reason: "chain_depth" });
});
