import {
  checkAudience,
  checkTimes,
  checkTyp,
  OUTSIDE_SKEW_SECONDS,
  ownClaim,
  readString,
  requireString,
} from "../core/token/check.ts";
import { readJws, OUTSIDE_TOKEN_MAX_BYTES, type JoseHeader, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import { sha256Base64url } from "../system/hash.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { checkConfirmation } from "./confirmation.ts";
import { findIssuer } from "./find-issuer.ts";
import type { IssuerProfile } from "./issuers/profile.ts";
import { profileOf } from "./issuers/profiles.ts";
import { LIMITS } from "./limits.ts";
import type { SignatureCheck } from "./signature.ts";
import { checkTokenType } from "./token-type.ts";

/** How often a token is judged whose issuer's entry is edited under it. */
const JUDGEMENTS = 3;

/** What a token is presented as. Everything but a subject must be a workload. */
export type TokenUse = "subject" | "actor" | "client" | "assertion";

/** How a token is presented. */
export interface VerifyOptions {
  readonly use: TokenUse;
  /** `subject_token_type` or `actor_token_type`; absent for client assertions and the jwt-bearer grant. */
  readonly tokenType?: string | undefined;
  /** Thumbprint of the key that the request's DPoP proof was made with, if it has one that was found good. */
  readonly proofJkt?: string | undefined;
  /**
   * Takes a token of a `single_use` issuer after its end too, and says so in `hasExpired`: by the DPoP key that it came
   * with, its agent may continue the task it opened (CONTRACT §5). Whoever asks for this must check that it did.
   */
  readonly mayHaveExpired?: boolean;
}

/** A token of a trusted issuer that is good now, for us, and of the right kind. Which agent it is, is not said here. */
export interface VerifiedToken {
  /** The trust entry that it was judged by. */
  readonly issuer: Issuer;
  readonly claims: VerifiedClaims;
  readonly header: JoseHeader;
  /** Stable name of this token: equal for equal `(iss, jti)`, or, without `jti`, for equal header and payload. */
  readonly key: string;
  readonly exp: EpochSeconds;
  /** Only where the caller asked for it by `mayHaveExpired`. */
  readonly hasExpired: boolean;
  readonly iat?: EpochSeconds;
  /** When the person signed in, where the token says so. */
  readonly authTime?: EpochSeconds;
  readonly identifies: "workloads" | "humans";
  readonly sub: string;
  /** `sub`, or the SPIFFE ID. */
  readonly workloadId: string;
  /** Few claims for the audit event that say which job or pod it was. */
  readonly display: Readonly<Record<string, string | number>>;
  /** Kind of the issuer's profile. */
  readonly profile: string;
}

/** What the verification of outside tokens needs. */
export interface VerifyDeps {
  /** The live index: an issuer that was removed a moment ago is not in it any more (A-OIDC-02). */
  readonly trust: () => TrustIndex;
  readonly clock: Pick<DatabaseClock, "now">;
  readonly checkSignature: SignatureCheck;
  /** Our issuer identifier. */
  readonly issuerUrl: string;
}

/**
 * Verifies a token of an outside issuer. Phases: strict reading; which issuer, from the configured ones only; header rules;
 * signature by that issuer's keys; still trusted; audience, times, claims; the issuer kind's own traps.
 *
 * @throws {RefusedToken} with the reason of the check that failed
 * @see standards.md 12.3, INV-06, RFC 8725 §3
 */
export async function verifyOutsideToken(
  deps: VerifyDeps,
  token: string,
  options: VerifyOptions,
): Promise<VerifiedToken> {
  const jws = readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES });
  const issuer = await standingIssuer(deps, jws, (candidate) => {
    checkUse(candidate, options.use);
    checkHeader(token, jws, { issuer: candidate, profile: profileOf(candidate, jws.payload), options });
    return deps.checkSignature(token, jws, candidate);
  });
  return judgeClaims(jws, { issuer, profile: profileOf(issuer, jws.payload), now: deps.clock.now(), options });
}

/**
 * The issuer's entry that a token's signature was checked by, and that stands. Where the entry was edited while keys were
 * fetched, it is asked again by the new one: an edit of a trust file must not refuse the calls that are under way.
 *
 * @throws {RefusedToken} `token_issuer_unknown`; `token_issuer_disabled` where it was removed meanwhile, or edited each time
 */
export async function standingIssuer(
  deps: Pick<VerifyDeps, "trust" | "issuerUrl">,
  { payload }: StrictJws,
  check: (issuer: Issuer) => Promise<void>,
): Promise<Issuer> {
  for (let left = JUDGEMENTS; ; left--) {
    const issuer = findIssuer(deps.trust(), payload, deps.issuerUrl);
    const now = (): Issuer | undefined => deps.trust().issuerByName(issuer.name);
    try {
      await check(issuer);
    } catch (error) {
      if (now() === issuer) throw error;
    }
    if (now() === issuer) return issuer;
    if (left === 1 || now() === undefined) checkStillTrusted(deps.trust(), issuer);
  }
}

