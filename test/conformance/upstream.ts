/**
 * The server that the MCP conformance suite is run against, directly and through Ephor: by the official SDKs, of 2026-07-28
 * and of the revisions with sessions at one address, on loopback.
 */
import { getRequestListener } from "@hono/node-server";
import { Server as LegacyServer } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport, type EventStore } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import * as v1 from "@modelcontextprotocol/sdk/types.js";
import {
  CLIENT_CAPABILITIES_META_KEY,
  createMcpHandler,
  createRequestStateCodec,
  MissingRequiredClientCapabilityError,
  ProtocolError,
  Server,
  type McpHttpHandler,
  type ServerContext,
} from "@modelcontextprotocol/server";
import { randomBytes, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import type { Cleanup } from "../support/database.ts";
import {
  PROMPT_ARGUMENTS,
  PROMPTS,
  read,
  RESOURCES,
  TEMPLATES,
  TOOLS,
  type Json,
  type Offer,
  type Talk,
} from "./offers.ts";

const INFO = { name: "ephor-conformance-upstream", version: "1.0.0" };
const CAPABILITIES = {
  tools: { listChanged: true },
  prompts: { listChanged: true },
  resources: { subscribe: true, listChanged: true },
  completions: {},
};
const COMPLETION = { completion: { values: ["test-value"], total: 1, hasMore: false } };
type Era = "modern" | "legacy";

const served = (offers: readonly Offer[], era: Era): Offer[] => offers.filter((one) => (one.era ?? era) === era);
/** The same in both: a server whose tools are others today is another one to whoever pins them. */
const tools: Json = {
  tools: TOOLS.map(({ name, inputSchema = { type: "object" } }) => ({
    name,
    description: `For the scenario of ${name}.`,
    inputSchema,
  })),
};
const promptsOf = (era: Era): Json => ({
  prompts: served(PROMPTS, era).map(({ name }) => ({
    name,
    description: `For the scenario of ${name}.`,
    arguments: (PROMPT_ARGUMENTS[name] ?? []).map((arg) => ({ name: arg, description: arg, required: true })),
  })),
});

/** @throws {ProtocolError} −32602, where there is no such thing */
async function act(offers: readonly Offer[], era: Era, params: Json, talk: Talk): Promise<Json> {
  const offer = served(offers, era).find(({ name }) => name === params["name"]);
  if (offer === undefined) throw new ProtocolError(-32602, `There is no ${String(params["name"])}.`);
  return await offer.act((params["arguments"] ?? {}) as Json, talk);
}

/** @throws {ProtocolError} SEP-2164: −32602 with the address */
function readOrFail(uri: string, code = -32602): Json {
  const found = read(uri);
  if (found === undefined) throw new ProtocolError(code, "Resource not found", { uri });
  return found;
}

type Handlers = {
  setRequestHandler(method: string, handle: (request: { params?: Json }, ctx: ServerContext) => Promise<Json>): void;
};

/** One request of 2026-07-28. */
function modernServer(handler: () => McpHttpHandler, codec: ReturnType<typeof createRequestStateCodec<Json>>): Server {
  const hint = { ttlMs: 1_000, cacheScope: "public" as const };
  const server = new Server(INFO, {
    capabilities: CAPABILITIES,
    requestState: { verify: codec.verify },
    cacheHints: {
      "tools/list": hint,
      "prompts/list": hint,
      "resources/list": hint,
      "resources/templates/list": hint,
      "resources/read": hint,
    },
  });
  const talkOf = ({ mcpReq }: ServerContext): Talk => {
    const { [CLIENT_CAPABILITIES_META_KEY]: declared } = (mcpReq.envelope ?? {}) as Json;
    const capabilities = (declared ?? {}) as Json;
    return {
      progressToken: mcpReq["_meta"]?.progressToken,
      notify: (method, params) => mcpReq.notify({ method, params } as Parameters<typeof mcpReq.notify>[0]),
      ask: () => Promise.reject(new Error("nobody can be asked in this revision")),
      hangUp: () => {},
      responses: mcpReq.inputResponses,
      state: mcpReq.requestState<Json>(),
      seal: (state) => codec.mint(state),
      capabilities,
      demand(capability) {
        if (capability in capabilities) return;
        throw new MissingRequiredClientCapabilityError({ requiredCapabilities: { [capability]: {} } });
      },
      changed: (list) => (list === "tools" ? handler().notify.toolsChanged() : handler().notify.promptsChanged()),
    };
  };
  const { setRequestHandler } = server as unknown as Handlers;
  const on: Handlers["setRequestHandler"] = (method, handle) => setRequestHandler.call(server, method, handle);
  on("tools/list", async () => tools);
  on("tools/call", ({ params = {} }, ctx) => act(TOOLS, "modern", params, talkOf(ctx)));
  on("prompts/list", async () => promptsOf("modern"));
  on("prompts/get", ({ params = {} }, ctx) => act(PROMPTS, "modern", params, talkOf(ctx)));
  on("resources/list", async () => ({ resources: RESOURCES }));
  on("resources/templates/list", async () => ({ resourceTemplates: TEMPLATES }));
  on("resources/read", async ({ params }) => readOrFail(String(params?.["uri"])));
  on("completion/complete", async () => COMPLETION);
  return server;
}

const never = (): never => {
  throw new Error("not of this revision");
};

/** One session of 2025-11-25. */
function legacyServer(transport: () => StreamableHTTPServerTransport): LegacyServer {
  const server = new LegacyServer(INFO, { capabilities: { ...CAPABILITIES, logging: {} } });
  type Extra = Parameters<Parameters<typeof server.setRequestHandler>[1]>[1];
  const talkOf = ({ _meta, requestId, sendNotification, sendRequest }: Extra): Talk => ({
    progressToken: _meta?.progressToken,
    notify: (method, params) => sendNotification({ method, params } as Parameters<typeof sendNotification>[0]),
    ask: (method, params) => sendRequest({ method, params } as Parameters<typeof sendRequest>[0], z.looseObject({})),
    hangUp: () => transport().closeSSEStream(requestId),
    responses: undefined,
    state: undefined,
    seal: never,
    capabilities: {},
    demand: never,
    changed: never,
  });
  server.setRequestHandler(v1.ListToolsRequestSchema, async () => tools);
  server.setRequestHandler(v1.CallToolRequestSchema, (request, extra) =>
    act(TOOLS, "legacy", request.params, talkOf(extra)),
  );
  server.setRequestHandler(v1.ListPromptsRequestSchema, async () => promptsOf("legacy"));
  server.setRequestHandler(v1.GetPromptRequestSchema, (request, extra) =>
    act(PROMPTS, "legacy", request.params, talkOf(extra)),
  );
  server.setRequestHandler(v1.ListResourcesRequestSchema, async () => ({ resources: RESOURCES }));
  server.setRequestHandler(v1.ListResourceTemplatesRequestSchema, async () => ({ resourceTemplates: TEMPLATES }));
  server.setRequestHandler(v1.ReadResourceRequestSchema, async ({ params }) => readOrFail(params.uri, -32002));
  server.setRequestHandler(v1.SubscribeRequestSchema, async () => ({}));
  server.setRequestHandler(v1.UnsubscribeRequestSchema, async () => ({}));
  server.setRequestHandler(v1.SetLevelRequestSchema, async () => ({}));
  server.setRequestHandler(v1.CompleteRequestSchema, async () => COMPLETION);
  return server;
}

/** Events of a session, by which a stream is resumed. */
function eventStore(): EventStore {
  const kept: { readonly id: string; readonly stream: string; readonly message: Json }[] = [];
  return {
    async storeEvent(stream, message) {
      const id = `${stream}_${kept.length}`;
      kept.push({ id, stream, message: message as Json });
      return id;
    },
    getStreamIdForEventId: async (id) => kept.find((one) => one.id === id)?.stream,
    async replayEventsAfter(last, { send }) {
      const from = kept.findIndex((one) => one.id === last);
      const stream = kept[from]?.stream ?? "";
      for (const { id, message } of kept.slice(from + 1).filter((one) => one.stream === stream))
        if (Object.keys(message).length > 0) await send(id, message as Parameters<typeof send>[1]);
      return stream;
    },
  };
}

/** Sessions, each with a server of its own. */
function legacyListener(): (req: IncomingMessage, res: ServerResponse) => Promise<void> {
  const sessions = new Map<string, StreamableHTTPServerTransport>();
  return async (req, res) => {
    const given = req.headers["mcp-session-id"];
    const known = sessions.get(String(given));
    if (known !== undefined) return await known.handleRequest(req, res);
    if (given !== undefined) return void res.writeHead(404).end();
    const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
      sessionIdGenerator: () => randomUUID(),
      eventStore: eventStore(),
      retryInterval: 50,
      onsessioninitialized: (id) => void sessions.set(id, transport),
      onsessionclosed: (id) => void sessions.delete(id),
    });
    const server = legacyServer(() => transport);
    await server.connect(transport as Parameters<typeof server.connect>[0]);
    await transport.handleRequest(req, res);
  };
}

