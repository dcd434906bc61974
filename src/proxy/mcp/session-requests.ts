import { rawHeader } from "../forwarded-headers.ts";
import { InvalidRequestError, InvalidTokenError } from "../../core/oauth/errors.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { checkLives } from "../check-lives.ts";
import { decided, refused, type DecidedCall, type ProxiedCall } from "../decided.ts";
import {
  BadGatewayError,
  deniedData,
  DeniedError,
  LimitedError,
  type ProxiedAnswer,
  type ProxiedRequest,
} from "../exchange.ts";
import { forwardedHeaders, RELAYED, type HeaderLines } from "../forwarded-headers.ts";
import { bearerOf, type CallContent } from "../recording.ts";
import { flying, relayedBody, takeOff, type Flight } from "../relay.ts";
import { traceOf } from "../trace.ts";
import { events, STREAM_LINES, STREAM_TYPE } from "./answering.ts";
import { METHOD_ACTIONS } from "./actions.ts";
import { judgeTools, type ToolWatch } from "./judge-tools.ts";
import { RPC, RpcError, type McpMessage, type McpResponse, type RpcId, type RpcParams } from "./message.ts";
import { elicitationAnswered } from "./elicited.ts";
import { askedIn, questionsOf } from "./questions.ts";
import { openEvent, sealEvent, type ResumedEvent } from "./resumed-event.ts";
import { spokenWithout } from "./revision.ts";
import type { Session, SessionOwner } from "./sessions.ts";
import { blankCall, type McpDeps, type Turn } from "./turn.ts";

/** @throws {RpcError} 404, so that the client begins anew, for a session that is not this agent's and person's */
export function sessionOf(
  { sessions }: McpDeps,
  { headers }: ProxiedRequest,
  owner: SessionOwner,
): Session | undefined {
  const given = valuesOf(headers, "mcp-session-id");
  const [id] = given;
  if (id === undefined) return undefined;
  const opened = given.length === 1 ? sessions.open(id, owner) : undefined;
  if (opened === undefined) throw noSession();
  return opened;
}

/** What was sent cannot be read: that leaves a trace under its agent's name (INV-29). @throws it */
export async function isMalformed(deps: McpDeps, call: ProxiedCall, error: unknown): Promise<never> {
  if (!(error instanceof RpcError)) return await refused(deps, call, error);
  const reason = { reason: "malformed_request", rpc: error.code } as const;
  await refused(deps, call, new InvalidRequestError(reason)).catch((told: unknown) => {
    if (told instanceof InvalidTokenError) throw told;
  });
  throw error;
}

/** A client is done with its session (MCP 2025-11-25, session management). */
export async function sessionEnded(deps: McpDeps, turn: Turn): Promise<ProxiedAnswer> {
  if ("command" in turn.upstream) {
    const session = sessionOf(deps, turn.request, turn.owner);
    await checkLives(deps, blankCall(turn));
    if (session !== undefined) deps.local.endSession(session.id);
    return { status: 204, headers: RELAYED, body: new Uint8Array() };
  }
  const order = await readSessionOrder(deps, turn);
  const { flight, answer } = await sent(deps, turn, { ...order, method: "DELETE" });
  return closed(flight, answer, 204);
}

/** A client answers what its session's server asked. Nobody else's answer goes anywhere, and none that nobody asked for. */
export async function clientAnswered(deps: McpDeps, turn: Turn, response: McpResponse): Promise<ProxiedAnswer> {
  // What we asked ourselves goes to no server.
  if (await elicitationAnswered(deps, turn, response)) return { status: 202, headers: RELAYED, body: new Uint8Array() };
  const order = await readSessionOrder(deps, turn, (session) => {
    const id = session && askedIn(deps.sessions, response.id, { owner: turn.owner, session: session.id });
    if (id === undefined) throw unasked();
    // A local server's session lives where its process does.
    if ("command" in turn.upstream && !deps.local.hasSession(session?.id ?? "")) throw noSession();
    return id;
  });
  if ("command" in turn.upstream) return await locallyAnswered(deps, turn, { ...order, said: response.said });
  const body = JSON.stringify({ jsonrpc: "2.0", id: order.read, ...response.said });
  const content = (): CallContent => ({ arguments: response.said, bearer: bearerOf(turn.request) });
  const call = { ...order.call, content };
  const { flight, answer } = await sent(deps, turn, { ...order, call, method: "POST", body });
  return closed(flight, answer, 202);
}

