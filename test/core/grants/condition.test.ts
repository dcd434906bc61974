import assert from "node:assert/strict";
import { test } from "node:test";
import { compileCondition, conditionProblem } from "../../../src/core/grants/condition.ts";
import type { ConditionFacts } from "../../../src/core/grants/condition.ts";
import { cpuMs } from "../../support/cpu-time.ts";

const FACTS: ConditionFacts = {
  subject: { type: "human", issuer: "okta", sub: "okta|00u1", groups: ["support", "sales"], level: 3 },
  agent: { name: "triage-bot", owner: "sam@acme.example", current: "triage-bot", path: ["release-bot", "triage-bot"] },
  task: { txn: "01J", purpose: "triage inbox", now: new Date("2026-12-01T09:30:00Z") },
};

const judge = (text: string, more: Partial<ConditionFacts> = {}): string =>
  compileCondition(text).judge({ ...FACTS, ...more });

test("a condition looks at subject, agent, task, and at a call at its arguments", () => {
  assert.equal(judge('"support" in subject.groups && subject.type == "human"'), "true");
  assert.equal(judge('"admin" in subject.groups'), "false");
  assert.equal(judge("subject.level >= 3 && subject.level == 3"), "true");
  assert.equal(judge('agent.owner.endsWith("@acme.example") && size(agent.path) <= 2'), "true");
  assert.equal(judge('task.now.getHours() >= 9 && task.now < timestamp("2027-01-01T00:00:00Z")'), "true");
  assert.equal(judge('args.priority != "P1"', { args: { priority: "P2" } }), "true");
  assert.equal(judge("args.ids.all(i, i in [1, 2, 3])", { args: { ids: [1, 3] } }), "true");
  assert.equal(judge('args.repo.like("acme/*")', { args: { repo: "acme/x/y" } }), "false");
});

test("an error is never a yes", () => {
  assert.equal(judge("subject.missing == 1"), "error");
  assert.equal(judge("!(subject.missing == 1)"), "error");
  assert.equal(judge("args.x == 1"), "error");
  assert.equal(judge("subject.level + 1 == 4"), "error");
  assert.equal(judge("subject.groups"), "error");
  assert.equal(judge('subject.groups.like("x")'), "error");
  assert.equal(judge("args.flag", { args: { flag: "true" } }), "error");
  assert.equal(judge("this is no CEL"), "error");
});

test("types are not coerced", () => {
  assert.equal(judge('subject.level == "3"'), "false");
  assert.equal(judge("args.flag", { args: { flag: true } }), "true");
});

test("inherited members and members named like them are no way in", () => {
  assert.equal(judge('subject.constructor == "x"'), "error");
  assert.equal(judge("has(args.toString)", { args: {} }), "false");
  assert.equal(judge('args.a == "x"', { args: { a: "x", constructor: "y" } }), "error");
});

test("a condition that names args or call waits for the call", () => {
  for (const text of [
    'args.x == "a"',
    "has(call.tool)",
    'true || call.tool == "x"',
    "[args].size() == 1",
    "subject.groups.exists(g, g == args.g)",
  ]) {
    assert.ok(compileCondition(text).atCall, text);
  }
  for (const text of ['subject.sub == "args"', "has(subject.args)", 'subject["call"] == 1'])
    assert.ok(!compileCondition(text).atCall, text);
});

test("an element cannot be named like a variable", () => {
  assert.notEqual(conditionProblem("subject.groups.all(args, args == 'x')"), undefined);
  assert.equal(conditionProblem("subject.groups.all(g, g == 'x')"), undefined);
});

test("names, types and syntax are checked when it is written", () => {
  for (const text of [
    "foo == 1",
    "agent.nmae == 'x'",
    "task.txn > 3",
    "1 + 1",
    '"x"',
    "args.",
    "",
    "subject.level ==",
    "size(1)",
  ]) {
    assert.notEqual(conditionProblem(text), undefined, text);
  }
});

test("what has no bound is refused: regular expressions, splitting, bindings, deep nesting", () => {
  for (const text of [
    'args.x.matches("(a+)+$")',
    'args.x.split("").size() > 1',
    "cel.bind(x, 1, x == 1)",
    "args.a.all(x, args.a.all(y, args.a.all(z, args.a.all(w, w == x))))",
    `args.a.all(x, ${Array.from({ length: 10 }, () => "x").join(" + ")} == x)`,
    `${"(".repeat(60)}true${")".repeat(60)}`,
    `true${" || true".repeat(400)}`,
    `"${"a".repeat(2000)}" == subject.sub`,
  ]) {
    assert.notEqual(conditionProblem(text), undefined, text.slice(0, 60));
  }
});

test("arguments too large for what is done with them are an error, and quickly so", () => {
  const list = (length: number): number[] => Array.from({ length }, (_, at) => at);
  assert.equal(judge("args.a.all(x, x >= 0)", { args: { a: list(50_000) } }), "true");
  assert.equal(judge("args.a.all(x, x in args.a)", { args: { a: list(1_000) } }), "true");
  const ms = cpuMs(() => {
    assert.equal(judge("args.a.all(x, x in args.a)", { args: { a: list(50_000) } }), "error");
    assert.equal(judge("args.a.all(x, x >= 0)", { args: { a: list(1_000_000) } }), "error");
    assert.equal(judge("args.a.all(x, args.a.all(y, x in args.a))", { args: { a: list(1_000) } }), "error");
  });
  assert.ok(ms < 1_000, `${ms} ms`);
});
