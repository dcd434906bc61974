/** MCP servers behind a real server, and `ephor mcp` as hosts start it. */
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StdioClientTransport as LegacyStdio } from "@modelcontextprotocol/sdk/client/stdio.js";
import { McpServer as LegacyServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { CreateMessageRequestSchema, CreateMessageResultSchema } from "@modelcontextprotocol/sdk/types.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { Client } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { getRequestListener } from "@hono/node-server";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer, type IncomingMessage, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { z } from "zod";
import { runningClock } from "../../support/hand-clock.ts";
import { PROGRAM } from "../../support/program.ts";
import { settled, usualTrust, world, type World } from "../../support/world.ts";

type Cleanup = Parameters<typeof world>[0];

/** What the vault puts in; it must be nowhere but at the upstream. */
export const KEY = "tickets-key-value-canary-5521";

/** The upstreams, and how a test meddles with them. */
export interface Upstreams {
  readonly seen: IncomingMessage["headers"][];
  /** Resolves when a call of `wait` has arrived. */
  waits(): Promise<void>;
  /** How many calls of `wait` were broken off. */
  readonly brokenOff: () => number;
  /** The server with sessions forgets them all. */
  forget(): void;
}

/** `ephor mcp` without a client of the SDK. */
export interface Raw {
  readonly send: (text: string) => void;
  readonly endInput: () => void;
  readonly line: () => Promise<Record<string, unknown>>;
  readonly kill: (signal: NodeJS.Signals) => void;
  readonly talk: () => string;
  /** Resolves with the first match on standard error. */
  readonly said: (pattern: RegExp) => Promise<RegExpExecArray>;
  readonly ended: Promise<{ code: number | null; out: string; talk: string }>;
}

export interface McpStage {
  readonly w: World;
  readonly up: Upstreams;
  readonly env: Record<string, string>;
  /** What a host is told to start. */
  command(...args: string[]): { command: string; args: string[]; env: Record<string, string>; stderr: "pipe" };
  modern(args: string[]): Promise<{ client: Client; pid: number; talk: () => string }>;
  legacy(args: string[]): Promise<{ client: LegacyClient; pid: number }>;
  raw(args: readonly string[], verb?: "mcp" | "run"): Raw;
}

export async function mcpStage(t: Cleanup): Promise<McpStage> {
  const seen: IncomingMessage["headers"][] = [];
  const arrived: (() => void)[] = [];
  let waiting = 0;
  let broken = 0;
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "tickets", version: "1.0.0" });
    const id = { inputSchema: z.object({ id: z.number() }) };
    const text = (said: string): { content: { type: "text"; text: string }[] } => ({
      content: [{ type: "text", text: said }],
    });
    server.registerTool("get_ticket", { description: "Reads a ticket.", ...id }, async (args) =>
      text(`ticket ${args.id}`),
    );
    server.registerTool("drop_database", { description: "Drops everything.", ...id }, async () => text("dropped"));
    server.registerTool(
      "of_region",
      {
        description: "Routed by region.",
        inputSchema: z.object({ region: z.string().meta({ "x-mcp-header": "Region" }) }),
      },
      async ({ region }) => text(`of ${region}`),
    );
    server.registerTool("wait", { description: "Never answers.", inputSchema: z.object({}) }, async (_, ctx) => {
      waiting++;
      for (const resolve of arrived.splice(0)) resolve();
      await new Promise<void>((resolve) => ctx.mcpReq.signal.addEventListener("abort", () => resolve()));
      broken++;
      return text("broken off");
    });
    return server;
  });
  const modern = await listen(
    t,
    seen,
    getRequestListener((request) => handler.fetch(request)),
  );
  const transports = new Map<string, StreamableHTTPServerTransport>();
  const legacy = await listen(t, seen, (req, res) => void answerLegacy(transports, req, res));
  const w = await world(t, {
    clock: runningClock(),
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  tickets:
    mcp: ${modern}
    inject: { header: Authorization, value: "Bearer {secret:tickets-key}" }
  old-tickets:
    mcp: ${legacy}
    inject: { header: Authorization, value: "Bearer {secret:tickets-key}" }
grants:
  - { agent: release-bot, resource: tickets, actions: [get_ticket, of_region, wait], when: 'call.tool != "get_ticket" || args.id < 100.0' }
  - { agent: release-bot, resource: old-tickets, actions: [get_ticket, ask_model] }
  - { agent: triage-bot, resource: tickets, actions: [get_ticket], on_behalf_of: { issuer: okta } }`,
      ),
  });
  const put = await settled(() => w.operator("PUT", "/v1/secrets/tickets-key", { value: KEY }));
  if (put.status !== 200) throw new Error(put.text);
  const folder = await mkdtemp(join(tmpdir(), "ephor-mcp-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  for (const name of ["release-bot", "lonely-bot", "triage-bot"]) await writeFile(join(folder, name), w.workload(name));
  await writeFile(join(folder, "ada"), w.human());
  const env = {
    PATH: process.env["PATH"] ?? "",
    HOME: folder,
    EPHOR_URL: w.url,
    EPHOR_DATA: join(folder, "data"),
    EPHOR_TOKEN_FILE: join(folder, "release-bot"),
    TOKENS: folder,
  };
  const command: McpStage["command"] = (...args) => ({
    command: process.execPath,
    args: [PROGRAM, "mcp", ...args],
    env,
    stderr: "pipe",
  });
  return {
    w,
    env,
    command,
    up: {
      seen,
      brokenOff: () => broken,
      forget: () => transports.clear(),
      async waits() {
        if (waiting > 0) return void waiting--;
        await new Promise<void>((resolve) => arrived.push(resolve));
        waiting--;
      },
    },
    async modern(args) {
      const client = new Client({ name: "test", version: "1" }, { versionNegotiation: { mode: "auto" } });
      const transport = new StdioClientTransport(command(...args));
      let talk = "";
      transport.stderr?.on("data", (chunk: Buffer) => (talk += chunk.toString()));
      t.after(() => client.close());
      await client.connect(transport);
      return { client, pid: transport.pid ?? 0, talk: () => talk };
    },
    async legacy(args) {
      const client = new LegacyClient({ name: "test", version: "1" }, { capabilities: { sampling: {} } });
      client.setRequestHandler(CreateMessageRequestSchema, () => ({
        model: "test",
        role: "assistant",
        content: { type: "text", text: "fine" },
      }));
      const transport = new LegacyStdio(command(...args));
      t.after(() => client.close());
      await client.connect(transport as Parameters<typeof client.connect>[0]);
      return { client, pid: transport.pid ?? 0 };
    },
    raw: (args, verb = "mcp") => startRaw(t, [verb, ...args], env),
  };
}

function startRaw(t: Cleanup, args: readonly string[], env: Record<string, string>): Raw {
  const child = spawn(process.execPath, [PROGRAM, ...args], { env, stdio: "pipe" });
  t.after(() => void child.kill("SIGKILL"));
  let out = "";
  let talk = "";
  const listeners = new Set<() => void>();
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => {
    talk += chunk.toString();
    for (const look of listeners) look();
  });
  const ended = new Promise<{ code: number | null; out: string; talk: string }>((resolve) =>
    child.once("close", (code) => resolve({ code, out, talk })),
  );
  return {
    send: (text) => void child.stdin.write(text),
    endInput: () => void child.stdin.end(),
    kill: (signal) => void child.kill(signal),
    talk: () => talk,
    ended,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(talk);
          if (found !== null) resolve(found);
        };
        listeners.add(look);
        look();
        void ended.then(() => reject(new Error(`it ended: ${talk}`)));
      }),
    async line() {
      const next = await lines.next();
      if (next.done === true) throw new Error(`it ended: ${talk}`);
      return JSON.parse(next.value) as Record<string, unknown>;
    },
  };
}

async function answerLegacy(
  transports: Map<string, StreamableHTTPServerTransport>,
  ...[req, res]: Parameters<RequestListener>
): Promise<void> {
  const known = transports.get(String(req.headers["mcp-session-id"]));
  if (known) return await known.handleRequest(req, res);
  if (req.headers["mcp-session-id"] !== undefined) return void res.writeHead(404).end();
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: () => randomUUID(),
    onsessioninitialized: (id) => void transports.set(id, transport),
  });
  const server = new LegacyServer({ name: "tickets", version: "1.0.0" });
  server.registerTool("get_ticket", { description: "Reads.", inputSchema: { id: z.number() } }, async (args) => ({
    content: [{ type: "text" as const, text: `ticket ${args.id}` }],
  }));
  server.registerTool(
    "ask_model",
    { description: "Asks the client's model.", inputSchema: {} },
    async (_, { sendRequest }) => {
      const asked = { role: "user" as const, content: { type: "text" as const, text: "how are you?" } };
      const order = { method: "sampling/createMessage" as const, params: { messages: [asked], maxTokens: 10 } };
      const { content } = await sendRequest(order, CreateMessageResultSchema);
      return { content: [{ type: "text" as const, text: `it said ${JSON.stringify(content)}` }] };
    },
  );
  await server.connect(transport as Parameters<typeof server.connect>[0]);
  await transport.handleRequest(req, res);
}

async function listen(t: Cleanup, seen: IncomingMessage["headers"][], listener: RequestListener): Promise<string> {
  const server = createServer((req, res) => {
    seen.push(req.headers);
    listener(req, res);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}

/** Whether a process runs. */
export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
