import type { VerifiedToken } from "./actors.ts";
import { RefusedError } from "./refusal.ts";
import type { Needs, Verifier } from "./verifier.ts";

/** What is used of Hono's `Context`. */
export interface HonoContext {
  readonly req: { readonly raw: Request };
  set(key: "ephor", value: VerifiedToken): void;
}

/** The type of `c.get("ephor")`: `new Hono<{ Variables: EphorVariables }>()`. */
export interface EphorVariables {
  ephor: VerifiedToken;
}

/**
 * Middleware for Hono 4: `app.use("/invoices/*", honoMiddleware(verifier, { scope: "billing:read_invoice" }))`. Whoever comes
 * through is in `c.get("ephor")`.
 */
export function honoMiddleware(
  verifier: Verifier,
  needs: Needs,
): (c: HonoContext, next: () => Promise<void>) => Promise<Response | void> {
  return async (c, next) => {
    try {
      c.set("ephor", await verifier.verify(c.req.raw, needs));
    } catch (error) {
      if (error instanceof RefusedError) return asResponse(error);
      throw error;
    }
    await next();
    return undefined;
  };
}

/** A refusal as a web-standard response, for frameworks that have these. */
export function asResponse(error: RefusedError): Response {
  return Response.json(error.body, { status: error.status, headers: error.headers });
}
