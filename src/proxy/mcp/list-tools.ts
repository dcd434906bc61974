import { rawHeader } from "../forwarded-headers.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { ulid } from "../../system/random.ts";
import { decided, type ProxiedCall } from "../decided.ts";
import type { Holder, ProxyDeps } from "../deps.ts";
import { BadGatewayError, type ProxiedRequest } from "../exchange.ts";
import { forwardedHeaders } from "../forwarded-headers.ts";
import { flying, relayed, takeOff, type Flight } from "../relay.ts";
import type { McpResource, Upstream } from "../upstream.ts";
import { ownAnswer } from "./answers.ts";
import { isRecord, RPC, RpcError, writeMessage, type McpMessage, type RpcParams } from "./message.ts";
import { LEGACY, MODERN, namingHeaders, ownMeta, type Spoken } from "./revision.ts";
import { isSessionId, type SessionOwner } from "./sessions.ts";
import { createEventParser, EventTooLargeError } from "./sse.ts";
import { localAnswer } from "./stdio-call.ts";
import type { LocalServer } from "./stdio-server.ts";
import type { LocalServers } from "./stdio-servers.ts";

/** What one server may show, so that it cannot hold us up: pages, and bytes of all of them. */
const MAX_PAGES = 64;
const MAX_BYTES = 16 * 1024 * 1024;
const ANSWER_BYTES = 4 * 1024 * 1024;
const CURSOR_CHARACTERS = 8_192;
const JSON_TYPE = "application/json";
const STREAM_TYPE = "text/event-stream";

/** On whose way, and by which revision, a server is asked for its tools. */
export interface ListingOrder {
  readonly resource: McpResource;
  readonly upstream: Upstream | LocalServer;
  readonly owner: SessionOwner;
  readonly holder: Holder;
  readonly request: ProxiedRequest;
  readonly message: McpMessage;
  readonly spoken: Spoken;
  /** The upstream's, where the caller has one. */
  readonly session: string | undefined;
}

/** What listing needs beside the proxy. */
export interface ListingDeps extends ProxyDeps {
  readonly local: LocalServers;
}

/** The server answered with a JSON-RPC error. */
export class ListingRefusedError extends BadGatewayError {
  constructor() {
    super(502);
  }
}

/** How we speak to the server. */
interface Line {
  readonly era: Spoken["era"];
  readonly version: string | undefined;
  readonly session: string | undefined;
}

interface Told {
  readonly result: unknown;
  readonly code: unknown;
  readonly session: string | undefined;
  readonly bytes: number;
}

/**
 * All tools of a server, page by page. Every request is decided and recorded like one of the caller's, and can be cut like
 * one; his proof of possession is left for his own.
 *
 * @throws {ListingRefusedError}; {BadGatewayError} no answer, or more than fits; whatever {@link decided} throws
 */
export async function listTools(deps: ListingDeps, order: ListingOrder): Promise<readonly unknown[]> {
  return await listed(deps, order).catch((error: unknown) => {
    if (!(error instanceof RpcError)) throw error;
    // An error about our request becomes one about the caller's.
    const { code, message, status, data } = error;
    const id = order.message.kind === "request" ? order.message.id : undefined;
    throw new RpcError(code, message, { status, id, ...(data !== undefined && { data }) });
  });
}

async function listed(deps: ListingDeps, order: ListingOrder): Promise<readonly unknown[]> {
  const { spoken, session } = order;
  if (spoken.era === "modern")
    return await pages(deps, order, { era: "modern", version: spoken.version ?? MODERN[0], session: undefined });
  if (session !== undefined) return await pages(deps, order, { era: "legacy", version: spoken.version, session });
  const line = await shakeHands(deps, order);
  try {
    return await pages(deps, order, line);
  } finally {
    await hangUp(deps, order, line).catch((err: unknown) => deps.log.debug("mcp_session_not_ended", { err }));
  }
}

