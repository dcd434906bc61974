import assert from "node:assert/strict";
import { test } from "node:test";
import type { ClaimMatchers, TrustRule } from "../../../src/core/trust/model.ts";
import { checkRule, compileRule } from "../../../src/core/trust/rules.ts";
import { sharedIssuer } from "../../../src/core/trust/shared-issuers.ts";
import { GITHUB_URL, issuer } from "./objects.ts";

const github = issuer("github", GITHUB_URL);
const gitlab = issuer("gitlab", "https://gitlab.com");
const cluster = issuer("k8s", "https://oidc.eks.eu-west-1.amazonaws.com/id/ABC");

const rule = (claims: ClaimMatchers, more: Partial<TrustRule> = {}): TrustRule => ({ issuer: "x", claims, ...more });
const isRefused = (claims: ClaimMatchers, of = github, more: Partial<TrustRule> = {}): boolean =>
  checkRule(rule(claims, more), of).length > 0;

test("A-OIDC-13 a rule that binds nothing is refused at any issuer", () => {
  assert.ok(isRefused({}, cluster));
  assert.ok(isRefused({}, github, { byName: true }));
  assert.ok(isRefused({ iss: cluster.url ?? "" }, cluster));
  assert.ok(isRefused({ aud: "https://sts.acme.example" }, cluster));
  assert.ok(isRefused({ environment: { absent: true } }, cluster));
  assert.ok(isRefused({ sub: { like: "*" } }, cluster));
  assert.ok(isRefused({ sub: ["x", { like: "*x*" }] }, cluster));
  assert.ok(!isRefused({ sub: "system:serviceaccount:support:triage" }, cluster));
  assert.ok(!isRefused({ sub: { like: "system:serviceaccount:support:*" } }, cluster));
});

test("A-OIDC-13 at a shared issuer a rule must bind an immutable id exactly, unless it insists on names", () => {
  assert.ok(isRefused({ repository: "acme/widgets", ref: "refs/heads/main" }));
  assert.ok(isRefused({ sub: "repo:acme/widgets:ref:refs/heads/main" }));
  assert.ok(isRefused({ repository_id: { like: "98*" } }));
  assert.ok(isRefused({ repository_id: ["987", { like: "98*" }] }));
  assert.ok(isRefused({ repository_id: { absent: true }, repository: "acme/widgets" }));
  assert.ok(!isRefused({ repository_id: "987654321" }));
  assert.ok(!isRefused({ repository_id: ["987654321", "987654322"] }));
  assert.ok(!isRefused({ repository: "acme/widgets" }, github, { byName: true }));
});

test("an id that the platform sends as text must be written as text", () => {
  assert.ok(isRefused({ repository_id: 987654321 }));
  assert.ok(isRefused({ repository_id: "" }));
  assert.ok(isRefused({ project_id: 20 }, gitlab));
});

test("the shared issuers are known by their URLs, and those of one customer are not shared", () => {
  const shared = [
    GITHUB_URL,
    `${GITHUB_URL}/acme`,
    "https://gitlab.com",
    "https://accounts.google.com",
    "https://oidc.circleci.com",
    "https://agent.buildkite.com",
    "https://api.bitbucket.org/2.0/workspaces/acme/pipelines-config/identity/oidc",
    "https://vstoken.dev.azure.com/0ca3ddd9-f0b0-4635-a98c-5866526961b6",
  ];
  for (const url of shared) assert.notEqual(sharedIssuer(url), undefined, url);
  for (const url of [
    "https://gitlab.acme.example",
    "https://oidc.circleci.com/org/1",
    "https://gitlab.com.evil.example",
    cluster.url ?? "",
  ]) {
    assert.equal(sharedIssuer(url), undefined, url);
  }
});

