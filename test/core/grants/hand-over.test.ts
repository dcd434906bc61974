import assert from "node:assert/strict";
import { test } from "node:test";
import type { Decision, HandOverInput } from "../../../src/core/grants/decide.ts";
import { decideHandOver } from "../../../src/core/grants/hand-over.ts";
import { mayCarry } from "../../../src/core/grants/on-behalf-of.ts";
import type { TrustIndex } from "../../../src/core/trust/compiled.ts";
import type { Subject } from "../../../src/core/trust/subject.ts";
import { agent, indexOf } from "../trust/objects.ts";

const NOW = Date.UTC(2026, 11, 1) / 1000;
const HUMAN: Subject = { type: "human", issuer: "okta", sub: "okta|00u1", claims: { groups: ["support"] } };

const AGENTS = Object.fromEntries(
  ["a", "b", "c"].map((name) => [name, { owner: "x", trust: [{ issuer: "ci", claims: { sub: name } }] }]),
);
const HELD = [
  { agent: "a", resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" }, ttl: "30s" },
  { agent: "a", resource: "crm", actions: ["read"], on_behalf_of: { issuer: "okta" }, until: "2027-01-01" },
];

function world(grants: readonly object[], agents: object = {}): TrustIndex {
  return indexOf({
    agents: { ...AGENTS, ...agents },
    resources: {
      billing: { resource: "https://billing.example", actions: ["read", "refund"] },
      crm: { http: "https://crm.example", actions: { read: ["GET /**"] } },
      shadow: { mcp: "https://shadow.example", mode: { observe: true, until: "2026-12-15" } },
    },
    grants,
  });
}

function ask(
  trust: TrustIndex,
  scopes: Record<string, readonly string[] | "all">,
  more: Partial<HandOverInput> = {},
): Decision {
  const wanted = Object.entries(scopes).map(([name, list]) => {
    const resource = trust.resourceByName(name);
    assert.ok(resource);
    return { resource, scopes: list };
  });
  return decideHandOver(trust, {
    path: ["a"],
    subject: HUMAN,
    to: "b",
    wanted,
    ceilings: [],
    txn: "01J",
    now: NOW,
    ...more,
  });
}

const reasonOf = (decision: Decision): string => (decision.allowed ? "allowed" : decision.reason);

test("work is handed over only to agents that delegate_to names", () => {
  const trust = world([...HELD, { agent: "a", delegate_to: ["b"] }]);
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] })), "allowed");
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] }, { to: "c" })), "delegation_not_granted");
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] }, { to: "gone" })), "target_unknown");
  assert.equal(reasonOf(ask(world(HELD), { billing: ["billing:read"] })), "delegation_not_granted");
});

test("what is handed over is what the path holds at that moment, or less", () => {
  const trust = world([...HELD, { agent: "a", delegate_to: ["b"] }]);
  assert.deepEqual(ask(trust, { billing: "all", crm: ["crm:read"] }), {
    allowed: true,
    scopes: ["billing:read", "crm:read"],
    ttlSeconds: 30,
    until: Date.UTC(2027, 0, 1) / 1000,
    once: false,
    grants: [
      { agent: "a", grant: "a-delegate" },
      { agent: "a", grant: "a-billing" },
      { agent: "a", grant: "a-crm" },
    ],
  });
  assert.equal(reasonOf(ask(trust, { billing: ["billing:refund"] })), "scope_not_granted");
  assert.equal(
    reasonOf(ask(trust, { billing: ["billing:read"] }, { ceilings: [["crm:read"]] })),
    "scope_above_ceiling",
  );
  assert.equal(reasonOf(ask(trust, {})), "scope_missing");
});

test("it is the current actor's delegate_to that counts, and everybody's grants", () => {
  const trust = world([
    ...HELD,
    { agent: "a", delegate_to: ["b", "c"] },
    { agent: "b", resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" } },
  ]);
  assert.equal(
    reasonOf(ask(trust, { billing: ["billing:read"] }, { path: ["a", "b"], to: "c" })),
    "delegation_not_granted",
  );
  const both = world([...HELD, { agent: "b", delegate_to: ["c"] }]);
  assert.equal(reasonOf(ask(both, { billing: ["billing:read"] }, { path: ["a", "b"], to: "c" })), "scope_not_granted");
});

test("INV-03 work does not come back to an agent of the chain", () => {
  const trust = world([...HELD, { agent: "a", delegate_to: ["b", "c"] }]);
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] }, { path: ["b", "a"] })), "chain_loop");
});

test("a permission to hand over can end, and can be for some subjects only", () => {
  const trust = world([
    ...HELD,
    { agent: "a", delegate_to: ["b"], until: "2026-12-01" },
    { agent: "a", delegate_to: ["c"], on_behalf_of: { issuer: "other" } },
  ]);
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] })), "grant_expired");
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] }, { now: NOW - 1 })), "allowed");
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] }, { to: "c" })), "on_behalf_of_mismatch");
});

test("nothing of Ephor's own API and nothing that is only observed can be handed over", () => {
  const trust = world([
    { agent: "a", resource: "ephor", actions: ["read"], on_behalf_of: { issuer: "okta" } },
    { agent: "a", delegate_to: ["b"] },
  ]);
  assert.equal(reasonOf(ask(trust, { ephor: ["ephor:read"] })), "not_transferable");
  assert.equal(reasonOf(ask(trust, { shadow: ["shadow:tool"] })), "not_transferable");
});

test("an agent that is suspended or overdue gets nothing handed over", () => {
  const trust = world([...HELD, { agent: "a", delegate_to: ["b"] }], {
    b: { ...AGENTS["b"], review_by: "2026-12-01" },
  });
  assert.equal(reasonOf(ask(trust, { billing: ["billing:read"] })), "agent_review_overdue");
});

test("an agent with subject_from carries only tokens that fit it", () => {
  const bot = agent("bot", [], { subjectFrom: { azp: "0oa7" } });
  assert.ok(mayCarry(bot, { azp: "0oa7" }));
  assert.ok(!mayCarry(bot, { azp: "0oa8" }));
  assert.ok(!mayCarry(bot, {}));
  assert.ok(mayCarry(agent("bot"), {}));
});
