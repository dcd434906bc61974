import type { IncomingMessage, ServerResponse } from "node:http";
import { checkContentType } from "../core/oauth/form.ts";
import { InvalidRequestError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { ClientGoneError, discardBody, readBody } from "./body.ts";
import { LIMITS } from "./limits.ts";
import { oauthErrorAnswer } from "./oauth-error.ts";
import { mayLeave, writeAtOnce } from "./release.ts";
import { headerText, lazySignal, refuseRepeatedHeaders } from "./request.ts";
import type { Addresses, NodeHandler, RequestTarget } from "./request.ts";
import type { EdgeRefusal, RawOAuthAnswer, RawOAuthRequest } from "./rooms.ts";

/** What the OAuth endpoints are built from. */
export interface RawDeps {
  readonly clock: Clock;
  readonly log: Log;
  readonly metrics: Metrics;
  readonly addresses: Addresses;
  readonly nextRequestId: () => string;
  readonly dpopNonce: () => string;
  readonly refusedAtEdge: (refusal: EdgeRefusal) => void;
  /** On every answer, in the order of Node's raw headers: name, value, name, value. */
  readonly headers: readonly string[];
}

/**
 * The endpoints that take a form and answer JSON by an RFC, on Node's own objects: no Request, no Response, no middleware
 * (performance.md, "What decides", 2). No CORS headers: a browser has no business here.
 *
 * @returns a maker of handlers; the bound on requests in progress is shared by all it makes
 */
export function createRawEndpoints(deps: RawDeps) {
  let inFlight = 0;
  // Entered when the body is there: whoever sends it slowly holds a connection, and nobody's place in a room.
  const enter = (): (() => void) => {
    if (inFlight >= LIMITS.oauthInFlight) throw new TemporarilyUnavailableError({ reason: "overloaded" });
    inFlight++;
    return () => void inFlight--;
  };
  return (path: string, room: (request: RawOAuthRequest) => Promise<RawOAuthAnswer>): NodeHandler => {
    const observe = observer(deps.metrics, path);
    return (req, res, target) => {
      const startedMs = deps.clock.monotonicMs();
      const requestId = deps.nextRequestId();
      deps.metrics.httpInFlight.inc();
      void answerTo({ deps, path, room, req, res, target, requestId, enter }).then((answer) => {
        deps.metrics.httpInFlight.dec();
        const status = answer === undefined ? 499 : write(res, answer, { headers: deps.headers, requestId });
        observe(status, (deps.clock.monotonicMs() - startedMs) / 1000);
      });
    };
  };
}

interface Exchange {
  readonly deps: RawDeps;
  readonly path: string;
  readonly room: (request: RawOAuthRequest) => Promise<RawOAuthAnswer>;
  readonly req: IncomingMessage;
  readonly res: ServerResponse;
  readonly target: RequestTarget;
  readonly requestId: string;
  /** @returns what is called when the room has answered. @throws {TemporarilyUnavailableError} `overloaded` */
  readonly enter: () => () => void;
}

/** Never rejects. Undefined when nobody is there to be answered. */
async function answerTo(exchange: Exchange): Promise<RawOAuthAnswer | undefined> {
  const { deps, path, req, requestId } = exchange;
  let isInRoom = false;
  try {
    refuseForm(exchange);
    const body = await readBody(req, LIMITS.formBytes);
    const leave = exchange.enter();
    isInRoom = true;
    try {
      return await exchange.room(new FormRequest(exchange, body));
    } finally {
      leave();
    }
  } catch (thrown) {
    if (thrown instanceof ClientGoneError) return undefined;
    if (!(thrown instanceof OAuthError)) deps.log.error("http.failed", { requestId, route: path, err: thrown });
    const reason = thrown instanceof OAuthError ? thrown.reason : "internal";
    deps.metrics.refusals.inc({ reason });
    if (!isInRoom) deps.refusedAtEdge({ reason, requestId, route: path, remoteAddress: deps.addresses.clientOf(req) });
    const answer = oauthErrorAnswer(thrown, { authorization: req.headers.authorization, dpopNonce: deps.dpopNonce });
    if (await discardBody(req)) return answer;
    return { ...answer, headers: { ...answer.headers, Connection: "close" } };
  }
}

/** What is wrong with a request whatever its form says (RFC 6749 §3.2). */
function refuseForm({ req, target }: Exchange): void {
  if (req.method !== "POST")
    throw new InvalidRequestError({ reason: "method_not_allowed", status: 405, help: "Use POST." });
  if (target.query !== undefined) {
    // A secret in a URL is in somebody's log already; whoever sends one shall notice (A-TX-03).
    throw new InvalidRequestError({
      reason: "parameter_in_query",
      help: "Parameters belong in the body, not in the URL.",
    });
  }
  refuseRepeatedHeaders(req);
  checkContentType(headerText(req.headers["content-type"]));
}

/** One request, without copies of what nobody may read. */
class FormRequest implements RawOAuthRequest {
  readonly method = "POST";
  readonly path: string;
  readonly authorization: string | undefined;
  readonly dpop: string | undefined;
  readonly accept: string | undefined;
  readonly contentType: string | undefined;
  readonly traceparent: string | undefined;
  readonly body: Uint8Array;
  readonly remoteAddress: string;
  readonly requestId: string;
  readonly receivedAtMs: number;
  readonly #signal: () => AbortSignal;

  constructor({ deps, path, req, res, requestId }: Exchange, body: Uint8Array) {
    const { headers } = req;
    this.path = path;
    this.authorization = headers.authorization;
    this.dpop = headerText(headers["dpop"]);
    this.accept = headers.accept;
    this.contentType = headers["content-type"];
    this.traceparent = headerText(headers["traceparent"]);
    this.body = body;
    this.remoteAddress = deps.addresses.clientOf(req);
    this.requestId = requestId;
    this.receivedAtMs = deps.clock.nowMs();
    this.#signal = lazySignal(req, res);
  }

  get signal(): AbortSignal {
    return this.#signal();
  }
}

/** Writes the answer, if what it releases may still leave. Returns the status that was written, or 499 when nobody was there. */
function write(
  res: ServerResponse,
  answer: RawOAuthAnswer,
  context: { headers: readonly string[]; requestId: string },
): number {
  const isReleased = answer.release !== undefined && mayLeave(res, { ...answer, release: answer.release });
  const { status, headers, body } = answer.release === undefined || isReleased ? answer : unavailable;
  if (res.destroyed) return 499;
  const lines = [...context.headers, "X-Request-Id", context.requestId];
  for (const [name, value] of Object.entries(headers)) lines.push(name, value);
  if (isReleased) {
    writeAtOnce(res, { status, headers: lines, body });
    return status;
  }
  lines.push("Content-Length", String(Buffer.byteLength(body)));
  res.writeHead(status, lines);
  res.end(body);
  return status;
}

const unavailable = oauthErrorAnswer(new TemporarilyUnavailableError({ reason: "permit_lapsed" }), {
  authorization: undefined,
  dpopNonce: () => "",
});

/** Keeps the labelled histograms, for finding one costs more than observing. Statuses are few. */
function observer(metrics: Metrics, route: string): (status: number, seconds: number) => void {
  const children = new Map<number, { observe(seconds: number): void }>();
  return (status, seconds) => {
    let child = children.get(status);
    if (child === undefined) {
      child = metrics.httpRequestSeconds.labels(route, String(status));
      children.set(status, child);
    }
    child.observe(seconds);
  };
}
