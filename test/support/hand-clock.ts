import type { Clock } from "../../src/system/clock.ts";

/** A clock that stands still until a test moves it. Wall and monotonic time move together unless told otherwise. */
export interface HandClock extends Clock {
  /** Moves both clocks by seconds (fractions allowed). */
  advance(seconds: number): void;
  /** Makes the wall clock jump, as when an administrator sets it; the monotonic clock stays. */
  jumpWall(seconds: number): void;
  /** Wall time in whole seconds. */
  seconds(): number;
}

/** @param start wall time in seconds since the epoch; by default 2026-11-22T12:00:00Z */
export function handClock(start = 1_795_348_800): HandClock {
  let wallMs = start * 1000;
  let monotonicMs = 1_000;
  return {
    nowMs: () => wallMs,
    monotonicMs: () => monotonicMs,
    seconds: () => Math.floor(wallMs / 1000),
    advance(seconds) {
      wallMs += seconds * 1000;
      monotonicMs += seconds * 1000;
    },
    jumpWall(seconds) {
      wallMs += seconds * 1000;
    },
  };
}

/**
 * Where a hand clock begins beside a real PostgreSQL that makes roles, whose own clock goes on: a role that would be over by that
 * one is not made, and on a slow machine a minute goes by while the hand clock stands. So it is ahead by far more than a run takes.
 *
 * @returns seconds since the epoch
 */
export function aheadOfServers(): number {
  return Math.floor(Date.now() / 1_000) + 3_600;
}

/** The real time, which a test can still push ahead; for programs that have clocks of their own. */
export function runningClock(): HandClock {
  let aheadMs = 0;
  let jumpedMs = 0;
  const nowMs = (): number => Date.now() + aheadMs + jumpedMs;
  return {
    nowMs,
    monotonicMs: () => performance.now() + aheadMs,
    seconds: () => Math.floor(nowMs() / 1000),
    advance(seconds) {
      aheadMs += seconds * 1000;
    },
    jumpWall(seconds) {
      jumpedMs += seconds * 1000;
    },
  };
}
