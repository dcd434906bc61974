import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { compileGlob, globProblem } from "../../../src/core/trust/glob.ts";
import { cpuMs } from "../../support/cpu-time.ts";

const fits = (pattern: string, text: string): boolean => compileGlob(pattern).matches(text);

test("a star stands for anything but / and :, at both ends anchored", () => {
  assert.ok(fits("acme/*", "acme/widgets"));
  assert.ok(fits("acme/*", "acme/"));
  assert.ok(fits("repo:acme/*:ref:refs/heads/*", "repo:acme/x:ref:refs/heads/main"));
  assert.ok(!fits("acme/*", "acme/widgets/evil"));
  assert.ok(!fits("acme/*", "acme/widgets:evil"));
  assert.ok(!fits("acme/*", "evil/acme/widgets"));
  assert.ok(!fits("acme/*", "xacme/widgets"));
  assert.ok(!fits("repo:acme/*:ref:refs/heads/*", "repo:acme/x:ref:refs/heads/a/b"));
});

test("A-OIDC-14 alternation, dots and .* have no meaning, and a newline is no way out", () => {
  assert.ok(!fits("a|b", "a"));
  assert.ok(fits("a|b", "a|b"));
  assert.ok(!fits("a.c", "abc"));
  assert.ok(!fits("a.*", "abc"));
  assert.ok(fits("a.*", "a.bc"));
  assert.ok(!fits("^acme$", "acme"));
  assert.ok(!fits("acme", "acme\n"));
  assert.ok(!fits("acme", "evil\nacme"));
  assert.ok(!fits("acme-*", "acme-x\nevil"));
  assert.ok(!fits("acme-*", "acme-\u2028"));
  assert.ok(!fits("*-prod", "\u0000-prod"));
});

test("A-OIDC-15 the pattern (a+)+$ is literal and quick on 50 kB", () => {
  const glob = compileGlob("(a+)+$*");
  const ms = cpuMs(() => {
    assert.ok(!glob.matches(`${"a".repeat(50_000)}!`));
    assert.ok(!compileGlob("*a*a*a*a*a*a*a*b").matches("a".repeat(8_000)));
  });
  assert.ok(ms < 50, `${ms} ms`);
});

test("a pattern that is empty, too long or full of stars is refused", () => {
  for (const pattern of ["", "a".repeat(1025), "**", "x/**", "*a".repeat(17)]) {
    assert.notEqual(globProblem(pattern), undefined);
    assert.throws(() => compileGlob(pattern), RangeError);
  }
  assert.equal(globProblem("*a".repeat(16)), undefined);
});

test("a pattern fits what an equivalent regular expression fits", () => {
  const alphabet = fc.constantFrom("a", "b", "/", ":", ".", "*");
  const text = fc
    .array(fc.constantFrom("a", "b", "/", ":", ".", "\n"), { maxLength: 10 })
    .map((parts) => parts.join(""));
  const pattern = fc
    .array(alphabet, { minLength: 1, maxLength: 8 })
    .map((parts) => parts.join(""))
    .filter((p) => globProblem(p) === undefined);
  fc.assert(
    fc.property(pattern, text, (p, t) => {
      const source = p
        .split("*")
        .map((part) => part.replaceAll(/[.]/g, "\\."))
        .join("[^/:\\u0000-\\u001f]*");
      assert.equal(fits(p, t), new RegExp(`^(?:${source})$`).test(t));
    }),
  );
});
