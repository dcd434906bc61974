import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { compactVerify, createLocalJWKSet, type JSONWebKeySet } from "jose";
import { canonicalJson } from "../../src/core/canonical-json.ts";
import { sha256Base64url } from "../../src/system/hash.ts";
import { startModern } from "../proxy/mcp-upstream.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, usualTrust, world } from "../support/world.ts";

const upstream = await startModern({ after });
const w = await world(
  { after },
  {
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  tickets: { mcp: ${upstream.url} }
grants:
  - { agent: triage-bot, resource: tickets, actions: [get_ticket], on_behalf_of: { issuer: okta } }
  - { agent: triage-bot, resource: tickets, actions: [close_ticket], name: triage-closes, on_behalf_of: { issuer: okta }, approval: { by: owner, within: 10m } }
  - { agent: summary-bot, resource: tickets, actions: [close_ticket], name: summary-closes, on_behalf_of: { issuer: okta }, approval: { by: { agent: watch-bot } } }
  - { agent: watch-bot, resource: ephor, actions: [approve], name: watch-approves }`,
      ),
  },
);

beforeEach(() => {
  upstream.seen.length = 0;
});

interface Denied {
  readonly code: number;
  readonly message: string;
  readonly data: { decision: string; approval?: { id: string; status: string; by: unknown[] } };
}

const human = w.human();
const MCP = `${w.server.issuer}/mcp/tickets`;

async function exchange(form: Record<string, string>): Promise<string> {
  const answer = await w.post("/token", { grant_type: TOKEN_EXCHANGE, actor_token_type: JWT_TYPE, ...form });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
}

/** Triage acts for a human; the same node each time. */
const triage = (): Promise<string> =>
  exchange({
    subject_token: human,
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    resource: MCP,
    scope: "tickets",
  });

async function call(access: string, args: Record<string, unknown>, meta?: Record<string, unknown>): Promise<unknown> {
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
  const headers = { authorization: `Bearer ${access}` };
  await client.connect(
    new StreamableHTTPClientTransport(new URL(`${w.url}/mcp/tickets`), { requestInit: { headers } }),
  );
  try {
    const { content } = await client.callTool({ name: "close_ticket", arguments: args, ...(meta && { _meta: meta }) });
    return content;
  } finally {
    await client.close();
  }
}

const denied = async (
  access: string,
  args: Record<string, unknown>,
  meta?: Record<string, unknown>,
): Promise<Denied> => {
  const error = await call(access, args, meta).then(
    () => assert.fail("it was forwarded"),
    (thrown: unknown) => thrown as Denied,
  );
  assert.equal(error.code, -32003);
  return error;
};

test("a tool that needs an approval is listed; its call is answered -32003 with the approval, and once approved passes once with a signed claim", async () => {
  const first = await denied(await triage(), { id: 7 });
  assert.match(first.message, /The call needs an approval/);
  assert.match(first.data.decision, /^evt_/);
  const { id, status, by } = first.data.approval ?? assert.fail("no approval");
  assert.deepEqual([status, by], ["pending", ["owner"]]);
  assert.equal((await denied(await triage(), { id: 7.0 })).data.approval?.id, id);
  assert.notEqual((await denied(await triage(), { id: 8 })).data.approval?.id, id);
  assert.notEqual((await denied(await triage(), { id: 7 }, { "acme/force": true })).data.approval?.id, id);
  assert.ok(upstream.seen.every(({ headers }) => headers["mcp-name"] !== "close_ticket"));

  const shown = await w.operator("GET", `/v1/approvals/${id}`);
  assert.deepEqual(
    [shown.body["arguments"], shown.body["sub"], shown.body["action"]],
    [{ id: 7 }, "okta|00u1ab", "close_ticket"],
  );
  const done = await w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "fine" });
  assert.equal(done.status, 200, done.text);
  assert.deepEqual(await call(await triage(), { id: 7 }), [{ type: "text", text: "closed 7" }]);
  const claim = String(
    upstream.seen.find(({ headers }) => headers["mcp-name"] === "close_ticket")?.headers["ephor-approval"],
  );
  const jwks = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;
  const { payload } = await compactVerify(claim, createLocalJWKSet(jwks));
  const claims = JSON.parse(Buffer.from(payload).toString()) as Record<string, unknown>;
  assert.deepEqual(
    [claims["jti"], claims["aud"], claims["action"], claims["sub"], claims["method"], claims["args_digest"]],
    [id, MCP, "close_ticket", "okta|00u1ab", "tools/call", sha256Base64url(canonicalJson({ id: 7 }))],
  );
  assert.match(String(claims["tool_digest"]), /^[0-9a-f]{64}$/);
  const next = await denied(await triage(), { id: 7 });
  assert.notEqual(next.data.approval?.id, id);
});

test("over a chain every grant's approval is needed, each by those it names", async () => {
  const handOver = await exchange({
    subject_token: human,
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    audience: `${w.server.issuer}/agents/summary-bot`,
    scope: "tickets:close_ticket",
  });
  const access = await exchange({
    subject_token: handOver,
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    actor_token: w.workload("summary-bot"),
    resource: MCP,
    scope: "tickets:close_ticket",
  });
  const { data } = await denied(access, { id: 9 });
  const id = data.approval?.id ?? "";
  assert.deepEqual(data.approval?.by, ["owner", { agent: "watch-bot" }]);
  const mine = await w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "fine" });
  assert.equal(mine.body["status"], "pending", mine.text);
  await denied(access, { id: 9 });
  const token = await w.self("watch-bot", { scope: "ephor:approve", resource: `${w.server.issuer}/v1` });
  const theirs = await w.request("POST", `/v1/approvals/${id}`, {
    body: { decision: "approve", reason: "fine" },
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
  assert.equal(theirs.body["status"], "approved", theirs.text);
  assert.deepEqual(await call(access, { id: 9 }), [{ type: "text", text: "closed 9" }]);
});

test("an approval is no access token, and no token of ours is one (A-JWT-13)", async () => {
  const access = await triage();
  const { data } = await denied(access, { id: 10 });
  await w.operator("POST", `/v1/approvals/${data.approval?.id}`, { decision: "approve", reason: "fine" });
  await call(access, { id: 10 });
  const claim = String(
    upstream.seen.find(({ headers }) => headers["ephor-approval"] !== undefined)?.headers["ephor-approval"],
  );
  const answer = await w.request("POST", "/mcp/tickets", {
    headers: { authorization: `Bearer ${claim}`, accept: "application/json, text/event-stream" },
    body: { jsonrpc: "2.0", id: 1, method: "ping" },
  });
  assert.equal(answer.status, 401);
});
