import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { readRedactPath, redact, REDACTED, type RedactPath } from "../../src/core/redaction.ts";

const path = (text: string): RedactPath => readRedactPath(text) ?? assert.fail(text);
const without = (value: unknown, ...paths: string[]): unknown => redact(value, paths.map(path)).value;

test("a path is a JSON Pointer with * and **, and nothing else", () => {
  assert.deepEqual(readRedactPath("/arguments/a~1b/~0c"), ["arguments", "a/b", "~c"]);
  for (const text of ["", "/", "a", "/a/", "/a//b", "/a~2", "/a~", "/**", "/a/**"])
    assert.equal(readRedactPath(text), undefined, text);
});

test("a name takes its member, * one step, ** any number of steps and none", () => {
  const value = { a: { ssn: 1, b: [{ ssn: 2 }, { t: 3 }] }, ssn: 4 };
  assert.deepEqual(without(value, "/a/ssn"), { a: { ssn: REDACTED, b: [{ ssn: 2 }, { t: 3 }] }, ssn: 4 });
  assert.deepEqual(without(value, "/*/ssn"), { a: { ssn: REDACTED, b: [{ ssn: 2 }, { t: 3 }] }, ssn: 4 });
  assert.deepEqual(without(value, "/**/ssn"), {
    a: { ssn: REDACTED, b: [{ ssn: REDACTED }, { t: 3 }] },
    ssn: REDACTED,
  });
  assert.deepEqual(without(value, "/a/b/1/t"), { a: { ssn: 1, b: [{ ssn: 2 }, { t: REDACTED }] }, ssn: 4 });
  assert.deepEqual(without(value, "/a/**/*"), { a: { ssn: REDACTED, b: REDACTED }, ssn: 4 });
  // The nearest: another name, another depth.
  assert.equal(redact(value, [path("/SSN"), path("/a/t"), path("/b")]).count, 0);
});

test("a value goes whole, whatever it is, and is counted", () => {
  const made = redact({ a: { deep: [1] }, b: null, c: 3 }, [path("/a"), path("/b"), path("/x")]);
  assert.deepEqual(made, { value: { a: REDACTED, b: REDACTED, c: 3 }, count: 2 });
});

test("JSON in a string is looked through, also in a string in it, and stays a string", () => {
  const inner = JSON.stringify({ ssn: "078-05-1120", ok: true });
  const twice = JSON.stringify(JSON.stringify([{ ssn: 1 }]));
  const made = without({ body: ` ${inner}`, twice, text: "ssn is 1" }, "/**/ssn") as Record<string, string>;
  assert.deepEqual(JSON.parse(made["body"] ?? ""), { ssn: REDACTED, ok: true });
  assert.deepEqual(JSON.parse(JSON.parse(made["twice"] ?? "") as string), [{ ssn: REDACTED }]);
  assert.equal(made["text"], "ssn is 1");
  assert.deepEqual(without({ p: '{"q":{"ssn":1}}' }, "/p/q/ssn"), { p: `{"q":{"ssn":"${REDACTED}"}}` });
});

test("what begins like JSON, cannot be read and has the name in it goes whole", () => {
  for (const text of ['{"ssn": 1', '[{"ssn":1}] x', "{ssn: 1}", '{"\\u0073sn": 1'])
    assert.deepEqual(without({ a: text }, "/**/ssn"), { a: REDACTED }, text);
  assert.deepEqual(without({ a: "{other: 1" }, "/**/ssn"), { a: "{other: 1" });
  let many: unknown = { ssn: "x" };
  for (let i = 0; i < 8; i++) many = JSON.stringify(many);
  assert.ok(!JSON.stringify(without({ a: many }, "/**/ssn")).includes("x\\"));
  let deep: unknown = { ssn: "x" };
  for (let i = 0; i < 2_000; i++) deep = [deep];
  assert.ok(!JSON.stringify(without(deep, "/**/ssn")).includes("x"));
});

test("a member by the name is never left, and everything else is (any JSON)", () => {
  const tree = fc.letrec<{ node: unknown }>((tie) => ({
    node: fc.oneof(
      { depthSize: "small" },
      fc.string(),
      fc.integer(),
      fc.array(tie("node")),
      fc.dictionary(fc.constantFrom("ssn", "a", "b", "__proto__"), tie("node")),
      tie("node").map((value) => JSON.stringify(value)),
    ),
  })).node;
  const strip = (value: unknown): unknown => {
    if (typeof value === "string") {
      try {
        return /^\s*["[{]/.test(value) ? { json: strip(JSON.parse(value)) } : value;
      } catch {
        return value;
      }
    }
    if (Array.isArray(value)) return value.map(strip);
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(
      Object.entries(value).map(([name, child]) => [name, name === "ssn" ? REDACTED : strip(child)]),
    );
  };
  fc.assert(
    fc.property(tree, (value) => {
      const text = JSON.stringify(value);
      // Deeper strings in strings go whole, which the model does not know.
      fc.pre(!text.includes("\\\\\\\\\\\\\\"));
      assert.deepEqual(strip(redact(value, [path("/**/ssn")]).value), strip(value));
    }),
    { numRuns: 500 },
  );
});
