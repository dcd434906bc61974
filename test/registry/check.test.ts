import assert from "node:assert/strict";
import { test } from "node:test";
import type { TrustEntry } from "../../src/core/trust/schema.ts";
import { checkEntries, checkRemaining } from "../../src/registry/check.ts";
import { forbiddenChanges } from "../../src/registry/guard.ts";
import { merge } from "../../src/registry/merged.ts";
import { planChanges } from "../../src/registry/plan.ts";
import type { StoredObject } from "../../src/registry/store.ts";
import { findWarnings } from "../../src/registry/warnings.ts";
import { ISSUER_URL, index, indexOf, read } from "../core/trust/objects.ts";

const NOW = Date.UTC(2026, 11, 1) / 1000;

const ISSUERS = {
  ci: { url: "https://ci.example", audience: "a" },
  github: { url: "https://token.actions.githubusercontent.com", audience: "a" },
  okta: { url: "https://acme.okta.example", audience: "a", identifies: "humans" },
};
const rule = (sub: string): object => ({ issuer: "ci", claims: { sub } });
const AGENTS = { bot: { owner: "dana", trust: [rule("bot")] }, other: { owner: "sam", trust: [rule("other")] } };
const RESOURCES = {
  billing: { resource: "https://billing.example", actions: ["read", "refund"] },
  tickets: { mcp: "https://tickets.example/mcp" },
  aws: { credential: { aws: { session_policies: { readonly: {} } } } },
  vault: { credential: { static: {} } },
};
const FILE = { issuers: ISSUERS, agents: AGENTS, resources: RESOURCES };

/** Keys at which a file is refused beyond its shape, on an empty server. */
function refused(raw: object): string[] {
  const entries = read(raw);
  const trust = index({});
  const { changes } = planChanges("t", entries, [], "whole");
  const merged = merge(trust, entries, changes);
  return checkEntries(entries, { merged, issuerUrl: ISSUER_URL, now: NOW, checkSettings: () => [] })
    .map(({ path }) => path.join("."))
    .toSorted();
}

const withGrant = (grant: object): string[] =>
  refused({ ...FILE, grants: [{ agent: "bot", resource: "billing", actions: ["read"], ...grant }] });

test("a file whose names all exist is fine", () => {
  assert.deepEqual(withGrant({ on_behalf_of: [{ issuer: "okta" }, { agent: "other" }] }), []);
  assert.deepEqual(refused({ ...FILE, grants: [{ agent: "bot", delegate_to: ["other"] }] }), []);
});

test("names of issuers, agents and resources must exist", () => {
  assert.deepEqual(refused({ agents: { bot: AGENTS.bot } }), ["agents.bot.trust.0.issuer"]);
  assert.deepEqual(withGrant({ agent: "nobody" }), ["grants.0.agent"]);
  assert.deepEqual(withGrant({ resource: "nothing" }), ["grants.0.resource"]);
  assert.deepEqual(withGrant({ on_behalf_of: { issuer: "nowhere" } }), ["grants.0.on_behalf_of"]);
  assert.deepEqual(withGrant({ on_behalf_of: [{ issuer: "okta" }, { agent: "nobody" }] }), ["grants.0.on_behalf_of.1"]);
  assert.deepEqual(refused({ ...FILE, grants: [{ agent: "bot", delegate_to: ["nobody", "bot"] }] }), [
    "grants.0.delegate_to",
    "grants.0.delegate_to.0",
  ]);
  assert.deepEqual(
    refused({ ...FILE, resources: { billing: { ...RESOURCES.billing, introspection: { agent: "nobody" } } } }),
    ["resources.billing.introspection.agent"],
  );
});

test("rules name issuers of workloads, subjects issuers of humans", () => {
  assert.deepEqual(
    refused({ ...FILE, agents: { bot: { owner: "x", trust: [{ issuer: "okta", claims: { sub: "x" } }] } } }),
    ["agents.bot.trust.0.issuer"],
  );
  assert.deepEqual(withGrant({ on_behalf_of: { issuer: "ci" } }), ["grants.0.on_behalf_of"]);
});

