import type { DatabaseClock } from "../system/clock.ts";
import { sha256Hex } from "../system/hash.ts";
import type { DedicatedConnection } from "../db/database.ts";

/** Where a stream of the ledger stands: the next append must continue exactly here. */
export interface StreamPosition {
  readonly id: string;
  readonly seq: number;
  /** SHA-256 so far, hexadecimal. */
  readonly hash: string;
}

/** One writer's stream. A new one is begun when it is not known how the last append ended. */
export interface LedgerStream {
  position(): Promise<StreamPosition>;
  advanced(seq: number, hash: string): void;
  /** The last append's outcome is unknown: this stream is left where it is. */
  abandon(): void;
}

/** A stream of this process. Its first hash is that of its name, so that streams cannot be exchanged for each other. */
export function createStream(
  connection: DedicatedConnection,
  options: { replica: string; name: string; clock: DatabaseClock },
): LedgerStream {
  let current: StreamPosition | undefined;
  let count = 0;
  return {
    async position() {
      if (current) return current;
      count += 1;
      const id = `${options.replica}.${options.name}.${count}`;
      const hash = sha256Hex(id);
      await connection.call(
        "open_stream",
        "insert into ephor.streams (id, replica, seq, hash, started_at_ms) values ($1, $2, 0, decode($3, 'hex'), $4)",
        [id, options.replica, hash, Math.floor(options.clock.nowMs())],
      );
      current = { id, seq: 0, hash };
      return current;
    },
    advanced(seq, hash) {
      if (current) current = { id: current.id, seq, hash };
    },
    abandon() {
      current = undefined;
    },
  };
}
