import { OAuthError } from "../../core/oauth/errors.ts";
import { readBearer, type PresentedToken } from "../../core/oauth/bearer.ts";

/** A request, as far as it decides about its token. */
export interface PresentedRequest {
  readonly method: string;
  /** Path and perhaps query, as the caller addressed it. */
  readonly path: string;
  /** Value of the `Authorization` header. */
  readonly authorization: string | undefined;
  /** Value of the `DPoP` header. */
  readonly dpop: string | undefined;
}

/** What a verifier can be asked about: a web-standard request, the parts of one, or a token that came as Bearer. */
export type Presented = Request | PresentedRequest | string;

/** A request's token and what proves its possession. */
export interface Presentation {
  /** Undefined: no token was sent. */
  readonly token: PresentedToken | undefined;
  readonly request: PresentedRequest | undefined;
}

/** @throws {OAuthError} `token_malformed` where credentials were sent that are none */
export function readPresented(presented: Presented): Presentation {
  if (typeof presented === "string") {
    // The same alphabet as in a header, so that it is one token and nothing more.
    return { token: readBearer(`Bearer ${presented}`), request: undefined };
  }
  const request = presented instanceof Request ? fromWeb(presented) : presented;
  return { token: readBearer(request.authorization), request };
}

function fromWeb(request: Request): PresentedRequest {
  const { pathname, search } = new URL(request.url);
  return {
    method: request.method,
    path: pathname + search,
    authorization: request.headers.get("authorization") ?? undefined,
    dpop: request.headers.get("dpop") ?? undefined,
  };
}

/** Whether a refusal is one of reading the header. */
export function isUnreadable(error: unknown): error is OAuthError {
  return error instanceof OAuthError;
}
