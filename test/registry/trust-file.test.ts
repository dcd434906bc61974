import assert from "node:assert/strict";
import { test } from "node:test";
import { formatPath, formatProblem, parseTrustFile } from "../../src/registry/trust-file.ts";
import type { FileProblem } from "../../src/registry/trust-file.ts";
import { cpuMs } from "../support/cpu-time.ts";

const ISSUER_URL = "https://sts.acme.example";

function problems(text: string): readonly FileProblem[] {
  const file = parseTrustFile(text, "trust.yaml", ISSUER_URL);
  return file.ok ? [] : file.problems;
}

const places = (text: string): unknown[] => problems(text).map(({ line, column, key }) => [line, column, key]);

test("a trust file is read from YAML, and from JSON", () => {
  const yaml = parseTrustFile(
    "agents:\n  bot: { owner: dana, trust: [{ issuer: ci, claims: { id: '1' } }] }\n",
    "trust.yaml",
    ISSUER_URL,
  );
  const json = parseTrustFile(
    '{"agents":{"bot":{"owner":"dana","trust":[{"issuer":"ci","claims":{"id":"1"}}]}}}',
    "trust.json",
    ISSUER_URL,
  );
  assert.ok(yaml.ok && json.ok);
  assert.deepEqual(yaml.entries, json.entries);
  assert.ok(parseTrustFile("", "empty.yaml", ISSUER_URL).ok);
});

test("a condition may stand without quotes, as in the contract", () => {
  const text =
    'grants:\n  - agent: a\n    resource: b\n    actions: [x]\n    when: args.priority != "P1" && "support" in subject.groups     # CEL\n';
  const file = parseTrustFile(text, "trust.yaml", ISSUER_URL);
  assert.ok(file.ok);
  assert.equal(file.entries[0]?.body["when"], 'args.priority != "P1" && "support" in subject.groups');
});

test("a problem says file, line, column, key, what and mend", () => {
  const text =
    "agents:\n  bot:\n    owner: dana\n    trust:\n      - issuer: ci\n        claims: { sub: { like: '**' } }\n    role: admin\n";
  assert.deepEqual(places(text), [
    [6, 26, "agents.bot.trust[0].claims.sub.like"],
    [7, 5, "agents.bot.role"],
  ]);
  for (const problem of problems(text))
    assert.match(formatProblem(problem), /^trust\.yaml:\d+:\d+ agents\.bot\.[^:]+: .+ – .+$/);
});

test("something missing is placed at what it is missing from", () => {
  assert.deepEqual(places("agents:\n  bot:\n    keys: []\n"), [
    [2, 3, "agents.bot.owner"],
    [3, 5, "agents.bot.keys"],
  ]);
});

test("a key that stands twice is refused at its second place", () => {
  assert.deepEqual(places("agents:\n  bot: { owner: a, owner: b }\n"), [[2, 20, ""]]);
  assert.deepEqual(places("agents: {}\nagents: {}\n"), [[2, 1, ""]]);
  assert.deepEqual(places("grants: []\n'grants': []\n").length, 1);
});

test("tags, keys that are no text, tabs, a second document and broken YAML are refused", () => {
  for (const text of [
    "agents: !!js/function 'x'\n",
    "agents: !x {}\n",
    "? [a]\n: b\n",
    "agents:\n\tbot: {}\n",
    "agents: {}\n---\nagents: {}\n",
    "agents: [",
    "agents: *nothing\n",
  ]) {
    assert.notDeepEqual(problems(text), [], text);
  }
});

test("aliases are expanded within bounds", () => {
  const claims = "grants:\n  - &g { agent: a, resource: b, actions: [x] }\n  - *g\n";
  const file = parseTrustFile(claims, "trust.yaml", ISSUER_URL);
  assert.ok(file.ok);
  assert.deepEqual(
    file.entries.map(({ name }) => name),
    ["a-b", "a-b-2"],
  );
  const bomb = [
    "a: &a [x, x, x, x, x, x, x, x, x, x]",
    ...["b", "c", "d", "e", "f", "g"].map(
      (name, at) => `${name}: &${name} [${Array(10).fill(`*${"abcdefg"[at]}`).join(", ")}]`,
    ),
  ].join("\n");
  const ms = cpuMs(() => assert.equal(problems(bomb).length, 1));
  assert.ok(ms < 1_000, `${ms} ms`);
});

test("a problem inside an alias is placed at the anchor", () => {
  assert.deepEqual(places("grants:\n  - &g\n    agent: a\n    resource: b\n    actions: ['*']\n")[0], [
    5,
    5,
    "grants[0].actions",
  ]);
});

test("values never appear in problems", () => {
  const secret = "s3cr3t-value";
  const text = `issuers:\n  one: { url: "${secret} x", audience: [{ a: ${secret} }], ${secret}: 1 }\nagents: { bot: { owner: x, keys: [{ kty: EC, d: ${secret} }] } }\n`;
  const said = problems(text)
    .map(({ what, mend }) => what + mend)
    .join("");
  assert.ok(problems(text).length >= 3);
  assert.ok(!said.includes(secret));
});

test("a path is written as people write it", () => {
  assert.equal(
    formatPath(["agents", "bot", "trust", 0, "claims", "kubernetes.io"]),
    'agents.bot.trust[0].claims["kubernetes.io"]',
  );
  assert.equal(formatPath([]), "");
});
