/** Where time comes from. */
export interface Clock {
  /** Wall time in milliseconds since the epoch; within a second of the server's, or tokens are refused too early or too late. */
  nowMs(): number;
  /** Milliseconds that only grow, whatever happens to the wall clock. */
  monotonicMs(): number;
}

/** This machine's. */
export const machineClock: Clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
