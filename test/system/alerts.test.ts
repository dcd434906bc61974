import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { parse } from "yaml";
import { createMetrics } from "../../src/system/metrics.ts";

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly labels: { readonly severity: string };
  readonly annotations: { readonly summary: string };
}

const FILE = new URL("../../examples/prometheus/ephor-alerts.yaml", import.meta.url);
const { groups } = parse(readFileSync(FILE, "utf8")) as { groups: { name: string; rules: Rule[] }[] };
const rules = groups.flatMap((group) => group.rules);

/** Every series that `/metrics` can have, with the labels that it may carry. */
async function series(): Promise<ReadonlySet<string>> {
  const text = await createMetrics({ version: "0" }).render();
  const types = [...text.matchAll(/^# TYPE (\S+) (\S+)$/gm)];
  return new Set(
    types.flatMap(([, name = "", type]) =>
      type === "histogram" ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
    ),
  );
}

test("each metric that the example alerts name is one of ours", async () => {
  const known = await series();
  const named = rules.flatMap(({ expr }) => [...expr.matchAll(/\bephor_\w+/g)].map(([name]) => name));
  assert.ok(named.length >= rules.length && rules.length >= 5);
  assert.deepEqual(
    named.filter((name) => !known.has(name)),
    [],
  );
  assert.ok(!known.has("ephor_kill_to_deny_seconds"), "a histogram has no series of its bare name");
});

test("the example alerts cover slow and failed kills, a silent canary, fenced replicas, stuck leases, stuck streams and channels, dead upstreams and lost log lines, each with its words", () => {
  const names = rules.map(({ alert }) => alert);
  assert.deepEqual(names, [
    "EphorKillNotEnforced",
    "EphorKillSlow",
    "EphorCanaryNotRunning",
    "EphorReplicaFenced",
    "EphorLeasesStuck",
    "EphorSsfStreamStuck",
    "EphorChannelStuck",
    "EphorUpstreamAway",
    "EphorLogLinesDropped",
  ]);
  for (const { alert, labels, annotations } of rules) {
    assert.ok(["critical", "warning"].includes(labels.severity), alert);
    assert.ok(annotations.summary.length > 20, alert);
  }
});
