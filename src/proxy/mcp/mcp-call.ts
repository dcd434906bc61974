import { InvalidRequestError } from "../../core/oauth/errors.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { decided, type DecidedCall, type ProxiedCall } from "../decided.ts";
import type { ProxyDeps } from "../deps.ts";
import { bodyBounds } from "../admission.ts";
import { APPROVAL_HEADER } from "../approved.ts";
import { exactMcp, withClaim } from "../exact-call.ts";
import type { ProxiedAnswer, ProxiedRequest } from "../exchange.ts";
import { forwardedHeaders, type HeaderLines } from "../forwarded-headers.ts";
import { bearerOf } from "../recording.ts";
import { flying, takeOff, type Flight } from "../relay.ts";
import { traceOf } from "../trace.ts";
import { mcpUpstreamOf } from "../upstream.ts";
import { askedBy } from "./actions.ts";
import { answered, errorAnswer } from "./answering.ts";
import { awaited } from "./awaited.ts";
import { rpcOf } from "./denials.ts";
import { judgeTools } from "./judge-tools.ts";
import { questionsOf } from "./questions.ts";
import { isRecord, readMessage, RpcError, writeMessage, type McpMessage, type McpResponse } from "./message.ts";
import { MODERN, namingHeaders, spokenBy, type Spoken } from "./revision.ts";
import { unwrapped, type Round } from "./round.ts";
import { clientAnswered, isMalformed, sessionEnded, sessionListened, sessionOf } from "./session-requests.ts";
import type { Session } from "./sessions.ts";
import { checkSession, localAnswer } from "./stdio-call.ts";
import { localServerOf } from "./stdio-server.ts";
import { blankCall, type McpDeps, type Turn } from "./turn.ts";

const JSON_TYPE = "application/json";
const STREAM_TYPE = "text/event-stream";

/** A message that was read, with what it asks for. */
interface Order {
  readonly message: McpMessage;
  readonly spoken: Spoken;
  /** The upstream's name of the session. */
  readonly session: string | undefined;
  /** The session as it was opened. */
  readonly opened: Session | undefined;
  /** What its client brings back of an approval that it was asked to see to. */
  readonly round: Round | undefined;
  readonly call: ProxiedCall;
  /** Headers of the caller that go on. */
  readonly headers: Readonly<Record<string, string>>;
}

/**
 * Proxies one MCP message over Streamable HTTP (CONTRACT §8).
 *
 * @returns undefined where there is no such resource
 * @throws whatever {@link decided} throws but denials, which are JSON-RPC errors here
 */
export async function mcpCall(deps: McpDeps, request: ProxiedRequest): Promise<ProxiedAnswer | undefined> {
  const resource = deps.trust().resourceByName(request.resource);
  const upstream = resource?.kind === "mcp" ? (mcpUpstreamOf(resource) ?? localServerOf(resource)) : undefined;
  if (resource?.kind !== "mcp" || upstream === undefined || request.path !== "") return undefined;
  checkOrigin(deps, request);
  if (request.method !== "POST" && !isOfSession(request, upstream))
    throw new InvalidRequestError({ reason: "method_not_allowed", status: 405, help: "Use POST." });
  const holder = await deps.holder(request.presented, `${deps.issuer}/mcp/${resource.name}`);
  const { sub } = holder.token.claims;
  const turn: Turn = {
    resource,
    upstream,
    holder,
    request,
    owner: { resource: resource.name, agent: holder.agent.name, sub },
  };
  try {
    if (request.method === "DELETE") return await sessionEnded(deps, turn);
    if (request.method === "GET") return await sessionListened(deps, turn);
    const order = await readOrder(deps, turn);
    if ("response" in order) return await clientAnswered(deps, turn, order.response);
    return await awaited(deps, { ...order, turn }, (call) => forwarded(deps, turn, { ...order, call })).catch(
      (error: unknown) => {
        throw rpcOf(error, order.message);
      },
    );
  } catch (error) {
    if (error instanceof RpcError) return errorAnswer(error);
    throw error;
  }
}

