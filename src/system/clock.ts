/**
 * `system` owns what the process needs from the machine: time, chance, digests, logs, metrics, outbound requests, shutdown.
 * It knows nothing of tokens, trust or the database. Every room above `core` may use it; `core` gets its values handed in.
 *
 * This file: the clocks. Nothing else in the program reads `Date` or `performance`.
 */
import { performance } from "node:perf_hooks";
import type { EpochSeconds } from "../core/time.ts";

/** A source of time. Tests hand in one that they move by hand. */
export interface Clock {
  /** Milliseconds since the Unix epoch by this machine's wall clock; it may jump. */
  nowMs(): number;
  /** Milliseconds since an arbitrary start; it never goes back. For durations and lapses only. */
  monotonicMs(): number;
}

/** The machine's clocks. */
export function systemClock(): Clock {
  return { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
}

/**
 * The clock by which tokens are judged and issued: it follows the database's, which all replicas share (ARCHITECTURE,
 * "Time"). Between two observations it advances with the monotonic clock, so that a jump of this machine's wall clock
 * neither revives nor ages a token.
 */
export interface DatabaseClock {
  /** Milliseconds since the epoch, as the database would say. */
  nowMs(): number;
  /** The same in whole seconds, rounded down. */
  now(): EpochSeconds;
  monotonicMs(): number;
  /** How far this machine's wall clock is from the database's, in milliseconds, never negative; 0 before the first observation. */
  skewMs(): number;
  /**
   * Takes one reading of the database's clock.
   *
   * @param databaseMs what the database said, milliseconds since the epoch
   * @param sentMs when the question was sent, monotonic milliseconds
   * @param receivedMs when the answer came, monotonic milliseconds
   */
  observe(databaseMs: number, sentMs: number, receivedMs: number): void;
}

/** @returns a clock that equals `clock` until the first observation, and follows the database afterwards */
export function createDatabaseClock(clock: Clock): DatabaseClock {
  /** Database milliseconds minus monotonic milliseconds. */
  let offset: number | undefined;
  const nowMs = (): number => (offset === undefined ? clock.nowMs() : clock.monotonicMs() + offset);
  return {
    nowMs,
    now: () => Math.floor(nowMs() / 1000),
    monotonicMs: () => clock.monotonicMs(),
    skewMs: () => (offset === undefined ? 0 : Math.abs(clock.nowMs() - nowMs())),
    observe(databaseMs, sentMs, receivedMs) {
      // The database read its clock somewhere between the two; the middle is wrong by half a round trip at most.
      offset = databaseMs - (sentMs + receivedMs) / 2;
    },
  };
}
