/** A client of the revisions with sessions that reads event streams as they come, and a server whose every byte is a test's. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { soon, stage, startCrm, type Crm, type Seen, type Stage } from "./stage.ts";
import type { Cleanup } from "../support/database.ts";

export type Json = Record<string, unknown>;

/** One event of a stream. */
export interface Heard {
  readonly id: string | undefined;
  readonly retry: string | undefined;
  /** Undefined for an event without a message. */
  readonly message: Json | undefined;
}

/** An answer that is read as it comes. */
export interface Line {
  readonly status: number;
  readonly headers: Headers;
  /** The next event; undefined where the stream ended as it should. @throws where it was cut */
  next(): Promise<Heard | undefined>;
  /** All of a body that is no stream. */
  text(): Promise<string>;
}

export interface SessionStage extends Stage {
  readonly server: Crm;
  /** What the server does with a call of `get_ticket`; `stream` is its answer, an event stream. */
  onCall: (stream: Stream, message: Json) => void;
  /** What it does with a client that listens. */
  onListen: (stream: Stream, seen: Seen) => void;
  speak(o: {
    as: string;
    session?: string;
    method?: "GET" | "POST" | "DELETE";
    message?: unknown;
    headers?: Record<string, string>;
  }): Promise<Line>;
  /** Begins a session. @returns its id for the agent */
  begin(as: string, capabilities?: Json): Promise<string>;
}

/** An event stream of the server's. */
export interface Stream {
  /** @param head lines before the data, such as `id: 1` */
  event(message: unknown, ...head: string[]): void;
  end(): void;
}

const TOOLS = [
  { name: "get_ticket", inputSchema: {} },
  { name: "drop_database", inputSchema: {} },
];

/** @param o.more members of the resource */
export async function sessionStage(t: Cleanup, o: { more?: string } = {}): Promise<SessionStage> {
  const server = await startCrm(t);
  const made = await stage(t, {
    resource: `  tickets:
    mcp: ${server.url}/mcp
    inject: { header: X-Api-Key, value: "{secret:crm-key}" }
${o.more ?? ""}`,
    grants: `
  - { agent: release-bot, resource: tickets, actions: [get_ticket] }
  - { agent: lonely-bot, resource: tickets, actions: [get_ticket, resources/subscribe] }`,
  });
  let sessions = 0;
  const held: SessionStage = {
    ...made,
    server,
    onCall: (stream) => stream.end(),
    onListen: (stream) => stream.end(),
    async speak({ as, session, method = "POST", message, headers = {} }) {
      const response = await fetch(`${made.w.url}/mcp/tickets`, {
        method,
        headers: {
          authorization: `Bearer ${as}`,
          accept: "application/json, text/event-stream",
          ...(message !== undefined && { "content-type": "application/json" }),
          ...(session !== undefined && { "mcp-session-id": session }),
          ...headers,
        },
        ...(message !== undefined && { body: JSON.stringify(message) }),
      });
      return lineOf(response);
    },
    async begin(as, capabilities = {}) {
      const params = { protocolVersion: "2025-11-25", capabilities, clientInfo: { name: "t", version: "1" } };
      const line = await held.speak({ as, message: { jsonrpc: "2.0", id: 0, method: "initialize", params } });
      const session = line.headers.get("mcp-session-id");
      assert.ok(line.status === 200 && session !== null, await line.text());
      return session;
    },
  };
  server.answer = (req, res, body) => {
    if (req.method === "GET") return held.onListen(streamOf(res), server.seen.at(-1) as Seen);
    if (req.method === "DELETE") return void res.writeHead(200).end();
    const message = JSON.parse(body) as Json;
    const result = resultOf(message);
    if (message["method"] === "tools/call") return held.onCall(streamOf(res), message);
    if (result === undefined) return void res.writeHead(202).end();
    const session = message["method"] === "initialize" ? `upstream-${++sessions}` : undefined;
    res.writeHead(200, { "content-type": "application/json", ...(session && { "mcp-session-id": session }) });
    res.end(JSON.stringify({ jsonrpc: "2.0", id: message["id"], result }));
  };
  return held;
}

function resultOf({ method, id }: Json): Json | undefined {
  if (id === undefined || method === undefined) return undefined;
  if (method === "tools/list") return { tools: TOOLS };
  return { protocolVersion: "2025-11-25", capabilities: {}, serverInfo: { name: "t", version: "1" } };
}

function streamOf(res: ServerResponse): Stream {
  res.writeHead(200, { "content-type": "text/event-stream" });
  res.flushHeaders();
  return {
    event(message, ...head) {
      const lines = [...head, `data: ${message === undefined ? "" : JSON.stringify(message)}`];
      res.write(`${lines.join("\n")}\n\n`);
    },
    end: () => void res.end(),
  };
}

function lineOf(response: Response): Line {
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  return {
    status: response.status,
    headers: response.headers,
    async next() {
      for (;;) {
        const end = rest.indexOf("\n\n");
        if (end >= 0) {
          const block = rest.slice(0, end).split("\n");
          rest = rest.slice(end + 2);
          const field = (name: string): string | undefined =>
            block.find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
          if (block.every((line) => line.startsWith(":"))) continue;
          const data = field("data") ?? "";
          return {
            id: field("id"),
            retry: field("retry"),
            message: data === "" ? undefined : (JSON.parse(data) as Json),
          };
        }
        const read = reader && (await soon(reader.read(), "the next event"));
        if (read === undefined || read.done) return undefined;
        rest += read.value;
      }
    },
    async text() {
      for (let read = await reader?.read(); read !== undefined && !read.done; read = await reader?.read())
        rest += read.value;
      return rest;
    },
  };
}
