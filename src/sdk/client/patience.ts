import { randomInt } from "node:crypto";
import { outcomeOf, UnavailableError } from "./outcome.ts";

/** Bounds of repeating. */
const LIMITS = {
  attempts: 4,
  /** Wait after the first failure in milliseconds; doubled each time. */
  firstMs: 200,
  /** Longest wait that a server may ask for, in milliseconds: tokens live less than a minute. */
  mostMs: 10_000,
} as const;

/**
 * Calls, and calls again while the server is not available, with waits that grow, follow `Retry-After`, and differ from
 * caller to caller.
 *
 * @param repeat `always` for what may be done twice; `unsent` for what may not: then only where it certainly was not done
 * @throws {EphorError}
 */
export async function patiently<T>(repeat: "always" | "unsent", call: () => Promise<T>): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await call();
    } catch (error) {
      const outcome = outcomeOf(error);
      if (outcome === undefined) throw error;
      const mayRepeat = outcome instanceof UnavailableError && (repeat === "always" || !outcome.isOutcomeUnknown);
      if (!mayRepeat || attempt >= LIMITS.attempts) throw outcome;
      await wait(Math.max(LIMITS.firstMs * 2 ** (attempt - 1), (outcome.retryAfterSeconds ?? 0) * 1000));
    }
  }
}

function wait(ms: number): Promise<void> {
  const most = Math.min(ms, LIMITS.mostMs);
  // A quarter more or less: those who were refused together do not come back together.
  return new Promise((resolve) => setTimeout(resolve, most * 0.75 + randomInt(Math.ceil(most / 2) + 1)));
}
