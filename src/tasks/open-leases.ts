import { MAX_LEASES, type LeasePage, type LeaseQuery } from "../api/leases.ts";
import { CANARY } from "../core/trust/canary.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { LEASE_COLUMNS, leaseOf, stuckSql, type LeaseRow } from "./lease-rows.ts";

/** Leases on a page when the query names no number. */
const DEFAULT_LEASES = 100;

/** Leases that have not ended, oldest first, without the canary's; by the index of open ones. */
export async function openLeases(deps: { db: Db; clock: DatabaseClock }, query: LeaseQuery): Promise<LeasePage> {
  const limit = Math.min(query.limit ?? DEFAULT_LEASES, MAX_LEASES);
  const rows = await deps.db.query<LeaseRow & { agent: string }>(
    `select ${LEASE_COLUMNS}, l.agent from ephor.leases l
     where l.status <> 'ended' and ($2::boolean is not true or ${stuckSql("$1")}) and ($3::text is null or l.id > $3)
       and l.agent <> $4
     order by l.id limit ${limit + 1}`,
    [deps.clock.now(), query.stuck === "true", query.after ?? null, CANARY],
  );
  const items = rows.slice(0, limit).map((row) => ({ ...leaseOf(row), agent: row.agent, txn: row.txn }));
  const last = items.at(-1);
  return { items, ...(rows.length > limit && last !== undefined && { next: last.lease }) };
}

/** How leases stand, for gauges. */
export interface LeaseCounts {
  /** By status; those that there are none of are not there. */
  readonly open: ReadonlyMap<string, number>;
  readonly stuck: number;
  /** Since the oldest open one was decided, in seconds; 0 when none is open. */
  readonly oldestSeconds: number;
}

/** Counts the open leases, without the canary's; by the index of open ones. */
export async function countLeases({ db, clock }: { db: Db; clock: DatabaseClock }): Promise<LeaseCounts> {
  const rows = await db.query<{ status: string; open: number; stuck: number; oldest: number }>(
    `select l.status, count(*)::int as open, count(*) filter (where ${stuckSql("$1")})::int as stuck, min(l.created_at) as oldest
     from ephor.leases l where l.status <> 'ended' and l.agent <> $2 group by l.status`,
    [clock.now(), CANARY],
  );
  const now = clock.now();
  return {
    open: new Map(rows.map(({ status, open }) => [status, open])),
    stuck: rows.reduce((sum, row) => sum + row.stuck, 0),
    oldestSeconds: rows.reduce((most, row) => Math.max(most, now - row.oldest), 0),
  };
}
