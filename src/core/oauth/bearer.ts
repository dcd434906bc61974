import { InvalidTokenError } from "./errors.ts";

/** An access token as it was presented, and under which scheme. */
export interface PresentedToken {
  readonly scheme: "Bearer" | "DPoP";
  readonly token: string;
}

/** RFC 9110 §11.2 token68, which is RFC 6750's b64token; and the one blank (or several) before it. */
const CREDENTIALS = /^(bearer|dpop) +([A-Za-z0-9\-._~+/]+=*)$/i;
const SCHEME = /^(?:bearer|dpop)(?![A-Za-z0-9!#$%&'*+.^_`|~-])/i;

/**
 * The access token of an `Authorization` header.
 *
 * @param value the header's only value
 * @returns undefined when there is none, or one of another scheme
 * @throws {InvalidTokenError} `token_malformed` when the scheme is ours and the rest is not one token
 * @see RFC 6750 §2.1, RFC 9449 §7.1; the scheme's case does not matter (RFC 9110 §11.1)
 */
export function readBearer(value: string | undefined): PresentedToken | undefined {
  if (value === undefined) return undefined;
  const match = CREDENTIALS.exec(value);
  if (match === null) {
    if (SCHEME.test(value)) throw new InvalidTokenError({ reason: "token_malformed", part: "authorization" });
    return undefined;
  }
  const [, scheme = "", token = ""] = match;
  return { scheme: scheme.toLowerCase() === "dpop" ? "DPoP" : "Bearer", token };
}