/** In the older revisions a client listens to its session (GET) and ends it (DELETE); nobody else does either (A-MCP-08). */
function isOfSession({ method, headers }: ProxiedRequest, upstream: Turn["upstream"]): boolean {
  const isServed = method === "DELETE" || (method === "GET" && !("command" in upstream));
  const hasSession = headerOf(headers, "mcp-session-id") !== undefined;
  return isServed && (hasSession || "command" in upstream) && headerOf(headers, "mcp-protocol-version") !== MODERN[0];
}

/** DNS rebinding: a page of somebody else's must not speak to us with a user's network (MCP, transports). */
function checkOrigin({ issuer }: ProxyDeps, { headers }: ProxiedRequest): void {
  const origins = headers.filter(([name]) => name.toLowerCase() === "origin");
  if (origins.every(([, value]) => value === new URL(issuer).origin)) return;
  throw new ForbiddenOriginError();
}

/** A page of another origin asks. */
export class ForbiddenOriginError extends Error {
  override readonly name = "ForbiddenOriginError";
}

async function readOrder(deps: McpDeps, turn: Turn): Promise<Order | { readonly response: McpResponse }> {
  const { request, resource, upstream, owner } = turn;
  const blank = blankCall(turn);
  try {
    const type = headerOf(request.headers, "content-type")?.split(";", 1)[0]?.trim().toLowerCase();
    if (type !== JSON_TYPE)
      throw new InvalidRequestError({ reason: "content_type", status: 415, help: "The body must be JSON." });
    const bounds = bodyBounds(resource, deps.clock.now());
    const bytes = await request.read(bounds.readBytes);
    const read = readMessage(bytes);
    if (read.kind === "response") return { response: read };
    const spoken = spokenBy(read, request.headers);
    const { message, round } = spoken.era === "modern" ? unwrapped(deps.sessions, read, owner) : { message: read };
    const asked = askedBy(message, spoken.era);
    const opened = spoken.era === "legacy" ? sessionOf(deps, request, owner) : undefined;
    const session = opened?.id;
    if ("command" in upstream) checkSession(deps.local, { message, era: spoken.era, session });
    const kept = forwardedHeaders(request.headers, {
      forward: upstream.forward,
      injected: upstream.inject && "header" in upstream.inject ? [upstream.inject.header] : [],
    });
    if (kept === undefined)
      throw new InvalidRequestError({ reason: "malformed_request", help: "A header occurs more than once." });
    const meta = message.params?.["_meta"];
    const trace = traceOf(request.headers, isRecord(meta) ? meta : undefined);
    const call: ProxiedCall = {
      ...blank,
      traceId: trace.id,
      ...(asked.kind === "free"
        ? { free: message.method, call: { kind: "mcp", method: message.method } }
        : { actions: [asked.action], args: asked.args, call: { kind: "mcp", method: message.method, ...asked.call } }),
      over: bounds.over.read(bytes.byteLength),
      isAside: message.kind === "notification",
      exact: () => exactMcp(message, { ...kept, ...spoken.mirrored }),
      ...(says(message, asked.kind) && sayable({ message, spoken, kept, bearer: bearerOf(request) })),
      facts: { method: message.method, ...(asked.kind === "granted" ? factsOf(asked.call) : {}) },
    };
    return { message, spoken, session, opened, round, call, headers: { ...kept, ...trace.headers } };
  } catch (error) {
    return await isMalformed(deps, blank, error);
  }
}

/** Whether a message can carry something of its sender's: a call, or a notification with more than its own members. */
function says({ kind, params = {} }: McpMessage, asked: "free" | "granted"): boolean {
  return asked === "granted" || (kind === "notification" && Object.keys(params).some((name) => name !== "_meta"));
}

