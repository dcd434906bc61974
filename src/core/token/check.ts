import { JWT_TYP } from "../oauth/vocabulary.ts";
import type { EpochSeconds } from "../time.ts";
import type { VerifiedClaims } from "../trust/subject.ts";
import { RefusedToken } from "./refused.ts";

/** How far an outside issuer's clock may differ from ours, in seconds (A-JWT-07, A-JWT-08). */
export const OUTSIDE_SKEW_SECONDS = 30;

/** How far ahead of ours a replica's clock may be, in seconds: one that differs by more does not mint (INV-25). */
export const REPLICA_SKEW_SECONDS = 5;

/** What the times of a token must fulfil. */
export interface TimeRules {
  readonly now: EpochSeconds;
  /** Seconds past `exp` in which it is still accepted. */
  readonly skewSeconds: number;
  /** Seconds that `iat` and `nbf` may lie ahead of `now`. */
  readonly aheadSeconds: number;
  /** Longest `exp - iat` (without `iat`: `exp - now`), in seconds. */
  readonly maxLifetimeSeconds?: number;
  /** Whether `iat` must be there. */
  readonly requireIat?: boolean;
}

/** The times of a token, after the check. */
export interface TokenTimes {
  readonly exp: EpochSeconds;
  readonly iat?: EpochSeconds;
}

/**
 * The times of a token that is valid now. `exp` must be there; all are whole seconds that JavaScript holds exactly.
 *
 * @throws {RefusedToken} `token_claim_missing`, `token_claim_type`, `token_expired`, `token_not_yet_valid`, `token_lifetime`
 * @see RFC 7519 §4.1.4 to §4.1.6
 */
export function checkTimes(claims: VerifiedClaims, rules: TimeRules): TokenTimes {
  const exp = readTime(claims, "exp");
  const iat = readTime(claims, "iat");
  const nbf = readTime(claims, "nbf");
  if (exp === undefined || exp === 0)
    throw new RefusedToken({ reason: exp === 0 ? "token_claim_type" : "token_claim_missing", claim: "exp" });
  if (iat === undefined && rules.requireIat === true)
    throw new RefusedToken({ reason: "token_claim_missing", claim: "iat" });
  // "on or after which the JWT MUST NOT be accepted" (RFC 7519 §4.1.4)
  if (rules.now >= exp + rules.skewSeconds) throw new RefusedToken({ reason: "token_expired", exp });
  if ((iat ?? 0) > rules.now + rules.aheadSeconds)
    throw new RefusedToken({ reason: "token_not_yet_valid", claim: "iat" });
  if ((nbf ?? 0) > rules.now + rules.aheadSeconds)
    throw new RefusedToken({ reason: "token_not_yet_valid", claim: "nbf" });
  if (iat !== undefined && exp <= iat) throw new RefusedToken({ reason: "token_lifetime" });
  const lifetime = exp - (iat ?? rules.now);
  if (rules.maxLifetimeSeconds !== undefined && lifetime > rules.maxLifetimeSeconds) {
    throw new RefusedToken({ reason: "token_lifetime", lifetimeSeconds: lifetime });
  }
  return iat === undefined ? { exp } : { exp, iat };
}

/**
 * The one accepted audience that `aud` names: a string, or an array with that one element and no other.
 *
 * @throws {RefusedToken} `token_claim_missing`, `token_claim_type`, `token_audience`
 * @see RFC 7519 §4.1.3, A-JWT-18
 */
export function checkAudience(aud: unknown, accepted: readonly string[]): string {
  if (aud === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: "aud" });
  const only: unknown = Array.isArray(aud) ? aud[0] : aud;
  // A token that is also good elsewhere can be replayed by that other place.
  if (Array.isArray(aud) && aud.length !== 1)
    throw new RefusedToken({ reason: "token_audience", audiences: aud.length });
  if (typeof only !== "string") throw new RefusedToken({ reason: "token_claim_type", claim: "aud" });
  if (!accepted.includes(only)) throw new RefusedToken({ reason: "token_audience" });
  return only;
}

/**
 * Refuses a token of another kind. `accepted` is written without `application/`; `undefined` in it accepts a missing `typ`.
 *
 * @throws {RefusedToken} `token_typ`
 * @see RFC 7515 §4.1.9 (a `typ` without slash means `application/…`; case does not matter), RFC 8725 §3.11
 */
export function checkTyp(typ: string | undefined, accepted: readonly (string | undefined)[]): void {
  const given = typ === undefined ? undefined : bareTyp(typ);
  if (!accepted.includes(given)) throw new RefusedToken({ reason: "token_typ" });
}

/** Whether the `typ` is one that we sign: no outside issuer's token may bear it (A-JWT-13). */
export function isOwnTyp(typ: string | undefined): boolean {
  return typ !== undefined && OWN_TYPS.has(bareTyp(typ));
}

// `at+jwt`, `txntoken+jwt` and `secevent+jwt` are registered types that others sign as well; their issuer and key decide.
const OWN_TYPS: ReadonlySet<string> = new Set(Object.values(JWT_TYP).filter((typ) => typ.startsWith("ephor-")));

function bareTyp(typ: string): string {
  const lower = typ.toLowerCase();
  return lower.startsWith("application/") ? lower.slice("application/".length) : lower;
}

/**
 * A claim that must be a non-empty string.
 *
 * @throws {RefusedToken} `token_claim_missing`, `token_claim_type`
 */
export function requireString(claims: VerifiedClaims, claim: string, maxCharacters = MAX_CLAIM_CHARACTERS): string {
  const value = readString(claims, claim, maxCharacters);
  if (value === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim });
  return value;
}

/**
 * A claim that must be a non-empty string where it is there.
 *
 * @throws {RefusedToken} `token_claim_type`
 */
export function readString(
  claims: VerifiedClaims,
  claim: string,
  maxCharacters = MAX_CLAIM_CHARACTERS,
): string | undefined {
  const value = ownClaim(claims, claim);
  if (value === undefined) return undefined;
  if (typeof value !== "string" || value === "" || value.length > maxCharacters) {
    throw new RefusedToken({ reason: "token_claim_type", claim });
  }
  return value;
}

/** The claim itself, never something that every object inherits (`constructor`, `toString`). */
export function ownClaim(claims: VerifiedClaims, claim: string): unknown {
  return Object.hasOwn(claims, claim) ? claims[claim] : undefined;
}

/** Longest identifier claim, in characters: `sub` of AWS role sessions and SPIFFE ids go to 2,048. */
export const MAX_CLAIM_CHARACTERS = 2048;

function readTime(claims: VerifiedClaims, claim: string): EpochSeconds | undefined {
  const value = ownClaim(claims, claim);
  if (value === undefined) return undefined;
  // Beyond 2^53 arithmetic is not exact, and 1e308 is "for ever"; fractions are allowed by RFC 7519, but nobody sends them.
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) {
    throw new RefusedToken({ reason: "token_claim_type", claim });
  }
  return value;
}
