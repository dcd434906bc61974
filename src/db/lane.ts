import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { DatabaseError } from "./errors.ts";

/** Limits of a lane, each with its reason. */
const LIMITS = {
  /** Beyond this a batch's latency grows faster than its throughput (performance.md). */
  maxRows: 64,
  /** About one second of work: whoever comes later is told to come back rather than waiting past his permit. */
  maxWaiting: 4_096,
  /** Milliseconds for which rows that nobody waits for wait for others: one statement for many costs little more than for one. */
  patienceMs: 20,
};

/** Group commit: one call in flight, the next carries everyone who waited. */
export interface Lane<Row, Outcome> {
  /**
   * @param by `soon`: nobody waits for it, so that it waits some milliseconds for others
   * @throws {TemporarilyUnavailableError} `overloaded` when too many wait, or what `send` threw
   */
  submit(row: Row, by?: "now" | "soon"): Promise<Outcome>;
  /** Resolves when nothing is waiting or in flight. */
  idle(): Promise<void>;
}

interface Waiting<Row, Outcome> {
  row: Row;
  resolve(outcome: Outcome): void;
  reject(error: unknown): void;
}

/**
 * Makes a lane.
 *
 * @param send one database call for a batch; answers in the order of the rows
 * @param observe told the size of each batch and the milliseconds it took
 */
export function createLane<Row, Outcome>(
  send: (rows: readonly Row[]) => Promise<readonly Outcome[]>,
  observe: (rows: number, ms: number) => void = () => {},
): Lane<Row, Outcome> {
  let waiting: Waiting<Row, Outcome>[] = [];
  let running: Promise<void> | undefined;
  /** Whether a row is there that somebody waits for; ends a pause. */
  let isUrgent = false;
  let hurry: (() => void) | undefined;

  const urge = (): void => {
    isUrgent = true;
    hurry?.();
  };
  const pause = (): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(() => hurry?.(), LIMITS.patienceMs);
      hurry = () => {
        clearTimeout(timer);
        hurry = undefined;
        resolve();
      };
    });

  async function drain(): Promise<void> {
    // One turn of the event loop: whoever arrived in the same read of the sockets rides along.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (waiting.length > 0) {
      if (!isUrgent) await pause();
      const batch = waiting.slice(0, LIMITS.maxRows);
      waiting = waiting.slice(batch.length);
      isUrgent = waiting.length > 0;
      const startedAt = performance.now();
      await carry(batch);
      observe(batch.length, performance.now() - startedAt);
    }
    running = undefined;
  }

  async function carry(batch: Waiting<Row, Outcome>[]): Promise<void> {
    try {
      const outcomes = await send(batch.map((member) => member.row));
      batch.forEach((member, index) => member.resolve(outcomes[index] as Outcome));
    } catch (error) {
      // A refused statement recorded nothing. One member's data may be the cause: each is tried once alone.
      if (error instanceof DatabaseError && batch.length > 1) {
        for (const member of batch) await carry([member]);
        return;
      }
      for (const member of batch) member.reject(error);
    }
  }

  return {
    submit(row, by = "now") {
      if (waiting.length >= LIMITS.maxWaiting) {
        return Promise.reject(new TemporarilyUnavailableError({ reason: "overloaded" }));
      }
      return new Promise<Outcome>((resolve, reject) => {
        waiting.push({ row, resolve, reject });
        if (by === "now" || waiting.length >= LIMITS.maxRows) urge();
        running ??= drain();
      });
    },
    async idle() {
      while (running) {
        urge();
        await running;
      }
    },
  };
}
