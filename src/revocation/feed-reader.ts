import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { HitRow } from "./feed-entries.ts";

/** How often kills are read, in milliseconds, also when none was heard of: each frame says until when it is fresh. */
export const ROUND_MS = 1_000;
/** What was killed longer ago than any token lives concerns nobody any more, in seconds. */
const KEPT_SECONDS = 65;

/** What one read found. */
export interface Read {
  /** The kill position. */
  readonly epoch: number;
  /** Database time of the read, epoch seconds. */
  readonly asOf: number;
}

/** One step of the kill position, and the live tokens that it hit. */
export interface Change {
  readonly position: number;
  /** Database time at which it was read, epoch seconds. */
  readonly atSeconds: number;
  readonly hits: readonly HitRow[];
}

/** The one reader of kills of a replica, whoever listens. */
export interface FeedReader {
  /** The last read, if it is at most a round old and somebody keeps it so; else a new one. */
  recent(): Promise<Read>;
  /** Changes after a position; undefined where they are not known any more. */
  since(position: number): readonly Change[] | undefined;
  /** Resolves after the next read, or when the signal fires or the room closes. */
  next(signal: AbortSignal): Promise<void>;
  /** Reads every round while somebody listens. @returns what ends that */
  listen(): () => void;
  /** Something was killed: read now instead of within the round. */
  heard(): void;
  readonly isClosed: boolean;
  close(): Promise<void>;
}

/** What is remembered between two reads. */
class Memory {
  /** Changes of the last minute, oldest first; complete from `since` on. */
  changes: readonly Change[] = [];
  since = 0;
  last: (Read & { readonly readAtMs: number }) | undefined;

  take(read: Read & { readonly readAtMs: number }, change: Change | undefined): void {
    if (this.last === undefined) this.since = read.epoch;
    const all = change === undefined ? this.changes : [...this.changes, change];
    const kept = all.filter(({ atSeconds }) => atSeconds >= read.asOf - KEPT_SECONDS);
    const forgotten = all[all.length - kept.length - 1];
    if (forgotten !== undefined) this.since = forgotten.position;
    this.changes = kept;
    this.last = read;
  }
}

/** Makes the reader. */
export function createFeedReader(deps: { db: Db; clock: DatabaseClock; log: Log }): FeedReader {
  const { db, clock, log } = deps;
  const memory = new Memory();
  const waiting = new Set<() => void>();
  let reading: Promise<void> | undefined;
  let again = false;
  let isClosed = false;
  let listeners = 0;

  async function read(): Promise<void> {
    // Before the read: what is read is at least as new as it says.
    const asOf = clock.now();
    const readAtMs = clock.monotonicMs();
    const [row] = await db.query<{ epoch: number }>("select epoch from ephor.gate where id = 1");
    if (!row) return;
    const known = memory.last?.epoch;
    const hasMoved = known !== undefined && known !== row.epoch;
    const hits = hasMoved ? await hitsAfter(db, { position: known, now: asOf }) : [];
    const change = { position: row.epoch, atSeconds: clock.now(), hits };
    memory.take({ epoch: row.epoch, asOf, readAtMs }, hasMoved ? change : undefined);
    for (const wake of waiting) wake();
  }

  const readOnce = (): Promise<void> => {
    reading ??= read().finally(() => {
      reading = undefined;
      if (!again || isClosed) return;
      // Heard of while it was reading: what it read may be from before.
      again = false;
      quietly();
    });
    return reading;
  };
  const quietly = (): void => {
    if (isClosed || listeners === 0) return;
    readOnce().catch((err: unknown) => log.warn("feed_not_read", { err }));
  };
  const timer = setInterval(quietly, ROUND_MS);
  timer.unref();
  return {
    async recent() {
      const isOld = memory.last === undefined || clock.monotonicMs() - memory.last.readAtMs > ROUND_MS;
      if (isOld || listeners === 0) await readOnce();
      return memory.last as Read;
    },
    since: (position) =>
      position < memory.since || position > (memory.last?.epoch ?? 0)
        ? undefined
        : memory.changes.filter((change) => change.position > position),
    next: (signal) => oneOf(waiting, signal),
    listen() {
      listeners += 1;
      return () => void (listeners -= 1);
    },
    heard() {
      if (reading) again = true;
      else quietly();
    },
    get isClosed() {
      return isClosed;
    },
    async close() {
      isClosed = true;
      clearInterval(timer);
      for (const wake of waiting) wake();
      await reading?.catch(() => {});
    },
  };
}

/** Waits until it is woken or the signal fires. */
function oneOf(waiting: Set<() => void>, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      waiting.delete(done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    waiting.add(done);
    signal.addEventListener("abort", done);
  });
}

/** Which live tokens the kills after a position hit, by audience and by the key that hits them. */
async function hitsAfter(db: Db, at: { position: number; now: number }): Promise<readonly HitRow[]> {
  const rows = await db.query<{ key: string }>("select key from ephor.dead_keys where position > $1", [at.position]);
  if (rows.length === 0) return [];
  return await db.query<HitRow>(
    `select h.aud, k.key, array_agg(h.jti order by h.jti) as jtis, max(h.iat) as last_iat
     from ephor.hops h cross join unnest(h.kill_keys) as k(key)
     where h.exp > $2 and h.kill_keys && $1 and k.key = any($1)
     group by h.aud, k.key order by h.aud, k.key`,
    [rows.map(({ key }) => key), at.now],
  );
}
