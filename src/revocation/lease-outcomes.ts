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

/** How a provider lets die what it made with some settings. */
export interface Ending {
  /** Whether it ends it at once, when told. */
  readonly atOnce: boolean;
  /** What may be left alive after the lease's end, in seconds; infinite where nothing ends it. */
  readonly residualSeconds: number;
}

interface Row {
  id: string;
  agent: string;
  resource: string;
  provider: string;
  settings: unknown;
  status: string;
  ends_at: number;
  ended_at: number | null;
  upstream_expires_at: number | null;
  last_problem: string | null;
}

/**
 * Reads what became of leases, so that a receipt is never older than its leases.
 *
 * @param o.endingBy how a provider lets die what it made with these settings
 * @param o.now epoch seconds
 */
export async function leaseOutcomes(
  db: Pick<Db, "query">,
  ids: readonly string[],
  o: { endingBy: (provider: string, settings: unknown) => Ending; now: number },
): Promise<readonly LeaseOutcome[]> {
  if (ids.length === 0) return [];
  const rows = await db.query<Row>(
    `select id, agent, resource, provider, settings, status, ends_at, ended_at, upstream_expires_at, last_problem
     from ephor.leases where id = any($1) order by id`,
    [ids],
  );
  return rows.map((row) => ({
    id: row.id,
    agent: row.agent,
    resource: row.resource,
    problem: row.last_problem ?? undefined,
    ...standing(row, o.endingBy(row.provider, row.settings), o.now),
  }));
}

/** What no upstream ends early lives until it dies by itself, whatever we wrote down as its end. */
function standing(row: Row, ending: Ending, now: number): Pick<LeaseOutcome, "outcome" | "at"> {
  const { status, ended_at: endedAt } = row;
  if (ending.atOnce || status === "intent")
    return status === "ended" ? { outcome: "dead", at: endedAt ?? now } : { outcome: "retrying", at: now };
  const diesAt = ownEnd(row, ending);
  if (diesAt === undefined) return { outcome: "upstream_cannot", at: endedAt ?? now };
  return { outcome: diesAt <= now ? "dead" : "dies_at", at: diesAt };
}

/** When it can do nothing any more, though nobody ends it; in epoch seconds. Undefined: never, as far as we know. */
function ownEnd({ ends_at: endsAt, upstream_expires_at: expiresAt }: Row, ending: Ending): number | undefined {
  const { residualSeconds } = ending;
  // Made so that it ends with its lease, however long its upstream keeps the name of it.
  if (residualSeconds === 0) return endsAt;
  return expiresAt ?? (Number.isFinite(residualSeconds) ? endsAt + residualSeconds : undefined);
}
