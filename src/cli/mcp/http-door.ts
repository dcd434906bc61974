import { randomBytes, timingSafeEqual } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { KilledError, UnavailableError } from "../../sdk/client/outcome.ts";
import { isRecord } from "../../sdk/client/wire.ts";
import { refuseBrowser } from "../job/door.ts";
import { StrangerError } from "../job/peer.ts";
import { errorMessage, MessageError, readClientMessage, RPC, type ClientMessage, type RpcId } from "./message.ts";
import {
  bodyOf,
  contentType,
  failedMessage,
  killedMessage,
  post,
  readAnswer,
  refusedMessage,
  wasKilled,
  type Destination,
} from "./post.ts";

/** Longest message, in bytes; the proxy takes no longer one. */
export const MESSAGE_BYTES = 1024 * 1024;
const SECRET_BYTES = 32;

/** Streamable HTTP on loopback. */
export interface McpDoor {
  /** With the secret in its path: whoever knows it may call. */
  readonly url: string;
  close(): Promise<void>;
}

/** What the door is built from. */
export interface McpDoorDeps extends Destination {
  /** Zero for any. */
  readonly port: number;
  /** Refuses whoever may not call, beside those who do not know the path. @throws {StrangerError} */
  readonly admit?: (peer: { peerPort: number; ownPort: number }) => Promise<void>;
  /** Told of a request that was refused before anything was asked for. */
  readonly refused: (why: string) => void;
  /** The work was stopped; whoever asked has been told. */
  readonly killed: (error: KilledError) => void;
}

/**
 * Opens a door for hosts that want a URL. What a client sends goes on with a token of ours, and what is answered comes back;
 * the client keeps its session itself. A browser cannot call: another Host, an Origin or `Sec-Fetch-Site` is refused, and no
 * page can guess the path.
 */
export async function openMcpDoor(deps: McpDoorDeps): Promise<McpDoor> {
  const path = `/${randomBytes(SECRET_BYTES).toString("base64url")}/mcp`;
  const closing = new AbortController();
  const server = createServer({ keepAliveTimeout: 1_000 }, (req, res) => {
    const { port } = server.address() as AddressInfo;
    serve(deps, { req, res, port, path, closing: closing.signal }).catch(() => res.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: "127.0.0.1", port: deps.port }, resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}${path}`,
    async close() {
      closing.abort();
      server.closeAllConnections();
      await new Promise<void>((resolve) => server.close(() => resolve()));
    },
  };
}

interface Call {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly port: number;
  readonly path: string;
  readonly closing: AbortSignal;
}

async function serve(deps: McpDoorDeps, { req, res, port, path, closing }: Call): Promise<void> {
  try {
    refuseBrowser(req, port);
    if (!isEqual(req.url ?? "", path)) throw new StrangerError("another path");
    await deps.admit?.({ peerPort: req.socket.remotePort ?? 0, ownPort: port });
  } catch (error) {
    deps.refused(error instanceof StrangerError ? error.message : "internal");
    return answer(res, 403, { error: "forbidden" });
  }
  const gone = new AbortController();
  res.once("close", () => gone.abort());
  const signal = AbortSignal.any([gone.signal, closing]);
  if (req.method === "GET" || req.method === "DELETE") return await pass(deps, { req, res, signal });
  if (req.method !== "POST") return answer(res, 405, { error: "method_not_allowed" });
  let message: ClientMessage;
  const body = await read(req);
  try {
    if (body === undefined) throw new MessageError(RPC.invalidRequest, "The message is too long.");
    message = readClientMessage(body);
  } catch (error) {
    if (!(error instanceof MessageError)) throw error;
    return answer(res, 400, errorMessage(null, { code: error.code, message: error.message }));
  }
  await pass(deps, { req, res, signal, message });
}

type Pass = {
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly signal: AbortSignal;
  readonly message?: ClientMessage;
};

async function pass(deps: McpDoorDeps, { req, res, signal, message }: Pass): Promise<void> {
  const id = message?.kind === "request" ? message.id : null;
  try {
    const method = req.method as "GET" | "POST" | "DELETE";
    const json = message && { json: message.value };
    const response = await post(deps, { method, headers: keptHeaders(req), ...json }, signal);
    if (contentType(response) === "text/event-stream") return await stream(deps, { res, response, id, signal });
    const answered: unknown = await readAnswer(response).catch(() => BROKEN);
    if (answered === BROKEN) {
      const killed = await wasKilled(deps.access);
      if (killed !== undefined) throw killed;
      return answer(res, 502, id === null ? undefined : refusedMessage(id, 502, { error: "interrupted" }));
    }
    const isMessage = isRecord(answered) && answered["jsonrpc"] === "2.0";
    // What is said to our credential is no word for the client, which has none.
    const status = response.status === 401 ? 502 : response.status;
    const told = isMessage || id === null ? answered : refusedMessage(id, status, answered);
    answer(res, status, told, sessionLine(response));
  } catch (thrown) {
    if (signal.aborted) return void res.destroy();
    const hasBroken = thrown instanceof UnavailableError && thrown.isOutcomeUnknown;
    const error = hasBroken ? ((await wasKilled(deps.access)) ?? thrown) : thrown;
    if (!(error instanceof KilledError)) return answer(res, 502, id === null ? undefined : failedMessage(id, error));
    answer(res, id === null ? 403 : 200, id === null ? undefined : killedMessage(id, error));
    deps.killed(error);
  }
}

const BROKEN = Symbol("broken");

/** Events as they come; where they are cut by a kill, the request is told so by a last one. */
async function stream(
  { access, killed: told }: McpDoorDeps,
  at: { res: ServerResponse; response: Response; id: RpcId | null; signal: AbortSignal },
): Promise<void> {
  const { res, response, id, signal } = at;
  res.writeHead(response.status, {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store",
    ...sessionLine(response),
  });
  res.flushHeaders();
  try {
    for await (const chunk of bodyOf(response))
      if (!res.write(chunk)) await new Promise<void>((resolve) => res.once("drain", resolve).once("close", resolve));
    res.end();
  } catch {
    const killed = signal.aborted ? undefined : await wasKilled(access);
    if (killed === undefined) return void res.destroy();
    if (id !== null) res.write(`event: message\ndata: ${JSON.stringify(killedMessage(id, killed))}\n\n`);
    res.end();
    told(killed);
  }
}

/** Headers of the protocol; whatever else a client sends stays here. */
function keptHeaders({ headers }: IncomingMessage): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers))
    if (typeof value === "string" && (name.startsWith("mcp-") || name === "last-event-id")) kept[name] = value;
  return kept;
}

function sessionLine(response: Response): Record<string, string> {
  const id = response.headers.get("mcp-session-id");
  return id === null ? {} : { "Mcp-Session-Id": id };
}

/** @returns undefined for a longer message */
async function read(req: IncomingMessage): Promise<Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of req as AsyncIterable<Uint8Array>) {
    size += chunk.byteLength;
    if (size <= MESSAGE_BYTES) chunks.push(chunk);
  }
  return size > MESSAGE_BYTES ? undefined : Buffer.concat(chunks);
}

function answer(res: ServerResponse, status: number, json: unknown, headers: Record<string, string> = {}): void {
  if (json === undefined || json === null) return void res.writeHead(status, headers).end();
  const text = JSON.stringify(json);
  const length = Buffer.byteLength(text);
  res.writeHead(status, {
    "Content-Type": "application/json",
    "Content-Length": length,
    "Cache-Control": "no-store",
    ...headers,
  });
  res.end(text);
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
