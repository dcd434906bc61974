import type { Db } from "../db/database.ts";
import type { Outstanding } from "./outstanding.ts";
import type { Streams } from "./streams.ts";

/** How kills reach this replica: read by position, whether they were announced or not. */
export interface Heed {
  /**
   * Reads the kills that came since the last time, drops what they cover, and says so to whoever waits for it.
   *
   * @param epoch one that is known to be there; nothing is read where it was seen already
   * @throws {DatabaseUnreachableError} and then nothing was acknowledged
   */
  catchUp(epoch?: number): Promise<void>;
  /**
   * Names who keeps the trust objects in memory; before, there are none. From then on whoever acknowledges a position has taken
   * in what was taken away up to it.
   *
   * @param takeIn brings them to at least this trust version
   */
  follow(takeIn: (version: number) => Promise<void>): void;
}

/** What a kill drops: what was decided and has not left, and what flows. */
export interface Droppable {
  readonly outstanding: Pick<Outstanding, "struck">;
  readonly streams: Pick<Streams, "struck">;
}

/**
 * Drops what kills cover on this replica. Whoever makes a kill calls it before he answers: nobody waits for his own
 * acknowledgement, and he may be late in hearing of what he announced.
 *
 * @param positions of the latest kill of each key
 */
export function drop({ outstanding, streams }: Droppable, positions: ReadonlyMap<string, number>): void {
  outstanding.struck(positions);
  streams.struck(positions);
}

/**
 * @param deps.replica whose row in `ephor.replicas` acknowledges
 */
export function createHeed(deps: { db: Db; replica: string; outstanding: Outstanding; streams: Streams }): Heed {
  const { replica } = deps;
  const connection = deps.db.dedicated("heed", { beats: true });
  let seen: number | undefined;
  let takeIn: ((version: number) => Promise<void>) | undefined;
  let last: Promise<void> = Promise.resolve();

  async function read(epoch: number | undefined): Promise<void> {
    if (epoch !== undefined && seen !== undefined && epoch <= seen) return;
    // One statement, one snapshot: no kill up to that epoch is missing.
    const [row] = await connection.call<{ epoch: number; version: number; keys: Record<string, number> }>(
      "kills since",
      `select g.epoch, g.trust_version as version, coalesce((select jsonb_object_agg(d.key, d.position) from ephor.dead_keys d where d.position > $1), '{}') as keys
       from ephor.gate g where g.id = 1`,
      // What was killed before this replica's first look was killed before its first release.
      [seen ?? Number.MAX_SAFE_INTEGER],
    );
    if (!row) return;
    // INVARIANT: dropped before it is acknowledged.
    const positions = new Map(Object.entries(row.keys));
    if (positions.size > 0) drop(deps, positions);
    await takeIn?.(row.version);
    seen = row.epoch;
    await connection.call("heard", "select ephor.heard($1, $2)", [replica, row.epoch]);
  }

  return {
    catchUp(epoch) {
      const turn = last.then(() => read(epoch));
      last = turn.catch(() => {});
      return turn;
    },
    follow(how) {
      takeIn = how;
    },
  };
}
