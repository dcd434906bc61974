import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { DatabaseError } from "./errors.ts";

/** Limits of a lane, each with its reason. */
const LIMITS = {
  /** Beyond this a batch's latency grows faster than its throughput (performance.md). */
  maxRows: 64,
  /** About one second of work: whoever comes later is told to come back rather than waiting past his permit. */
  maxWaiting: 4_096,
};

/** Group commit: one call in flight, the next carries everyone who waited. */
export interface Lane<Row, Outcome> {
  /**
   * @throws {TemporarilyUnavailableError} `overloaded` when too many wait, or what `send` threw
   */
  submit(row: Row): Promise<Outcome>;
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

  async function drain(): Promise<void> {
    // One turn of the event loop: whoever arrived in the same read of the sockets rides along.
    await new Promise<void>((resolve) => setImmediate(resolve));
    while (waiting.length > 0) {
      const batch = waiting.slice(0, LIMITS.maxRows);
      waiting = waiting.slice(batch.length);
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
    submit(row) {
      if (waiting.length >= LIMITS.maxWaiting) {
        return Promise.reject(new TemporarilyUnavailableError({ reason: "overloaded" }));
      }
      return new Promise<Outcome>((resolve, reject) => {
        waiting.push({ row, resolve, reject });
        running ??= drain();
      });
    },
    async idle() {
      while (running) await running;
    },
  };
}
