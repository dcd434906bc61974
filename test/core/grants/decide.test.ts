import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decide } from "../../../src/core/grants/decide.ts";
import type { DecideInput, Decision } from "../../../src/core/grants/decide.ts";
import type { TrustIndex } from "../../../src/core/trust/compiled.ts";
import type { AccessGrant, Resource } from "../../../src/core/trust/model.ts";
import type { Subject } from "../../../src/core/trust/subject.ts";
import { agent, index, indexOf } from "../trust/objects.ts";

const NOW = Date.UTC(2026, 11, 1) / 1000;
const HUMAN: Subject = {
  type: "human",
  issuer: "okta",
  sub: "okta|00u1",
  claims: { sub: "00u1", groups: ["support"], level: 3 },
};
const self = (name: string): Subject => ({ type: "agent", agent: name, sub: `agent|${name}` });

const AGENTS = Object.fromEntries(
  ["a", "b", "c"].map((name) => [name, { owner: "x", trust: [{ issuer: "ci", claims: { sub: name } }] }]),
);
const RESOURCES = {
  billing: { resource: "https://billing.example", actions: ["read", "refund"] },
  tickets: { mcp: "https://tickets.example/mcp" },
  crm: { http: "https://crm.example", actions: { read: ["GET /**"], write: ["POST /**"] } },
  aws: { credential: { aws: { session_policies: { readonly: {}, admin: {} } } } },
  vault: { credential: { static: {} }, disclose: true },
};

function world(grants: readonly object[], more: { agents?: object; resources?: object } = {}): TrustIndex {
  return indexOf({ agents: { ...AGENTS, ...more.agents }, resources: { ...RESOURCES, ...more.resources }, grants });
}

function ask(
  trust: TrustIndex,
  resource: string,
  scopes: readonly string[] | "all",
  more: Partial<DecideInput> = {},
): Decision {
  const found = trust.resourceByName(resource);
  assert.ok(found);
  return decide(trust, {
    path: ["a"],
    subject: self("a"),
    ceilings: [],
    txn: "01J",
    now: NOW,
    resource: found,
    scopes,
    ...more,
  });
}

const reasonOf = (decision: Decision): string => (decision.allowed ? "allowed" : decision.reason);
const scopesOf = (decision: Decision): readonly string[] => (decision.allowed ? decision.scopes : []);

test("no grant, no scope", () => {
  const trust = world([{ agent: "a", resource: "billing", actions: ["read"] }]);
  assert.deepEqual(ask(trust, "billing", ["billing:read"]), {
    allowed: true,
    scopes: ["billing:read"],
    once: false,
    grants: [{ agent: "a", grant: "a-billing" }],
  });
  assert.equal(reasonOf(ask(trust, "billing", ["billing:refund"])), "scope_not_granted");
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read", "billing:refund"])), "scope_not_granted");
  assert.equal(reasonOf(ask(trust, "crm", ["crm:read"])), "scope_not_granted");
});

test("a request that names no scope is refused, and so is one that is not of the resource", () => {
  const trust = world([
    { agent: "a", resource: "billing", actions: ["read"] },
    { agent: "a", resource: "tickets", actions: ["*"], allow_all: true },
  ]);
  assert.equal(reasonOf(ask(trust, "billing", [])), "scope_missing");
  for (const scope of [
    "billing:delete",
    "tickets:read",
    "billing:*",
    "billing:",
    "read",
    "billing:read2",
    "billin:read",
  ]) {
    assert.equal(reasonOf(ask(trust, "billing", [scope])), "scope_unknown", scope);
  }
  for (const scope of ["tickets:*", "tickets:", "tickets:%41", "tickets:a b", `tickets:${"x".repeat(257)}`])
    assert.equal(reasonOf(ask(trust, "tickets", [scope])), "scope_unknown", scope);
  assert.deepEqual(scopesOf(ask(trust, "tickets", ["tickets:any%20tool"])), ["tickets:any%20tool"]);
});