test("A-OIDC-13 a loose rule at a shared issuer is refused where it stands", () => {
  const agents = (rules: object[]): string[] => refused({ ...FILE, agents: { bot: { owner: "x", trust: rules } } });
  assert.deepEqual(agents([{ issuer: "github", claims: { repository: "acme/widgets" } }]), [
    "agents.bot.trust.0.claims",
  ]);
  assert.deepEqual(agents([rule("x"), { issuer: "github", claims: {} }]), ["agents.bot.trust.1.claims"]);
  assert.deepEqual(agents([{ issuer: "github", claims: { repository_id: 5 } }]), [
    "agents.bot.trust.0.claims.repository_id",
  ]);
  assert.deepEqual(agents([{ issuer: "github", claims: { repository_id: "5" } }]), []);
});

test("at an issuer where anybody signs up, on_behalf_of says whom it means", () => {
  const google = { url: "https://accounts.google.com", audience: "a", identifies: "humans" };
  const as = (claims?: object): string[] =>
    refused({
      ...FILE,
      issuers: { ...ISSUERS, google },
      grants: [
        {
          agent: "bot",
          resource: "billing",
          actions: ["read"],
          on_behalf_of: { issuer: "google", ...(claims && { claims }) },
        },
      ],
    });
  assert.deepEqual(as(), ["grants.0.on_behalf_of"]);
  assert.deepEqual(as({ email: "x@acme.example" }), ["grants.0.on_behalf_of"]);
  assert.deepEqual(as({ hd: "acme.example" }), []);
});

test("names that Ephor keeps for itself are refused", () => {
  assert.deepEqual(refused({ issuers: { agent: ISSUERS.ci } }), ["issuers.agent"]);
  assert.deepEqual(refused({ ...FILE, agents: { operator: AGENTS.bot } }), ["agents.operator"]);
  assert.deepEqual(refused({ resources: { ephor: RESOURCES.billing } }), ["resources.ephor"]);
});

test("an issuer is there once, and is not this server", () => {
  assert.deepEqual(refused({ issuers: { one: ISSUERS.ci, two: ISSUERS.ci } }), ["issuers.one.url", "issuers.two.url"]);
  assert.deepEqual(refused({ issuers: { one: { url: ISSUER_URL, audience: "a" } } }), ["issuers.one.url"]);
});

test("a resource identifier is there once, in whatever spelling", () => {
  const twice = { one: RESOURCES.billing, two: { ...RESOURCES.billing, resource: "https://BILLING.example:443/" } };
  assert.deepEqual(refused({ resources: twice }), ["resources.one.resource", "resources.two.resource"]);
});

test("an action must be declared, but at an MCP server", () => {
  assert.deepEqual(withGrant({ actions: ["read", "delete"] }), ["grants.0.actions.1"]);
  assert.deepEqual(withGrant({ resource: "tickets", actions: ["anything"] }), []);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["read"] }), ["grants.0.actions.0"]);
  assert.deepEqual(withGrant({ actions: ["*"], allow_all: true }), []);
  assert.deepEqual(withGrant({ resource: "ephor", actions: ["*"], allow_all: true }), ["grants.0.allow_all"]);
  assert.deepEqual(withGrant({ resource: "ephor", actions: ["kill"] }), []);
});

test("a condition on args or call is refused where calls do not pass us", () => {
  const when = 'args.x == "y"';
  assert.deepEqual(withGrant({ when }), ["grants.0.when"]);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["vend"], when: "has(call.x)" }), ["grants.0.when"]);
  assert.deepEqual(withGrant({ resource: "ephor", when }), ["grants.0.when"]);
  assert.deepEqual(withGrant({ resource: "tickets", when }), []);
  assert.deepEqual(withGrant({ when: 'subject.type == "agent"' }), []);
});

