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
