import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { createTrustIndex } from "../../src/core/trust/compiled.ts";
import type { MutableTrustIndex } from "../../src/core/trust/compiled.ts";
import { decide } from "../../src/core/grants/decide.ts";
import { checkEntries } from "../../src/registry/check.ts";
import { merge } from "../../src/registry/merged.ts";
import { planChanges } from "../../src/registry/plan.ts";
import { formatProblem, parseTrustFile } from "../../src/registry/trust-file.ts";
import { createCheckSettings } from "../../src/server/credential-settings.ts";
import { createDatabaseClock, systemClock } from "../../src/system/clock.ts";
import { findWarnings } from "../../src/registry/warnings.ts";

const checkSettings = createCheckSettings(createDatabaseClock(systemClock()));
const NOW = Date.UTC(2026, 11, 1, 12) / 1000;

/** Applies an example to an empty server, which must find nothing to complain of. */
function apply(name: string, issuerUrl: string): MutableTrustIndex {
  const path = new URL(`../../examples/${name}/trust.yaml`, import.meta.url);
  const file = parseTrustFile(readFileSync(path, "utf8"), "trust.yaml", issuerUrl);
  assert.ok(file.ok, file.ok ? "" : file.problems.map(formatProblem).join("\n"));
  const trust = createTrustIndex({ issuerUrl });
  const { changes, conflicts } = planChanges("trust.yaml", file.entries, [], "whole");
  const merged = merge(trust, file.entries, changes);
  assert.deepEqual(conflicts, []);
  const context = { merged, issuerUrl, now: NOW, checkSettings };
  assert.deepEqual(checkEntries(file.entries, context).map(file.place).map(formatProblem), []);
  assert.deepEqual(
    findWarnings(trust, file.entries, { merged, changes, now: NOW }).map(file.place).map(formatProblem),
    [],
  );
  trust.apply({
    version: 1,
    deletes: [],
    upserts: {
      issuers: [...merged.issuers.values()],
      agents: [...merged.agents.values()],
      resources: [...merged.resources.values()],
      grants: [...merged.grants.values()],
      operators: [...merged.operators.values()],
      channels: [...merged.channels.values()],
    },
  });
  return trust;
}

function agentsOf(trust: MutableTrustIndex, issuer: string, claims: Record<string, unknown>): string[] {
  const found = trust.issuerByName(issuer);
  assert.ok(found);
  return trust.agentsMatching(found, claims).map(({ agent }) => agent.name);
}

for (const name of [
  "aws",
  "aws-keyless",
  "github-actions",
  "github-app",
  "gitlab",
  "kubernetes",
  "oauth-upstream",
  "spiffe",
]) {
  for (const issuerUrl of ["http://127.0.0.1:8460", "https://sts.acme.example"]) {
    test(`the example ${name} applies without a complaint at ${issuerUrl}`, () => {
      apply(name, issuerUrl);
    });
  }
}

test("A-OIDC-16 the GitHub example knows its jobs, and no fork, branch or other repository", () => {
  const trust = apply("github-actions", "https://sts.acme.example");
  const job = {
    repository_id: "987654321",
    repository_owner_id: "1234567",
    environment: "release",
    ref: "refs/heads/main",
    event_name: "push",
  };
  assert.deepEqual(agentsOf(trust, "github", job), ["release-bot"]);
  for (const other of [
    { event_name: "pull_request" },
    { ref: "refs/heads/x" },
    { repository_id: "1" },
    { environment: "x" },
  ]) {
    assert.deepEqual(agentsOf(trust, "github", { ...job, ...other }), []);
  }
});

test("A-OIDC-19 the GitLab example does not know a fork that runs in the parent project", () => {
  const trust = apply("gitlab", "https://sts.acme.example");
  const ours = { project_id: "20", job_project_id: "20", namespace_id: "72", job_namespace_id: "72" };
  const job = {
    ...ours,
    ref_type: "branch",
    ref: "main",
    ref_protected: "true",
    environment: "production",
    pipeline_source: "push",
  };
  assert.deepEqual(agentsOf(trust, "gitlab", job), ["deploy-bot"]);
  assert.deepEqual(agentsOf(trust, "gitlab", { ...ours, pipeline_source: "merge_request_event" }), ["review-bot"]);
  assert.deepEqual(
    agentsOf(trust, "gitlab", { ...ours, project_id: "99", pipeline_source: "merge_request_event" }),
    [],
  );
  assert.deepEqual(agentsOf(trust, "gitlab", { ...job, ref_protected: true }), []);
});

test("A-OIDC-20 the Kubernetes example knows the service account by its uid", () => {
  const trust = apply("kubernetes", "https://sts.acme.example");
  const token = (uid: string): Record<string, unknown> => ({
    sub: "system:serviceaccount:support:triage",
    "kubernetes.io": { namespace: "support", serviceaccount: { name: "triage", uid } },
  });
  assert.deepEqual(agentsOf(trust, "cluster", token("0f3a1c52-7d0e-4b43-9a55-3c1a0a9b7e11")), ["triage-bot"]);
  assert.deepEqual(agentsOf(trust, "cluster", token("11111111-7d0e-4b43-9a55-3c1a0a9b7e11")), []);
});

test("the Kubernetes example closes tickets on working days", () => {
  const trust = apply("kubernetes", "https://sts.acme.example");
  const resource = trust.resourceByName("tickets");
  assert.ok(resource);
  const at = (now: number): boolean =>
    decide(trust, {
      path: ["triage-bot"],
      subject: { type: "human", issuer: "okta", sub: "okta|00u1", claims: { groups: ["support-leads"] } },
      resource,
      scopes: ["tickets:close_ticket"],
      ceilings: [],
      txn: "01J",
      now,
    }).allowed;
  assert.ok(at(Date.UTC(2026, 11, 1, 12) / 1000));
  assert.ok(!at(Date.UTC(2026, 11, 5, 12) / 1000));
});

test("A-OIDC-21 the SPIFFE example takes one segment for its star", () => {
  const trust = apply("spiffe", "https://sts.acme.example");
  const of = (path: string): string[] => agentsOf(trust, "prod-mesh", { sub: `spiffe://prod.acme.example${path}` });
  assert.deepEqual(of("/ns/billing/sa/agent"), ["billing-bot"]);
  assert.deepEqual(of("/ns/research/desk/7"), ["research-bot"]);
  assert.deepEqual(of("/ns/research/desk/7/8"), []);
});
