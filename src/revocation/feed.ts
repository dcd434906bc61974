import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { feedEntries, type Dead } from "./feed-entries.ts";
import { createFeedPlaces } from "./feed-places.ts";
import { createFeedReader } from "./feed-reader.ts";

/** How long a frame says that it is fresh, in seconds: two rounds, and a moment on the way. */
const FRESH_SECONDS = 3;

/** What a resource is told. */
export interface Frame {
  /** The kill position up to which the receiver knows everything. */
  readonly seq: number;
  /** It tells everything after this position; 0: from the beginning. So a lost frame is noticed. */
  readonly after: number;
  /** Database time of the read that this rests on, epoch seconds. */
  readonly as_of: number;
  /** If nothing came until then, the receiver knows too little. */
  readonly next_by: number;
  readonly dead: readonly Dead[];
}

/** Whom the feed is for: one resource. */
export interface Audience {
  readonly name: string;
  /** `aud` of its tokens. */
  readonly identifier: string;
}

/** The feed of kills for verifiers (CONTRACT §6). */
export interface Feed {
  /**
   * What happened after a place, by a read that is at most a round old.
   *
   * @param after `seq` of the last frame that was taken; undefined: nothing is known yet
   * @throws whatever the database throws: whoever cannot read says nothing
   */
  frame(audience: Audience, after: number | undefined): Promise<Frame>;
  /** Frames as they come, one at once and then each round, until the signal fires or the room closes. */
  frames(audience: Audience, after: number | undefined, signal: AbortSignal): AsyncGenerator<Frame>;
  /** Something was killed: read now instead of within the second. */
  heard(): void;
  close(): Promise<void>;
}

/**
 * Opens the room. One reader for each replica, whoever listens; nothing is kept for a single listener but its place, so a slow
 * one costs no memory and gets what it missed in one frame.
 */
export function createFeed(deps: {
  db: Db;
  clock: DatabaseClock;
  log: Log;
  metrics: Pick<Metrics, "feedReaders">;
}): Feed {
  const { db, metrics } = deps;
  const reader = createFeedReader(deps);
  const places = createFeedPlaces();

  async function from(audience: Audience, after: number | undefined): Promise<Frame> {
    const { epoch, asOf } = await reader.recent();
    const at = { seq: epoch, as_of: asOf, next_by: asOf + FRESH_SECONDS };
    const changes = after === undefined ? undefined : reader.since(after);
    if (changes !== undefined)
      return {
        ...at,
        after: after ?? 0,
        dead: changes.flatMap((change) => feedEntries(change.hits, audience, change.atSeconds)),
      };
    // From the beginning: whatever lives by its times and is dead all the same.
    const rows = await db.query<{ jti: string }>(
      "select jti from ephor.hops where aud = $1 and exp > $2 and ephor.is_dead(kill_keys, kill_epochs, 0, $2) order by jti",
      [audience.identifier, asOf],
    );
    return { ...at, after: 0, dead: rows.map(({ jti }) => ({ jti })) };
  }

  return {
    frame: from,
    async *frames(audience, after, signal) {
      const leave = places.take(audience.name);
      const stop = reader.listen();
      metrics.feedReaders.inc();
      try {
        let place = after;
        while (!signal.aborted && !reader.isClosed) {
          const frame = await from(audience, place);
          place = frame.seq;
          yield frame;
          await reader.next(signal);
        }
      } finally {
        metrics.feedReaders.dec();
        stop();
        leave();
      }
    },
    heard: reader.heard,
    close: reader.close,
  };
}
