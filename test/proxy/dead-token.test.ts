import assert from "node:assert/strict";
import { after, test } from "node:test";
import { eventsOf, stage, startCrm } from "./stage.ts";

const server = await startCrm({ after });
server.answer = (_req, res, body) => {
  const { id, method } = JSON.parse(body) as { id: unknown; method: string };
  const results: Readonly<Record<string, object>> = {
    initialize: { protocolVersion: "2025-11-25", capabilities: { tools: {} }, serverInfo: { name: "t", version: "1" } },
    "tools/list": { tools: [{ name: "get_ticket", inputSchema: { type: "object" } }] },
  };
  res.writeHead(id === undefined ? 202 : 200, { "content-type": "application/json" });
  res.end(id === undefined ? "" : JSON.stringify({ jsonrpc: "2.0", id, result: results[method] ?? {} }));
};
const { w, crm, token, send } = await stage(
  { after },
  {
    resource: `  tickets:
    mcp: ${server.url}/mcp`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read] }
  - { agent: release-bot, resource: tickets, actions: [get_ticket] }`,
  },
);

const JSON_TYPE = { "content-type": "application/json", accept: "application/json, text/event-stream" };
const rpc = (params: object): string => JSON.stringify({ jsonrpc: "2.0", id: 1, method: "tools/call", params });

/** Each way in which a request of a living token is answered, and what it is answered. */
const requests: readonly (readonly [what: string, status: number, path: string, body?: string])[] = [
  ["a granted call", 200, "GET /http/crm/contacts/7"],
  ["a call that is not granted", 403, "GET /http/crm/admin"],
  ["a body that cannot be read", 400, "POST /http/crm/contacts", '{"name":"A","name":"B"}'],
  ["a tool that is not granted", 200, "POST /mcp/tickets", rpc({ name: "close_ticket", arguments: {} })],
  ["a message that cannot be read", 400, "POST /mcp/tickets", "{"],
  ["what needs no grant", 200, "POST /mcp/tickets", JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" })],
];

async function asked(access: Record<"http" | "mcp", string>, path: string, body?: string): Promise<number> {
  const [method = "", target = ""] = path.split(" ");
  const as = target.startsWith("/http") ? access.http : access.mcp;
  const answer = await send(method, target, { token: as, ...(body !== undefined && { body, headers: JSON_TYPE }) });
  return answer.status;
}

const endings: Readonly<Record<string, (access: Record<"http" | "mcp", string>) => Promise<unknown>>> = {
  "its agent is killed": () => w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" }),
  "it is killed by its id": async ({ http, mcp }) => {
    for (const one of [http, mcp]) await w.operator("POST", "/v1/kill", { jti: claim(one, "jti"), reason: "test" });
  },
  "its task is killed": async ({ http, mcp }) => {
    for (const one of [http, mcp]) await w.operator("POST", "/v1/kill", { txn: claim(one, "txn"), reason: "test" });
  },
};

function claim(access: string, name: string): string {
  const [, payload = ""] = access.split(".");
  return String((JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>)[name]);
}

for (const [how, end] of Object.entries(endings)) {
  test(`INV-07 a token that was used here is refused everything from the moment that ${how}, whatever it asks for`, async (t) => {
    const mcp = await w.self("release-bot", { scope: "tickets", resource: `${w.server.issuer}/mcp/tickets` });
    const access = { http: await token("crm:read"), mcp: mcp.body["access_token"] as string };
    for (const [what, status, path, body] of requests) assert.equal(await asked(access, path, body), status, what);
    await end(access);
    t.after(() => w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" }));
    const before = [crm.seen.length, server.seen.length];
    for (const [what, , path, body] of requests) {
      assert.equal(await asked(access, path, body), 401, `${what}, dead`);
      const [event] = await eventsOf(w, "call.forward");
      assert.equal(event?.["decision"], "refused", what);
      assert.match(String(event["reason"]), /^(?:killed|token_revoked|task_ended)$/, what);
    }
    assert.deepEqual([crm.seen.length, server.seen.length], before);
  });
}