/** What a message says, for whoever keeps or inspects it; of a tool's call also what it is with other arguments. */
function sayable(of: {
  message: McpMessage;
  spoken: Spoken;
  kept: Readonly<Record<string, string>>;
  bearer: string | undefined;
}): Pick<ProxiedCall, "content" | "withArguments"> {
  const { message, spoken, kept, bearer } = of;
  const content = (said: McpMessage) => () => ({ arguments: exactMcp(said, kept).args, bearer });
  // Headers that repeat arguments would go on saying what was taken out.
  if (message.method !== "tools/call" || Object.keys(spoken.mirrored).length > 0) return { content: content(message) };
  return {
    content: content(message),
    withArguments(value) {
      if (!isRecord(value)) return undefined;
      const other = { ...message, params: { ...message.params, arguments: value } };
      return { args: value, exact: () => exactMcp(other, kept), content: content(other), sends: { message: other } };
    },
  };
}

/** What the record keeps of a target: names and addresses, no arguments. */
function factsOf(call: Readonly<Record<string, unknown>>): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const [name, value] of Object.entries(call)) if (typeof value === "string") kept[name] = value.slice(0, 512);
  return kept;
}

/** As it is decided now. */
async function forwarded(deps: McpDeps, turn: Turn, order: Order): Promise<ProxiedAnswer> {
  const { upstream, request } = turn;
  const { message, opened } = order;
  const { call, watch } = await judgeTools(deps, { ...turn, ...order });
  const decision = await decided(deps, call);
  const { owner } = turn;
  const { mayUse, action } = decision;
  const questions = opened && questionsOf(deps.sessions, opened, owner);
  // Without a watch no list of tools was asked for, and none is shown.
  const by = { request: message, questions, mayUse, shown: watch?.shown ?? (() => []) };
  const { flight, injected } = await takeOff(deps, {
    call: decision.order,
    decided: decision,
    inject: upstream.inject,
    whenGone: request.whenGone,
  });
  return await flying(flight, async () => {
    const answer = await sent(deps, { turn, order, flight, decision, injected });
    return await answered(deps, { owner, message, by, watch, session: opened, action, flight, answer });
  });
}

/** To the server, in the form that it reads. */
async function sent(
  deps: McpDeps,
  at: { turn: Turn; order: Order; flight: Flight; decision: DecidedCall; injected: string | undefined },
): Promise<UpstreamAnswer> {
  const { turn, order, flight, decision, injected } = at;
  const { upstream, request, owner } = turn;
  const { spoken, session } = order;
  const message = decision.order.sends?.message ?? order.message;
  if ("command" in upstream) {
    const said = withClaim(message, decision.approval?.claim);
    const local = { upstream, owner, request, message: said, era: spoken.era, session };
    return await localAnswer(deps.local, local, { flight, decision, injected });
  }
  return await flight.send({
    origin: upstream.origin,
    path: upstream.basePath === "" ? "/" : upstream.basePath,
    method: "POST",
    headers: {
      ...order.headers,
      ...spoken.mirrored,
      accept: `${JSON_TYPE}, ${STREAM_TYPE}`,
      "content-type": JSON_TYPE,
      "user-agent": "ephor",
      ...(spoken.version !== undefined && { "mcp-protocol-version": spoken.version }),
      ...(spoken.era === "modern" && namingHeaders(message)),
      ...(session !== undefined && { "mcp-session-id": session }),
      ...(decision.approval && { [APPROVAL_HEADER]: decision.approval.claim }),
      ...(upstream.inject && injected !== undefined ? { [upstream.inject.header]: injected } : {}),
    },
    // The claim has a header here; what a sender puts into its place of a local server is none.
    body: writeMessage(withClaim(message, undefined)),
    internal: upstream.internal,
  });
}

function headerOf(headers: HeaderLines, wanted: string): string | undefined {
  return headers.find(([name]) => name.toLowerCase() === wanted)?.[1];
}