test("A-OIDC-16 GitHub's risky events fit only a rule that lists them by name", () => {
  const risky = ["pull_request", "pull_request_target", "pull_request_review", "issue_comment", "workflow_run"];
  const silent = compileRule(rule({ repository_id: "1" }), github);
  const wide = compileRule(rule({ repository_id: "1", event_name: { like: "*" } }), github);
  const listed = compileRule(rule({ repository_id: "1", event_name: ["push", "pull_request"] }), github);
  for (const event_name of risky) {
    assert.ok(!silent.matches({ repository_id: "1", event_name }), event_name);
    assert.ok(!wide.matches({ repository_id: "1", event_name }), event_name);
    assert.equal(listed.matches({ repository_id: "1", event_name }), event_name === "pull_request");
  }
  assert.ok(silent.matches({ repository_id: "1", event_name: "push" }));
  assert.ok(wide.matches({ repository_id: "1", event_name: "schedule" }));
  assert.ok(!silent.matches({ repository_id: "1" }));
  assert.ok(!silent.matches({ repository_id: "1", event_name: ["push"] }));
});

test("A-OIDC-16 holds on Enterprise Server and with data residency too, and means nothing elsewhere", () => {
  const forked = { repository_id: "1", event_name: "pull_request" };
  for (const url of ["https://github.acme.example/_services/token", "https://token.actions.acme.ghe.com"]) {
    assert.ok(!compileRule(rule({ repository_id: "1" }), issuer("ghes", url)).matches(forked), url);
  }
  assert.ok(compileRule(rule({ repository_id: "1" }), cluster).matches(forked));
});

test("A-OIDC-17 a repository made anew under the same name and sub does not fit", () => {
  const compiled = compileRule(rule({ repository_id: "987", sub: "repo:acme/widgets:ref:refs/heads/main" }), github);
  const token = { sub: "repo:acme/widgets:ref:refs/heads/main", repository: "acme/widgets", event_name: "push" };
  assert.ok(compiled.matches({ ...token, repository_id: "987" }));
  assert.ok(!compiled.matches({ ...token, repository_id: "988" }));
});

test("A-OIDC-18 either form of sub fits only by its repository's ids", () => {
  const compiled = compileRule(rule({ repository_id: "987", repository_owner_id: "123" }), github);
  const old = { sub: "repo:o/r:ref:refs/heads/main", event_name: "push" };
  const immutable = { sub: "repo:o@123/r@987:ref:refs/heads/main", event_name: "push" };
  for (const token of [old, immutable]) {
    assert.ok(compiled.matches({ ...token, repository_id: "987", repository_owner_id: "123" }));
    assert.ok(!compiled.matches({ ...token, repository_id: "987", repository_owner_id: "124" }));
  }
  const lookalike = {
    sub: "repo:o-123/r-987:ref:refs/heads/main",
    event_name: "push",
    repository_id: "5",
    repository_owner_id: "6",
  };
  assert.ok(!compiled.matches(lookalike));
});

test("A-OIDC-19 a foreign GitLab project with our audience does not fit", () => {
  const compiled = compileRule(rule({ project_id: "20", namespace_id: "72" }), gitlab);
  assert.ok(compiled.matches({ project_id: "20", namespace_id: "72", project_path: "acme/widgets" }));
  assert.ok(!compiled.matches({ project_id: "21", namespace_id: "73", project_path: "acme/widgets" }));
  assert.ok(isRefused({ project_path: "acme/widgets" }, gitlab));
  // The fork trap: the job runs in our project, the code comes from a fork.
  assert.ok(isRefused({ job_project_id: "20" }, gitlab));
});

test("A-OIDC-20 a service account of another namespace, or made anew, does not fit", () => {
  const claims = { sub: "system:serviceaccount:support:triage", "kubernetes.io.serviceaccount.uid": "0f3a" };
  const compiled = compileRule(rule(claims), cluster);
  const token = (namespace: string, uid: string): Record<string, unknown> => ({
    sub: `system:serviceaccount:${namespace}:triage`,
    "kubernetes.io": { namespace, serviceaccount: { name: "triage", uid } },
  });
  assert.ok(compiled.matches(token("support", "0f3a")));
  assert.ok(!compiled.matches(token("sales", "0f3a")));
  assert.ok(!compiled.matches(token("support", "9999")));
});
