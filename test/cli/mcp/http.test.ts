import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import assert from "node:assert/strict";
import { request } from "node:http";
import { join } from "node:path";
import { after, test } from "node:test";
import { KEY, mcpStage, type Raw } from "./stage.ts";

const s = await mcpStage({ after });
const { w, up } = s;

async function urlOf(raw: Raw): Promise<URL> {
  const [url] = await raw.said(/http:\/\/127\.0\.0\.1:\d+\/\S+/);
  return new URL(url);
}

/** A request with any headers; fetch sets some itself. */
function ask(
  url: URL,
  headers: Record<string, string>,
  o: { method?: string; body?: string } = {},
): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { method: o.method ?? "POST", headers, agent: false }, (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("error", reject);
    sent.end(o.body);
  });
}

test("--http: clients of both eras call by the URL, without a credential of their own; SIGTERM ends the task", async () => {
  up.seen.length = 0;
  const raw = s.raw(["tickets", "--http", "--task", "by url"]);
  const url = await urlOf(raw);
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
  await client.connect(new StreamableHTTPClientTransport(url));
  const result = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 7" }]);
  await assert.rejects(client.callTool({ name: "drop_database", arguments: { id: 7 } }), { code: -32003 });
  w.clock.advance(61);
  await client.callTool({ name: "get_ticket", arguments: { id: 8 } });
  await client.close();
  const legacy = new LegacyClient({ name: "test", version: "1" });
  await legacy.connect(new LegacyTransport(url) as Parameters<typeof legacy.connect>[0]);
  assert.equal((await legacy.listTools()).tools.length, 3);
  await legacy.close();
  assert.ok(up.seen.every((headers) => headers.authorization === `Bearer ${KEY}`));
  raw.kill("SIGTERM");
  const ended = await raw.ended;
  assert.deepEqual([ended.code, ended.out], [0, ""], ended.talk);
  const [task] = await w.admin("select ended_at from ephor.tasks where purpose = 'by url'", []);
  assert.notEqual(task?.["ended_at"], null);
});

test("--http refuses another path, another Host, pages of browsers, and what is no message; the right request goes on", async () => {
  const raw = s.raw(["tickets", "--http"]);
  const url = await urlOf(raw);
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
  assert.equal((await ask(new URL("/mcp", url), headers, { body })).status, 403);
  assert.equal((await ask(url, { ...headers, host: "tickets.example" }, { body })).status, 403);
  assert.equal((await ask(url, { ...headers, origin: "http://127.0.0.1" }, { body })).status, 403);
  assert.equal((await ask(url, { ...headers, "sec-fetch-site": "none" }, { body })).status, 403);
  assert.equal((await ask(url, headers, { method: "PUT", body })).status, 405);
  const garbage = await ask(url, headers, { body: "nonsense" });
  assert.deepEqual(
    [garbage.status, (JSON.parse(garbage.body) as { error: { code: number } }).error.code],
    [400, -32700],
  );
  const long = await ask(url, headers, { body: JSON.stringify({ x: "x".repeat(1024 * 1024) }) });
  assert.equal(long.status, 400);
  assert.equal((await ask(url, headers, { body })).status, 200);
  raw.kill("SIGINT");
  assert.equal((await raw.ended).code, 0);
  const taken = await s.raw(["tickets", "--http", new URL(w.url).port]).ended;
  assert.equal(taken.code, 1);
  assert.match(taken.talk, /is in use/);
  assert.equal((await s.raw(["tickets", "--http", "70000"]).ended).code, 2);
});

test("ephor run --mcp: the command calls at a URL in its environment, and nobody else does; the door goes with it", async () => {
  const script = `
    const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
    const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
    await client.connect(new StreamableHTTPClientTransport(new URL(process.env.EPHOR_MCP_TICKETS_URL)));
    const { content } = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
    console.log(JSON.stringify({ url: process.env.EPHOR_MCP_TICKETS_URL, text: content[0].text }));
    await new Promise((resolve) => process.stdin.once("end", resolve).resume());
    process.exit(7);`;
  const node = ["--", process.execPath, "--input-type=module", "-e", script];
  const raw = s.raw(["--task", "with a door", "--mcp", "tickets", ...node], "run");
  const { url, text } = (await raw.line()) as { url: string; text: string };
  assert.equal(text, "ticket 7");
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "ping" });
  const stranger = await ask(new URL(url), { "content-type": "application/json" }, { body });
  assert.equal(stranger.status, process.platform === "linux" ? 403 : 200);
  raw.endInput();
  assert.equal((await raw.ended).code, 7);
  await assert.rejects(ask(new URL(url), {}, { body }), { code: "ECONNREFUSED" });
  const other = await s.raw(["--task", "not MCP", "--mcp", "billing", "--", "true"], "run").ended;
  assert.equal(other.code, 125);
  assert.match(other.talk, /billing is no MCP resource/);
  const lonely = ["--token-file", join(s.env["TOKENS"] as string, "lonely-bot")];
  const ungranted = await s.raw(["--task", "no grant", ...lonely, "--mcp", "tickets", "--", "true"], "run").ended;
  assert.equal(ungranted.code, 125);
  assert.match(ungranted.talk, /refused/);
});

test("--http: a kill answers the call that waits, and the exit code is 5", async () => {
  const raw = s.raw(["tickets", "--http"]);
  const url = await urlOf(raw);
  const waiting = ask(
    url,
    {
      "content-type": "application/json",
      "mcp-protocol-version": "2026-07-28",
      "mcp-method": "tools/call",
      "mcp-name": "wait",
    },
    {
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 3,
        method: "tools/call",
        params: {
          name: "wait",
          arguments: {},
          _meta: {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
          },
        },
      }),
    },
  );
  await up.waits();
  await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  const { body } = await waiting;
  const message = JSON.parse(body.replace(/^event: message\ndata: /, "")) as { id: number; error: { data: object } };
  assert.deepEqual([message.id, message.error.data], [3, { error: "killed", what: "agent" }]);
  assert.equal((await raw.ended).code, 5);
});
