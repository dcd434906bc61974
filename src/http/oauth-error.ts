import {
  InvalidClientError,
  InvalidTokenError,
  OAuthError,
  TemporarilyUnavailableError,
  UseDpopNonceError,
} from "../core/oauth/errors.ts";
import type { RawOAuthAnswer } from "./rooms.ts";
import { LIMITS } from "./limits.ts";

/** What the error's face depends on beside the error. */
export interface OAuthErrorContext {
  readonly authorization: string | undefined;
  readonly dpopNonce: () => string;
}

/** RFC 6749 §5.2: printable ASCII without quote and backslash. Our sentences are; a name that got into one may not be. */
const NOT_IN_DESCRIPTION = /[^\x20-\x21\x23-\x5b\x5d-\x7e]/g;

/**
 * The face of an error at an OAuth endpoint. Anything but a refusal is a bug of ours: 500 and no word about it.
 *
 * @see RFC 6749 §5.2, RFC 9110 §11.6.1 (a 401 names a scheme), RFC 9449 §8
 */
export function oauthErrorAnswer(thrown: unknown, context: OAuthErrorContext): RawOAuthAnswer {
  if (!(thrown instanceof OAuthError)) return oauthBody(500, { error: "server_error" }, {});
  const headers: Record<string, string> = {};
  if (thrown instanceof InvalidClientError) headers["WWW-Authenticate"] = challenge(context.authorization);
  else if (thrown instanceof InvalidTokenError)
    headers["WWW-Authenticate"] = `${challenge(context.authorization)}, error="invalid_token"`;
  else if (thrown instanceof UseDpopNonceError) headers["DPoP-Nonce"] = context.dpopNonce();
  else if (thrown instanceof TemporarilyUnavailableError) headers["Retry-After"] = String(LIMITS.retryAfterSeconds);
  if (thrown.status === 405) headers["Allow"] = "POST";
  const description = thrown.description.replace(NOT_IN_DESCRIPTION, "?");
  return oauthBody(thrown.status, { error: thrown.code, error_description: description }, headers);
}

/** The scheme that was tried; Basic for those who tried none, since resource servers have secrets. */
function challenge(authorization: string | undefined): string {
  const scheme = /^(?:bearer|dpop)(?= )/i.exec(authorization ?? "")?.[0].toLowerCase();
  if (scheme === "bearer") return 'Bearer realm="ephor"';
  return scheme === "dpop" ? 'DPoP realm="ephor"' : 'Basic realm="ephor"';
}

function oauthBody(status: number, body: object, headers: Record<string, string>): RawOAuthAnswer {
  return { status, headers: { "Content-Type": "application/json", ...headers }, body: JSON.stringify(body) };
}