/** A client listens to its session, or comes back for the rest of a stream (MCP 2025-11-25, transports). */
export async function sessionListened(deps: McpDeps, turn: Turn): Promise<ProxiedAnswer> {
  const { owner, request } = turn;
  const order = await readSessionOrder(deps, turn, (session) => {
    const [last, ...more] = valuesOf(request.headers, "last-event-id");
    const opened = last && session && openEvent(deps.sessions, last, { owner, session: session.id });
    if (last !== undefined && (!opened || more.length > 0))
      throw new RpcError(RPC.invalidRequest, "There is no such event.", { status: 400 });
    return opened || undefined;
  });
  const { read: resumed } = order;
  const asked: McpMessage | undefined = resumed?.request && {
    kind: "request",
    id: resumed.request.id,
    method: resumed.request.method,
    params: undefined,
  };
  const watch = asked && (await watchOf(deps, turn, { ...order, asked }));
  const headers = { accept: STREAM_TYPE, ...(resumed && { "last-event-id": resumed.event }) };
  const { flight, answer, decision } = await sent(deps, turn, { ...order, method: "GET", headers });
  return await flying(flight, () => listened(deps, turn, { order, asked, watch, flight, answer, decision }));
}

/** What a session's server tells, judged as it comes. */
function listened(
  deps: McpDeps,
  { owner }: Turn,
  at: {
    order: SessionOrder<ResumedEvent | undefined>;
    asked: McpMessage | undefined;
    watch: ToolWatch | undefined;
    flight: Flight;
    answer: UpstreamAnswer;
    decision: DecidedCall;
  },
): ProxiedAnswer {
  const { order, asked, watch, flight, answer } = at;
  const { session, read: resumed } = order;
  const { mayUse } = at.decision;
  const type = rawHeader(answer.rawHeaders, "content-type")?.split(";", 1)[0]?.trim().toLowerCase();
  const encoding = rawHeader(answer.rawHeaders, "content-encoding") ?? "identity";
  if (answer.status !== 200) return closed(flight, answer, 502);
  if (type !== STREAM_TYPE || encoding !== "identity") throw unusable(flight, answer, "answer");
  // The call was made; its answer goes to whoever could still make it.
  const isHis = resumed?.request === undefined || !needsGrant(resumed.request.method) || mayUse(resumed.request.action);
  const by = {
    request: isHis ? asked : undefined,
    questions: questionsOf(deps.sessions, session, owner),
    mayUse,
    shown: watch?.shown ?? (() => []),
  };
  const of = { owner, session: session.id };
  const named = (event: string): string =>
    sealEvent(deps.sessions, { event, ...(resumed?.request && { request: resumed.request }) }, of);
  const body = relayedBody(flight, events({ by, watch, flight, answer }, named));
  return { status: 200, headers: [...RELAYED, ...STREAM_LINES], body };
}

function needsGrant(method: string): boolean {
  return method === "tools/call" || method === "resources/unsubscribe" || METHOD_ACTIONS.has(method);
}

interface SessionOrder<T> {
  readonly session: Session;
  readonly version: string | undefined;
  readonly read: T;
  readonly call: ProxiedCall;
  /** Headers of the caller that go on. */
  readonly kept: Readonly<Record<string, string>>;
}

/** What all of them have: a session of this agent's and person's, and no revision but those that have some. */
async function readSessionOrder<T = undefined>(
  deps: McpDeps,
  turn: Turn,
  read?: (session: Session | undefined) => T,
): Promise<SessionOrder<T>> {
  const { request, upstream, owner } = turn;
  const blank = blankCall(turn);
  try {
    const spoken = spokenWithout(request.headers);
    const session = spoken === "modern" ? undefined : sessionOf(deps, request, owner);
    const value = read?.(session) as T;
    if (spoken === "modern" || session === undefined) throw noSession();
    const injected = upstream.inject && "header" in upstream.inject ? [upstream.inject.header] : [];
    const headers = request.headers.filter(([name]) => name.toLowerCase() !== "last-event-id");
    const kept = forwardedHeaders(headers, { forward: upstream.forward, injected });
    if (kept === undefined)
      throw new InvalidRequestError({ reason: "malformed_request", help: "A header occurs more than once." });
    const trace = traceOf(request.headers);
    const method = request.method === "POST" ? "response" : request.method;
    const call: ProxiedCall = {
      ...blank,
      traceId: trace.id,
      free: method,
      call: { kind: "mcp", method },
      facts: { method },
      ...(method === "GET" ? { isListening: true } : { isAside: true }),
      isAside: method !== "GET",
    };
    return { session, version: spoken.version, read: value, call, kept: { ...kept, ...trace.headers } };
  } catch (error) {
    return await isMalformed(deps, blank, error);
  }
}

/** Lists of tools are judged by what is pinned, also the rest of one. */
async function watchOf(
  deps: McpDeps,
  turn: Turn,
  at: { asked: McpMessage; session: Session; version: string | undefined; call: ProxiedCall },
): Promise<ToolWatch | undefined> {
  if (at.asked.method !== "tools/list") return undefined;
  const spoken = { era: "legacy", version: at.version, mirrored: {} } as const;
  const order = { ...turn, message: at.asked, spoken, session: at.session.id, call: at.call };
  return (await judgeTools(deps, order)).watch;
}