test("an approval is accepted where calls pass us, by somebody who can decide and is not the requester", () => {
  const at = (approval: object, resource = "tickets"): readonly string[] => withGrant({ resource, approval });
  assert.deepEqual(at({ by: "owner", within: "10m" }), []);
  assert.deepEqual(at({ by: ["owner", { agent: "other" }], count: 2 }), []);
  assert.deepEqual(at({ by: "owner" }, "billing"), ["grants.0.approval"]);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["vend"], approval: { by: "owner" } }), ["grants.0.approval"]);
  assert.deepEqual(withGrant({ resource: "ephor", approval: { by: "owner" } }), ["grants.0.approval"]);
  assert.deepEqual(at({ by: { group: "leads" } }), []);
  assert.deepEqual(at({ by: { group: "leads" }, count: 2 }), []);
  assert.deepEqual(at({ by: { agent: "bot" } }), ["grants.0.approval.by"]);
  assert.deepEqual(at({ by: { agent: "nobody" } }), ["grants.0.approval.by"]);
  assert.deepEqual(at({ by: ["owner", { agent: "nobody" }] }), ["grants.0.approval.by.1"]);
  assert.deepEqual(at({ by: { agent: "other" }, count: 2 }), ["grants.0.approval.count"]);
});

test("self is for calls on behalf of humans, who can sign in here", () => {
  const at = (on_behalf_of: unknown, by: unknown = "self", count = 1): readonly string[] =>
    refused({
      ...FILE,
      issuers: { ...ISSUERS, people: { ...ISSUERS.okta, url: "https://people.example", client_id: "0oa1" } },
      grants: [
        {
          agent: "bot",
          resource: "tickets",
          actions: ["x"],
          ...(on_behalf_of !== null && { on_behalf_of }),
          approval: { by, count },
        },
      ],
    });
  assert.deepEqual(at({ issuer: "people" }), []);
  assert.deepEqual(at([{ issuer: "okta" }, { issuer: "people" }]), []);
  assert.deepEqual(at(null), ["grants.0.approval.by"], "only for itself");
  assert.deepEqual(at({ agent: "other" }), ["grants.0.approval.by"]);
  assert.deepEqual(at({ issuer: "okta" }), ["grants.0.approval.by"], "no client_id there");
  assert.deepEqual(at({ issuer: "nowhere" }), ["grants.0.on_behalf_of"]);
  assert.deepEqual(at(null, ["owner", "self"]), ["grants.0.approval.by.1"]);
  assert.deepEqual(at({ issuer: "people" }, "self", 2), ["grants.0.approval.count"]);
  assert.deepEqual(at({ issuer: "people" }, ["self", { agent: "other" }], 2), []);
});

test("an approval that too few people can give today is told, and one that enough can give is not", () => {
  const warn = (approval: object, operators: object = {}): string[] => {
    const entries = read({
      issuers: { okta: { ...ISSUERS.okta, client_id: "0oa1" } },
      operators,
      agents: AGENTS,
      resources: RESOURCES,
      grants: [{ agent: "bot", resource: "tickets", actions: ["x"], approval }],
    });
    const trust = index({});
    const { changes } = planChanges("t", entries, [], "whole");
    return findWarnings(trust, entries, { merged: merge(trust, entries, changes), changes, now: NOW }).map(({ path }) =>
      path.join("."),
    );
  };
  const person = (sub: string, more: object = {}): object => ({
    sign_in: { issuer: "okta", claims: { sub } },
    ...more,
  });
  const leads = { groups: ["leads"] };
  assert.deepEqual(warn({ by: "owner" }), []);
  assert.deepEqual(warn({ by: "owner", count: 2 }), ["grants.0.approval.count"]);
  assert.deepEqual(warn({ by: "owner", count: 2 }, { dana: person("1") }), [], "the owner and the key");
  assert.deepEqual(warn({ by: { group: "leads" } }), ["grants.0.approval.by"]);
  assert.deepEqual(warn({ by: { group: "leads" } }, { sam: person("1", leads) }), []);
  assert.deepEqual(warn({ by: { group: "leads" } }, { sam: person("1", { ...leads, roles: ["read"] }) }), [
    "grants.0.approval.by",
  ]);
  assert.deepEqual(warn({ by: { group: "leads" }, count: 2 }, { sam: person("1", leads) }), [
    "grants.0.approval.count",
  ]);
  assert.deepEqual(
    warn({ by: { group: "leads" }, count: 2 }, { sam: person("1", leads), ann: person("2", leads) }),
    [],
  );
  assert.deepEqual(warn({ by: "owner" }, { chat: { slack: { team: "T1234", user: "U1234" } } }), ["operators.chat"]);
});

