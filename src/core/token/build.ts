import { actClaim } from "../delegation/chain.ts";
import { InvalidScopeError } from "../oauth/errors.ts";
import type { EpochSeconds } from "../time.ts";
import type { AccessTokenClaims } from "./claims.ts";
import { OWN_TOKEN_MAX_BYTES } from "./jws.ts";
import { MAX_LIFETIME_SECONDS, MIN_LIFETIME_SECONDS } from "./lifetime.ts";

/** Room kept for header, signature and dots, in bytes: an RS256 signature of a 4096-bit key and our longest header. */
const ENVELOPE_BYTES = 832;

const encoder = new TextEncoder();

/** What goes into an access token of ours. */
export interface AccessTokenFacts {
  readonly issuer: string;
  readonly audience: string;
  /** `<issuer name>|<sub>`, or `agent|<name>`. */
  readonly subject: string;
  /** Agent names, oldest first; the last is the current actor, to whom it is issued. */
  readonly path: readonly string[];
  /** In full, each `<resource>:<action>`. */
  readonly scopes: readonly string[];
  readonly txn: string;
  readonly purpose?: string;
  readonly jti: string;
  readonly issuedAt: EpochSeconds;
  /** From `lifetimeSeconds`. */
  readonly lifetimeSeconds: number;
  /** RFC 7638 thumbprint of the key it is bound to. */
  readonly jkt?: string;
  readonly once?: boolean;
}

/**
 * The claims of an access token, in the order of CONTRACT §5.
 *
 * @throws {InvalidScopeError} `scope_too_large` when the signed token could exceed 8 KiB
 * @throws {RangeError} when the life is not 1 to 59 whole seconds or the path is empty: a bug, whatever led to it
 * @see RFC 9068 §2.2, RFC 8693 §4.1, RFC 9449 §6.1
 */
export function buildAccessTokenClaims(facts: AccessTokenFacts): AccessTokenClaims {
  const life = facts.lifetimeSeconds;
  // The last line of INV-01: whatever bug computed the life, it does not leave this function.
  const isInRange = Number.isInteger(life) && life >= MIN_LIFETIME_SECONDS && life <= MAX_LIFETIME_SECONDS;
  if (!isInRange || !Number.isSafeInteger(facts.issuedAt)) throw new RangeError("lifetime");
  const agent = facts.path.at(-1);
  if (agent === undefined) throw new RangeError("path");
  const act = actClaim(facts.subject, facts.path);
  const claims: AccessTokenClaims = {
    iss: facts.issuer,
    aud: facts.audience,
    sub: facts.subject,
    client_id: agent,
    ...(act === undefined ? {} : { act }),
    scope: facts.scopes.join(" "),
    txn: facts.txn,
    ...(facts.purpose === undefined ? {} : { purpose: facts.purpose }),
    jti: facts.jti,
    iat: facts.issuedAt,
    exp: facts.issuedAt + life,
    ...(facts.jkt === undefined ? {} : { cnf: { jkt: facts.jkt } }),
    ...(facts.once === true ? { once: true } : {}),
  };
  const payload = JSON.stringify(claims);
  // One character is at most three bytes of UTF-8: most tokens are small enough without counting.
  if (
    encodedBytes(payload.length * 3) > OWN_TOKEN_MAX_BYTES &&
    encodedBytes(encoder.encode(payload).length) > OWN_TOKEN_MAX_BYTES
  ) {
    throw new InvalidScopeError({
      reason: "scope_too_large",
      help: "The token would be too large; name the scopes needed.",
    });
  }
  return claims;
}

/** How long the signed token of such a payload may become. */
function encodedBytes(payloadBytes: number): number {
  return Math.ceil((payloadBytes * 4) / 3) + ENVELOPE_BYTES;
}
