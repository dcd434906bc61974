import { DatabaseUnreachableError } from "./errors.ts";

/**
 * Whether the database answers at all. A cut network or a stopped machine tells nobody: sockets stay open and statements wait
 * for their timeouts. Whoever asks it regularly says so here, and everybody else is told at once instead of waiting too, so
 * that a request is answered 503 in time (A-OPS-01).
 */
export interface Presence {
  /** It did not answer in time: what is in flight fails, its outcome unknown, and nothing more is sent. */
  lost(): void;
  /** It answered: statements are sent again. */
  back(): void;
  /**
   * Sends, unless it is known to be in vain.
   *
   * @throws {DatabaseUnreachableError} when the database was lost before or meanwhile
   */
  whileThere<T>(send: () => Promise<T>): Promise<T>;
}

/** Nobody was lost yet. */
export function createPresence(): Presence {
  let isLost = false;
  const waiting = new Set<() => void>();
  return {
    lost() {
      isLost = true;
      const told = Array.from(waiting);
      for (const tell of told) tell();
    },
    back() {
      isLost = false;
    },
    whileThere(send) {
      if (isLost) return Promise.reject(new DatabaseUnreachableError({ outcomeUnknown: false }));
      return new Promise((resolve, reject) => {
        const tell = (): void => reject(new DatabaseUnreachableError({ outcomeUnknown: true }));
        waiting.add(tell);
        send()
          .then(resolve, reject)
          .finally(() => waiting.delete(tell));
      });
    },
  };
}
