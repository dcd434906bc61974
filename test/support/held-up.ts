import type { Cleanup } from "./database.ts";

/** How often it is looked at, in milliseconds; twice that is what a timer may be late on a machine that is not busy. */
const LOOK_MS = 10;

/**
 * Counts the time in which this process did not get to run, so that a bound on how long something takes is none on how busy
 * the machine is.
 *
 * @returns milliseconds so far
 */
export function heldUpMs(t: Cleanup): () => number {
  let total = 0;
  let last = performance.now();
  const look = (): number => {
    const now = performance.now();
    total += Math.max(0, now - last - 2 * LOOK_MS);
    last = now;
    return total;
  };
  const timer = setInterval(look, LOOK_MS);
  timer.unref();
  t.after(() => clearInterval(timer));
  return look;
}
