import { InvalidRequestError } from "../core/oauth/errors.ts";
import type { ExactCall } from "../approvals/content.ts";
import type { UpstreamAnswer } from "../system/egress-upstreams.ts";
import { bodyBounds, type BodyBounds } from "./admission.ts";
import { awsForward, awsSignature, awsTarget, checkAwsCall, readAwsBody } from "./aws-call.ts";
import { isPlainQuery, parametersOf, segmentsOf } from "./canonical-path.ts";
import { decided, refused, type ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { BadGatewayError, type ProxiedAnswer, type ProxiedRequest } from "./exchange.ts";
import { APPROVAL_HEADER } from "./approved.ts";
import { exactHttp } from "./exact-call.ts";
import {
  forwardedHeaders,
  isEncoded,
  relayedHeaders,
  RELAYED,
  type HeaderLines,
  rawHeader,
} from "./forwarded-headers.ts";
import { patiently, untilOf } from "./patience.ts";
import { waitPreferred } from "./prefer.ts";
import { httpContent, saidOtherwise, type HttpSaid } from "./http-said.ts";
import { inspectedBody } from "./inspected-body.ts";
import type { CallContent } from "./recording.ts";
import { flying, relayed, relayedBody, takeOff, type Flight } from "./relay.ts";
import { checkSaidOnce, malformed, readRequestBody, type RequestBody } from "./request-body.ts";
import type { ChangedCall } from "./sent-call.ts";
import { traceOf } from "./trace.ts";
import { httpUpstreamOf, type HttpUpstream } from "./upstream.ts";

const METHODS = new Set(["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]);

/**
 * Proxies one HTTP call (CONTRACT §8). Its methods and paths stand for actions; its query and JSON body are what conditions
 * see as `args`.
 *
 * @returns undefined where there is no such resource
 * @throws whatever {@link decided} throws; {InvalidRequestError} what two readers could read differently; {BadGatewayError}
 */
export async function httpCall(deps: ProxyDeps, request: ProxiedRequest): Promise<ProxiedAnswer | undefined> {
  const resource = deps.trust().resourceByName(request.resource);
  if (resource?.kind !== "http") return undefined;
  const holder = await deps.holder(request.presented, `${deps.issuer}/http/${resource.name}`);
  const upstream = httpUpstreamOf(resource);
  const trace = traceOf(request.headers);
  const blank: ProxiedCall = {
    resource,
    holder,
    requestId: request.presented.requestId,
    actions: [],
    args: {},
    call: { kind: "http", method: request.method, path: request.path || "/" },
    // Not `path`: that is the chain.
    facts: { method: request.method, target: (request.path || "/").slice(0, 512) },
    secrets: upstream.inject?.secrets ?? [],
    credential: upstream.inject?.credential,
    traceId: trace.id,
    whenOver: request.whenOver,
    whenGone: request.whenGone,
  };
  const bounds = bodyBounds(resource, deps.clock.now());
  const read = await readCall(request, { upstream, blank, bounds }).catch((error: unknown) =>
    refused(deps, blank, error),
  );
  const { headers, call } = read;
  const seconds = waitPreferred(headers["prefer"]);
  const decision = await (seconds === undefined
    ? decided(deps, call)
    : patiently(deps, { call, until: untilOf(deps, call, seconds), whenGone: request.whenGone }, (now) =>
        decided(deps, now),
      ));
  // As it was decided on: an inspector may have changed it.
  const { sends } = decision.order;
  const body = sends === undefined ? read.body : sends.body;
  const target = sends === undefined ? read.target : targetOf(upstream, { path: request.path, query: sends.query });
  const { flight, injected } = await takeOff(deps, {
    call: decision.order,
    decided: decision,
    inject: upstream.inject,
    whenGone: request.whenGone,
  });
  return await flying(flight, async () => {
    const { credential } = decision;
    const { aws, origin } = upstream;
    const order = {
      origin,
      path: target,
      method: request.method,
      headers: {
        ...headers,
        "user-agent": "ephor",
        ...trace.headers,
        ...(decision.approval && { [APPROVAL_HEADER]: decision.approval.claim }),
        ...(upstream.inject && injected !== undefined ? { [upstream.inject.header]: injected } : {}),
      },
      body,
      internal: upstream.internal,
    };
    const { path, parameters } = read;
    const unsigned = aws && { scope: aws, origin, method: request.method, path, parameters, headers, body };
    const answer = await flight.send(
      order,
      unsigned && credential && (() => awsSignature(credential, unsigned, deps.clock.nowMs())),
    );
    return await answered(flight, answer, request.method);
  });
}

/** A call that was read once: what is decided on, and what is sent. */
interface ReadCall {
  readonly headers: Record<string, string>;
  readonly body: RequestBody["body"];
  readonly call: ProxiedCall;
  readonly path: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** The path with its query. */
  readonly target: string;
}

/** @throws {InvalidRequestError} */
async function readCall(
  request: ProxiedRequest,
  at: { upstream: HttpUpstream; blank: ProxiedCall; bounds: BodyBounds },
): Promise<ReadCall> {
  const { upstream, blank, bounds } = at;
  const { segments, parameters } = readTarget(request);
  const { aws } = upstream;
  const headers = forwardedHeaders(request.headers, {
    forward: aws ? awsForward(request.headers, upstream.forward) : upstream.forward,
    injected: upstream.inject ? [upstream.inject.header] : [],
  });
  if (headers === undefined) throw malformed("A header occurs more than once.");
  // Several pieces in one answer would have edges that nobody looks at; whoever serves may take such a wish for none.
  if (upstream.inject !== undefined && headers["range"]?.includes(",") === true) delete headers["range"];
  const type = headers["content-type"];
  const { body, value, json, over, bound } = await (aws
    ? readAwsBody(request, type, { upstream, bounds })
    : readRequestBody(request, type, bounds));
  const actions = upstream.routes.actionsOf(request.method, segments);
  const isKnown = body === undefined || typeof body === "string";
  const { query } = request;
  const said: HttpSaid = { request, query, parameters, headers, value };
  const content = (): CallContent => httpContent(said, isKnown ? undefined : (type ?? "none"));
  const exact = (): ExactCall => exactHttp({ ...request, headers, body: bound ?? (body as string | undefined) });
  const call = { ...blank, actions, args: { ...parameters, ...json }, over, content, ...(isKnown && { exact }) };
  if (aws === undefined) {
    checkSaidOnce(parameters, json);
    const path = targetOf(upstream, request);
    const withArguments = (changed: unknown): ChangedCall | undefined => saidOtherwise(said, changed);
    return {
      headers,
      body,
      call: isKnown ? { ...call, withArguments } : call,
      path,
      parameters,
      target: path,
    };
  }
  checkAwsCall({ parameters, headers, json });
  // Only what is known to be whole has a length that we may say.
  if (!isKnown && !(body instanceof Uint8Array)) headers["content-length"] = String(request.length);
  const operation = headers["x-amz-target"];
  const named = operation === undefined ? {} : { operation };
  const called = { ...call, call: { ...call.call, ...named }, facts: { ...call.facts, ...named } };
  return { headers, body, call: called, parameters, ...awsTarget(upstream, { ...request, segments, parameters }) };
}

/** @throws {InvalidRequestError} */
function readTarget(request: ProxiedRequest): {
  segments: readonly string[];
  parameters: Readonly<Record<string, unknown>>;
} {
  if (!METHODS.has(request.method))
    throw new InvalidRequestError({ reason: "method_not_allowed", status: 405, help: "This method is not proxied." });
  const segments = segmentsOf(request.path === "" ? "/" : request.path);
  if (segments === undefined)
    throw malformed(
      "The path is not canonical: no empty or dot segments, no encoded separators, no needless encoding.",
    );
  const { query } = request;
  if (query === undefined) return { segments, parameters: {} };
  const parameters = isPlainQuery(query) ? parametersOf(query) : undefined;
  if (parameters === undefined) throw malformed("The query cannot be read.");
  // RFC 6750 §2.3 is not served: a token in a URL is in somebody's log (A-PRX-01).
  if (parameters["access_token"] !== undefined) throw malformed("A token belongs in the Authorization header.");
  return { segments, parameters };
}

function targetOf(upstream: HttpUpstream, { path, query }: Pick<ProxiedRequest, "path" | "query">): string {
  const target = `${upstream.basePath}${path}` || "/";
  return query === undefined ? target : `${target}?${query}`;
}

/** @throws {BadGatewayError} for a body that we could not look through; {DeniedError} for one that an inspection refused */
async function answered(flight: Flight, answer: UpstreamAnswer, method: string): Promise<ProxiedAnswer> {
  const { rawHeaders, body } = answer;
  if (answer.status === 101 || isEncoded(rawHeaders)) {
    body.destroy();
    flight.finish("upstream_error", { problem: "encoding" });
    throw new BadGatewayError(502);
  }
  const lines: HeaderLines = [...relayedHeaders(rawHeaders, (value) => flight.masking.holds(value)), ...RELAYED];
  const length = lengthOf(rawHeaders, { status: answer.status, method });
  const type = rawHeader(rawHeaders, "content-type");
  const chunks = relayed(flight, body);
  const isBare = method === "HEAD" || answer.status === 204 || answer.status === 304;
  const { judge } = flight;
  const isPart = answer.status === 206;
  if (isPart) flight.masking.ofPiece();
  const judged = judge && !isBare ? await inspectedBody(flight, judge, { chunks, type, isPart }) : undefined;
  const flowing = judged?.body ?? chunks;
  return {
    status: answer.status === 401 || answer.status === 407 ? 502 : answer.status,
    // Masked in place, so the length stays what it was; one that was inspected may not have.
    headers: [...lines, ...(judged === undefined || judged.isAsItCame ? length : [])],
    body: relayedBody(flight, flight.tap?.through(flowing, type) ?? flowing),
  };
}

function lengthOf(raw: readonly string[], { status, method }: { status: number; method: string }): HeaderLines {
  const length = rawHeader(raw, "content-length");
  const isBare = status === 204 || status === 304 || (method === "HEAD" && length === undefined);
  return isBare || length === undefined || !/^\d{1,15}$/.test(length) ? [] : [["Content-Length", length]];
}
