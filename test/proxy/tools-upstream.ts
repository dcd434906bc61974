/** MCP servers whose tools a test changes while they run. */
import { getRequestListener } from "@hono/node-server";
import { createMcpHandler, McpServer } from "@modelcontextprotocol/server";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import type { AddressInfo } from "node:net";
import { z } from "zod";
import type { Cleanup } from "../support/database.ts";

/** A tool as the next answers show it. */
export interface Wares {
  name: string;
  description: string;
  annotations?: { readOnlyHint?: boolean; destructiveHint?: boolean };
}

export interface Shop {
  readonly url: string;
  tools: Wares[];
  /** Methods, as they came. */
  readonly seen: string[];
}

/** By the SDK: revision 2026-07-28, and the older ones without sessions. */
export async function startShop(t: Cleanup): Promise<Shop> {
  const shop: Shop = {
    url: "",
    tools: [
      { name: "look", description: "Looks." },
      { name: "buy", description: "Buys." },
    ],
    seen: [],
  };
  const handler = createMcpHandler(() => {
    const server = new McpServer({ name: "shop", version: "1.0.0" });
    for (const { name, ...more } of shop.tools)
      server.registerTool(name, { ...more, inputSchema: z.object({ id: z.number().optional() }) }, async () => ({
        content: [{ type: "text" as const, text: `${name} done` }],
      }));
    return server;
  });
  const answer = getRequestListener((request) => handler.fetch(request));
  const url = await listen(t, (req, res) => {
    const method = req.headers["mcp-method"];
    if (typeof method === "string") shop.seen.push(method);
    void answer(req, res);
  });
  return Object.assign(shop, { url });
}

/** By hand: what no SDK would answer. `pages` are lists of entries; each `tools/list` gets the one that its cursor names. */
export interface Stall extends Shop {
  pages: unknown[][];
  /** Of calls, as they came. */
  readonly params: Record<string, unknown>[];
  /** The code of the error that lists are answered with. */
  error?: number | undefined;
}

export async function startStall(t: Cleanup, pages: unknown[][]): Promise<Stall> {
  const stall: Stall = { url: "", tools: [], seen: [], pages, params: [] };
  const url = await listen(t, (req, res) => {
    const chunks: Buffer[] = [];
    req.on("data", (chunk: Buffer) => chunks.push(chunk));
    req.on("end", () => {
      const { id, method, params } = JSON.parse(Buffer.concat(chunks).toString()) as {
        id: unknown;
        method: string;
        params: Record<string, unknown>;
      };
      stall.seen.push(method);
      if (method === "tools/call") stall.params.push(params);
      const page = Number(params["cursor"] ?? 0);
      const list = { tools: stall.pages[page], ...(page + 1 < stall.pages.length && { nextCursor: String(page + 1) }) };
      const answer =
        method !== "tools/list"
          ? { result: { content: [{ type: "text", text: "done" }] } }
          : stall.error === undefined
            ? { result: list }
            : { error: { code: stall.error, message: "no" } };
      res.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify({ jsonrpc: "2.0", id, ...answer }));
    });
  });
  return Object.assign(stall, { url });
}

async function listen(t: Cleanup, listener: RequestListener): Promise<string> {
  const server = createServer(listener);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
}
