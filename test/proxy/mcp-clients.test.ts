import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client, StaticPrivateKeyJwtProvider, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { CreateMessageRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { usualTrust, world } from "../support/world.ts";
import { startUpstream } from "../conformance/upstream.ts";
import { startLegacy, startModern } from "./mcp-upstream.ts";

const KEY = "tickets-key-value-91ab3f";
const modern = await startModern({ after });
const legacy = await startLegacy({ after });
const w = await world(
  { after },
  {
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  tickets:
    mcp: ${modern.url}
    inject: { header: Authorization, value: "Bearer {secret:tickets-key}" }
  old-tickets:
    mcp: ${legacy.url}
    inject: { header: Authorization, value: "Bearer {secret:tickets-key}" }
grants:
  - { agent: release-bot, resource: tickets, actions: [get_ticket, close_ticket], when: 'args.id < 100.0' }
  - { agent: release-bot, resource: old-tickets, actions: [get_ticket] }
  - { agent: lonely-bot, resource: old-tickets, actions: [get_ticket] }`,
      ),
  },
);
await w.operator("PUT", "/v1/secrets/tickets-key", { value: KEY });

beforeEach(() => {
  modern.seen.length = 0;
  legacy.seen.length = 0;
});

async function token(resource: string, agent = "release-bot", scope = resource): Promise<string> {
  const answer = await w.self(agent, { scope, resource: `${w.server.issuer}/mcp/${resource}` });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
}

const headersOf = (access: string): { requestInit: { headers: Record<string, string> } } => ({
  requestInit: { headers: { authorization: `Bearer ${access}` } },
});

async function modernClient(resource: string, access: string): Promise<Client> {
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(new StreamableHTTPClientTransport(new URL(`${w.url}/mcp/${resource}`), headersOf(access)));
  return client;
}

async function legacyClient(resource: string, access: string): Promise<LegacyClient> {
  const client = new LegacyClient({ name: "test", version: "1" });
  const transport = new LegacyTransport(new URL(`${w.url}/mcp/${resource}`), headersOf(access));
  await client.connect(transport as Parameters<typeof client.connect>[0]);
  return client;
}

test("2026-07-28: the SDK's client lists what is granted, calls it with the vault's credential, and is told no beyond", async () => {
  const client = await modernClient("tickets", await token("tickets"));
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.map(({ name }) => name),
    ["get_ticket", "close_ticket"],
  );
  const result = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 7" }]);
  await assert.rejects(
    client.callTool({ name: "get_ticket", arguments: { id: 700 } }),
    (error: { code: number; data: { decision: string } }) => {
      assert.equal(error.code, -32003);
      assert.match(error.data.decision, /^evt_/);
      return true;
    },
  );
  await assert.rejects(client.callTool({ name: "drop_database", arguments: { id: 7 } }), { code: -32003 });
  assert.ok(modern.seen.every(({ headers }) => headers.authorization === `Bearer ${KEY}`));
  assert.ok(
    modern.seen.some(
      ({ headers }) => headers["mcp-name"] === "get_ticket" && headers["mcp-protocol-version"] === "2026-07-28",
    ),
  );
  assert.ok(modern.seen.every(({ headers }) => headers["mcp-name"] !== "drop_database"));
  await client.close();
});

test("2025-11-25: the SDK's client keeps a session through the proxy; another agent cannot use it (A-MCP-09)", async () => {
  const client = await legacyClient("old-tickets", await token("old-tickets"));
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.map(({ name }) => name),
    ["get_ticket"],
  );
  const result = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 7" }]);
  await assert.rejects(client.callTool({ name: "close_ticket", arguments: { id: 7 } }), { code: -32003 });
  const session = (client.transport as LegacyTransport).sessionId ?? "";
  const upstream = legacy.seen.map(({ headers }) => headers["mcp-session-id"]).find((id) => id !== undefined);
  assert.ok(upstream !== undefined && session !== "" && session !== upstream);

  const ping = (access: string, id: string): ReturnType<typeof w.request> =>
    w.request("POST", "/mcp/old-tickets", {
      headers: {
        authorization: `Bearer ${access}`,
        "mcp-session-id": id,
        accept: "application/json, text/event-stream",
      },
      body: { jsonrpc: "2.0", id: 1, method: "ping" },
    });
  const mine = await token("old-tickets");
  assert.equal((await ping(mine, session)).status, 200);
  assert.equal((await ping(mine, String(upstream))).status, 404);
  assert.equal((await ping(await token("old-tickets", "lonely-bot"), session)).status, 404);
  await client.close();
});

test("a trace goes on through the proxy, by header or by the message, and is in the record", async () => {
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const traceparent = `00-${trace}-00f067aa0ba902b7-01`;
  const access = await token("tickets");
  for (const by of ["header", "meta"]) {
    modern.seen.length = 0;
    const answer = await w.request("POST", "/mcp/tickets", {
      headers: {
        authorization: `Bearer ${access}`,
        accept: "application/json, text/event-stream",
        ...(by === "header" && { traceparent }),
      },
      body: { jsonrpc: "2.0", id: 1, method: "tools/list", params: by === "meta" ? { _meta: { traceparent } } : {} },
    });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(modern.seen[0]?.headers["traceparent"], traceparent, by);
  }
  const events = await w.events({ trace });
  assert.equal(events.filter((event) => event["type"] === "call.forward").length, 2);
});

test("a client of the old revision at a server that speaks both", async () => {
  const client = await legacyClient("tickets", await token("tickets"));
  const result = await client.callTool({ name: "close_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "closed 7" }]);
  await client.close();
});

test("RFC 9728: a client with its platform's token alone finds its way from the bare 401 and connects", async () => {
  const provider = new StaticPrivateKeyJwtProvider({
    clientId: "release-bot",
    jwtBearerAssertion: w.workload("release-bot"),
    expectedIssuer: w.server.issuer,
  });
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
  const transport = new StreamableHTTPClientTransport(new URL(`${w.server.issuer}/mcp/tickets`), {
    authProvider: provider,
  });
  await client.connect(transport);
  const result = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 7" }]);
  assert.equal((provider.tokens()?.access_token ?? "").split(".").length, 3);
  await client.close();
});

test("2025-11-25: the SDK's client answers its server, listens to its session and ends it", async () => {
  const everything = await startUpstream({ after });
  await w.apply(
    `resources: { everything: { mcp: "${everything.url}" } }\ngrants: [{ agent: release-bot, resource: everything, actions: [test_sampling] }]`,
  );
  const client = new LegacyClient({ name: "test", version: "1" }, { capabilities: { sampling: {} } });
  client.setRequestHandler(CreateMessageRequestSchema, async () => ({
    role: "assistant",
    model: "m",
    content: { type: "text", text: "by the client's model" },
  }));
  const url = new URL(`${w.url}/mcp/everything`);
  const transport = new LegacyTransport(url, headersOf(await token("everything")));
  await client.connect(transport as Parameters<typeof client.connect>[0]);
  const result = await client.callTool({ name: "test_sampling", arguments: { prompt: "hello" } });
  assert.deepEqual(result.content, [{ type: "text", text: "LLM response: by the client's model" }]);
  await transport.terminateSession();
  assert.equal(transport.sessionId, undefined);
  await client.close();
});
