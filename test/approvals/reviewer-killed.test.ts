/** Whatever kills a reviewing agent takes the approvals that it gave and nobody used yet. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { claimsOf } from "../attacks/chain-world.ts";
import { stage } from "../proxy/stage.ts";
import { work } from "./approval-stage.ts";

const s = await stage({ after }, { grants: "  - { agent: release-bot, resource: crm, actions: [read] }" });
const { w, crm } = s;
await w.apply(
  `
agents:
  review-bot:
    { owner: eve@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:review-bot" } }] }
grants:
  - { agent: review-bot, resource: ephor, actions: [approve] }
  - { agent: lonely-bot, resource: crm, actions: [write], approval: { by: { agent: review-bot } } }
`,
  "review.yaml",
);

/** A call that review-bot approved. */
async function approved(n: string) {
  const { waits, post } = await work(s, { agent: "lonely-bot" });
  const { id } = (await waits({ n })).approval;
  const answer = await w.self("review-bot", { scope: "ephor:approve", resource: `${w.server.issuer}/v1` });
  assert.equal(answer.status, 200, answer.text);
  const token = String(answer.body["access_token"]);
  const decided = await w.request("POST", `/v1/approvals/${id}`, {
    body: { decision: "approve", reason: "looked at it" },
    headers: { authorization: `Bearer ${token}` },
  });
  assert.deepEqual([decided.status, decided.body["status"]], [200, "approved"], decided.text);
  return { id, claims: claimsOf(token), post: () => post({ n }) };
}

const kills: readonly [what: string, target: (txn: string) => Record<string, string>, isRestorable: boolean][] = [
  ["its owner", () => ({ owner: "eve@acme.example" }), true],
  ["what it does for itself", () => ({ subject: "agent|review-bot" }), true],
  ["the chain in which it decided", (txn) => ({ txn }), false],
];
for (const [what, target, isRestorable] of kills) {
  test(`CONTRACT §6 a kill of ${what} takes a reviewing agent's approvals with it, for good`, async () => {
    crm.seen.length = 0;
    const { id, claims, post } = await approved(what);
    const named = { ...target(claims.txn), reason: "test" };
    assert.equal((await w.operator("POST", "/v1/kill", named)).status, 200);
    if (isRestorable) assert.equal((await w.operator("POST", "/v1/restore", named)).status, 200);
    assert.equal((await post()).status, 403);
    assert.equal((await w.operator("GET", `/v1/approvals/${id}`)).body["status"], "void");
    assert.equal(crm.seen.length, 0);
  });
}

test("a reviewing agent whose token is revoked after it approved has approved all the same", async () => {
  const { claims, post } = await approved("revoked");
  assert.equal((await w.operator("POST", "/v1/kill", { jti: claims.jti, reason: "test" })).status, 200);
  assert.equal((await post()).status, 200);
});
