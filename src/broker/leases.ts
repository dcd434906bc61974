import type { NewLease } from "../authz/ask.ts";
import type { Db } from "../db/database.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { Place } from "../vault/place.ts";
import type { SealedColumn } from "../vault/rewrap.ts";
import type { BrokerDeps } from "./deps.ts";
import type { LeaseFacts, Minted } from "./provider.ts";

/** An intent that nobody finished is left behind after this much, in milliseconds: longer than a mint may take. */
const ORPHAN_MS = 60_000;

/** Where a handle belongs: it opens for its own lease and nowhere else. */
export function handlePlace(id: string): Place {
  return { table: "leases", row: id, version: 1, purpose: "handle" };
}

/** What `destroy` needs, of leases that have not ended. */
export const HANDLE_COLUMN: SealedColumn = {
  sort: "lease",
  table: "ephor.leases",
  column: "handle",
  id: "id",
  facts: {},
  place: ({ id }) => handlePlace(id),
  label: ({ id }) => id,
};

/**
 * What is about to be made, for the gate to write down with the decision.
 *
 * @param o.now by the database's clock, epoch seconds
 */
export function intentOf(o: {
  facts: LeaseFacts;
  provider: string;
  settings: unknown;
  node: string;
  now: number;
  endsAt: number;
}): NewLease {
  const { facts, provider, settings, node, now, endsAt } = o;
  return {
    id: facts.id,
    resource: facts.resource,
    provider,
    facts,
    settings,
    txn: facts.txn,
    node,
    agent: facts.agent,
    created_at: now,
    ends_at: endsAt,
    next_try_at_ms: now * 1_000 + ORPHAN_MS,
  };
}

/**
 * Records what ends it.
 *
 * @returns false when a worker has taken it as left behind meanwhile; it will be ended
 */
export async function leaseMinted(
  deps: Pick<BrokerDeps, "db" | "clock" | "envelope">,
  id: string,
  minted: Minted,
): Promise<boolean> {
  const value = SecretBytes.fromText(JSON.stringify(minted.handle));
  try {
    const [row] = await deps.db.query<{ r: boolean }>(
      "select ephor.lease_minted($1, $2, $3::jsonb, $4, $5::jsonb) as r",
      [
        Math.floor(deps.clock.nowMs()),
        id,
        JSON.stringify(await deps.envelope.seal(value, handlePlace(id))),
        minted.upstreamExpiresAt ?? null,
        JSON.stringify(minted.marks),
      ],
    );
    return row?.r === true;
  } finally {
    value.wipe();
  }
}

/** It did not leave: whatever was made of it is due now. */
export async function leaseAbandoned(db: Db, id: string, nowMs: number): Promise<void> {
  await db.query("update ephor.leases set next_try_at_ms = $2 where id = $1 and status in ('intent', 'live')", [
    id,
    Math.floor(nowMs),
  ]);
}

/** A lease that a worker has claimed, to end it. */
export interface ClaimedLease {
  readonly id: string;
  readonly provider: string;
  readonly facts: LeaseFacts;
  readonly settings: unknown;
  /** Sealed; null after a crash between mint and record. */
  readonly handle: unknown;
  readonly attempts: number;
  readonly because: "expired" | "task_ended" | "killed" | "withheld" | "orphan";
  /** Epoch seconds. */
  readonly endsAt: number;
  readonly upstreamExpiresAt: number | undefined;
  /** Epoch seconds; undefined: nobody found it stuck yet. */
  readonly stuckSince: number | undefined;
}

/** How long a worker has a lease before another may take it, in milliseconds: longer than any provider's limit. */
export const CLAIM_MS = 30_000;

interface ClaimRow {
  id: string;
  provider: string;
  facts: LeaseFacts;
  settings: unknown;
  handle: unknown;
  attempts: number;
  ended_because: ClaimedLease["because"];
  ends_at: number;
  upstream_expires_at: number | null;
  stuck_since: number | null;
}

/**
 * Makes due what a kill covers, if there was one since the last time.
 *
 * @param seen what the last call answered; 0 at first
 */
