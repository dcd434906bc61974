import { MAX_DEPTH, readActClaim } from "../delegation/chain.ts";
import type { EpochSeconds } from "../time.ts";
import type { VerifiedClaims } from "../trust/subject.ts";
import { decodeBase64url } from "./base64url.ts";
import { checkAudience, checkTimes, ownClaim, readString, REPLICA_SKEW_SECONDS, requireString } from "./check.ts";
import type { AccessTokenClaims } from "./claims.ts";
import { MAX_LIFETIME_SECONDS } from "./lifetime.ts";
import { RefusedToken } from "./refused.ts";

/** What a reader of our access tokens insists on. */
export interface AccessTokenRules {
  /** Our issuer identifier, compared exactly. */
  readonly issuer: string;
  /** The only audience accepted here; absent at introspection, which answers for every resource. */
  readonly audience?: string;
  readonly now: EpochSeconds;
  /** Actors allowed; default 8. */
  readonly maxDepth?: number;
}

/** A scope string has up to 100 entries; the token's own limit is 8 KiB. */
const SCOPE_MAX_CHARACTERS = 8 * 1024;

/** A SHA-256 thumbprint. */
const THUMBPRINT_BYTES = 32;

/**
 * The claims of an access token of ours whose signature was good. There is no skew in the holder's favour: at `exp` it is
 * over. Members we do not know are left out of the answer.
 *
 * @throws {RefusedToken} `token_issuer_unknown`, `token_audience`, `token_expired`, `token_not_yet_valid`, `token_lifetime`,
 * `token_claim_missing`, `token_claim_type`, `chain_depth`
 * @see RFC 9068 §4, CONTRACT §5 "The token"
 */
export function checkAccessToken(payload: VerifiedClaims, rules: AccessTokenRules): AccessTokenClaims {
  const iss = requireString(payload, "iss");
  if (iss !== rules.issuer) throw new RefusedToken({ reason: "token_issuer_unknown" });
  const aud = requireString(payload, "aud");
  if (rules.audience !== undefined) checkAudience(aud, [rules.audience]);
  const { exp, iat } = checkTimes(payload, {
    now: rules.now,
    skewSeconds: 0,
    aheadSeconds: REPLICA_SKEW_SECONDS,
    maxLifetimeSeconds: MAX_LIFETIME_SECONDS,
    requireIat: true,
  });
  const act = ownClaim(payload, "act");
  const purpose = readString(payload, "purpose");
  const jkt = readJkt(payload);
  return {
    iss,
    aud,
    sub: requireString(payload, "sub"),
    client_id: requireString(payload, "client_id"),
    ...(act === undefined ? {} : { act: readActClaim(act, rules.maxDepth ?? MAX_DEPTH) }),
    scope: requireString(payload, "scope", SCOPE_MAX_CHARACTERS),
    txn: requireString(payload, "txn"),
    ...(purpose === undefined ? {} : { purpose }),
    jti: requireString(payload, "jti"),
    iat: iat as EpochSeconds,
    exp,
    ...(jkt === undefined ? {} : { cnf: { jkt } }),
    ...(isOnce(payload) ? { once: true } : {}),
  };
}

/** A `cnf` that we do not understand binds the token to something unproved: refused, not ignored (RFC 7800 §3.1). */
function readJkt(payload: VerifiedClaims): string | undefined {
  const cnf = ownClaim(payload, "cnf");
  if (cnf === undefined) return undefined;
  const members = typeof cnf === "object" && cnf !== null ? Object.keys(cnf) : [];
  const jkt = (cnf as { jkt?: unknown } | null)?.jkt;
  const isThumbprint = typeof jkt === "string" && decodeBase64url(jkt)?.length === THUMBPRINT_BYTES;
  if (members.length !== 1 || !isThumbprint) throw new RefusedToken({ reason: "token_claim_type", claim: "cnf" });
  return jkt;
}

function isOnce(payload: VerifiedClaims): boolean {
  const once = ownClaim(payload, "once");
  if (once !== undefined && once !== true) throw new RefusedToken({ reason: "token_claim_type", claim: "once" });
  return once === true;
}
