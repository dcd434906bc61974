import { setTimeout as pause } from "node:timers/promises";
import type { Db } from "../db/database.ts";
import { DatabaseUnreachableError } from "../db/errors.ts";
import type { DatabaseClock } from "../system/clock.ts";

/** How often a replica beats, in milliseconds. */
const BEAT_MS = 500;
/** A beat that is not answered in this time was not answered: a request that waits meanwhile must be told within 2 s (A-OPS-01). */
const BEAT_TIMEOUT_MS = 1_000;
/** How long a start tries for a first beat, in milliseconds; the migrations before it wait as long for a connection. */
const START_MS = 10_000;
const START_PAUSE_MS = 100;
/** Past this much silence a replica releases nothing (ARCHITECTURE, "The gate"). */
export const LEASE_MS = 2_000;

/** SQL: what of the row `r` changes with each beat; the time too, for replicas of the version before, which count none. */
export const BEATS = "r.beats || ':' || r.beat_at_ms";

/** A replica's sign of life: the lease under which it may release, and the database's time. */
export interface Heartbeat {
  /** Whether the last beat was answered within the lease. */
  mayRelease(): boolean;
  /**
   * The first beat. A database that is slow to answer is waited for: ending would help nobody.
   *
   * @throws {DatabaseUnreachableError} when it did not come within ten seconds
   */
  begin(): Promise<void>;
  /** From now on somebody waits for answers: a database that is silent is told of, so that they get theirs in time. */
  serving(): void;
  /** One beat now. */
  beat(): Promise<void>;
  /**
   * How long no beat of another replica was seen, in milliseconds by this machine's own monotonic time.
   *
   * @param sign its beats as somebody read them later: another one than was seen last is a sign of life
   */
  silentMs(replica: string, sign: string): number;
  close(): Promise<void>;
}

/**
 * @param deps.readTimeMs the database's clock, milliseconds; tests hand in one that moves with their hand clock
 * @param deps.heed told the kill epoch of each beat
 */
export function createHeartbeat(deps: {
  db: Db;
  clock: DatabaseClock;
  replica: string;
  version: string;
  readTimeMs?: (() => Promise<number>) | undefined;
  heed: (epoch: number) => Promise<void>;
}): Heartbeat {
  const { db, clock, replica, version } = deps;
  const connection = db.dedicated("heartbeat", { beats: true });
  // The lease is about real silence, so it is measured by the machine's own monotonic time.
  let answeredAt = Number.NEGATIVE_INFINITY;
  let beating: Promise<void> | undefined;
  const watch = createWatch(db.presence);
  const peers = createPeers();

  async function once(): Promise<void> {
    const sent = clock.monotonicMs();
    const sentReal = performance.now();
    const nowMs = deps.readTimeMs ? await deps.readTimeMs() : undefined;
    // A clock that was handed in was read before the statement below, however long that takes.
    const readBy = nowMs === undefined ? undefined : clock.monotonicMs();
    const [row] = await connection.call<{ ms: number; epoch: number; peers: Record<string, string> }>(
      "beat",
      `with beat as (
         insert into ephor.replicas (id, started_at_ms, beat_at_ms, version)
         values ($1, coalesce($2::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint), coalesce($2::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint), $3)
         on conflict (id) do update set beat_at_ms = excluded.beat_at_ms, beats = replicas.beats + 1
         returning (extract(epoch from clock_timestamp()) * 1000)::float8 as ms)
       select beat.ms, g.epoch,
         (select coalesce(jsonb_object_agg(r.id, ${BEATS}), '{}') from ephor.replicas r where r.id <> $1) as peers
       from beat, ephor.gate g where g.id = 1`,
      [replica, nowMs === undefined ? null : Math.floor(nowMs), version],
    );
    if (!row) return;
    clock.observe(nowMs ?? row.ms, sent, readBy ?? clock.monotonicMs());
    peers.seen(row.peers);
    // INVARIANT: the lease is renewed only by a replica that has dropped what was killed before this beat. So two seconds after
    // a kill whoever did not acknowledge it releases nothing any more, whatever became of the announcement.
    await deps.heed(row.epoch);
    answeredAt = sentReal;
  }

  const beat = (): Promise<void> => {
    beating ??= watch.watched(once()).finally(() => {
      beating = undefined;
    });
    return beating;
  };

  async function begin(): Promise<void> {
    for (const until = performance.now() + START_MS; ;) {
      try {
        return await beat();
      } catch (error) {
        if (!(error instanceof DatabaseUnreachableError) || performance.now() >= until) throw error;
      }
      await pause(START_PAUSE_MS);
    }
  }

  const timer = setInterval(() => void beat().catch(() => {}), BEAT_MS);
  timer.unref();
  return {
    mayRelease: () => performance.now() - answeredAt <= LEASE_MS,
    begin,
    serving: watch.serving,
    beat,
    silentMs: peers.silentMs,
    async close() {
      clearInterval(timer);
      await beating?.catch(() => {});
      await connection.call("leave", "delete from ephor.replicas where id = $1", [replica]).catch(() => {});
    },
  };
}

/** Tells of a database that does not answer, once somebody waits for it. */
function createWatch(presence: Db["presence"]): {
  watched(answered: Promise<void>): Promise<void>;
} & Pick<Heartbeat, "serving"> {
  let isServing = false;
  let isSilent = false;
  const lost = (): void => {
    isSilent = true;
    if (isServing) presence.lost();
  };
  return {
    serving() {
      isServing = true;
      if (isSilent) presence.lost();
    },
    async watched(answered) {
      let isOver = false;
      // Looked at once more after the sockets were read: when this process was held up itself, the answer lies there.
      const late = setTimeout(() => setImmediate(() => isOver || lost()), BEAT_TIMEOUT_MS);
      try {
        await answered;
        isSilent = false;
        presence.back();
      } catch (error) {
        if (error instanceof DatabaseUnreachableError) lost();
        throw error;
      } finally {
        isOver = true;
        clearTimeout(late);
      }
    },
  };
}

/** When each of the others was first seen with the beats that it has now. */
function createPeers(): { seen(signs: Readonly<Record<string, string>>): void } & Pick<Heartbeat, "silentMs"> {
  let peers = new Map<string, { readonly sign: string; readonly seenAt: number }>();
  return {
    seen(signs) {
      const now = performance.now();
      peers = new Map(
        Object.entries(signs).map(([id, sign]) => {
          const known = peers.get(id);
          return [id, known?.sign === sign ? known : { sign, seenAt: now }];
        }),
      );
    },
    silentMs(id, sign) {
      const peer = peers.get(id);
      return peer?.sign === sign ? performance.now() - peer.seenAt : 0;
    },
  };
}