export async function leasesKilled(db: Db, seen: number, nowMs: number): Promise<number> {
  const [row] = await db.query<{ epoch: number }>("select ephor.leases_killed($1, $2) as epoch", [
    seen,
    Math.floor(nowMs),
  ]);
  return row?.epoch ?? 0;
}

/** Which due leases are claimed. */
export interface Claim {
  /** By the database's clock. */
  readonly nowMs: number;
  readonly limit: number;
  /** Resources that have enough under way. */
  readonly except: readonly string[];
  /** Kinds of which nothing can be ended early; `isThem` says whether these are claimed or all others. */
  readonly kinds: readonly string[];
  readonly isThem: boolean;
}

/**
 * Claims what is due: past its end, of an ended task or node, killed, live though it never left, or left behind by a crash.
 * Rows that another replica claims are skipped, so no lease is destroyed twice at once.
 */
export async function claimLeases(db: Db, at: Claim): Promise<readonly ClaimedLease[]> {
  const rows = await db.query<ClaimRow>(
    `with due as (
       select l.id, case
         when l.status = 'ending' then l.ended_because
         when ephor.is_dead(l.kill_keys, l.kill_epochs, 0, $1::bigint / 1000) then 'killed'
         when t.ended_at is not null or n.ended_at is not null then 'task_ended'
         when l.status = 'intent' then 'orphan'
         when l.ends_at > $1::bigint / 1000 then 'withheld'
         else 'expired' end as because
       from ephor.leases l left join ephor.tasks t on t.txn = l.txn left join ephor.nodes n on n.id = l.node
       where l.status <> 'ended' and l.next_try_at_ms <= $1 and l.claimed_until_ms <= $1 and l.resource <> all($4)
         and (l.provider = any($5)) = $6
       order by l.next_try_at_ms limit $2
       for update of l skip locked
     )
     update ephor.leases l set status = 'ending', ended_because = due.because, claimed_until_ms = $1 + $3, attempts = l.attempts + 1
     from due where l.id = due.id
     returning l.id, l.provider, l.facts, l.settings, l.handle, l.attempts, l.ended_because, l.ends_at, l.upstream_expires_at, l.stuck_since`,
    [Math.floor(at.nowMs), at.limit, CLAIM_MS, at.except, at.kinds, at.isThem],
  );
  return rows.map((row) => ({
    id: row.id,
    provider: row.provider,
    facts: row.facts,
    settings: row.settings,
    handle: row.handle,
    attempts: row.attempts,
    because: row.ended_because,
    endsAt: row.ends_at,
    upstreamExpiresAt: row.upstream_expires_at ?? undefined,
    stuckSince: row.stuck_since ?? undefined,
  }));
}

/** It is over at its upstream. Its handle is forgotten; a release that came meanwhile makes it `ending` again. */
export async function leaseEnded(db: Db, at: { id: string; nowMs: number; event: object }): Promise<void> {
  await db.query("select ephor.end_lease($1, $2, $3::jsonb)", [Math.floor(at.nowMs), at.id, JSON.stringify(at.event)]);
}

/** The same for many that nothing had to be done for; `events` stand at the places of their leases. */
export async function leasesEnded(
  db: Db,
  at: { nowMs: number; ended: readonly { id: string; event: object }[] },
): Promise<void> {
  await db.query("select ephor.end_leases($1, $2, $3::jsonb)", [
    Math.floor(at.nowMs),
    at.ended.map(({ id }) => id),
    JSON.stringify(at.ended.map(({ event }) => event)),
  ]);
}

/** Its upstream does not let it end: recorded once, however many tries follow. */
export async function leaseStuck(db: Db, at: { id: string; nowMs: number; event: object }): Promise<void> {
  await db.query("select ephor.lease_stuck($1, $2, $3::jsonb)", [
    Math.floor(at.nowMs),
    at.id,
    JSON.stringify(at.event),
  ]);
}

/** Another try, later; for ever. */
export async function leaseRetries(db: Db, id: string, next: { atMs: number; problem: string }): Promise<void> {
  await db.query(
    "update ephor.leases set next_try_at_ms = $2, claimed_until_ms = 0, last_problem = $3 where id = $1 and status = 'ending'",
    [id, Math.floor(next.atMs), next.problem],
  );
}
