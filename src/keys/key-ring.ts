/**
 * `keys` owns what Ephor signs with: token keys (next → active → retired, published while anyone may need them), record
 * keys (the same, but published for ever), identity keys (for the web-identity tokens that clouds take, and for nothing
 * else) and the secret of DPoP nonces. It signs a token only for a permit of `authz`, and anything else only for the closed
 * list of `attestor`. It does not decide, and knows no claim's meaning.
 *
 * This file: the rules of the ring. Pure; time is an argument, in milliseconds of the database's clock.
 */
import { MAX_LIFETIME_SECONDS } from "../core/token/lifetime.ts";

/**
 * What a key signs: tokens and their kin, records that must be verifiable for ever, or web-identity tokens, which other
 * people's systems verify and we never do.
 */
export type KeyUse = "token" | "record" | "identity";

/** Where a key is in its life. */
export type KeyStatus = "next" | "active" | "retired";

/** What the rules need to know of a key. Times are milliseconds since the epoch. */
export interface RingKey {
  readonly kid: string;
  readonly use: KeyUse;
  readonly status: KeyStatus;
  readonly createdAtMs: number;
  readonly activatedAtMs: number | null;
  readonly retiredAtMs: number | null;
}

/** The ring's times in seconds, each with its reason. */
export const RING_LIMITS = {
  /** A replica reads the keys again when it last did so this long ago. */
  reloadSeconds: 10,
  /** A replica that has not read the keys for so long neither signs nor verifies: it could have missed a rotation. */
  staleSeconds: 20,
  /** Twice the 5 s at which a replica's clock stops it (INV-25), between the rotating and the verifying one; and the 5 s that a statement may take to commit. */
  clockMarginSeconds: 15,
  /** A key is in the JWKS this long before it signs: twice the JWKS's own `max-age` of 300 s, and what verifiers cache at most (standards §12.2). */
  noticeSeconds: 600,
  /** A retired key stays in the JWKS: three times `max-age`. It verifies nothing here long before. */
  retiredPublishedSeconds: 900,
} as const;

/**
 * How long a retired token key still verifies: until the last token that a replica may have signed with it, not knowing
 * of the rotation, has expired.
 */
export const RETIRED_VERIFIES_SECONDS =
  MAX_LIFETIME_SECONDS + RING_LIMITS.staleSeconds + RING_LIMITS.clockMarginSeconds;

/**
 * Whether a signature by this key counts. A `next` key's does: another replica may have made it active a moment ago.
 *
 * @param nowMs the database's clock
 */
export function verifies(key: RingKey, nowMs: number): boolean {
  if (key.status !== "retired" || key.use === "record") return true;
  return nowMs < (key.retiredAtMs ?? 0) + RETIRED_VERIFIES_SECONDS * 1000;
}

/** Whether the key belongs in the published set of its use. Record keys stay for ever: a record has no expiry. */
export function isPublished(key: RingKey, nowMs: number): boolean {
  if (key.status !== "retired" || key.use === "record") return true;
  return nowMs < (key.retiredAtMs ?? 0) + RING_LIMITS.retiredPublishedSeconds * 1000;
}

/** When a `next` key has been published long enough to sign, in milliseconds. */
export function readyAtMs(next: RingKey): number {
  return next.createdAtMs + RING_LIMITS.noticeSeconds * 1000;
}

/**
 * Whether the schedule asks for a rotation now: the active key is old enough, or is of another algorithm than the
 * configured one while its successor is of that; and the successor has been published long enough.
 */
export function isRotationDue(
  pair: { active: RingKey & { algorithm: string }; next: RingKey & { algorithm: string } },
  plan: { nowMs: number; everySeconds: number; algorithm: string },
): boolean {
  const { active, next } = pair;
  if (plan.nowMs < readyAtMs(next)) return false;
  const isOld = plan.nowMs >= (active.activatedAtMs ?? active.createdAtMs) + plan.everySeconds * 1000;
  const isOfOtherAlgorithm = active.algorithm !== plan.algorithm && next.algorithm === plan.algorithm;
  return isOld || isOfOtherAlgorithm;
}

/** The key of this use that signs and the one that will. @returns undefined before the first start made them */
export function activeAndNext<K extends RingKey>(keys: Iterable<K>, use: KeyUse): { active: K; next: K } | undefined {
  let active: K | undefined;
  let next: K | undefined;
  for (const key of keys) {
    if (key.use !== use) continue;
    if (key.status === "active") active = key;
    if (key.status === "next") next = key;
  }
  return active && next ? { active, next } : undefined;
}
