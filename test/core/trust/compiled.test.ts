import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { createTrustIndex } from "../../../src/core/trust/compiled.ts";
import type { ClaimMatcher } from "../../../src/core/trust/model.ts";
import { compileRule } from "../../../src/core/trust/rules.ts";
import { GITHUB_URL, ISSUER_URL, agent, index, indexOf, issuer } from "./objects.ts";
import { cpuMs } from "../../support/cpu-time.ts";

const github = issuer("github", GITHUB_URL);

test("the built-in resource is there at version 0 and cannot be replaced or removed", () => {
  const trust = createTrustIndex({ issuerUrl: ISSUER_URL });
  assert.equal(trust.version, 0);
  assert.equal(trust.resourceByName("ephor")?.identifier, `${ISSUER_URL}/v1`);
  trust.apply({
    version: 2,
    deletes: [{ kind: "resources", name: "ephor" }],
    upserts: {
      issuers: [],
      agents: [],
      grants: [],
      operators: [],
      channels: [],
      resources: [{ kind: "verify", name: "ephor", identifier: "https://evil.example", actions: ["read"] }],
    },
  });
  assert.equal(trust.resourceByIdentifier(`${ISSUER_URL}/v1`)?.kind, "ephor");
  assert.equal(trust.resourceByIdentifier("https://evil.example"), undefined);
  assert.deepEqual(trust.all().resources, []);
});

test("issuers are found by exact iss and by trust domain, and no longer after they changed", () => {
  const trust = index({
    issuers: [github, { ...issuer("mesh"), url: undefined as never, spiffe: "spiffe://prod.acme.example" }],
  });
  assert.equal(trust.issuerByUrl(GITHUB_URL)?.name, "github");
  assert.equal(trust.issuerByUrl(`${GITHUB_URL}/`), undefined);
  assert.equal(trust.issuerByTrustDomain("prod.acme.example")?.name, "mesh");
  trust.apply({
    version: 2,
    deletes: [{ kind: "issuers", name: "mesh" }],
    upserts: {
      issuers: [issuer("github", "https://other.example")],
      agents: [],
      resources: [],
      grants: [],
      operators: [],
      channels: [],
    },
  });
  assert.equal(trust.issuerByUrl(GITHUB_URL), undefined);
  assert.equal(trust.issuerByTrustDomain("prod.acme.example"), undefined);
  assert.equal(trust.version, 2);
});

test("a resource is found by any spelling of its identifier", () => {
  const trust = indexOf({ resources: { billing: { resource: "https://billing.acme.example", actions: ["read"] } } });
  assert.equal(trust.resourceByIdentifier("https://BILLING.acme.example:443/")?.name, "billing");
  assert.equal(trust.resourceByIdentifier("https://billing.acme.example/x"), undefined);
});

test("A-OIDC-22 a token that fits two agents names both, and each with its rule", () => {
  const trust = index({
    issuers: [github],
    agents: [
      agent("a", [
        { issuer: "github", claims: { repository_id: "1", ref: "x" } },
        { issuer: "github", claims: { repository_id: "1" } },
      ]),
      agent("b", [{ issuer: "github", claims: { repository_id: "1" } }]),
      agent("c", [{ issuer: "github", claims: { repository_id: "2" } }]),
    ],
  });
  const found = trust.agentsMatching(github, { repository_id: "1", event_name: "push" });
  assert.deepEqual(
    found.map(({ agent: { name }, rule }) => [name, rule]),
    [
      ["a", 1],
      ["b", 0],
    ],
  );
});

test("an agent that changed or went is no longer found by its old rules", () => {
  const trust = index({
    issuers: [github],
    agents: [agent("a", [{ issuer: "github", claims: { repository_id: "1" } }])],
  });
  const names = (id: string): string[] =>
    trust.agentsMatching(github, { repository_id: id, event_name: "push" }).map((m) => m.agent.name);
  const none = { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] };
  trust.apply({
    version: 2,
    deletes: [],
    upserts: { ...none, agents: [agent("a", [{ issuer: "github", claims: { repository_id: "2" } }])] },
  });
  assert.deepEqual([names("1"), names("2")], [[], ["a"]]);
  trust.apply({ version: 3, deletes: [{ kind: "agents", name: "a" }], upserts: none });
  assert.deepEqual(names("2"), []);
});

test("rules wait for their issuer, and are read anew when it becomes another", () => {
  const trust = index({ agents: [agent("a", [{ issuer: "ci", claims: { repository_id: "1" } }])] });
  const forked = { repository_id: "1", event_name: "pull_request" };
  const none = { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] };
  const plain = issuer("ci");
  assert.equal(trust.agentsMatching(plain, forked).length, 0);
  trust.apply({ version: 2, deletes: [], upserts: { ...none, issuers: [plain] } });
  assert.equal(trust.agentsMatching(plain, forked).length, 1);
  trust.apply({ version: 3, deletes: [], upserts: { ...none, issuers: [issuer("ci", GITHUB_URL)] } });
  assert.equal(trust.agentsMatching(plain, forked).length, 0);
  trust.apply({ version: 4, deletes: [{ kind: "issuers", name: "ci" }], upserts: none });
  assert.equal(trust.agentsMatching(plain, { repository_id: "1", event_name: "push" }).length, 0);
});

