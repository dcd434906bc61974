import type { Lease } from "../api/leases.ts";

/** A lease is stuck when ending it failed so often, or it is so long past its end, in seconds. */
export const STUCK = { attempts: 5, afterSeconds: 60 } as const;

/** SQL: whether the open lease `l` is stuck. @param now placeholder for epoch seconds */
export function stuckSql(now: string): string {
  return `((l.status = 'ending' and l.attempts >= ${STUCK.attempts}) or l.ends_at < ${now}::bigint - ${STUCK.afterSeconds})`;
}

/** The columns of {@link LeaseRow} for `leases l`. */
export const LEASE_COLUMNS = `l.id, l.resource, l.provider, l.status, l.txn, l.node, l.created_at, l.ends_at, l.ended_at,
  l.ended_because, l.upstream_expires_at, l.last_problem, l.attempts, l.stuck_since`;

/** A lease as it is shown; times in epoch seconds. */
export interface LeaseRow {
  readonly id: string;
  readonly resource: string;
  readonly provider: string;
  readonly status: Lease["status"];
  readonly txn: string;
  readonly node: string;
  readonly created_at: number;
  readonly ends_at: number;
  readonly ended_at: number | null;
  readonly ended_because: Lease["because"] | null;
  readonly upstream_expires_at: number | null;
  readonly last_problem: string | null;
  readonly attempts: number;
  readonly stuck_since: number | null;
}

/** The lease in its wire shape: neither its settings nor its handle. */
export function leaseOf(row: LeaseRow): Lease {
  return {
    lease: row.id,
    resource: row.resource,
    kind: row.provider,
    status: row.status,
    issued_at: row.created_at,
    ends_at: row.ends_at,
    ...(row.ended_at !== null && { ended_at: row.ended_at }),
    ...(row.ended_because !== null && row.ended_because !== undefined && { because: row.ended_because }),
    ...(row.upstream_expires_at !== null && { upstream_expires_at: row.upstream_expires_at }),
    ...(row.last_problem !== null && { problem: row.last_problem }),
    ...(row.attempts > 0 && { attempts: row.attempts }),
    ...(row.stuck_since !== null && { stuck_since: row.stuck_since }),
  };
}
