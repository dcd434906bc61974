import assert from "node:assert/strict";
import { test } from "node:test";
import type { TrustEntry } from "../../src/core/trust/schema.ts";
import { differences } from "../../src/registry/difference.ts";
import { planChanges, printPlan } from "../../src/registry/plan.ts";
import type { StoredObject } from "../../src/registry/store.ts";
import { read } from "../core/trust/objects.ts";

const FILE = {
  issuers: { ci: { url: "https://ci.example", audience: "a" } },
  agents: { bot: { owner: "dana", trust: [{ issuer: "ci", claims: { sub: "x" } }] } },
  grants: [{ agent: "bot", resource: "ephor", actions: ["read"] }],
};

function stored(entries: readonly TrustEntry[], source = "trust.yaml"): StoredObject[] {
  return entries.map(({ kind, name, body }) => ({ kind, name, body, source, version: 1 }));
}

const summary = (changes: readonly { op: string; kind: string; name: string }[]): string[] =>
  changes.map(({ op, kind, name }) => `${op} ${kind}/${name}`);

test("what is wanted and not there is created, in the order of references", () => {
  const { changes } = planChanges("trust.yaml", read(FILE), [], "whole");
  assert.deepEqual(summary(changes), ["create issuers/ci", "create agents/bot", "create grants/bot-ephor"]);
});

test("what is the same is left alone, however its members are ordered", () => {
  const turned = { ...FILE, issuers: { ci: { audience: "a", url: "https://ci.example" } } };
  const plan = planChanges("trust.yaml", read(turned), stored(read(FILE)), "whole");
  assert.deepEqual([plan.changes, plan.unchanged], [[], 3]);
});

test("what differs is updated, and the plan says where", () => {
  const wanted = read({
    ...FILE,
    issuers: { ci: { url: "https://ci.example", audience: ["a", "b"], single_use: true } },
  });
  const { changes } = planChanges("trust.yaml", wanted, stored(read(FILE)), "whole");
  assert.deepEqual(
    changes.map(({ differences: found }) => found),
    [
      [
        { path: "audience", before: '"a"', after: '["a","b"]' },
        { path: "single_use", after: "true" },
      ],
    ],
  );
});

test("what a source no longer names is deleted, and what others made is left alone", () => {
  const { changes } = planChanges(
    "trust.yaml",
    read({ issuers: FILE.issuers }),
    [...stored(read(FILE)), ...stored(read({ agents: { other: FILE.agents.bot } }), "other.yaml")],
    "whole",
  );
  assert.deepEqual(summary(changes), ["delete agents/bot", "delete grants/bot-ephor"]);
  const lines = printPlan({ source: "trust.yaml", version: 1, changes, unchanged: 1, warnings: [] });
  assert.deepEqual(lines, [
    "- agent bot  (a kill of it)",
    "- grant bot-ephor",
    "trust.yaml: 0 to create, 0 to update, 2 to delete, 1 unchanged",
  ]);
});

test("a single object leaves the others of its source alone", () => {
  const wanted = read({ issuers: { second: FILE.issuers.ci } });
  assert.deepEqual(summary(planChanges("api", wanted, stored(read(FILE), "api"), "single").changes), [
    "create issuers/second",
  ]);
});

test("a name that another source owns is a conflict", () => {
  const plan = planChanges("mine.yaml", read(FILE), stored(read(FILE)), "whole");
  assert.deepEqual(
    plan.conflicts.map(({ path }) => path),
    [
      ["issuers", "ci"],
      ["agents", "bot"],
      ["grants", 0],
    ],
  );
  assert.deepEqual(plan.changes, []);
});

test("the status that an operator set survives an apply and is no difference", () => {
  const before = stored(read(FILE)).map((object) =>
    object.kind === "agents" ? { ...object, body: { ...object.body, status: "suspended" } } : object,
  );
  assert.deepEqual(planChanges("trust.yaml", read(FILE), before, "whole").changes, []);
  const changed = read({ ...FILE, agents: { bot: { ...FILE.agents.bot, owner: "sam" } } });
  const [update] = planChanges("trust.yaml", changed, before, "whole").changes;
  assert.deepEqual(
    [update?.differences, update?.body?.["status"]],
    [[{ path: "owner", before: '"dana"', after: '"sam"' }], "suspended"],
  );
});

test("differences look into mappings and take lists as a whole", () => {
  assert.deepEqual(differences({ a: { b: 1, c: [1, 2] } }, { a: { b: 1, c: [2, 1] }, d: null }), [
    { path: "a.c", before: "[1,2]", after: "[2,1]" },
    { path: "d", after: "null" },
  ]);
  assert.deepEqual(differences({ a: 1 }, { a: "1" }), [{ path: "a", before: "1", after: '"1"' }]);
});