test("CONTRACT §5 once needs introspection at a verify resource, and nothing where Ephor sees the use", () => {
  assert.deepEqual(withGrant({ once: true }), ["grants.0.once"]);
  assert.deepEqual(withGrant({ once: false }), []);
  const billing = { ...RESOURCES.billing, introspection: { agent: "other" } };
  const grants = [{ agent: "bot", resource: "billing", actions: ["read"], once: true }];
  assert.deepEqual(refused({ ...FILE, resources: { ...RESOURCES, billing }, grants }), []);
  assert.deepEqual(withGrant({ resource: "tickets", once: true }), []);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["vend"], once: true }), []);
  assert.deepEqual(withGrant({ resource: "ephor", actions: ["read"], once: true }), []);
});

test("policy and residual belong to credentials", () => {
  assert.deepEqual(withGrant({ policy: "readonly", residual: "none" }), ["grants.0.policy", "grants.0.residual"]);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["vend"], policy: "readonly", residual: "none" }), []);
  assert.deepEqual(withGrant({ resource: "aws", actions: ["vend"], policy: "admin" }), ["grants.0.policy"]);
  assert.deepEqual(withGrant({ resource: "vault", actions: ["vend"] }), ["grants.0.residual"]);
  assert.deepEqual(withGrant({ resource: "vault", actions: ["vend"], residual: "unlimited" }), []);
});

test("a resource observes for at most 30 days", () => {
  const observe = (until: string): string[] =>
    refused({ resources: { tickets: { ...RESOURCES.tickets, mode: { observe: true, until } } } });
  assert.deepEqual(observe("2026-12-31"), []);
  assert.deepEqual(observe("2027-01-01"), ["resources.tickets.mode.until"]);
  assert.deepEqual(observe("2026-01-01"), []);
});

/** A server with `before`, of which another source owns everything, and a plan by which `mine` goes or changes. */
function remaining(
  before: object,
  mine: {
    entries: readonly TrustEntry[];
    deletes?: readonly { kind: "issuers" | "agents" | "resources"; name: string }[];
  },
): string[] {
  const trust = indexOf(before);
  const changes = [
    ...(mine.deletes ?? []).map(({ kind, name }) => ({ op: "delete" as const, kind, name, differences: [] })),
    ...mine.entries.map(({ kind, name, body }) => ({ op: "update" as const, kind, name, body, differences: [] })),
  ];
  return checkRemaining(mine.entries, changes, merge(trust, mine.entries, changes)).map(({ path }) => path.join("."));
}

test("what others still name can neither be removed nor turned into something else", () => {
  const before = {
    ...FILE,
    grants: [{ agent: "bot", resource: "billing", actions: ["read"], on_behalf_of: { issuer: "okta" } }],
  };
  assert.deepEqual(remaining(before, { entries: [], deletes: [{ kind: "resources", name: "billing" }] }), [
    "grants.bot-billing.resource",
  ]);
  assert.deepEqual(remaining(before, { entries: [], deletes: [{ kind: "resources", name: "tickets" }] }), []);
  assert.deepEqual(
    remaining(before, { entries: read({ issuers: { okta: { ...ISSUERS.okta, identifies: "workloads" } } }) }),
    ["grants.bot-billing.on_behalf_of"],
  );
  assert.deepEqual(remaining(before, { entries: read({ issuers: { okta: { ...ISSUERS.okta, audience: "b" } } }) }), []);
});

test("A-OIDC-22 agents that one token could be are told, and agents that are apart are not", () => {
  const warn = (agents: object, before: object = {}): string[] => {
    const entries = read({ issuers: ISSUERS, agents });
    const trust = indexOf(before);
    const { changes } = planChanges("t", entries, [], "whole");
    return findWarnings(trust, entries, { merged: merge(trust, entries, changes), changes, now: NOW }).map(({ path }) =>
      path.join("."),
    );
  };
  const at = (claims: object): object => ({ owner: "x", trust: [{ issuer: "github", claims }] });
  assert.deepEqual(
    warn({ a: at({ repository_id: "1" }), b: at({ repository_id: "1", ref: { like: "refs/heads/*" } }) }),
    ["agents.b.trust.0"],
  );
  assert.deepEqual(warn({ a: at({ repository_id: "1" }), b: at({ repository_id: "2" }) }), []);
  const before = { issuers: ISSUERS, agents: { old: at({ repository_id: "1" }) } };
  assert.deepEqual(warn({ a: at({ repository_id: "1", environment: "prod" }) }, before), ["agents.a.trust.0"]);
  assert.deepEqual(warn({ old: at({ repository_id: "1", environment: "prod" }) }, before), []);
});