async function pages(deps: ListingDeps, order: ListingOrder, line: Line): Promise<readonly unknown[]> {
  const found: unknown[] = [];
  let cursor: string | undefined;
  let bytes = 0;
  for (let page = 0; page < MAX_PAGES; page++) {
    const params: RpcParams = {
      ...(cursor !== undefined && { cursor }),
      ...(line.era === "modern" && { _meta: ownMeta(line.version ?? MODERN[0]) }),
    };
    const told = await ask(deps, order, { line, method: "tools/list", params });
    // A server without tools has none; whatever it shows later is new.
    if (told.code === RPC.methodNotFound) return [];
    if (!isRecord(told.result)) throw new ListingRefusedError();
    const { tools, nextCursor } = told.result;
    if (!Array.isArray(tools)) throw new BadGatewayError(502);
    found.push(...(tools as unknown[]));
    bytes += told.bytes;
    if (nextCursor === undefined || nextCursor === null) return found;
    const isEndless = typeof nextCursor !== "string" || nextCursor.length > CURSOR_CHARACTERS || nextCursor === cursor;
    if (isEndless || bytes > MAX_BYTES) break;
    cursor = nextCursor;
  }
  throw new BadGatewayError(502);
}

/** A server of the older revisions answers nobody before that (MCP 2025-11-25, lifecycle). */
async function shakeHands(deps: ListingDeps, order: ListingOrder): Promise<Line> {
  const wanted = order.spoken.version ?? LEGACY[0];
  const params = { protocolVersion: wanted, capabilities: {}, clientInfo: { name: "ephor", version: "1" } };
  const blank: Line = { era: "legacy", version: undefined, session: undefined };
  const { result, session } = await ask(deps, order, { line: blank, method: "initialize", params });
  if (!isRecord(result)) throw new ListingRefusedError();
  const version = result["protocolVersion"];
  if (!(LEGACY as readonly unknown[]).includes(version)) throw new BadGatewayError(502);
  const line: Line = { era: "legacy", version: version as string, session };
  await ask(deps, order, { line, method: "notifications/initialized", params: undefined });
  return line;
}

/** The session was ours alone: the server need not keep it. */
async function hangUp(deps: ListingDeps, order: ListingOrder, line: Line): Promise<void> {
  if (line.session === undefined) return;
  const { flight, answer } = await sent(deps, order, { line, method: "DELETE" });
  answer.body.destroy();
  flight.finish("done");
}

async function ask(
  deps: ListingDeps,
  order: ListingOrder,
  of: { line: Line; method: string; params: RpcParams | undefined },
): Promise<Told> {
  const { line, method, params } = of;
  const isNotification = method.startsWith("notifications/");
  const message: McpMessage = isNotification
    ? { kind: "notification", method, params }
    : { kind: "request", id: `ephor-${ulid(deps.clock.nowMs())}`, method, params };
  const { flight, answer } = await sent(deps, order, { line, method, message });
  const { status, rawHeaders, body } = answer;
  const isAccepted = status >= 200 && status < 300;
  if (message.kind === "notification" && isAccepted) {
    body.destroy();
    flight.finish("done");
    return { result: undefined, code: undefined, session: undefined, bytes: 0 };
  }
  const session = rawHeader(rawHeaders, "mcp-session-id");
  const id = message.kind === "request" ? message.id : undefined;
  const told = id === undefined ? undefined : await flying(flight, () => read(flight, answer, id));
  if (told !== undefined && ![401, 403, 407].includes(status)) {
    flight.finish("done", { bytes: told.bytes });
    const { result, error } = told.message;
    const code = isRecord(error) ? error["code"] : undefined;
    return {
      result,
      code,
      session: session !== undefined && isSessionId(session) ? session : undefined,
      bytes: told.bytes,
    };
  }
  body.destroy();
  flight.finish("upstream_error", { problem: "answer" });
  if (status !== 404 || line.session === undefined) throw new BadGatewayError(502);
  throw new RpcError(RPC.invalidRequest, "There is no such session.", { status: 404 });
}

