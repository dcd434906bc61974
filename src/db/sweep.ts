import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Db } from "./database.ts";

/** When what may go, each with its reason; in seconds unless the name says else. */
const LIMITS = {
  everyMs: 60_000,
  /** Rows of one statement: each ends well within the statement timeout and holds its locks briefly. */
  batchRows: 1_000,
  /** Statements of one kind in a row; more is left to the next time, so that sweeping never crowds out work. */
  batches: 50,
  /** Past `exp` no row is needed; the slack covers clocks that disagree and requests in flight. */
  graceSeconds: 600,
  /** Ended and expired tasks can be drawn this long; their events stay for ever. */
  taskSeconds: 30 * 86_400,
  /** Approvals are shown this long after their time is over. */
  approvalSeconds: 86_400,
  noiseSeconds: 30 * 86_400,
  /** A replica that was silent for so long is gone. */
  replicaSilentSeconds: 3_600,
  /** A signed head must have been made this long after its last beat: heads name a replica's streams while it is known. */
  replicaHeadSeconds: 660,
};

/** Deletes what has expired. */
export interface Sweeper {
  /** One round now; answers how many rows of each sort went. */
  tick(): Promise<Readonly<Record<string, number>>>;
  close(): Promise<void>;
}

/** One sort of row: `$1` is the time before which it may go, and the statement deletes one batch. */
interface Sort {
  readonly name: string;
  readonly sql: string;
  before(nowSeconds: number): number;
}

/** Rows another replica is sweeping are skipped, so that replicas never wait for each other. */
function expired(table: "hops" | "replay" | "bindings", key: string): Sort {
  return {
    name: table,
    sql: `with gone as (
        select ${key} from ephor.${table} where exp < $1 order by exp limit ${LIMITS.batchRows} for update skip locked
      ), deleted as (delete from ephor.${table} d using gone where d.${key} = gone.${key} returning 1)
      select count(*) as count from deleted`,
    before: (now) => now - LIMITS.graceSeconds,
  };
}

/**
 * Events, leases and the names of leases are in no sort: whatever an upstream shows of a credential must lead back to its chain
 * for as long as the ledger is kept, and the ledger is kept for ever (CONTRACT §7).
 */
const SORTS: readonly Sort[] = [
  expired("hops", "jti"),
  expired("replay", "key"),
  expired("bindings", "key"),
  {
    name: "tasks",
    sql: `with gone as (
        select txn from ephor.tasks where deadline < $1 order by deadline limit ${LIMITS.batchRows} for update skip locked
      ), places as (delete from ephor.nodes n using gone where n.txn = gone.txn),
      deleted as (delete from ephor.tasks t using gone where t.txn = gone.txn returning 1)
      select count(*) as count from deleted`,
    before: (now) => now - LIMITS.taskSeconds,
  },
  {
    // Long before other tasks: they come every few seconds, and each with a kill, which nothing else takes away.
    name: "canaries",
    sql: `select ephor.forget_canary($1, ${LIMITS.batchRows}) as count`,
    before: (now) => now - LIMITS.graceSeconds,
  },
  {
    // What was to be called is in them; the ledger keeps who asked and who decided.
    name: "approvals",
    sql: `with gone as (
        select id from ephor.approvals where expires_at < $1 order by expires_at limit ${LIMITS.batchRows} for update skip locked
      ), decisions as (delete from ephor.approval_decisions d using gone where d.approval = gone.id),
      messages as (delete from ephor.approval_messages m using gone where m.approval = gone.id),
      deleted as (delete from ephor.approvals a using gone where a.id = gone.id returning 1)
      select count(*) as count from deleted`,
    before: (now) => now - LIMITS.approvalSeconds,
  },
  {
    // As long as their resources say; what the ledger commits to is gone then.
    name: "recordings",
    sql: `with gone as (
        select event from ephor.recordings where until <= $1 order by until limit ${LIMITS.batchRows} for update skip locked
      ), deleted as (delete from ephor.recordings r using gone where r.event = gone.event returning 1)
      select count(*) as count from deleted`,
    before: (now) => now,
  },
  {
    name: "sessions",
    sql: `with gone as (
        select id from ephor.sessions where expires_at < $1 order by expires_at limit ${LIMITS.batchRows} for update skip locked
      ), deleted as (delete from ephor.sessions s using gone where s.id = gone.id returning 1)
      select count(*) as count from deleted`,
    before: (now) => now - LIMITS.graceSeconds,
  },
  {
    name: "noise",
    sql: `with gone as (
        select minute, reason, source from ephor.noise where minute < $1 order by minute limit ${LIMITS.batchRows} for update skip locked
      ), deleted as (
        delete from ephor.noise n using gone where (n.minute, n.reason, n.source) = (gone.minute, gone.reason, gone.source) returning 1)
      select count(*) as count from deleted`,
    before: (now) => Math.floor((now - LIMITS.noiseSeconds) / 60),
  },
  {
    // A count holds for its minute.
    name: "call_counts",
    sql: `with gone as (
        select agent, resource from ephor.call_counts where minute < $1 limit ${LIMITS.batchRows} for update skip locked
      ), deleted as (
        delete from ephor.call_counts c using gone where (c.agent, c.resource) = (gone.agent, gone.resource) returning 1)
      select count(*) as count from deleted`,
    before: (now) => Math.floor((now - LIMITS.graceSeconds) / 60),
  },
  {
    name: "replicas",
    sql: `with deleted as (
        delete from ephor.replicas r where r.beat_at_ms < $1 and (
          r.beat_at_ms < (select max(at_ms) from ephor.heads) - ${LIMITS.replicaHeadSeconds * 1_000}
          or not exists (select 1 from ephor.streams s where s.replica = r.id))
        returning 1)
      select count(*) as count from deleted`,
    before: (now) => (now - LIMITS.replicaSilentSeconds) * 1_000,
  },
];

/** Starts sweeping, once a minute. Any number of replicas may. */
export function createSweeper(deps: { db: Db; clock: DatabaseClock; log: Log }): Sweeper {
  const { db, clock, log } = deps;
  let running: Promise<Readonly<Record<string, number>>> | undefined;
  let closed = false;

  async function sweep(sort: Sort): Promise<number> {
    let total = 0;
    for (let batch = 0; batch < LIMITS.batches && !closed; batch++) {
      const [row] = await db.query<{ count: number }>(sort.sql, [sort.before(clock.now())]);
      total += row?.count ?? 0;
      if ((row?.count ?? 0) < LIMITS.batchRows) break;
    }
    return total;
  }

  async function round(): Promise<Readonly<Record<string, number>>> {
    const counts: Record<string, number> = {};
    for (const sort of SORTS) {
      counts[sort.name] = await sweep(sort);
      if (counts[sort.name]) log.debug("swept", { kind: sort.name, count: counts[sort.name] });
    }
    return counts;
  }

  const tick = (): Promise<Readonly<Record<string, number>>> => {
    running ??= round().finally(() => {
      running = undefined;
    });
    return running;
  };
  const timer = setInterval(
    () => void tick().catch((error: unknown) => log.warn("sweep_failed", { err: error })),
    LIMITS.everyMs,
  );
  timer.unref();
  return {
    tick,
    async close() {
      closed = true;
      clearInterval(timer);
      await running?.catch(() => {});
    },
  };
}
