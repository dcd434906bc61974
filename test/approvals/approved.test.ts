/** What is looked at once more in the very step that uses an approval up, whatever was found a moment ago. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { StoredApproval } from "../../src/approvals/approval.ts";
import { contentOf, digestOf, stillHolds } from "../../src/approvals/content.ts";
import type { Ask } from "../../src/authz/ask.ts";
import { createTrustIndex } from "../../src/core/trust/compiled.ts";
import type { AccessGrant, Agent, Resource } from "../../src/core/trust/model.ts";
import { ApprovalMissing, approvalFor, byApproval, type Approved } from "../../src/proxy/approved.ts";
import type { ProxiedCall } from "../../src/proxy/decided.ts";
import type { ProxyDeps } from "../../src/proxy/deps.ts";

const NOW = 1_795_284_000;
const agent: Agent = { name: "bot", owner: "dana@acme.example", trust: [], keys: [], status: "active" };
const resource: Resource = {
  name: "crm",
  identifier: "https://sts.acme.example/http/crm",
  kind: "http",
  actions: ["write"],
  settings: { http: "https://crm.acme.example" },
  mode: { observe: false },
};
const rule = { by: ["owner"], withinSeconds: 300, count: 1 } as const;
const grant: AccessGrant = {
  kind: "access",
  name: "writes",
  agent: "bot",
  resource: "crm",
  actions: ["write"],
  allowAll: false,
  once: false,
  approval: rule,
};

function stage() {
  const trust = createTrustIndex();
  const put = (changed: { agent?: Agent; resource?: Resource; grant?: AccessGrant }): void =>
    trust.apply({
      version: trust.version + 1,
      deletes: [],
      upserts: {
        issuers: [],
        agents: [changed.agent ?? agent],
        resources: [changed.resource ?? resource],
        grants: [changed.grant ?? grant],
        operators: [],
        channels: [],
      },
    });
  put({});
  let now = NOW;
  let args: unknown = { body: { n: 1 }, query: null };
  const deps = { trust: () => trust, clock: { now: () => now } } as unknown as ProxyDeps;
  const order = {
    resource,
    holder: { token: { claims: { sub: "agent|bot" } } },
    exact: () => ({ call: { method: "POST" }, args }),
  } as unknown as ProxiedCall;
  const granted = {
    place: { task: { txn: "T" }, node: { id: "N", path: ["bot"] } },
    action: "write",
    allowed: {
      allowed: true,
      scopes: ["crm:write"],
      once: false,
      grants: [{ agent: "bot", grant: "writes" }],
      approvals: [{ agent: "bot", grant: "writes", ...rule }],
    },
  } as unknown as Omit<Parameters<typeof approvalFor>[2], "found">;
  const secrets = [{ name: "crm-key", version: 3 }];
  const content = contentOf(trust, {
    txn: "T",
    node: "N",
    path: ["bot"],
    sub: "agent|bot",
    resource: "crm",
    action: "write",
    exact: { call: { method: "POST" }, args },
    grants: granted.allowed.grants,
    secrets,
  });
  const stored = {
    id: "apr_1",
    digest: digestOf(content),
    killKeys: ["txn:T", "resource:crm"],
    killEpoch: 7,
    expiresAt: NOW + 300,
    decisions: [
      {
        decider: "review-bot",
        decision: "approve",
        reason: "x",
        at: NOW,
        killKeys: ["agent:review-bot"],
        killEpoch: 9,
      },
    ],
  } as unknown as StoredApproval;
  const found: Approved = { stored, secrets };
  return {
    put,
    judge: (with_: Approved | undefined = found, of = order) => approvalFor(deps, of, { ...granted, found: with_ }),
    at: (seconds: number) => (now = seconds),
    asks: (changed: unknown) => (args = changed),
    found,
    order,
  };
}

test("an approval that was found goes on with the call it was found for, until a second before its end", () => {
  const s = stage();
  assert.equal(s.judge(), s.found);
  s.at(NOW + 299);
  assert.equal(s.judge(), s.found);
  s.at(NOW + 300);
  assert.throws(() => s.judge(), ApprovalMissing);
});

test("whatever changed since it was found, the call is asked for anew: grant, resource, owner, arguments, secret, a body that flows", () => {
  const changes: Record<string, (s: ReturnType<typeof stage>) => unknown> = {
    "a grant": (s) => s.put({ grant: { ...grant, ttlSeconds: 20 } }),
    "a rule of approval": (s) => s.put({ grant: { ...grant, approval: { ...rule, count: 2 } } }),
    "a resource": (s) => s.put({ resource: { ...resource, settings: { http: "https://evil.example" } } }),
    "an owner": (s) => s.put({ agent: { ...agent, owner: "eve@acme.example" } }),
    arguments: (s) => s.asks({ body: { n: 2 }, query: null }),
  };
  for (const [what, change] of Object.entries(changes)) {
    const s = stage();
    change(s);
    assert.throws(() => s.judge(), ApprovalMissing, what);
  }
  const s = stage();
  s.put({});
  assert.equal(s.judge(), s.found, "the same objects applied again");
  s.asks({ query: null, body: { n: 1.0 } });
  assert.equal(s.judge(), s.found, "the same value");
  assert.throws(() => s.judge({ ...s.found, secrets: [{ name: "crm-key", version: 4 }] }), ApprovalMissing);
  const { exact: _exact, ...flowing } = s.order;
  assert.throws(() => s.judge(s.found, flowing as ProxiedCall), ApprovalMissing);
});

test("the gate is asked to use it up, and to see every kill since it was asked for and decided", () => {
  const s = stage();
  const ask = {
    kill: { keys: ["txn:T"], epochs: [12] },
    replay: [{ key: "dpop:x", exp: NOW }],
    event: { type: "call.forward", facts: { action: "write" } },
  } as unknown as Ask;
  const by = byApproval(ask, s.found);
  assert.deepEqual(by.kill, {
    keys: ["txn:T", "txn:T", "resource:crm", "agent:review-bot"],
    epochs: [12, 7, 7, 9],
  });
  assert.deepEqual(by.replay, [...(ask.replay ?? []), { key: "approval:apr_1", exp: NOW + 300 }]);
  assert.deepEqual(by.event.facts, { action: "write", approval: "apr_1", approved_by: ["review-bot"] });
  assert.equal(byApproval(ask, undefined), ask);
});

test("INV-20 a reviewing agent has approved for as long as it is active and may approve", () => {
  const review: Agent = { ...agent, name: "review-bot" };
  const asks: AccessGrant = { ...grant, approval: { ...rule, by: [{ agent: review.name }] } };
  const { approval: _none, ...plainGrant } = grant;
  const approves: AccessGrant = {
    ...plainGrant,
    name: "approves",
    agent: review.name,
    resource: "ephor",
    actions: ["approve"],
  };
  const trust = createTrustIndex();
  const put = (reviewing: Agent, grants: AccessGrant[]): void =>
    trust.apply({
      version: trust.version + 1,
      deletes: [],
      upserts: { issuers: [], agents: [agent, reviewing], resources: [resource], grants, operators: [], channels: [] },
    });
  put(review, [asks, approves]);
  const content = contentOf(trust, {
    txn: "T",
    node: "N",
    path: ["bot"],
    sub: "agent|bot",
    resource: "crm",
    action: "write",
    exact: { call: {}, args: null },
    grants: [{ agent: "bot", grant: "writes" }],
    secrets: [],
  });
  assert.equal(stillHolds(trust, content), true);
  put({ ...review, status: "suspended" }, [asks, approves]);
  assert.equal(stillHolds(trust, content), false);
  put(review, [asks, { ...approves, actions: ["read"] }]);
  assert.equal(stillHolds(trust, content), false);
  put(review, [asks, { ...approves, ttlSeconds: 20 }]);
  assert.equal(stillHolds(trust, content), true, "it may, as before");
});
