import { InvalidRequestError, InvalidScopeError } from "../oauth/errors.ts";
import type { EpochSeconds } from "../time.ts";

/** Longest life of any token, in seconds. Its only home: no configuration, grant, call or stored value raises it. */
export const MAX_LIFETIME_SECONDS = 59;

/** Life of a token when nobody asked, in seconds. */
export const DEFAULT_LIFETIME_SECONDS = 45;

/** Shortest life of a token, in seconds. */
export const MIN_LIFETIME_SECONDS = 1;

/** What bounds a token's life. */
export interface LifetimeBounds {
  /** Seconds that the caller wants (`ttl`). */
  readonly asked?: number;
  /** Smallest `ttl` of the grants, in seconds. */
  readonly grantTtl?: number;
  /** Smallest `until` of the grants. */
  readonly until?: EpochSeconds;
  readonly taskDeadline: EpochSeconds;
  /** The `iat`, by the database's clock. */
  readonly issuedAt: EpochSeconds;
}

/**
 * Seconds that a token lives: the least of what was asked (or 45), 59, the grants' `ttl` and `until`, and the task's end.
 *
 * @returns whole seconds, 1 to 59
 * @throws {InvalidRequestError} `ttl_out_of_range`; `task_expired` when less than a second of the task is left
 * @throws {InvalidScopeError} `grant_expired` when less than a second of a grant is left
 * @see CONTRACT §2 rules 1 and 3, RFC 9068 §2.2 (exp)
 */
export function lifetimeSeconds(bounds: LifetimeBounds): number {
  const asked = bounds.asked ?? DEFAULT_LIFETIME_SECONDS;
  if (!isLifetime(asked)) throw outOfRange();
  const task = wholeSeconds(bounds.taskDeadline - bounds.issuedAt);
  const grant = wholeSeconds((bounds.until ?? Number.MAX_SAFE_INTEGER) - bounds.issuedAt);
  if (!(task >= MIN_LIFETIME_SECONDS)) throw new InvalidRequestError({ reason: "task_expired" });
  if (!(grant >= MIN_LIFETIME_SECONDS)) throw new InvalidScopeError({ reason: "grant_expired" });
  const ttl = wholeSeconds(bounds.grantTtl ?? MAX_LIFETIME_SECONDS);
  if (!(ttl >= MIN_LIFETIME_SECONDS)) throw new InvalidScopeError({ reason: "grant_expired" });
  return Math.min(asked, MAX_LIFETIME_SECONDS, ttl, grant, task);
}

/**
 * The `ttl` parameter as seconds.
 *
 * @throws {InvalidRequestError} `ttl_out_of_range` for anything but a whole number from 1 to 59 in plain digits
 */
export function readTtl(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const seconds = /^[1-9][0-9]?$/.test(text) ? Number(text) : Number.NaN;
  if (!isLifetime(seconds)) throw outOfRange();
  return seconds;
}

function isLifetime(seconds: number): boolean {
  return Number.isInteger(seconds) && seconds >= MIN_LIFETIME_SECONDS && seconds <= MAX_LIFETIME_SECONDS;
}

function wholeSeconds(seconds: number): number {
  return Math.floor(seconds);
}

function outOfRange(): InvalidRequestError {
  return new InvalidRequestError({
    reason: "ttl_out_of_range",
    help: "ttl must be a whole number of seconds from 1 to 59.",
  });
}
