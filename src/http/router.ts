import { getRequestListener } from "@hono/node-server";
import type { HttpBindings } from "@hono/node-server";
import { RESPONSE_ALREADY_SENT } from "@hono/node-server/utils/response";
import { Hono } from "hono";
import type { Context } from "hono";
import type { IncomingMessage } from "node:http";
import { ProblemError } from "../api/problem.ts";
import { InvalidRequestError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { authenticate } from "./authenticate.ts";
import { ClientGoneError, discardBody, readBody } from "./body.ts";
import { checkJsonType, checkShape, readJsonBody } from "./json-body.ts";
import { LIMITS } from "./limits.ts";
import { dropLines, lineStream } from "./line-stream.ts";
import { problemAnswer } from "./problem.ts";
import { mayLeave, writeAtOnce, type Release } from "./release.ts";
import { readerOf, whenOver } from "./reader.ts";
import { headerText, lazySignal, refuseRepeatedHeaders } from "./request.ts";
import type { Addresses, NodeHandler } from "./request.ts";
import type { Answer, House, Incoming, Route } from "./route.ts";
import type { AgentCaller, Caller, RequestFacts, Rooms } from "./rooms.ts";

/** What the router is built from. */
export interface RouterDeps {
  readonly routes: readonly Route[];
  readonly rooms: Rooms;
  readonly house: House;
  readonly addresses: Addresses;
  readonly nextRequestId: () => string;
  /** On every answer, unless the route says otherwise. */
  readonly headers: Readonly<Record<string, string>>;
}

type Ctx = Context<{ Bindings: HttpBindings }>;

/** Path parameters as Hono writes them. */
const honoPath = (path: string): string => path.replaceAll(/\{(\w+)\}/g, ":$1");

/** Where the router is asked for a path that it does not have. */
const NO_ROUTE = "(none)";

/** Serves everything but the OAuth forms: routes under one face of errors, 404 and 405 included. */
export function createRouter(deps: RouterDeps): NodeHandler {
  const app = new Hono<{ Bindings: HttpBindings }>();
  const methods = new Map<string, string[]>();
  for (const route of deps.routes) {
    app.on(route.method, honoPath(route.path), (c) => serve(c, { deps, route }));
    methods.set(route.path, [...(methods.get(route.path) ?? []), ...allowedBy(route)]);
  }
  for (const [path, allowed] of methods) {
    app.all(honoPath(path), (c) =>
      refuse(c, deps, { code: "method_not_allowed", allow: allowed.join(", "), route: path }),
    );
  }
  app.notFound((c) => refuse(c as Ctx, deps, { code: "not_found", route: NO_ROUTE }));
  const listener = getRequestListener((request, env) => app.fetch(request, env), {
    overrideGlobalObjects: false,
    // The Host header has no say in anything we answer; whatever it holds is not looked at (A-CLI-10).
    errorHandler: () => new Response(null, { status: 400 }),
  });
  return (req, res) => void listener(req, res);
}

function allowedBy(route: Route): string[] {
  return route.method === "GET" ? ["GET", "HEAD"] : [route.method];
}

function refuse(
  c: Ctx,
  deps: RouterDeps,
  what: { code: "method_not_allowed" | "not_found"; allow?: string; route: string },
): Promise<Response> {
  const thrown = new ProblemError(what.code);
  return answered(c, { deps, pattern: what.route, scope: undefined }, () => {
    throw thrown;
  }).then((response) => {
    if (what.allow !== undefined) response.headers.set("Allow", what.allow);
    return response;
  });
}

function serve(c: Ctx, { deps, route }: { deps: RouterDeps; route: Route }): Promise<Response> {
  const scope = typeof route.auth === "object" ? `ephor:${route.auth.scope}` : undefined;
  return answered(c, { deps, pattern: route.path, scope }, async (facts) => {
    const { incoming } = c.env;
    refuseRepeatedHeaders(incoming);
    // Who asks comes first, so that a stranger learns nothing about what a route takes and costs no parsing.
    const credentials = credentialsOf(incoming, deps.house);
    const asked = (): Promise<Caller | undefined> =>
      authenticate(route.auth, credentials, {
        rooms: deps.rooms,
        request: facts,
        origin: new URL(deps.house.issuer).origin,
      });
    let caller = await asked();
    if (route.method === "GET" && scope !== undefined && caller?.kind === "agent") untilKilled(c, deps, caller);
    const { params, query, body } = await readShapes(c, route).catch((error: unknown) => {
      // An agent at a route of its own is recorded by the room that decides, which will not be asked now (INV-29).
      const agent = route.auth === "agent" && caller?.kind === "agent" ? caller.agent : undefined;
      // Nor will the room be asked that would have judged a client.
      const isUnjudged = route.auth === "client" || route.auth === "transmitter" || route.auth === "channel";
      if ((agent !== undefined || isUnjudged) && !(error instanceof ClientGoneError)) {
        const { requestId, remoteAddress } = facts;
        const reason = error instanceof OAuthError ? error.reason : "malformed_request";
        deps.rooms.refusedAtEdge({
          reason,
          requestId,
          route: route.path,
          remoteAddress,
          ...(agent !== undefined && { agent }),
        });
      }
      throw error;
    });
    // A body may take twenty seconds, and what was decided before it is not done after a kill (CONTRACT §2 rule 7), nor by a
    // session that ended or an operator who was changed meanwhile.
    if (route.body !== undefined && scope !== undefined && caller?.kind === "agent") {
      await deps.rooms.tokenStillLives(caller, facts);
    }
    if (route.body !== undefined && caller !== undefined && credentials.authorization === undefined)
      caller = await asked();
    const request: Incoming<unknown, unknown, unknown, Caller | undefined>["request"] = {
      ...facts,
      accept: incoming.headers.accept,
      lastEventId: headerText(incoming.headers["last-event-id"]),
      isLocal: deps.addresses.isLocal(incoming),
      credentials,
      header: (name) => headerText(incoming.headers[name]),
    };
    return route.handle({ params, query, body, caller, request, rooms: deps.rooms, house: deps.house });
  });
}

/**
 * What an agent reads here is not told after a kill of it (CONTRACT §2 rule 7): neither the rest of what is long, nor what
 * waits behind another answer. What it does is done, and may be told.
 */
function untilKilled(c: Ctx, { rooms }: RouterDeps, caller: AgentCaller): void {
  const { incoming, outgoing } = c.env;
  const over = rooms.accessTokens.follow(caller, readerOf(incoming, outgoing).drop);
  whenOver(incoming, outgoing, over);
}

async function readShapes(c: Ctx, route: Route): Promise<{ params: unknown; query: unknown; body: unknown }> {
  const params = route.params === undefined ? undefined : checkShape(route.params, c.req.param(), "path");
  const query = readQuery(c, route);
  return { params, query, body: await readRequestBody(c.env.incoming, route) };
}

/** Runs a handler, gives its errors their face, observes, and makes the response. */
async function answered(
  c: Ctx,
  { deps, pattern, scope }: { deps: RouterDeps; pattern: string; scope: string | undefined },
  handle: (facts: RequestFacts) => Promise<Answer> | Answer,
): Promise<Response> {
  const { house, rooms } = deps;
  const { incoming } = c.env as HttpBindings;
  const startedMs = house.clock.monotonicMs();
  const facts = factsOf(c, deps, pattern);
  const { requestId } = facts;
  let answer: Answer;
  let closes = false;
  try {
    answer = await handle(facts);
    if (answer.released !== undefined) return atOnce(c, { deps, facts, answer, released: answer.released, startedMs });
  } catch (thrown) {
    if (thrown instanceof OAuthError) house.metrics.refusals.inc({ reason: thrown.reason });
    else if (!(thrown instanceof ProblemError || thrown instanceof ClientGoneError)) {
      house.log.error("http.failed", { requestId, route: pattern, err: thrown });
    }
    answer = problemAnswer(asProblem(thrown), {
      requestId,
      scope,
      resourceMetadataUrl: `${new URL(house.issuer).origin}/.well-known/oauth-protected-resource${house.basePath}/v1`,
      authorization: incoming.headers.authorization,
      dpopNonce: rooms.sts.dpopNonce,
    });
    closes = !(await discardBody(incoming));
  }
  const seconds = (house.clock.monotonicMs() - startedMs) / 1000;
  house.metrics.httpRequestSeconds.labels(pattern, String(answer.status)).observe(seconds);
  const headers = { ...deps.headers, "X-Request-Id": requestId, ...(closes && { Connection: "close" }) };
  return answer.lines === undefined
    ? responseOf(answer, headers)
    : flowOf(c, {
        deps,
        facts,
        answer: { ...answer, headers: { ...headers, ...answer.headers } },
        lines: answer.lines,
      });
}

/**
 * Writes what a handler released in the turn in which it is asked whether it may leave: a Response is written later.
 *
 * @throws {TemporarilyUnavailableError} `permit_lapsed`
 */
function atOnce(
  c: Ctx,
  at: { deps: RouterDeps; facts: RequestFacts; answer: Answer; released: Release; startedMs: number },
): Response {
  const { deps, facts, answer } = at;
  const { outgoing } = c.env as HttpBindings;
  if (!mayLeave(outgoing, at.released)) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
  const { status, json } = answer;
  const headers = {
    ...deps.headers,
    "X-Request-Id": facts.requestId,
    "Content-Type": "application/json",
    ...answer.headers,
  };
  writeAtOnce(outgoing, { status, headers: Object.entries(headers).flat(), body: JSON.stringify(json) });
  const { metrics, clock } = deps.house;
  const seconds = (clock.monotonicMs() - at.startedMs) / 1_000;
  metrics.httpRequestSeconds.labels(facts.route, String(status)).observe(seconds);
  return RESPONSE_ALREADY_SENT;
}

/** What the readers of headers and bodies throw for OAuth forms has names of its own under `/v1`. */
function asProblem(thrown: unknown): unknown {
  if (!(thrown instanceof InvalidRequestError)) return thrown;
  if (thrown.status === 413) return new ProblemError("too_large", { cause: thrown });
  if (thrown.status === 415)
    return new ProblemError("unsupported_media_type", { detail: thrown.description, cause: thrown });
  return thrown;
}

function factsOf(c: Ctx, deps: RouterDeps, route: string): RequestFacts {
  const { incoming, outgoing } = c.env as HttpBindings;
  const signal = lazySignal(incoming, outgoing);
  return {
    requestId: deps.nextRequestId(),
    method: incoming.method ?? "",
    route,
    remoteAddress: deps.addresses.clientOf(incoming),
    traceparent: headerText(incoming.headers["traceparent"]),
    receivedAtMs: deps.house.clock.nowMs(),
    get signal() {
      return signal();
    },
  };
}

function credentialsOf(incoming: IncomingMessage, house: House): Parameters<typeof authenticate>[1] {
  const path = (incoming.url ?? "").split("?")[0] ?? "";
  return {
    authorization: incoming.headers.authorization,
    dpop: headerText(incoming.headers["dpop"]),
    browser: {
      cookies: incoming.headers.cookie,
      csrf: headerText(incoming.headers["ephor-csrf"]),
      fetchSite: headerText(incoming.headers["sec-fetch-site"]),
      origin: incoming.headers.origin,
    },
    method: incoming.method ?? "",
    url: `${house.issuer}${path}`,
  };
}

function readQuery(c: Ctx, route: Route): unknown {
  if (route.query === undefined && route.auth === "none") return undefined;
  const query: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [name, values] of Object.entries(c.req.queries())) {
    if (values.length > 1) {
      throw new ProblemError("malformed", {
        entries: [{ path: `query.${name.slice(0, 64)}`, detail: "stands there twice" }],
      });
    }
    query[name] = values[0] ?? "";
  }
  if (route.query !== undefined) return checkShape(route.query, { ...query }, "query");
  if (Object.keys(query).length > 0) throw new ProblemError("malformed", { detail: "This route takes no query." });
  return undefined;
}

