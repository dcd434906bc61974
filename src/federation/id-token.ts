import {
  checkAudience,
  checkTimes,
  checkTyp,
  OUTSIDE_SKEW_SECONDS,
  ownClaim,
  readString,
  requireString,
} from "../core/token/check.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import { constantTimeEqual } from "../system/hash.ts";
import { LIMITS } from "./limits.ts";
import { readAuthTime, standingIssuer, type VerifyDeps } from "./verify.ts";

/** The sign-in that an ID token must be the answer to. */
export interface ExpectedIdToken {
  /** The issuer's name: another one's token, however good, is a mix-up. */
  readonly issuer: string;
  readonly clientId: string;
  readonly nonce: string;
  /** When the sign-in was begun. */
  readonly begunAt: EpochSeconds;
  /** The human must have proved who they are since then. */
  readonly fresh: boolean;
}

/** Who signed in. */
export interface VerifiedIdToken {
  /** The trust entry that it was judged by. */
  readonly issuer: Issuer;
  readonly claims: VerifiedClaims;
  readonly sub: string;
  readonly authTime: EpochSeconds | undefined;
}

/**
 * Verifies the ID token that a token endpoint answered: of this issuer, for this client and nobody else, of this very sign-in.
 *
 * @throws {RefusedToken} with the reason of the check that failed; `sign_in_mixed_up`, `sign_in_nonce`, `sign_in_too_old`
 * @see OpenID Connect Core 1.0 §3.1.3.7, RFC 8725 §3
 */
export async function verifyIdToken(
  deps: VerifyDeps,
  token: string,
  expected: ExpectedIdToken,
): Promise<VerifiedIdToken> {
  const jws = readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES });
  checkTyp(jws.header.typ, [undefined, "jwt", "jose"]);
  const issuer = await standingIssuer(deps, jws, (candidate) => {
    if (candidate.name !== expected.issuer)
      throw new RefusedToken({ reason: "sign_in_mixed_up", issuer: candidate.name });
    if (candidate.identifies !== "humans")
      throw new RefusedToken({ reason: "subject_not_human", issuer: candidate.name });
    if (candidate.algorithms?.includes(jws.header.alg) === false)
      throw new RefusedToken({ reason: "token_alg", issuer: candidate.name });
    return deps.checkSignature(token, jws, candidate);
  });
  return judge(jws, { issuer, expected, now: deps.clock.now() });
}

function judge(
  { payload }: StrictJws,
  { issuer, expected, now }: { issuer: Issuer; expected: ExpectedIdToken; now: EpochSeconds },
): VerifiedIdToken {
  checkAudience(ownClaim(payload, "aud"), [expected.clientId]);
  const azp = readString(payload, "azp");
  if (azp !== undefined && azp !== expected.clientId)
    throw new RefusedToken({ reason: "token_audience", claim: "azp" });
  const { iat } = checkTimes(payload, {
    now,
    skewSeconds: OUTSIDE_SKEW_SECONDS,
    aheadSeconds: OUTSIDE_SKEW_SECONDS,
    maxLifetimeSeconds: issuer.maxTokenAgeSeconds ?? LIMITS.tokenLifetimeSeconds,
    requireIat: true,
  });
  // It was made for this sign-in, so it is not older than that.
  if ((iat ?? 0) < expected.begunAt - OUTSIDE_SKEW_SECONDS) throw new RefusedToken({ reason: "token_expired" });
  // A logout token or another security event is no proof of a session (OIDC Back-Channel Logout §2.4, RFC 8417 §2.2).
  if (Object.hasOwn(payload, "events")) throw new RefusedToken({ reason: "token_typ" });
  if (!constantTimeEqual(requireString(payload, "nonce"), expected.nonce))
    throw new RefusedToken({ reason: "sign_in_nonce", issuer: issuer.name });
  const sub = requireString(payload, "sub");
  const authTime = readAuthTime(payload);
  checkAuthTime(authTime, { issuer, expected, now });
  return { issuer, claims: payload, sub, authTime };
}

/** OpenID Connect Core 1.0 §3.1.3.7 (13): where an age was asked for, the token says when, and it is within it. */
function checkAuthTime(
  authTime: EpochSeconds | undefined,
  { issuer, expected, now }: { issuer: Issuer; expected: ExpectedIdToken; now: EpochSeconds },
): void {
  const since = expected.fresh
    ? expected.begunAt
    : issuer.subjectMaxAgeSeconds === undefined
      ? undefined
      : now - issuer.subjectMaxAgeSeconds;
  if (authTime !== undefined && authTime > now + OUTSIDE_SKEW_SECONDS)
    throw new RefusedToken({ reason: "token_not_yet_valid", claim: "auth_time" });
  if (since === undefined) return;
  if (authTime === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: "auth_time" });
  if (authTime < since - OUTSIDE_SKEW_SECONDS)
    throw new RefusedToken({ reason: "sign_in_too_old", issuer: issuer.name });
}