test("a rule is not found by tokens of another issuer", () => {
  const other = issuer("other");
  const trust = index({ issuers: [github, other], agents: [agent("a", [{ issuer: "github", claims: { sub: "x" } }])] });
  assert.equal(trust.agentsMatching(other, { sub: "x", event_name: "push" }).length, 0);
});

test("grants are found by agent and resource, and go with their name", () => {
  const trust = indexOf({
    resources: { billing: { resource: "https://b.example", actions: ["read"] } },
    grants: [
      { agent: "a", resource: "billing", actions: ["read"] },
      { agent: "a", delegate_to: ["b"] },
    ],
  });
  assert.deepEqual(
    trust.grantsOf("a", "billing").map((grant) => grant.name),
    ["a-billing"],
  );
  assert.deepEqual(trust.grantsOf("a", "crm"), []);
  assert.deepEqual(
    trust.delegationsOf("a").map((grant) => grant.name),
    ["a-delegate"],
  );
  trust.apply({
    version: 2,
    deletes: [
      { kind: "grants", name: "a-billing" },
      { kind: "grants", name: "a-delegate" },
    ],
    upserts: { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] },
  });
  assert.deepEqual(
    [trust.grantsOf("a", "billing"), trust.delegationsOf("a"), trust.grantByName("a-billing")],
    [[], [], undefined],
  );
});

const words = ["a", "b", "ab", "a/b", "1"];
const scalar = fc.oneof(fc.constantFrom(...words), fc.constantFrom(1, 2), fc.boolean());
const glob = fc.constantFrom("a*", "*b", "a/*", "ab*", "*a").map((like) => ({ like }));
const matcher: fc.Arbitrary<ClaimMatcher> = fc.oneof(
  scalar,
  glob,
  fc.array(fc.oneof(scalar, glob), { minLength: 1, maxLength: 3 }),
  fc.constant({ absent: true } as const),
);
const claimName = fc.constantFrom("x", "y", "z", "n.x");
const rules = fc.array(fc.dictionary(claimName, matcher, { minKeys: 1, maxKeys: 3, noNullPrototype: true }), {
  minLength: 1,
  maxLength: 3,
});
const claimValue = fc.oneof(scalar, fc.constant(null), fc.array(scalar, { maxLength: 2 }));
const token = fc.record(
  {
    x: claimValue,
    y: claimValue,
    z: claimValue,
    n: fc.record({ x: claimValue }, { requiredKeys: [], noNullPrototype: true }),
  },
  { requiredKeys: [], noNullPrototype: true },
);

test("matching by index finds exactly the agents that trying every rule finds", () => {
  const plain = issuer("ci");
  const hasHold = (claims: Record<string, ClaimMatcher>): boolean =>
    Object.values(claims).some((m) => !(typeof m === "object" && "absent" in m));
  const agents = fc.array(
    rules.map((list) => list.filter(hasHold)),
    { minLength: 1, maxLength: 8 },
  );
  fc.assert(
    fc.property(agents, fc.array(token, { minLength: 1, maxLength: 5 }), fc.nat(7), (lists, tokens, gone) => {
      const made = lists.map((list, at) =>
        agent(
          `agent-${at}`,
          list.map((claims) => ({ issuer: "ci", claims })),
        ),
      );
      const trust = index({ issuers: [plain], agents: made });
      const left = made.filter((_, at) => at !== gone);
      trust.apply({
        version: 2,
        deletes: [{ kind: "agents", name: `agent-${gone}` }],
        upserts: { issuers: [], agents: [], resources: [], grants: [], operators: [], channels: [] },
      });
      for (const claims of tokens) {
        const byTrying = left
          .filter((one) => one.trust.some((rule) => compileRule(rule, plain).matches(claims)))
          .map((one) => one.name)
          .toSorted();
        assert.deepEqual(
          trust.agentsMatching(plain, claims).map((found) => found.agent.name),
          byTrying,
        );
      }
    }),
    { numRuns: 300 },
  );
});

test("a look-up among 20,000 agents costs no more than among 20", () => {
  const many = Array.from({ length: 20_000 }, (_, at) =>
    agent(`agent-${at}`, [
      {
        issuer: "github",
        claims: { repository_owner_id: "7", repository_id: String(at), ref: { like: "refs/heads/*" } },
      },
    ]),
  );
  const trust = index({ issuers: [github], agents: many });
  const claims = { repository_owner_id: "7", repository_id: "19999", ref: "refs/heads/main", event_name: "push" };
  const ms = cpuMs(() => {
    for (let round = 0; round < 1_000; round += 1) assert.equal(trust.agentsMatching(github, claims).length, 1);
  });
  // A scan of 20,000 rules takes milliseconds each time; a look-up takes microseconds.
  assert.ok(ms < 2_000, `${ms} ms`);
});
