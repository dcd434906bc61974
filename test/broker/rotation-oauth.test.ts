import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import { startFakeAuthorizationServer } from "../support/fake-authorization-server.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";

const upstream = await startFakeAuthorizationServer(() => true);
after(() => upstream.stop());
const oauth = (more: string): string =>
  `{ oauth: { token_url: "${upstream.tokenUrl}", revocation_url: "${upstream.revocationUrl}", internal: true, client_id: crm, ${more} } }`;
const w = await world({ after }, { trust: usualTrust, start: Math.floor(Date.now() / 1000) });
await w.apply(
  `
resources:
  crm: { credential: ${oauth("secret: crm-client, grant: refresh_token, refresh_secret: crm-refresh")} }
  crm-of-user: { credential: ${oauth('secret: crm-client, grant: refresh_token, refresh_secret: "mail-{user}"')} }
grants:
  - { agent: release-bot, resource: crm, actions: [vend], residual: none }
`,
  "oauth.yaml",
);
const put = async (name: string, value: string): Promise<void> => {
  const answer = await w.operator("PUT", `/v1/secrets/${name}`, { value });
  assert.equal(answer.status, 200, answer.text);
};
await put("crm-client", "client-secret");
const ofUser = `mail-${createHash("sha256").update("okta|00u1").digest("hex").slice(0, 32)}`;

let token = "";
beforeEach(async () => {
  upstream.meddle = undefined;
  upstream.refreshTokens.clear();
  token = `CANARY-${randomBytes(12).toString("hex")}`;
  upstream.refreshTokens.add(token);
});

const rotate = (name: string): Promise<Answer> => w.operator("POST", `/v1/secrets/${name}/rotate`);
async function vend(): Promise<Answer> {
  const access = await w.self("release-bot", { audience: "crm", scope: "crm:vend" });
  return w.request("POST", "/credentials/crm", {
    headers: { authorization: `Bearer ${String(access.body["access_token"])}` },
  });
}

test("RFC 6749 §6 a refresh token is rotated by the refresh grant; the access token of that is revoked, and vending goes on", async () => {
  await put("crm-refresh", token);
  const { body: before } = await w.operator("GET", "/v1/secrets/crm-refresh");
  const answer = await rotate("crm-refresh");
  assert.equal(answer.status, 200, answer.text);
  assert.equal((answer.body["secret"] as { version: number }).version, Number(before["version"]) + 1);
  assert.deepEqual([upstream.refreshTokens.has(token), upstream.refreshTokens.size, upstream.live.size], [false, 1, 0]);
  const [next = ""] = upstream.refreshTokens;
  assert.equal((await vend()).status, 200);
  const rows = await w.admin<{ text: string }>("select string_agg(body, ' ') as text from ephor.events");
  for (const secret of [token, next]) assert.ok(![...w.lines, rows[0]?.text, answer.text].join().includes(secret));
});

test("vends and rotations at the same time use each refresh token once", async () => {
  await put("crm-refresh", token);
  const answers = await Promise.all([vend(), rotate("crm-refresh"), vend(), rotate("crm-refresh"), vend()]);
  for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  assert.equal(upstream.refreshTokens.size, 1);
});

test("one that a human has of their own is found by its name; the nearest other name is not", async () => {
  await put(ofUser, token);
  const answer = await rotate(ofUser);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.body["resource"], "crm-of-user");
  await put(`${ofUser}0`, token);
  assert.equal((await rotate(`${ofUser}0`)).status, 422);
});

test("an upstream that keeps the refresh token, or refuses it, is told; the secret is as it was", async () => {
  await put("crm-refresh", token);
  const { body: before } = await w.operator("GET", "/v1/secrets/crm-refresh");
  upstream.meddle = (request, reply) => {
    const { refresh_token: _, ...rest } = (reply.body ?? {}) as Record<string, unknown>;
    return request.path === "/token" ? { ...reply, body: rest } : undefined;
  };
  const kept = await rotate("crm-refresh");
  assert.deepEqual(
    [kept.status, kept.body["detail"]],
    [422, "crm did not take a new one (order_refused, not_replaced)"],
  );
  upstream.meddle = undefined;
  upstream.refreshTokens.clear();
  const refused = await rotate("crm-refresh");
  assert.equal(refused.status, 422, refused.text);
  assert.ok(!refused.text.includes("canary"));
  assert.equal((await w.operator("GET", "/v1/secrets/crm-refresh")).body["version"], before["version"]);
});

test("A-SEC the client's own secret is not one that can be replaced here", async () => {
  const answer = await rotate("crm-client");
  assert.deepEqual([answer.status, answer.body["code"]], [422, "unprocessable"]);
});