test("a date that has passed is told", () => {
  const entries = read({
    ...FILE,
    agents: { bot: { ...AGENTS.bot, review_by: "2026-12-01" } },
    grants: [{ agent: "bot", resource: "billing", actions: ["read"], until: "2026-11-30" }],
  });
  const trust = index({});
  const { changes } = planChanges("t", entries, [], "whole");
  const paths = findWarnings(trust, entries, { merged: merge(trust, entries, changes), changes, now: NOW }).map(
    ({ path }) => path.join("."),
  );
  assert.deepEqual(paths, ["agents.bot.review_by", "grants.0.until"]);
});

test("an agent changes neither what its own power rests on nor power over Ephor; an operator may", () => {
  const before = {
    ...FILE,
    agents: { ...AGENTS, admin: { owner: "x", trust: [{ issuer: "github", claims: { repository_id: "1" } }] } },
    grants: [
      { agent: "bot", resource: "billing", actions: ["read"] },
      { agent: "other", resource: "billing", actions: ["read"] },
      { agent: "admin", resource: "ephor", actions: ["kill"], on_behalf_of: { issuer: "okta" } },
    ],
  };
  const trust = indexOf(before);
  const forbidden = (raw: object, gone: readonly string[] = []): string[] => {
    const entries = read(raw);
    const stored: StoredObject[] = read(before)
      .filter(({ kind, name }) => gone.includes(`${kind}/${name}`))
      .map(({ kind, name, body }) => ({ kind, name, body, source: "t", version: 1 }));
    const { changes } = planChanges("t", entries, stored, "whole");
    assert.deepEqual(forbiddenChanges({ type: "operator", id: "key" }, changes, trust, entries), []);
    return forbiddenChanges({ type: "agent", name: "bot" }, changes, trust, entries).map(({ path }) => path.join("/"));
  };
  assert.deepEqual(forbidden({ agents: { bot: AGENTS.bot } }), ["agents/bot"]);
  assert.deepEqual(forbidden({ agents: { other: AGENTS.other } }), []);
  assert.deepEqual(forbidden({ agents: { admin: AGENTS.bot } }), ["agents/admin"]);
  assert.deepEqual(forbidden({ grants: [{ agent: "bot", resource: "tickets", actions: ["x"] }] }), [
    "grants/bot-tickets",
  ]);
  assert.deepEqual(forbidden({ grants: [{ agent: "other", resource: "tickets", actions: ["x"] }] }), []);
  assert.deepEqual(forbidden({ grants: [{ agent: "other", resource: "ephor", actions: ["read"] }] }), [
    "grants/other-ephor",
  ]);
  assert.deepEqual(forbidden({ grants: [{ agent: "bot", delegate_to: ["other"] }] }), ["grants/bot-delegate"]);
  assert.deepEqual(
    forbidden({
      issuers: {
        ci: ISSUERS.ci,
        github: ISSUERS.github,
        okta: ISSUERS.okta,
        fresh: { url: "https://new.example", audience: "a" },
      },
    }),
    ["issuers/ci", "issuers/github", "issuers/okta"],
  );
  assert.deepEqual(forbidden({}, ["grants/bot-billing", "grants/other-billing", "grants/admin-ephor"]), [
    "grants/admin-ephor",
    "grants/bot-billing",
  ]);
  // Taking another agent's grant over by its name is a change of that grant, and gives one to oneself.
  assert.deepEqual(
    forbidden({ grants: [{ name: "other-billing", agent: "bot", resource: "billing", actions: ["refund"] }] }),
    ["grants/other-billing"],
  );
});
