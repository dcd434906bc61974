/** Real MCP servers by the official SDKs, on loopback: of both revisions, and of the one with sessions. */
import { getRequestListener } from "@hono/node-server";
import { McpServer as LegacyServer } from "@modelcontextprotocol/sdk/server/mcp.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer, type IncomingMessage, type RequestListener, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import type { Cleanup } from "../support/database.ts";

/** What an upstream was sent. */
export interface SeenMessage {
  readonly method: string;
  readonly headers: IncomingMessage["headers"];
}

export interface McpUpstream {
  readonly url: string;
  readonly seen: SeenMessage[];
}

/** Tools of a ticket system: one that reads, one that writes, one that nobody is granted. */
function tools(register: (name: string, description: string, act: (args: { id: number }) => string) => void): void {
  register("get_ticket", "Reads a ticket.", ({ id }) => `ticket ${id}`);
  register("close_ticket", "Closes a ticket.", ({ id }) => `closed ${id}`);
  register("drop_database", "Drops everything.", () => "dropped");
}

/** A server that speaks 2026-07-28, and the older revisions without sessions. */
export async function startModern(t: Cleanup): Promise<McpUpstream> {
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "tickets", version: "1.0.0" });
    tools((name, description, act) =>
      server.registerTool(name, { description, inputSchema: z.object({ id: z.number() }) }, async (args) => ({
        content: [{ type: "text" as const, text: act(args) }],
      })),
    );
    return server;
  });
  return await listen(
    t,
    getRequestListener((request) => handler.fetch(request)),
  );
}

/** A server of 2025-11-25 with sessions. */
export async function startLegacy(t: Cleanup): Promise<McpUpstream> {
  const transports = new Map<string, StreamableHTTPServerTransport>();
  return await listen(t, (req, res) => {
    void (async () => {
      const known = transports.get(String(req.headers["mcp-session-id"]));
      if (known) return await known.handleRequest(req, res);
      if (req.headers["mcp-session-id"] !== undefined) return res.writeHead(404).end();
      const transport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => randomUUID(),
        onsessioninitialized: (id) => void transports.set(id, transport),
      });
      const server = new LegacyServer({ name: "tickets", version: "1.0.0" });
      tools((name, description, act) =>
        server.registerTool(name, { description, inputSchema: { id: z.number() } }, async (args) => ({
          content: [{ type: "text" as const, text: act(args) }],
        })),
      );
      await server.connect(transport as Parameters<typeof server.connect>[0]);
      await transport.handleRequest(req, res);
    })();
  });
}

async function listen(t: Cleanup, listener: RequestListener): Promise<McpUpstream> {
  const seen: SeenMessage[] = [];
  const server: Server = createServer((req, res) => {
    seen.push({ method: req.method ?? "", headers: req.headers });
    listener(req, res);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`, seen };
}
