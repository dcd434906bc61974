import type { AccessTokenClaims } from "./claims.ts";

/** Longer than clocks may disagree, in seconds: a spent token is remembered past its end on every one of them. */
const SLACK_SECONDS = 60;

/**
 * What a use of the token spends, in the same step as the decision on it: a name that works once over all replicas, and until
 * when it is remembered (epoch seconds). None where the token is not once-only. Everything that takes one of our tokens as the
 * authorisation for an effect spends this, so that a token serves once, wherever that is (CONTRACT §5 "Once").
 *
 * @param isOnce whether the decision says so, where the token does not: a grant was changed after it was issued
 */
export function onceKeys(
  claims: Pick<AccessTokenClaims, "jti" | "exp" | "once">,
  isOnce: boolean = false,
): readonly OnceKey[] {
  return claims.once === true || isOnce ? [{ key: onceKey(claims.jti), exp: claims.exp + SLACK_SECONDS }] : [];
}

/** Under which name the use of a once-only token is remembered. */
export function onceKey(jti: string): string {
  return `once:${jti}`;
}

/** Something that works once, and until when it must be remembered (epoch seconds). */
export interface OnceKey {
  readonly key: string;
  readonly exp: number;
}