test("the resource's name alone asks for everything that is granted there", () => {
  const trust = world([
    { agent: "a", resource: "billing", actions: ["read"] },
    { agent: "a", resource: "crm", actions: ["*"], allow_all: true },
    { agent: "a", resource: "tickets", actions: ["get", "list"] },
  ]);
  assert.deepEqual(scopesOf(ask(trust, "billing", ["billing"])), ["billing:read"]);
  assert.deepEqual(scopesOf(ask(trust, "crm", "all")), ["crm:read", "crm:write"]);
  assert.deepEqual(scopesOf(ask(trust, "tickets", "all")), ["tickets:get", "tickets:list"]);
  assert.equal(reasonOf(ask(trust, "billing", ["billing", "billing:refund"])), "scope_not_granted");
  assert.equal(reasonOf(ask(trust, "aws", "all")), "scope_not_granted");
});

test("everything at an MCP server stays one scope, unless a ceiling names actions", () => {
  const trust = world([{ agent: "a", resource: "tickets", actions: ["*"], allow_all: true }]);
  assert.deepEqual(scopesOf(ask(trust, "tickets", "all")), ["tickets:*"]);
  assert.deepEqual(scopesOf(ask(trust, "tickets", "all", { ceilings: [["tickets:get", "billing:read"]] })), [
    "tickets:get",
  ]);
  assert.deepEqual(scopesOf(ask(trust, "tickets", ["tickets:get"], { ceilings: [["tickets:*"], null] })), [
    "tickets:get",
  ]);
});

test("a scope above any ceiling is refused, whatever is granted", () => {
  const trust = world([{ agent: "a", resource: "billing", actions: ["read", "refund"] }]);
  assert.equal(
    reasonOf(ask(trust, "billing", ["billing:refund"], { ceilings: [null, ["billing:read"]] })),
    "scope_above_ceiling",
  );
  assert.equal(
    reasonOf(ask(trust, "billing", ["billing:read"], { ceilings: [["billing:read"], []] })),
    "scope_above_ceiling",
  );
  assert.deepEqual(scopesOf(ask(trust, "billing", "all", { ceilings: [["billing:read"]] })), ["billing:read"]);
  assert.equal(reasonOf(ask(trust, "billing", "all", { ceilings: [[]] })), "scope_not_granted");
});

test("every actor on the path must hold the grant, not the current one alone", () => {
  const forHumans = { resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" } };
  const both = world([
    { agent: "a", ...forHumans },
    { agent: "b", ...forHumans },
  ]);
  const second = world([{ agent: "b", ...forHumans }]);
  const first = world([{ agent: "a", ...forHumans }]);
  const at = { path: ["a", "b"], subject: HUMAN };
  assert.equal(reasonOf(ask(both, "billing", ["billing:read"], at)), "allowed");
  assert.equal(reasonOf(ask(second, "billing", ["billing:read"], at)), "scope_not_granted");
  assert.equal(reasonOf(ask(first, "billing", ["billing:read"], at)), "scope_not_granted");
  assert.equal(reasonOf(ask(both, "billing", ["billing:read"], { path: [], subject: HUMAN })), "actor_missing");
});

test("on_behalf_of: absent only for itself, present never for itself", () => {
  const own = world([{ agent: "a", resource: "billing", actions: ["read"] }]);
  const human = world([
    {
      agent: "a",
      resource: "billing",
      actions: ["read"],
      on_behalf_of: [{ issuer: "okta" }, { agent: "b" }, { agent: "a" }],
    },
  ]);
  assert.equal(reasonOf(ask(own, "billing", ["billing:read"])), "allowed");
  assert.equal(reasonOf(ask(own, "billing", ["billing:read"], { subject: HUMAN })), "on_behalf_of_mismatch");
  assert.equal(reasonOf(ask(human, "billing", ["billing:read"], { subject: HUMAN })), "allowed");
  assert.equal(reasonOf(ask(human, "billing", ["billing:read"])), "on_behalf_of_mismatch");
  assert.equal(
    reasonOf(ask(human, "billing", ["billing:read"], { subject: { ...HUMAN, issuer: "other" } })),
    "on_behalf_of_mismatch",
  );
});

test("on_behalf_of: claims of the human, a list by membership", () => {
  const trust = world([
    {
      agent: "a",
      resource: "billing",
      actions: ["read"],
      on_behalf_of: { issuer: "okta", claims: { groups: "support" } },
    },
  ]);
  const as = (claims: Record<string, unknown>): string =>
    reasonOf(ask(trust, "billing", ["billing:read"], { subject: { ...HUMAN, claims } }));
  assert.equal(as({ groups: ["sales", "support"] }), "allowed");
  assert.equal(as({ groups: ["sales"] }), "on_behalf_of_mismatch");
  assert.equal(as({}), "on_behalf_of_mismatch");
});

test("on_behalf_of: in an agent's own task it needs its own grant, the others one for it", () => {
  const trust = world([
    { agent: "a", resource: "billing", actions: ["read"] },
    { agent: "b", resource: "billing", actions: ["read"], on_behalf_of: { agent: "a" } },
    { agent: "c", resource: "billing", actions: ["read"] },
  ]);
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], { path: ["a", "b"], subject: self("a") })), "allowed");
  assert.equal(
    reasonOf(ask(trust, "billing", ["billing:read"], { path: ["a", "c"], subject: self("a") })),
    "on_behalf_of_mismatch",
  );
  assert.equal(
    reasonOf(ask(trust, "billing", ["billing:read"], { path: ["b"], subject: self("b") })),
    "on_behalf_of_mismatch",
  );
});

