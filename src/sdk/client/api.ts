import { ConnectionError } from "./errors.ts";
import { callAnyStatus, callJson, callLines, isRecord, type WireAnswer, type WireRequest } from "./wire.ts";

/** What a query may hold. */
type Query = NonNullable<WireRequest["query"]>;

/** Ephor's own API under `/v1`, and its public documents. */
export interface ApiClient {
  /** @throws {ApiError}, {ConnectionError} */
  get<T extends object>(path: string, query?: Query): Promise<T>;
  put<T extends object>(path: string, json: unknown): Promise<T>;
  post<T extends object>(path: string, json: unknown): Promise<T>;
  /** An answer without a body is an empty object. */
  delete<T extends object>(path: string, query?: Query): Promise<T>;
  /** Lines of NDJSON as they come. */
  lines(path: string, query?: Query): AsyncGenerator<string>;
  /** Without credentials, whatever the status: health checks and metadata. */
  look(path: string): Promise<WireAnswer>;
}

/** How to reach a server. */
export interface ApiOptions {
  /** Its URL, without trailing slash. */
  readonly url: string;
  /** The operator key, or an agent's own token; asked for when a request needs it, and sent as Bearer. */
  readonly bearer?: () => string;
}

/**
 * Makes a client of the admin API. Answers are taken to have the shape that `api/` describes; only that they are JSON objects
 * is checked, so that a newer server's further members do no harm.
 */
export function createApiClient({ url, bearer }: ApiOptions): ApiClient {
  const authorized = (): Record<string, string> =>
    bearer === undefined ? {} : { authorization: `Bearer ${bearer()}` };
  const call = async <T extends object>(request: WireRequest): Promise<T> => {
    const { json } = await callJson(url, { ...request, headers: authorized() });
    if (!isRecord(json)) throw new ConnectionError("not_ephor");
    return json as T;
  };
  return {
    get: (path, query) => call({ method: "GET", path, ...(query === undefined ? {} : { query }) }),
    put: (path, json) => call({ method: "PUT", path, json }),
    post: (path, json) => call({ method: "POST", path, json }),
    async delete<T extends object>(path: string, query?: Query) {
      const request = {
        method: "DELETE" as const,
        path,
        headers: authorized(),
        ...(query === undefined ? {} : { query }),
      };
      const { json } = await callJson(url, request);
      return (isRecord(json) ? json : {}) as T;
    },
    lines: (path, query) =>
      callLines(url, {
        method: "GET",
        path,
        headers: { ...authorized(), accept: "application/x-ndjson, application/json" },
        ...(query === undefined ? {} : { query }),
      }),
    look: (path) => callAnyStatus(url, { method: "GET", path }),
  };
}

/**
 * The server's issuer identifier, from its metadata.
 *
 * @throws {ConnectionError} `not_ephor` when there is none
 * @see RFC 8414 §3
 */
export async function readIssuer(url: string): Promise<string> {
  const { json } = await callJson(url, { method: "GET", path: "/.well-known/oauth-authorization-server" });
  const issuer = isRecord(json) ? json["issuer"] : undefined;
  if (typeof issuer !== "string" || !URL.canParse(issuer)) throw new ConnectionError("not_ephor");
  return issuer;
}