/** A person cannot be an actor, a client or a workload's assertion. */
function checkUse(issuer: Issuer, use: TokenUse): void {
  if (use !== "subject" && issuer.identifies !== "workloads") {
    throw new RefusedToken({ reason: "actor_not_workload", issuer: issuer.name });
  }
}

function checkHeader(
  token: string,
  { header, payload }: StrictJws,
  { issuer, profile, options }: { issuer: Issuer; profile: IssuerProfile; options: VerifyOptions },
): void {
  if (issuer.identifies === "workloads" && token.length > LIMITS.workloadTokenBytes) {
    throw new RefusedToken({ reason: "token_too_large", maxBytes: LIMITS.workloadTokenBytes });
  }
  checkTyp(header.typ, profile.typ);
  checkTokenType(options.tokenType, header, payload);
  const accepted = issuer.algorithms ?? profile.algorithms;
  if (accepted !== undefined && !accepted.includes(header.alg))
    throw new RefusedToken({ reason: "token_alg", issuer: issuer.name });
  // A profile's own list bounds the issuer's: JWT-SVID forbids EdDSA whatever is configured.
  if (profile.algorithms?.includes(header.alg) === false)
    throw new RefusedToken({ reason: "token_alg", issuer: issuer.name });
  // Read once more, now that we know that nothing but `alg`, `kid` and `typ` may be there.
  if (profile.bareHeader) readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES, ownHeader: true });
}

/**
 * Once its issuer was removed or changed, a judgement is void.
 *
 * @throws {RefusedToken} `token_issuer_disabled`
 */
export function checkStillTrusted(trust: TrustIndex, issuer: Issuer): void {
  if (trust.issuerByName(issuer.name) !== issuer)
    throw new RefusedToken({ reason: "token_issuer_disabled", issuer: issuer.name });
}

function judgeClaims(
  { header, payload, signingInput }: StrictJws,
  o: { issuer: Issuer; profile: IssuerProfile; now: EpochSeconds; options: VerifyOptions },
): VerifiedToken {
  const { issuer, profile } = o;
  checkAudience(ownClaim(payload, "aud"), issuer.audience);
  const exp = ownClaim(payload, "exp");
  const isOver = o.options.mayHaveExpired === true && issuer.singleUse && typeof exp === "number" && exp < o.now;
  const times = checkTimes(payload, {
    // Judged at its last moment: everything but its end must still be right.
    now: isOver ? exp : o.now,
    skewSeconds: OUTSIDE_SKEW_SECONDS,
    aheadSeconds: OUTSIDE_SKEW_SECONDS,
    maxLifetimeSeconds: issuer.maxTokenAgeSeconds ?? LIMITS.tokenLifetimeSeconds,
    requireIat: profile.requireIat,
  });
  // A logout token or another security event is no proof of a session (OIDC Back-Channel Logout §2.4, RFC 8417 §2.2).
  if (Object.hasOwn(payload, "events")) throw new RefusedToken({ reason: "token_typ" });
  checkConfirmation(payload, o.options.proofJkt);
  const sub = requireString(payload, "sub");
  const jti = readString(payload, "jti");
  const authTime = readAuthTime(payload);
  profile.check(payload, issuer);
  const workload = profile.workload(payload);
  return {
    issuer,
    claims: payload,
    header,
    key: tokenKey(issuer, jti, signingInput),
    hasExpired: isOver && times.exp + OUTSIDE_SKEW_SECONDS <= o.now,
    identifies: issuer.identifies,
    sub,
    workloadId: workload.id,
    display: workload.display,
    profile: profile.kind,
    ...times,
    ...(authTime === undefined ? {} : { authTime }),
  };
}

/**
 * The stable name of a token: by `(iss, jti)`, or, without `jti`, by header and payload. Prefixes keep the two kinds apart,
 * the JSON of the list keeps `iss` and `jti` apart.
 */
export function tokenKey(issuer: Issuer, jti: string | undefined, signingInput: string): string {
  // Never the whole token: an ECDSA signature can be rewritten into another good one.
  return sha256Base64url(
    jti === undefined ? `jws ${signingInput}` : `jti ${JSON.stringify([issuer.url ?? issuer.spiffe, jti])}`,
  );
}

/**
 * When the person signed in, where the token says so.
 *
 * @throws {RefusedToken} `token_claim_type`
 */
export function readAuthTime(claims: VerifiedClaims): EpochSeconds | undefined {
  const value = ownClaim(claims, "auth_time");
  if (value === undefined) return undefined;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new RefusedToken({ reason: "token_claim_type", claim: "auth_time" });
  }
  return value;
}
