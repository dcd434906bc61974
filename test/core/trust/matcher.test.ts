import assert from "node:assert/strict";
import { test } from "node:test";
import { compileMatchers, matchClaims, readClaim } from "../../../src/core/trust/matcher.ts";
import type { ClaimMatchers } from "../../../src/core/trust/model.ts";

const fits = (matchers: ClaimMatchers, claims: Record<string, unknown>): boolean =>
  matchClaims(compileMatchers(matchers), claims, "strict");
const fitsMember = (matchers: ClaimMatchers, claims: Record<string, unknown>): boolean =>
  matchClaims(compileMatchers(matchers), claims, "member");

test("an exact matcher fits that value, a list any of its values", () => {
  assert.ok(fits({ ref: "refs/heads/main" }, { ref: "refs/heads/main" }));
  assert.ok(!fits({ ref: "refs/heads/main" }, { ref: "refs/heads/Main" }));
  assert.ok(fits({ event_name: ["push", "workflow_dispatch"] }, { event_name: "push" }));
  assert.ok(!fits({ event_name: ["push", "workflow_dispatch"] }, { event_name: "pull_request" }));
  assert.ok(fits({ ref: ["refs/heads/main", { like: "refs/tags/*" }] }, { ref: "refs/tags/v1" }));
  assert.ok(!fits({ ref: ["refs/heads/main", { like: "refs/tags/*" }] }, { ref: "refs/tags/a/b" }));
});

test("all claims of a rule must fit", () => {
  assert.ok(fits({ a: "1", b: "2" }, { a: "1", b: "2", c: "3" }));
  assert.ok(!fits({ a: "1", b: "2" }, { a: "1" }));
});

test("A-OIDC-12 a claim that is missing, null, of another type, a list or an object fits nothing", () => {
  for (const repository_id of [undefined, null, 42, ["42"], { id: "42" }, true]) {
    assert.ok(!fits({ repository_id: "42" }, repository_id === undefined ? {} : { repository_id }));
    assert.ok(!fits({ repository_id: { like: "4*" } }, repository_id === undefined ? {} : { repository_id }));
  }
  assert.ok(fits({ repository_id: "42" }, { repository_id: "42" }));
  assert.ok(fits({ runner_id: 42 }, { runner_id: 42 }));
  assert.ok(!fits({ runner_id: 42 }, { runner_id: "42" }));
  assert.ok(fits({ flag: true }, { flag: true }));
  assert.ok(!fits({ flag: true }, { flag: "true" }));
});

test("{absent: true} fits only where the claim is not there at all", () => {
  assert.ok(fits({ environment: { absent: true } }, {}));
  assert.ok(!fits({ environment: { absent: true } }, { environment: "" }));
  assert.ok(!fits({ environment: { absent: true } }, { environment: null }));
});

test("a claim with dots or slashes in its name is read by that name first, then step by step", () => {
  const claims = {
    "kubernetes.io": { namespace: "agents", serviceaccount: { uid: "0f3a" } },
    "https://x.example/y": "z",
    outer: { "in.ner": { leaf: 1 } },
    "a.b": "flat",
    a: { b: "deep" },
  };
  assert.equal(readClaim(claims, "kubernetes.io.serviceaccount.uid"), "0f3a");
  assert.equal(readClaim(claims, "https://x.example/y"), "z");
  assert.equal(readClaim(claims, "outer.in.ner.leaf"), 1);
  assert.equal(readClaim(claims, "a.b"), "flat");
  assert.equal(readClaim(claims, "kubernetes.io.namespace.x"), undefined);
});

test("inherited members are not claims", () => {
  assert.equal(readClaim({}, "constructor"), undefined);
  assert.equal(readClaim({ a: {} }, "a.toString"), undefined);
  assert.equal(readClaim({ list: ["x"] }, "list.length"), undefined);
  assert.ok(fits({ "constructor.name": { absent: true } }, {}));
});

test("a list fits by membership only where it is read so", () => {
  assert.ok(fitsMember({ groups: "support" }, { groups: ["sales", "support"] }));
  assert.ok(fitsMember({ groups: "support" }, { groups: "support" }));
  assert.ok(!fitsMember({ groups: "support" }, { groups: ["Support", "support "] }));
  assert.ok(!fitsMember({ groups: "support" }, { groups: [["support"]] }));
  assert.ok(!fitsMember({ groups: "support" }, { groups: [] }));
  assert.ok(!fits({ groups: "support" }, { groups: ["support"] }));
});

test("A-OIDC-25 email_verified is never coerced, and an address has one @", () => {
  const email = "dana@acme.example";
  assert.ok(fits({ email }, { email }));
  assert.ok(fits({ email }, { email, email_verified: true }));
  for (const email_verified of ["true", "false", 1, 0, null, false])
    assert.ok(!fits({ email }, { email, email_verified }));
  for (const email_verified of ["true", 1])
    assert.ok(!fits({ email, email_verified: true }, { email, email_verified }));
  assert.ok(fits({ email: { like: "*@acme.example" } }, { email }));
  assert.ok(!fits({ email: { like: "*@acme.example" } }, { email: "dana@evil.example@acme.example" }));
  assert.ok(!fits({ email: "a@b@c" }, { email: "a@b@c" }));
});