test("a grant ends at its until, to the second", () => {
  const trust = world([{ agent: "a", resource: "billing", actions: ["read"], until: "2026-12-01" }]);
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], { now: NOW - 1 })), "allowed");
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], { now: NOW })), "grant_expired");
});

test("a suspended, overdue or unknown agent anywhere on the path refuses", () => {
  const forHumans = { resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" } };
  const grants = [
    { agent: "a", ...forHumans },
    { agent: "b", ...forHumans },
  ];
  const trust = world(grants, { agents: { a: { ...AGENTS["a"], review_by: "2026-12-01" } } });
  const at = { path: ["a", "b"], subject: HUMAN };
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], { ...at, now: NOW - 1 })), "allowed");
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], at)), "agent_review_overdue");
  assert.equal(
    reasonOf(ask(trust, "billing", ["billing:read"], { path: ["gone", "b"], subject: HUMAN })),
    "client_unknown",
  );
  const resource: Resource = {
    kind: "verify",
    name: "billing",
    identifier: "https://billing.example",
    actions: ["read"],
  };
  const suspended = index({ agents: [agent("a", [], { status: "suspended" })], resources: [resource] });
  assert.equal(reasonOf(ask(suspended, "billing", ["billing:read"])), "agent_suspended");
});

test("a condition must be true, and one that fails is no grant", () => {
  const grant = (when: string): TrustIndex =>
    world([{ agent: "a", resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" }, when }]);
  const as = (when: string): string =>
    reasonOf(ask(grant(when), "billing", ["billing:read"], { subject: HUMAN, purpose: "triage" }));
  assert.equal(as('"support" in subject.groups && subject.sub == "okta|00u1" && subject.issuer == "okta"'), "allowed");
  assert.equal(as('"admin" in subject.groups'), "condition_false");
  assert.equal(as('subject.department == "x"'), "condition_error");
  assert.equal(
    as('task.purpose == "triage" && agent.name == "a" && agent.current == "a" && agent.path == ["a"]'),
    "allowed",
  );
  assert.equal(as('task.now == timestamp("2026-12-01T00:00:00Z")'), "allowed");
});

test("a claim cannot shadow what we say of the subject", () => {
  const trust = world([
    {
      agent: "a",
      resource: "billing",
      actions: ["read"],
      on_behalf_of: { issuer: "okta" },
      when: 'subject.issuer == "root"',
    },
  ]);
  const subject: Subject = { ...HUMAN, claims: { issuer: "root", type: "agent", sub: "x" } };
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"], { subject })), "condition_false");
});

test("a condition on arguments waits for the call behind the proxy, and refuses elsewhere", () => {
  const grants = (resource: string): object[] => [
    { agent: "a", resource, actions: ["read"], when: 'args.priority != "P1"' },
  ];
  assert.equal(reasonOf(ask(world(grants("tickets")), "tickets", ["tickets:read"])), "allowed");
  const call = (priority: string): Partial<DecideInput> => ({ call: { args: { priority }, call: {} } });
  assert.equal(reasonOf(ask(world(grants("tickets")), "tickets", ["tickets:read"], call("P2"))), "allowed");
  assert.equal(reasonOf(ask(world(grants("tickets")), "tickets", ["tickets:read"], call("P1"))), "condition_false");
  // Apply refuses this; should it be there all the same, it does not grant.
  assert.equal(reasonOf(ask(world(grants("billing")), "billing", ["billing:read"])), "condition_error");
});

test("over the path the smallest ttl, until and residual hold, every policy, and once if any says so", () => {
  const trust = world([
    {
      agent: "a",
      resource: "aws",
      actions: ["vend"],
      on_behalf_of: { issuer: "okta" },
      ttl: "40s",
      until: "2027-02-01",
      policy: "readonly",
      residual: "10m",
      once: true,
    },
    {
      agent: "b",
      resource: "aws",
      actions: ["vend"],
      on_behalf_of: { issuer: "okta" },
      ttl: "20s",
      until: "2027-03-01",
      policy: "admin",
      residual: "none",
    },
  ]);
  assert.deepEqual(ask(trust, "aws", ["aws:vend"], { path: ["a", "b"], subject: HUMAN }), {
    allowed: true,
    scopes: ["aws:vend"],
    ttlSeconds: 20,
    until: Date.UTC(2027, 1, 1) / 1000,
    once: true,
    policies: ["readonly", "admin"],
    residual: "none",
    grants: [
      { agent: "a", grant: "a-aws" },
      { agent: "b", grant: "b-aws" },
    ],
  });
});

test("unlimited residual holds only when every grant on the path says it", () => {
  const grant = (name: string, residual?: string): object => ({
    agent: name,
    resource: "vault",
    actions: ["vend"],
    on_behalf_of: { issuer: "okta" },
    ...(residual && { residual }),
  });
  const residual = (a?: string, b?: string): unknown => {
    const decision = ask(world([grant("a", a), grant("b", b)]), "vault", ["vault:vend"], {
      path: ["a", "b"],
      subject: HUMAN,
    });
    return decision.allowed ? decision.residual : reasonOf(decision);
  };
  assert.equal(residual("unlimited", "unlimited"), "unlimited");
  assert.equal(residual("unlimited", undefined), undefined);
  assert.equal(residual("unlimited", "30s"), 30);
});

test("of several grants of one agent the least restrictive is taken", () => {
  const grants = [
    { name: "short", agent: "a", resource: "tickets", actions: ["get"], ttl: "10s" },
    { name: "long", agent: "a", resource: "tickets", actions: ["get"], ttl: "50s" },
    { name: "free-at-call", agent: "a", resource: "tickets", actions: ["get"], when: "args.x == 1" },
  ];
  const decision = ask(world(grants), "tickets", ["tickets:get"]);
  assert.deepEqual(decision.allowed && [decision.ttlSeconds, decision.grants], [50, [{ agent: "a", grant: "long" }]]);
});

test("where all grants wait for the call, the token is bounded by each", () => {
  const grants = [
    { name: "one", agent: "a", resource: "tickets", actions: ["get"], ttl: "10s", when: "args.x == 1" },
    { name: "two", agent: "a", resource: "tickets", actions: ["get"], ttl: "50s", when: "args.x == 2" },
  ];
  const decision = ask(world(grants), "tickets", ["tickets:get"]);
  assert.equal(decision.allowed && decision.ttlSeconds, 10);
  const atCall = ask(world(grants), "tickets", ["tickets:get"], { call: { args: { x: 2 }, call: {} } });
  assert.deepEqual(atCall.allowed && [atCall.ttlSeconds, atCall.grants], [50, [{ agent: "a", grant: "two" }]]);
});

test("a grant that needs an approval grants nothing where no call passes us", () => {
  const trust = world([{ agent: "a", resource: "billing", actions: ["read"], approval: { by: "owner" } }]);
  assert.equal(reasonOf(ask(trust, "billing", ["billing:read"])), "not_served");
  assert.equal(reasonOf(ask(trust, "billing", "all")), "not_served");
});

test("where calls pass us it grants the scope and names the approval; one without is taken before it", () => {
  const waiting = {
    name: "waiting",
    agent: "a",
    resource: "tickets",
    actions: ["get"],
    approval: { by: "owner", within: "5m" },
  };
  const call = { call: { args: { x: 1 }, call: {} } };
  const need = { agent: "a", grant: "waiting", by: ["owner"], withinSeconds: 300, count: 1 };
  const alone = ask(world([waiting]), "tickets", ["tickets:get"], call);
  assert.deepEqual(alone.allowed && alone.approvals, [need]);
  assert.equal(reasonOf(ask(world([waiting]), "tickets", ["tickets:get"], { passesProxy: false })), "not_served");
  const once = { name: "free", agent: "a", resource: "tickets", actions: ["get"], once: true, when: "args.x == 1" };
  const free = ask(world([waiting, once]), "tickets", ["tickets:get"], call);
  assert.deepEqual(free.allowed && [free.approvals, free.grants], [undefined, [{ agent: "a", grant: "free" }]]);
  const other = ask(world([waiting, once]), "tickets", ["tickets:get"], { call: { args: { x: 2 }, call: {} } });
  assert.deepEqual(other.allowed && other.approvals, [need]);
});

test("observe notes a missing approval at the call, and not before", () => {
  const observed = { tickets: { mcp: "https://tickets.example/mcp", mode: { observe: true, until: "2026-12-15" } } };
  const waiting = { name: "waiting", agent: "a", resource: "tickets", actions: ["get"], approval: { by: "owner" } };
  const trust = world([waiting], { resources: observed });
  const before = ask(trust, "tickets", ["tickets:get"]);
  assert.deepEqual(before.allowed && [before.approvals, before.wouldRefuse], [undefined, undefined]);
  const atCall = ask(trust, "tickets", ["tickets:get"], { call: { args: {}, call: {} } });
  assert.deepEqual(atCall.allowed && [atCall.approvals, atCall.wouldRefuse?.reason], [undefined, "approval_required"]);
});

test("observe notes what grants would refuse, and ceilings and standing refuse as ever", () => {
  const observed = { tickets: { mcp: "https://tickets.example/mcp", mode: { observe: true, until: "2026-12-15" } } };
  const trust = world([{ agent: "a", resource: "tickets", actions: ["get"] }], { resources: observed });
  const noted = ask(trust, "tickets", ["tickets:get", "tickets:close"]);
  assert.deepEqual(noted.allowed && [noted.scopes, noted.wouldRefuse?.reason], [
    ["tickets:get", "tickets:close"],
    "scope_not_granted",
  ]);
  const granted = ask(trust, "tickets", ["tickets:get"]);
  assert.deepEqual(granted.allowed && granted.wouldRefuse, undefined);
  const everything = ask(trust, "tickets", "all", { path: ["b"], subject: self("b") });
  assert.deepEqual(everything.allowed && [everything.scopes, everything.wouldRefuse?.reason], [
    ["tickets:*"],
    "scope_not_granted",
  ]);
  assert.equal(
    reasonOf(ask(trust, "tickets", ["tickets:close"], { ceilings: [["tickets:get"]] })),
    "scope_above_ceiling",
  );
  assert.equal(reasonOf(ask(trust, "tickets", ["tickets:close"], { path: ["gone"] })), "client_unknown");
  assert.equal(
    reasonOf(ask(trust, "tickets", ["tickets:close"], { now: Date.UTC(2026, 11, 15) / 1000 })),
    "scope_not_granted",
  );
});

// The model: the rules of CONTRACT §2.3 in the fewest words, without an index.
const names = ["a", "b", "c"];
const actions = ["read", "refund"];
const party = fc.oneof(
  fc.constant({ issuer: "okta" }),
  fc.constant({ issuer: "other" }),
  fc.constantFrom(...names).map((name) => ({ agent: name })),
);
const grant: fc.Arbitrary<AccessGrant> = fc
  .record({
    agent: fc.constantFrom(...names),
    actions: fc.subarray(actions, { minLength: 1 }),
    allowAll: fc.boolean(),
    onBehalfOf: fc.option(fc.array(party, { minLength: 1, maxLength: 2 }), { nil: undefined }),
    until: fc.option(fc.constantFrom(NOW - 1, NOW, NOW + 1), { nil: undefined }),
    when: fc.option(fc.constantFrom("true", "false", "subject.nothing == 1", 'subject.type == "human"'), {
      nil: undefined,
    }),
  })
  .map(({ onBehalfOf, until, when, ...rest }) => ({
    kind: "access",
    name: "",
    resource: "billing",
    once: false,
    ...rest,
    ...(rest.allowAll && { actions: ["*"] }),
    ...(onBehalfOf && { onBehalfOf }),
    ...(until !== undefined && { until }),
    ...(when !== undefined && { when }),
  }));

function modelHolds(grants: readonly AccessGrant[], actor: string, action: string, subject: Subject): boolean {
  return grants.some((one) => {
    if (one.agent !== actor || !(one.allowAll || one.actions.includes(action))) return false;
    if (one.until !== undefined && one.until <= NOW) return false;
    const isOwn = subject.type === "agent" && subject.agent === actor;
    if (one.onBehalfOf === undefined ? !isOwn : isOwn) return false;
    const isNamed = (one.onBehalfOf ?? []).some((p) =>
      "issuer" in p
        ? subject.type === "human" && subject.issuer === p.issuer
        : subject.type === "agent" && subject.agent === p.agent,
    );
    if (one.onBehalfOf !== undefined && !isNamed) return false;
    return (
      one.when === undefined || one.when === "true" || (one.when.startsWith("subject.type") && subject.type === "human")
    );
  });
}

test("INV-02 decide allows exactly the scopes that every actor on the path holds and every ceiling has", () => {
  const billing: Resource = { kind: "verify", name: "billing", identifier: "https://billing.example", actions };
  const subject = fc.oneof(fc.constant(HUMAN), fc.constantFrom(...names).map(self));
  const ceiling = fc.option(fc.subarray(actions.map((action) => `billing:${action}`)), { nil: null });
  fc.assert(
    fc.property(
      fc.array(grant, { maxLength: 8 }),
      fc.shuffledSubarray(names, { minLength: 1 }),
      subject,
      fc.subarray(actions, { minLength: 1 }),
      fc.array(ceiling, { maxLength: 2 }),
      (made, path, by, wanted, ceilings) => {
        const grants = made.map((one, at) => ({ ...one, name: `g-${at}` }));
        const trust = index({ agents: names.map((name) => agent(name)), resources: [billing], grants });
        const isRight = (action: string): boolean =>
          path.every((actor) => modelHolds(grants, actor, action, by)) &&
          ceilings.every((c) => c === null || c.includes(`billing:${action}`));
        const input = { path, subject: by, ceilings, txn: "01J", now: NOW, resource: billing };
        const named = decide(trust, { ...input, scopes: wanted.map((action) => `billing:${action}`) });
        assert.equal(named.allowed, wanted.every(isRight));
        const all = decide(trust, { ...input, scopes: "all" });
        assert.deepEqual(
          scopesOf(all),
          actions.filter(isRight).map((action) => `billing:${action}`),
        );
        for (const decision of [named, all]) {
          if (!decision.allowed) continue;
          assert.deepEqual(new Set(decision.grants.map((one) => one.agent)), new Set(path));
        }
      },
    ),
    { numRuns: 500 },
  );
});
