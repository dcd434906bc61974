import type { VerifiedToken } from "./actors.ts";
import type { PresentedRequest } from "./presented.ts";
import { RefusedError } from "./refusal.ts";
import type { Needs, Verifier } from "./verifier.ts";

/** What is used of a request of Express, Connect or `node:http`. */
export interface NodeRequest {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  /** Express and Connect: the whole path, where `url` is what is left of it below a router. */
  readonly originalUrl?: string | undefined;
  readonly headers: Readonly<Record<string, string | readonly string[] | undefined>>;
  /** Set here: whoever came through. */
  ephor?: VerifiedToken;
}

/** What is used of a response of Express, Connect or `node:http`. */
export interface NodeResponse {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body: string): unknown;
}

/** Middleware as Express, Connect and `node:http` servers call it. */
export type NodeMiddleware<R extends NodeRequest = NodeRequest> = (
  request: R,
  response: NodeResponse,
  next: (error?: unknown) => void,
) => Promise<void>;

/**
 * Middleware for Express 4 and 5: `app.use("/invoices", expressMiddleware(verifier, { scope: "billing:read_invoice" }))`. Whoever
 * comes through is in `req.ephor`.
 */
export function expressMiddleware(verifier: Verifier, needs: Needs): NodeMiddleware {
  return guarding(verifier, needs, (request, verified) => {
    request.ephor = verified;
  });
}

/** The same, with what is to be done with a token that may be served. */
export function guarding<R extends NodeRequest>(
  verifier: Verifier,
  needs: Needs,
  admit: (request: R, verified: VerifiedToken) => void,
): NodeMiddleware<R> {
  return async (request, response, next) => {
    try {
      admit(request, await verifier.verify(partsOf(request), needs));
    } catch (error) {
      if (!(error instanceof RefusedError)) return next(error);
      response.statusCode = error.status;
      for (const [name, value] of Object.entries(error.headers)) response.setHeader(name, value);
      response.setHeader("content-type", "application/json");
      response.end(JSON.stringify(error.body));
      return;
    }
    next();
  };
}

function partsOf(request: NodeRequest): PresentedRequest {
  return {
    method: request.method ?? "GET",
    path: request.originalUrl ?? request.url ?? "/",
    authorization: only(request.headers["authorization"]),
    dpop: only(request.headers["dpop"]),
  };
}

/** A header that came several times is joined by a comma, which no token and no proof contains: so it is refused. */
function only(value: string | readonly string[] | undefined): string | undefined {
  return typeof value === "object" ? value.join(", ") : value;
}
