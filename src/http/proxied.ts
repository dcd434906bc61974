import type { IncomingMessage, ServerResponse } from "node:http";
import { ProblemError } from "../api/problem.ts";
import { InvalidRequestError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import {
  AccountRequiredError,
  ApprovalRequiredError,
  BadGatewayError,
  CutError,
  DeniedError,
  LimitedError,
  type ProxiedAnswer,
  type ProxiedRequest,
} from "../proxy/exchange.ts";
import { ForbiddenOriginError } from "../proxy/mcp/mcp-call.ts";
import type { HeaderLines } from "../proxy/forwarded-headers.ts";
import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { ClientGoneError, discardBody, readBody } from "./body.ts";
import { LIMITS } from "./limits.ts";
import { problemAnswer } from "./problem.ts";
import { isGone, readerOf, whenOver } from "./reader.ts";
import { headerText, refuseRepeatedHeaders } from "./request.ts";
import type { Addresses, NodeHandler, RequestTarget } from "./request.ts";
import type { EdgeRefusal, Rooms } from "./rooms.ts";

/** What the proxied paths are built from. */
export interface ProxiedDeps {
  readonly issuer: string;
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly addresses: Addresses;
  readonly nextRequestId: () => string;
  readonly dpopNonce: () => string;
  readonly refusedAtEdge: (refusal: EdgeRefusal) => void;
  readonly proxy: Rooms["proxy"];
  /** On every answer of ours. */
  readonly headers: Readonly<Record<string, string>>;
}

/** Which protocol is proxied below a path. */
type Protocol = "http" | "mcp";

/** One path below `/http/` or `/mcp/`: the resource's name, and what follows. */
const PROXIED = /^\/(http|mcp)\/([^/]*)(.*)$/s;

/**
 * The handler of proxied paths, on Node's own objects (performance.md, "What decides", 6).
 *
 * @returns undefined for every other path
 */
export function createProxied(deps: ProxiedDeps): (path: string) => NodeHandler | undefined {
  let inFlight = 0;
  // Entered when the head is there: whoever may call holds what his call needs from then on.
  const enter = (): (() => void) => {
    if (inFlight >= LIMITS.proxiedInFlight) throw new TemporarilyUnavailableError({ reason: "overloaded" });
    inFlight++;
    return () => void inFlight--;
  };
  return (path) => {
    const [, protocol, resource = "", rest = ""] = PROXIED.exec(path) ?? [];
    if (protocol === undefined) return undefined;
    return (req, res, target) => {
      const exchange = { deps, protocol: protocol as Protocol, resource, rest, req, res, target, enter };
      void serve(exchange);
    };
  };
}

interface Exchange {
  readonly deps: ProxiedDeps;
  readonly protocol: Protocol;
  readonly resource: string;
  readonly rest: string;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly target: RequestTarget;
  /** @returns what is called when it is over. @throws {TemporarilyUnavailableError} `overloaded` */
  readonly enter: () => () => void;
}

/** Never rejects. */
async function serve(exchange: Exchange): Promise<void> {
  const { deps, protocol, req } = exchange;
  const startedMs = deps.clock.monotonicMs();
  const requestId = deps.nextRequestId();
  deps.metrics.httpInFlight.inc();
  const after: (() => void)[] = [];
  const over = (): void => after.splice(0).forEach((call) => call());
  let status: number;
  try {
    after.push(exchange.enter());
    refuseRepeatedHeaders(req);
    const request = requestOf(exchange, requestId, (call) => after.push(call));
    const answer = await deps.proxy[protocol](request);
    if (answer === undefined) throw new ProblemError("not_found");
    status = await write(exchange, answer, requestId);
  } catch (thrown) {
    // Before the rest of its body is read: a stranger who sends one slowly holds a connection, and nobody's place.
    over();
    status = await refuse(exchange, thrown, requestId);
  }
  over();
  deps.metrics.httpInFlight.dec();
  const seconds = (deps.clock.monotonicMs() - startedMs) / 1000;
  deps.metrics.httpRequestSeconds.labels(`/${protocol}/{resource}`, String(status)).observe(seconds);
}

function requestOf(
  { deps, protocol, resource, rest, req, res, target }: Exchange,
  requestId: string,
  over: ProxiedRequest["whenOver"],
): ProxiedRequest {
  const method = req.method ?? "";
  return {
    presented: {
      authorization: req.headers.authorization,
      dpop: headerText(req.headers["dpop"]),
      method,
      // RFC 9449 §4.3: without query and fragment.
      url: `${deps.issuer}${target.path}`,
      requestId,
      route: `${method} /${protocol}/{resource}`,
      remoteAddress: deps.addresses.clientOf(req),
    },
    resource,
    method,
    path: rest,
    query: target.query,
    headers: linesOf(req),
    read: (maxBytes) => readBody(req, maxBytes),
    flow: (maxBytes) => flowOf(req, maxBytes),
    length: req.headers["content-length"] === undefined ? undefined : Number(req.headers["content-length"]),
    whenOver: over,
    whenGone: lazyGone(req, res),
  };
}

/** One listener, however many of a request's calls want to know. */
function lazyGone(req: IncomingMessage, res: ServerResponse): ProxiedRequest["whenGone"] {
  let calls: (() => void)[] | undefined;
  return (call) => {
    if (isGone(req, res)) return call();
    if (calls !== undefined) return void calls.push(call);
    calls = [call];
    whenOver(req, res, () => res.writableFinished || calls?.splice(0).forEach((one) => one()));
  };
}

function linesOf({ rawHeaders }: IncomingMessage): HeaderLines {
  const lines: [string, string][] = [];
  for (let i = 0; i < rawHeaders.length; i += 2) lines.push([rawHeaders[i] as string, rawHeaders[i + 1] as string]);
  return lines;
}

/** @throws {InvalidRequestError} `body_too_large`, from the iterator; {ClientGoneError} likewise */
function flowOf(req: IncomingMessage, maxBytes: number): AsyncIterable<Uint8Array> | undefined {
  const { "content-length": length, "transfer-encoding": coding } = req.headers;
  if (coding === undefined && (length === undefined || Number(length) === 0)) return undefined;
  if (Number(length ?? 0) > maxBytes) throw tooLarge();
  return flowing(req, maxBytes);
}

async function* flowing(req: IncomingMessage, maxBytes: number): AsyncGenerator<Uint8Array> {
  let size = 0;
  try {
    for await (const chunk of req as AsyncIterable<Buffer>) {
      size += chunk.length;
      if (size > maxBytes) throw tooLarge();
      yield chunk;
    }
  } catch (error) {
    throw error instanceof InvalidRequestError ? error : new ClientGoneError();
  }
}

/** Relays, as fast as the caller reads. @returns the status, or 499 when he is gone */
async function write({ deps, req, res }: Exchange, answer: ProxiedAnswer, requestId: string): Promise<number> {
  const { status, headers, body } = answer;
  const lines = [...headers, ["X-Request-Id", requestId] as const].flat();
  if (body instanceof Uint8Array) {
    if (isGone(req, res)) return 499;
    if (!(await discardBody(req))) lines.push("Connection", "close");
    res.writeHead(status, [...lines, "Content-Length", String(body.byteLength)]);
    res.end(body);
    return status;
  }
  if (isGone(req, res) || !body.mayFlow()) {
    body.ended("client_gone");
    res.destroy();
    return 499;
  }
  // What lies here for a caller who does not take it must not come out after a kill (CONTRACT §2 rule 7).
  const reader = readerOf(req, res);
  body.whenCut(reader.drop);
  if ("text" in body) {
    res.writeHead(status, [...lines, "Content-Length", String(body.bytes)]);
    // As text, so that it leaves with its head in one piece.
    res.end(body.text, "utf8");
    body.ended((await reader.hasAll()) ? "whole" : "client_gone");
    return status;
  }
  deps.metrics.proxiedStreams.inc();
  try {
    res.writeHead(status, lines);
    // The head of an event stream is what its reader waits for.
    res.flushHeaders();
    for await (const chunk of body.chunks) {
      if (!body.mayFlow()) break;
      if (!res.write(chunk)) await reader.drained();
      if (isGone(req, res)) break;
    }
    if (isGone(req, res) || !body.mayFlow()) res.destroy();
    else res.end();
    body.ended((await reader.hasAll()) ? "whole" : "client_gone");
  } catch {
    // Cut: a connection that ends in the middle of a body is how HTTP says that it is not whole.
    res.destroy();
    body.ended("client_gone");
  } finally {
    deps.metrics.proxiedStreams.dec();
  }
  return status;
}

async function refuse(exchange: Exchange, thrown: unknown, requestId: string): Promise<number> {
  const { deps, protocol, resource, req, res } = exchange;
  if (thrown instanceof ClientGoneError || isGone(req, res)) return 499;
  // Cut before anything of the answer was there: it ends as one that was cut in its middle.
  if (res.headersSent || thrown instanceof CutError) {
    res.destroy();
    return 499;
  }
  const { status, headers, json } = faceOf(exchange, thrown, requestId);
  if (thrown instanceof OAuthError || thrown instanceof LimitedError)
    deps.metrics.refusals.inc({ reason: thrown.reason });
  else if (status === 500) deps.log.error("http.failed", { requestId, route: `/${protocol}/{resource}`, err: thrown });
  else if (thrown instanceof BadGatewayError)
    deps.log.warn("proxy_upstream", { requestId, resource, reason: thrown.message, err: thrown.cause });
  const closes = !(await discardBody(req));
  const text = JSON.stringify(json);
  res.writeHead(status, {
    ...deps.headers,
    ...headers,
    "X-Request-Id": requestId,
    "Content-Length": Buffer.byteLength(text),
    ...(closes && { Connection: "close" }),
  });
  res.end(text);
  return status;
}

interface Face {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly json: unknown;
}

const PROBLEM = { "Content-Type": "application/problem+json" };

function faceOf({ deps, protocol, resource, req }: Exchange, thrown: unknown, requestId: string): Face {
  if (thrown instanceof ApprovalRequiredError) {
    const { decision, detail, approval } = thrown;
    const isOpen = approval.status === "pending";
    const code = isOpen ? "approval_required" : "approval_denied";
    const type = `urn:ephor:problem:${code}`;
    const title = isOpen
      ? "An approval is needed"
      : approval.status === "denied"
        ? "Denied by an approver"
        : "Nobody approved it in time";
    const json = { type, title, status: 403, code, detail, decision, approval, request_id: requestId };
    return { status: 403, headers: PROBLEM, json };
  }
  if (thrown instanceof LimitedError) {
    const { status, reason: code, detail, decision, retryAfterSeconds } = thrown;
    const type = `urn:ephor:problem:${code}`;
    const title = status === 429 ? "Too many calls" : "The upstream is away";
    const json = { type, title, status, code, detail, decision, request_id: requestId };
    return { status, headers: { ...PROBLEM, "Retry-After": String(retryAfterSeconds) }, json };
  }
  if (thrown instanceof AccountRequiredError) {
    const { code, decision, detail, connect } = thrown;
    const type = `urn:ephor:problem:${code}`;
    const title = "An account at the upstream is needed";
    const json = { type, title, status: 403, code, detail, decision, connect, request_id: requestId };
    return { status: 403, headers: PROBLEM, json };
  }
  if (thrown instanceof DeniedError) {
    const { decision, detail } = thrown;
    const type = "urn:ephor:problem:access_denied";
    const json = {
      type,
      title: "Not allowed",
      status: 403,
      code: "access_denied",
      detail,
      decision,
      request_id: requestId,
    };
    return { status: 403, headers: PROBLEM, json };
  }
  if (thrown instanceof BadGatewayError) {
    const { status } = thrown;
    const type = "urn:ephor:problem:upstream";
    const json = { type, title: "The upstream did not answer", status, code: "upstream", request_id: requestId };
    return { status, headers: PROBLEM, json };
  }
  if (thrown instanceof ForbiddenOriginError) return { status: 403, headers: {}, json: { error: "origin" } };
  const lacking = thrown instanceof OAuthError ? thrown.facts["scope"] : undefined;
  const origin = new URL(deps.issuer);
  const base = origin.pathname.replace(/\/$/, "");
  const { status, headers, json } = problemAnswer(thrown, {
    requestId,
    scope: typeof lacking === "string" ? lacking : resource,
    resourceMetadataUrl: `${origin.origin}/.well-known/oauth-protected-resource${base}/${protocol}/${resource}`,
    authorization: req.headers.authorization,
    dpopNonce: deps.dpopNonce,
  });
  return { status, headers: headers ?? {}, json };
}

function tooLarge(): InvalidRequestError {
  return new InvalidRequestError({ reason: "body_too_large", status: 413, help: "The body is too large." });
}
