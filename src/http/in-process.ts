import { OAuthError } from "../core/oauth/errors.ts";
import { ProblemError } from "../api/problem.ts";
import { callerOfSession } from "./authenticate.ts";
import { checkShape } from "./json-body.ts";
import { problemAnswer } from "./problem.ts";
import type { House, Incoming, Route } from "./route.ts";
import type { Caller, RequestFacts, Rooms, SessionCaller } from "./rooms.ts";

/** A call of a route by the house itself, on behalf of whoever is signed in. */
export interface InProcessOrder {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly query?: Readonly<Record<string, string>>;
  readonly body?: unknown;
  readonly caller: SessionCaller;
  /** Of the request that it is made for. */
  readonly request: Omit<RequestFacts, "method" | "route" | "traceparent">;
}

/** Calls a route of `/v1`: the same shapes, the same check of who may, the same faces of errors; no socket. */
export type InProcess = (order: InProcessOrder) => Promise<{ readonly status: number; readonly json: unknown }>;

/** @param deps.routes those of the router */
export function createInProcess(deps: {
  readonly routes: readonly Route[];
  readonly rooms: Rooms;
  readonly house: House;
}): InProcess {
  const { rooms, house } = deps;
  return async (order) => {
    const found = routeOf(deps.routes, order);
    const { requestId, remoteAddress, receivedAtMs, signal } = order.request;
    const pattern = found?.route.path ?? "(none)";
    const facts: RequestFacts = {
      requestId,
      method: order.method,
      route: pattern,
      remoteAddress,
      traceparent: undefined,
      receivedAtMs,
      signal,
    };
    try {
      if (found === undefined) throw new ProblemError("not_found");
      const { route, values } = found;
      const caller = callerOfSession(route.auth, order.caller, { rooms, request: facts });
      const incoming: Incoming<unknown, unknown, unknown, Caller> = {
        params: route.params === undefined ? undefined : checkShape(route.params, values, "path"),
        query: route.query === undefined ? undefined : checkShape(route.query, { ...order.query }, "query"),
        body: route.body === undefined ? undefined : checkShape(route.body, order.body, "body"),
        caller,
        request: { ...facts, ...NOT_OVER_HTTP, credentials: { ...NO_CREDENTIALS, method: order.method } },
        rooms,
        house,
      };
      const answer = await route.handle(incoming);
      return { status: answer.status, json: answer.json };
    } catch (thrown) {
      if (thrown instanceof OAuthError) house.metrics.refusals.inc({ reason: thrown.reason });
      else if (!(thrown instanceof ProblemError))
        house.log.error("http.failed", { requestId, route: pattern, err: thrown });
      const { status, json } = problemAnswer(thrown, { requestId, ...NO_CHALLENGE });
      return { status, json };
    }
  };
}

const NOT_OVER_HTTP = { accept: undefined, lastEventId: undefined, isLocal: false, header: () => undefined };
const NO_CREDENTIALS = { authorization: undefined, dpop: undefined, url: "" };
/** Nobody reads the headers of an answer that never leaves. */
const NO_CHALLENGE = { resourceMetadataUrl: "", scope: undefined, authorization: undefined, dpopNonce: () => "" };

function routeOf(
  routes: readonly Route[],
  { method, path }: InProcessOrder,
): { route: Route; values: Record<string, string> } | undefined {
  const given = path.split("/");
  for (const route of routes) {
    const wanted = route.path.split("/");
    if (route.method !== method || wanted.length !== given.length) continue;
    const values: Record<string, string> = {};
    const fits = wanted.every((part, i) => {
      const name = /^\{(\w+)\}$/.exec(part)?.[1];
      if (name !== undefined) values[name] = decodeURIComponent(given[i] ?? "");
      return name !== undefined || part === given[i];
    });
    if (fits) return { route, values };
  }
  return undefined;
}