/** DNS rebinding: only what speaks to a loopback name, from a loopback page, is served. */
function isLocal({ headers }: IncomingMessage): boolean {
  const hosts = [headers.host && `http://${headers.host}`, headers.origin];
  return hosts.every((url) => url === undefined || ["localhost", "127.0.0.1", "[::1]"].includes(new URL(url).hostname));
}

/** SEP-2243: what the header says is what the argument is. */
async function mismatched(request: Request): Promise<Response | undefined> {
  const message = (await request.json().catch(() => undefined)) as { id?: unknown; params?: Json } | undefined;
  if (message?.params?.["name"] !== "test_custom_header") return undefined;
  const { region } = (message.params["arguments"] ?? {}) as Json;
  const header = request.headers.get("mcp-param-region");
  const [, encoded] = /^=\?base64\?(.*)\?=$/.exec(header ?? "") ?? [];
  const bytes = Buffer.from(encoded ?? "", "base64");
  const said =
    encoded === undefined ? header : bytes.toString("base64") === encoded ? bytes.toString("utf8") : undefined;
  if (said === region) return undefined;
  const error = { code: -32020, message: "Mcp-Param-Region is not the argument." };
  return Response.json({ jsonrpc: "2.0", id: message.id, error }, { status: 400 });
}

export interface ConformanceUpstream {
  readonly url: string;
}

/** Starts it on a free port of loopback. */
export async function startUpstream(t: Cleanup): Promise<ConformanceUpstream> {
  const codec = createRequestStateCodec<Json>({ key: randomBytes(32) });
  const handler: McpHttpHandler = createMcpHandler(() => modernServer(() => handler, codec), { legacy: "reject" });
  const modern = getRequestListener(async (request) => (await mismatched(request.clone())) ?? handler.fetch(request));
  const legacy = legacyListener();
  const server = createServer((req, res) => {
    if (!isLocal(req)) return void res.writeHead(403).end();
    // A message of 2026-07-28 says so in a header; one that does not is another revision's (MCP, versioning).
    const version = req.headers["mcp-protocol-version"];
    const isLegacy = version === undefined || /^202[45]-/.test(String(version));
    void (isLegacy ? legacy(req, res) : modern(req, res));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(async () => {
    await handler.close();
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp` };
}
