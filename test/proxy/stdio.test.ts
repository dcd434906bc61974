import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { until } from "./stage.ts";
import {
  CANARIES,
  commandOf,
  isAlive,
  packageOf,
  programOf,
  startedPids,
  stdioWorld,
  tokenFor,
} from "./stdio-stage.ts";

const KEY = "notes-key-value-5d1c77";
const folder = mkdtempSync(join(tmpdir(), "ephor-stdio-test-"));
writeFileSync(join(folder, "hello.txt"), "hello from a file");
after(() => rmSync(folder, { recursive: true, force: true }));

const w = await stdioWorld(
  { after },
  {
    resources: `  files:
    mcp: { command: ${commandOf(packageOf("@modelcontextprotocol/server-filesystem/dist/index.js"), folder)} }
  everything:
    mcp: { command: ${commandOf(packageOf("@modelcontextprotocol/server-everything/dist/index.js"), "stdio")} }
    inject: { env: NOTES_KEY, value: "{secret:notes-key}" }
  notes:
    mcp: { command: ${commandOf(programOf("both-eras"))} }
    inject: { env: NOTES_KEY, value: "{secret:notes-key}" }`,
    grants: `  - { agent: release-bot, resource: files, actions: [read_text_file, list_directory] }
  - { agent: release-bot, resource: everything, actions: ["*"], allow_all: true }
  - { agent: release-bot, resource: notes, actions: [read_note, echo_key], when: '!has(args.id) || args.id < 100.0' }`,
  },
);
await w.operator("PUT", "/v1/secrets/notes-key", { value: KEY });

const headersOf = (access: string): { requestInit: { headers: Record<string, string> } } => ({
  requestInit: { headers: { authorization: `Bearer ${access}` } },
});

async function modernClient(resource: string, mode: "auto" | { pin: string } = "auto"): Promise<Client> {
  const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode } });
  const url = new URL(`${w.url}/mcp/${resource}`);
  await client.connect(new StreamableHTTPClientTransport(url, headersOf(await tokenFor(w, resource))));
  return client;
}

async function legacyClient(resource: string): Promise<LegacyClient> {
  const client = new LegacyClient({ name: "test", version: "1" });
  const url = new URL(`${w.url}/mcp/${resource}`);
  const transport = new LegacyTransport(url, headersOf(await tokenFor(w, resource)));
  await client.connect(transport as Parameters<typeof client.connect>[0]);
  return client;
}

/** Ends a legacy client's session; its process must be gone. */
async function endOf(client: LegacyClient): Promise<void> {
  const pid = startedPids(w).at(-1) as number;
  assert.ok(isAlive(pid));
  await (client.transport as LegacyTransport).terminateSession();
  await client.close();
  await until(() => !isAlive(pid), "the session's process is gone");
}

test("2025-11-25: the SDK's client reads a file by the real filesystem server; what is not granted is neither listed nor called", async () => {
  const client = await legacyClient("files");
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map(({ name }) => name).toSorted(), ["list_directory", "read_text_file"]);
  const path = join(folder, "hello.txt");
  const result = await client.callTool({ name: "read_text_file", arguments: { path } });
  assert.deepEqual(result.content, [{ type: "text", text: "hello from a file" }]);
  await assert.rejects(client.callTool({ name: "write_file", arguments: { path, content: "no" } }), { code: -32003 });
  await endOf(client);
});

test("the real everything server: progress as events, and an environment with nothing of ours; its credential comes back masked", async () => {
  const client = await legacyClient("everything");
  assert.match(JSON.stringify(await client.callTool({ name: "echo", arguments: { message: "hi" } })), /Echo: hi/);
  const seen: number[] = [];
  const long = await client.callTool(
    { name: "trigger-long-running-operation", arguments: { duration: 0.2, steps: 2 } },
    undefined,
    {
      onprogress: ({ progress }) => void seen.push(progress),
    },
  );
  assert.match(JSON.stringify(long), /completed/i);
  assert.deepEqual(seen, [1, 2]);
  const { content } = (await client.callTool({ name: "get-env", arguments: {} })) as { content: { text: string }[] };
  const env = JSON.parse(content[0]?.text ?? "") as Record<string, string>;
  assert.deepEqual(Object.keys(env).toSorted(), ["HOME", "LANG", "NOTES_KEY", "PATH", "TMPDIR"]);
  assert.match(env["NOTES_KEY"] ?? "", /^\*+$/);
  for (const canary of Object.values(CANARIES)) assert.ok(!JSON.stringify(env).includes(canary));
  assert.notEqual(env["HOME"], process.env["HOME"]);
  await endOf(client);
});

test("2026-07-28 at a server of older revisions: −32022 names them, so that a client that can falls back", async () => {
  const client = await modernClient("files");
  const path = join(folder, "hello.txt");
  const result = await client.callTool({ name: "read_text_file", arguments: { path } });
  assert.deepEqual(result.content, [{ type: "text", text: "hello from a file" }]);
  await client.close();
  await assert.rejects(modernClient("files", { pin: "2026-07-28" }), (error: { code: unknown; message: string }) => {
    assert.match(JSON.stringify(error) + error.message, /version|2025-11-25/i);
    return true;
  });
});

test("2026-07-28: the SDK's client and the SDK's stdio server, with the vault's credential in the environment", async () => {
  const client = await modernClient("notes");
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map(({ name }) => name).toSorted(), ["echo_key", "read_note"]);
  const result = await client.callTool({ name: "read_note", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "note 7 by the right key" }]);
  const echoed = await client.callTool({ name: "echo_key", arguments: { id: 7 } });
  assert.deepEqual(echoed.content, [{ type: "text", text: `key ${"*".repeat(KEY.length)}` }]);
  await assert.rejects(client.callTool({ name: "drop_notes", arguments: { id: 7 } }), { code: -32003 });
  await assert.rejects(client.callTool({ name: "read_note", arguments: { id: 700 } }), { code: -32003 });
  await client.close();
  assert.ok(w.lines.every((line) => !line.includes(KEY)));
});

test("a client of an older revision at a server of both eras", async () => {
  const client = await legacyClient("notes");
  const result = await client.callTool({ name: "read_note", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "note 7 by the right key" }]);
  await endOf(client);
});

test("the server's end is the end of every process that it started", async () => {
  assert.ok(startedPids(w).some(isAlive));
  await w.server.close();
  assert.deepEqual(startedPids(w).filter(isAlive), []);
});