/** Decided, recorded, and on its way. @param of.message none: the session ends */
async function sent(
  deps: ListingDeps,
  order: ListingOrder,
  of: { line: Line; method: string; message?: McpMessage },
): Promise<{ flight: Flight; answer: UpstreamAnswer }> {
  const { resource, upstream, owner, request } = order;
  const { line, method, message } = of;
  const { proof: _proof, ...holder } = order.holder;
  const call: ProxiedCall = {
    resource,
    holder,
    requestId: request.presented.requestId,
    actions: [],
    free: method,
    args: {},
    call: { kind: "mcp", method },
    facts: { method, why: "tools are pinned" },
    secrets: upstream.inject?.secrets ?? [],
    credential: upstream.inject?.credential,
  };
  const { inject } = upstream;
  const decision = await decided(deps, call);
  const { flight, injected } = await takeOff(deps, { call, decided: decision, inject, whenGone: request.whenGone });
  if ("command" in upstream) {
    // Only what speaks HTTP has sessions of our own making.
    if (message === undefined) throw new TypeError("a local server's session is its caller's");
    const { era, session } = line;
    const local = { upstream, owner, request, message, era, session };
    return { flight, answer: await localAnswer(deps.local, local, { flight, decision, injected }) };
  }
  const answer = await flight.send({
    origin: upstream.origin,
    path: upstream.basePath === "" ? "/" : upstream.basePath,
    method: message === undefined ? method : "POST",
    headers: {
      ...ownHeaders(upstream, request, message),
      ...(line.version !== undefined && { "mcp-protocol-version": line.version }),
      ...(message !== undefined && line.era === "modern" && namingHeaders(message)),
      ...(line.session !== undefined && { "mcp-session-id": line.session }),
      ...(upstream.inject && injected !== undefined ? { [upstream.inject.header]: injected } : {}),
    },
    body: message && writeMessage(message),
    internal: upstream.internal,
  });
  return { flight, answer };
}

/** Ours, and those of the caller's that the resource names: another tenant's tools may be others. */
function ownHeaders(
  upstream: Upstream,
  { headers }: ProxiedRequest,
  message: McpMessage | undefined,
): Record<string, string> {
  const { forward, inject } = upstream;
  const named = headers.filter(([name]) => forward.has(name.toLowerCase()));
  return {
    ...forwardedHeaders(named, { forward, injected: inject ? [inject.header] : [] }),
    accept: `${JSON_TYPE}, ${STREAM_TYPE}`,
    ...(message !== undefined && { "content-type": JSON_TYPE }),
    "user-agent": "ephor",
  };
}

/** The answer to a request, alone or in a stream. @returns undefined where there is none */
async function read(
  flight: Flight,
  answer: UpstreamAnswer,
  id: string | number,
): Promise<{ message: Record<string, unknown>; bytes: number } | undefined> {
  const { rawHeaders, body } = answer;
  const type = rawHeader(rawHeaders, "content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  const encoding = rawHeader(rawHeaders, "content-encoding") ?? "identity";
  if (encoding !== "identity" || (type !== JSON_TYPE && type !== STREAM_TYPE)) return undefined;
  const parser = type === STREAM_TYPE ? createEventParser(ANSWER_BYTES) : undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of relayed(flight, body)) {
    bytes += chunk.byteLength;
    if (bytes > ANSWER_BYTES) return undefined;
    if (parser === undefined) {
      chunks.push(chunk);
      continue;
    }
    for (const event of pushed(parser, chunk) ?? []) {
      const message = event?.event === "message" ? ownAnswer(Buffer.from(event.data, "utf8"), id) : undefined;
      if (message !== undefined) return { message, bytes };
    }
  }
  const message = parser === undefined ? ownAnswer(Buffer.concat(chunks), id) : undefined;
  return message && { message, bytes };
}

/** @returns undefined for an event that is too long: no answer of ours */
function pushed(
  parser: ReturnType<typeof createEventParser>,
  chunk: Uint8Array,
): ReturnType<typeof parser.push> | undefined {
  try {
    return parser.push(chunk);
  } catch (error) {
    if (error instanceof EventTooLargeError) return undefined;
    throw error;
  }
}