async function readRequestBody(incoming: IncomingMessage, route: Route): Promise<unknown> {
  if (route.body === undefined) return undefined;
  const bytes = await readBody(incoming, route.maxBodyBytes ?? LIMITS.jsonBytes);
  if (route.textType !== undefined) {
    checkTextType(incoming.headers["content-type"], route.textType);
    return checkShape(route.body, bytes.toString("latin1"), "body");
  }
  if (bytes.length === 0 && route.isBodyOptional === true) return undefined;
  checkJsonType(incoming.headers["content-type"]);
  return checkShape(route.body, readJsonBody(bytes), "body");
}

function checkTextType(given: string | undefined, wanted: string): void {
  if ((given ?? "").split(";", 1)[0]?.trim().toLowerCase() === wanted) return;
  throw new ProblemError("unsupported_media_type", { detail: `The body must be ${wanted}.` });
}

function responseOf(answer: Answer, always: Readonly<Record<string, string>>): Response {
  const { status, json, text } = answer;
  if (text !== undefined) return new Response(text, { status, headers: { ...always, ...answer.headers } });
  if (json === undefined) return new Response(null, { status, headers: { ...always, ...answer.headers } });
  const headers = { ...always, "Content-Type": "application/json", ...answer.headers };
  return new Response(JSON.stringify(json), { status, headers });
}

/** An answer whose lines come one by one, as fast as the client reads. */
async function flowOf(
  c: Ctx,
  o: { deps: RouterDeps; facts: RequestFacts; answer: Answer; lines: AsyncIterable<string> },
): Promise<Response> {
  const { lines, facts } = o;
  const { status, headers, unreadMs } = o.answer;
  const init: ResponseInit = { status, headers: { ...headers } };
  if (facts.method === "HEAD") {
    await dropLines(lines);
    return new Response(null, init);
  }
  if (unreadMs === undefined) return new Response(lineStream(lines), init);
  const { clock, log } = o.deps.house;
  const { outgoing } = c.env as HttpBindings;
  const cut = (): void => {
    log.warn("http.unread", { requestId: facts.requestId, route: facts.route });
    outgoing.destroy();
  };
  return new Response(lineStream(lines, { unreadMs, clock, cut }), init);
}
