import type { Db } from "../db/database.ts";

/** How a lease that a kill hit stands now. `at` in epoch seconds. */
export interface LeaseOutcome {
  readonly id: string;
  readonly agent: string;
  readonly resource: string;
  readonly outcome: "dead" | "dies_at" | "retrying" | "upstream_cannot";
  readonly at: number;
  readonly problem: string | undefined;
}

interface Row {
  id: string;
  agent: string;
  resource: string;
  provider: string;
  settings: unknown;
  status: string;
  ended_at: number | null;
  upstream_expires_at: number | null;
  last_problem: string | null;
}

/**
 * Reads what became of leases, so that a receipt is never older than its leases.
 *
 * @param o.canEnd whether a provider ends what it made, at once, with these settings
 * @param o.now epoch seconds
 */
export async function leaseOutcomes(
  db: Pick<Db, "query">,
  ids: readonly string[],
  o: { canEnd: (provider: string, settings: unknown) => boolean; now: number },
): Promise<readonly LeaseOutcome[]> {
  if (ids.length === 0) return [];
  const rows = await db.query<Row>(
    `select id, agent, resource, provider, settings, status, ended_at, upstream_expires_at, last_problem
     from ephor.leases where id = any($1) order by id`,
    [ids],
  );
  return rows.map((row) => ({
    id: row.id,
    agent: row.agent,
    resource: row.resource,
    problem: row.last_problem ?? undefined,
    ...standing(row, o.canEnd(row.provider, row.settings), o.now),
  }));
}

/** What no upstream ends early lives until its upstream lets it die, whatever we wrote down as its end. */
function standing(row: Row, canEnd: boolean, now: number): Pick<LeaseOutcome, "outcome" | "at"> {
  const { status, ended_at: endedAt, upstream_expires_at: expiresAt } = row;
  if (canEnd || status === "intent") {
    return status === "ended" ? { outcome: "dead", at: endedAt ?? now } : { outcome: "retrying", at: now };
  }
  if (expiresAt === null) return { outcome: "upstream_cannot", at: endedAt ?? now };
  return { outcome: expiresAt <= now ? "dead" : "dies_at", at: expiresAt };
}
