import type { z } from "zod";
import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import type { Release } from "./release.ts";
import type { AgentCaller, Caller, Credentials, EphorAction, RequestFacts, Rooms } from "./rooms.ts";

/** Who may call a route: anybody; an OAuth client; an operator; any agent; the holder of a token for the resource, whom the room judges; the transmitter of a security event, or a channel of approvals, by its signature; or whoever holds this scope of `ephor`: agents by their token, people by their role, and the operator key. */
export type Auth =
  | "none"
  | "client"
  | "operator"
  | "agent"
  | "holder"
  | "transmitter"
  | "channel"
  | {
      readonly scope: EphorAction;
      /** A human without the role may ask too: the room sees to it that it is about his own. */
      readonly ownToo?: true;
    };

/** One of a route's answers. */
export interface ResponseSpec {
  readonly description: string;
  /** Absent: no body. */
  readonly body?: z.ZodType;
  /** Default `application/json`. */
  readonly contentType?: string;
  /** No body even where others have a problem document: whoever gets it is told nothing. */
  readonly isBare?: boolean;
}

/** What the edge knows about the house beside its rooms. */
export interface House {
  readonly issuer: string;
  /** Path of the issuer, without trailing slash: empty for most. */
  readonly basePath: string;
  readonly version: string;
  /** Algorithm of our own token keys. */
  readonly algorithm: string;
  /** Whether `/metrics` has a listener of its own, so that this one does not serve it. */
  readonly hasMetricsListener: boolean;
  readonly isStopping: () => boolean;
  readonly metrics: Metrics;
  readonly clock: Clock;
  readonly log: Log;
  /** The OpenAPI document, made when first asked for. */
  readonly openApi: () => object;
}

/** A handler's answer. */
export interface Answer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Sent as JSON. */
  readonly json?: unknown;
  /** Sent as it is; say which type in `headers`. */
  readonly text?: string;
  /** Sent as it comes. */
  readonly lines?: AsyncIterable<string>;
  /** A client that leaves a line unread for so many milliseconds is cut; without it, it may take its time. */
  readonly unreadMs?: number;
  /** What the JSON releases may leave at once, or never. */
  readonly released?: Release;
}

/** What a handler gets: everything checked. */
export interface Incoming<P, Q, B, C> {
  readonly params: P;
  readonly query: Q;
  readonly body: B;
  readonly caller: C;
  readonly request: RequestFacts & {
    readonly accept: string | undefined;
    /** Where a stream is resumed (HTML, "Server-sent events"). */
    readonly lastEventId: string | undefined;
    readonly isLocal: boolean;
    readonly credentials: Credentials;
    /** Any other header, by its name in lower case; for routes whose proof is in one of their own. */
    readonly header: (name: string) => string | undefined;
  };
  readonly rooms: Rooms;
  readonly house: House;
}

type CallerOf<A extends Auth> = A extends "none" | "holder" | "client" | "transmitter" | "channel"
  ? undefined
  : A extends "agent"
    ? AgentCaller
    : Caller;

/** A route as a value: the router serves it, the OpenAPI document describes it, tests go through all of them. */
export interface RouteSpec<A extends Auth, P extends z.ZodType, Q extends z.ZodType, B extends z.ZodType> {
  readonly method: "GET" | "PUT" | "PATCH" | "POST" | "DELETE";
  /** With parameters in braces, as OpenAPI writes them. */
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: string;
  readonly auth: A;
  readonly params?: P;
  /** Without it, `/v1` routes refuse any query, public documents ignore it. */
  readonly query?: Q;
  readonly body?: B;
  /** What the document says of the body, where it says more than is checked here. */
  readonly bodyDocument?: z.ZodType;
  readonly isBodyOptional?: boolean;
  readonly maxBodyBytes?: number;
  /** The media type of a body that is one text, a character for a byte, and not JSON. */
  readonly textType?: string;
  readonly responses: Readonly<Record<number, ResponseSpec>>;
  handle(incoming: Incoming<z.output<P>, z.output<Q>, z.output<B>, CallerOf<A>>): Promise<Answer> | Answer;
}

/** Any route. Its handler gets what its own shapes let through. */
export interface Route extends Omit<RouteSpec<Auth, z.ZodType, z.ZodType, z.ZodType>, "handle"> {
  // oxlint-disable-next-line typescript/no-explicit-any -- the shapes of this very value made the arguments
  handle(incoming: Incoming<any, any, any, any>): Promise<Answer> | Answer;
}

/** Makes a route, so that the handler's arguments have the types of its shapes. */
export function route<
  const A extends Auth,
  P extends z.ZodType = z.ZodUndefined,
  Q extends z.ZodType = z.ZodUndefined,
  B extends z.ZodType = z.ZodUndefined,
>(spec: RouteSpec<A, P, Q, B>): Route {
  return spec;
}

/** An OAuth endpoint, for the document; `raw.ts` serves it. */
export interface FormRoute {
  readonly method: "POST";
  readonly path: string;
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly tag: string;
  readonly auth: "client";
  readonly form: z.ZodType;
  readonly responses: Readonly<Record<number, ResponseSpec>>;
}

/** 200 with JSON. */
export function ok(json: unknown, headers?: Readonly<Record<string, string>>): Answer {
  return headers === undefined ? { status: 200, json } : { status: 200, json, headers };
}