async function sent(
  deps: McpDeps,
  turn: Turn,
  order: {
    readonly session: Session;
    readonly version: string | undefined;
    readonly call: ProxiedCall;
    readonly kept: Readonly<Record<string, string>>;
    readonly method: string;
    readonly headers?: Readonly<Record<string, string>>;
    readonly body?: string;
  },
): Promise<{ flight: Flight; answer: UpstreamAnswer; decision: DecidedCall }> {
  const { upstream, request } = turn;
  // A local server has no stream of its own, and what it asks is answered before (A-MCP-14).
  if ("command" in upstream) throw noSession();
  const { session, version, call, kept, method, headers, body } = order;
  const { inject } = upstream;
  const decision = await allowed(deps, call);
  const { flight, injected } = await takeOff(deps, { call, decided: decision, inject, whenGone: request.whenGone });
  const answer = await flight.send({
    origin: upstream.origin,
    path: upstream.basePath === "" ? "/" : upstream.basePath,
    method,
    headers: {
      ...kept,
      accept: `application/json, ${STREAM_TYPE}`,
      ...headers,
      ...(body !== undefined && { "content-type": "application/json" }),
      "user-agent": "ephor",
      ...(version !== undefined && { "mcp-protocol-version": version }),
      "mcp-session-id": session.id,
      ...(inject && injected !== undefined ? { [inject.header]: injected } : {}),
    },
    body,
    internal: upstream.internal,
  });
  return { flight, answer, decision };
}

/** @throws {RpcError} where it is denied, or not now; whatever {@link decided} throws */
async function allowed(deps: McpDeps, call: ProxiedCall): Promise<DecidedCall> {
  return await decided(deps, call).catch((error: unknown) => {
    if (error instanceof LimitedError) {
      const { status, detail, retryAfterSeconds } = error;
      throw new RpcError(RPC.denied, detail, { status, retryAfterSeconds, data: { decision: error.decision } });
    }
    if (!(error instanceof DeniedError)) throw error;
    throw new RpcError(RPC.denied, error.detail, { status: 403, data: deniedData(error) });
  });
}

/** The answer to a local server's question goes to the process that is its session, which waits for it or does not. */
async function locallyAnswered(
  deps: McpDeps,
  turn: Turn,
  order: { readonly session: Session; readonly call: ProxiedCall; readonly read: RpcId; readonly said: RpcParams },
): Promise<ProxiedAnswer> {
  const call = { ...order.call, secrets: [] };
  const decision = await allowed(deps, call);
  const { whenGone } = turn.request;
  const { flight } = await takeOff(deps, { call, decided: decision, inject: undefined, whenGone });
  return await flying(flight, async () => {
    const isTaken = await flight.leave(async () => {
      const taken = deps.local.answer(order.session.id, order.read, order.said);
      return { status: taken ? 202 : 400, rawHeaders: [], body: EMPTY };
    });
    flight.finish("done");
    if (isTaken.status !== 202) throw unasked();
    return { status: 202, headers: RELAYED, body: new Uint8Array() };
  });
}

const EMPTY: UpstreamAnswer["body"] = {
  async *[Symbol.asyncIterator]() {},
  destroy() {},
};

function unasked(): RpcError {
  return new RpcError(RPC.invalidRequest, "Nobody asked for this answer.", { status: 400 });
}

/** What has no body for the client: done, not served by this server, or over. */
function closed(flight: Flight, answer: UpstreamAnswer, done: 202 | 204 | 502): ProxiedAnswer {
  const { status } = answer;
  const isDone = done !== 502 && status >= 200 && status < 300;
  if (!isDone && ![400, 404, 405, 409].includes(status)) throw unusable(flight, answer, "answer");
  answer.body.destroy();
  flight.finish("done");
  if (isDone) return { status: done, headers: RELAYED, body: new Uint8Array() };
  if (status === 405) throw new InvalidRequestError({ reason: "method_not_allowed", status: 405, help: "Use POST." });
  if (status === 404) throw noSession();
  throw new RpcError(RPC.invalidRequest, "The server does not take this now.", { status });
}

function unusable(flight: Flight, answer: UpstreamAnswer, problem: string): BadGatewayError {
  answer.body.destroy();
  flight.finish("upstream_error", { problem });
  return new BadGatewayError(502);
}

function noSession(): RpcError {
  return new RpcError(RPC.invalidRequest, "There is no such session.", { status: 404 });
}

function valuesOf(headers: HeaderLines, wanted: string): string[] {
  return headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
}
