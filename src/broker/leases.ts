import type { Db } from "../db/database.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";
import type { Place } from "../vault/place.ts";
import type { BrokerDeps } from "./deps.ts";
import type { LeaseFacts, Minted } from "./provider.ts";

/** An intent that nobody finished is left behind after this much, in milliseconds: longer than a mint may take. */
const ORPHAN_MS = 60_000;

/** Where a handle belongs: it opens for its own lease and nowhere else. */
export function handlePlace(id: string): Place {
  return { table: "leases", row: id, version: 1, purpose: "handle" };
}

/** Writes down what is about to be made, before it is. */
export async function insertIntent(
  db: Db,
  intent: {
    facts: LeaseFacts;
    provider: string;
    settings: unknown;
    node: string;
    keys: readonly string[];
    epochs: readonly number[];
    now: number;
    endsAt: number;
  },
): Promise<void> {
  const { facts, provider, settings, node, keys, epochs, now, endsAt } = intent;
  await db.query(
    `insert into ephor.leases (id, resource, provider, status, facts, settings, txn, node, agent, created_at, ends_at, kill_keys, kill_epochs, next_try_at_ms)
     values ($1, $2, $3, 'intent', $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)`,
    [
      facts.id,
      facts.resource,
      provider,
      JSON.stringify(facts),
      JSON.stringify(settings),
      facts.txn,
      node,
      facts.agent,
      now,
      endsAt,
      keys,
      epochs,
      now * 1_000 + ORPHAN_MS,
    ],
  );
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

/** It was released: from here on its own end, its task's or a kill ends it. @returns false when it was taken meanwhile */
export async function leaseReleased(
  db: Db,
  id: string,
  at: { endsAt: number; epochs: readonly number[] },
): Promise<boolean> {
  const rows = await db.query(
    "update ephor.leases set status = 'live', next_try_at_ms = $2, kill_epochs = $3 where id = $1 and status = 'intent' returning id",
    [id, at.endsAt * 1_000, at.epochs],
  );
  return rows.length === 1;
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
  readonly because: "expired" | "task_ended" | "killed" | "orphan";
  /** Epoch seconds. */
  readonly endsAt: number;
  readonly upstreamExpiresAt: number | undefined;
}

/** Leases claimed in one round. */
const CLAIM_ROWS = 20;
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
}

/**
 * Claims what is due: past its end, of an ended task or node, killed, or left behind by a crash. Rows that another replica
 * claims are skipped, so no lease is destroyed twice at once.
 *
 * @param nowMs by the database's clock
 */
export async function claimLeases(db: Db, nowMs: number): Promise<readonly ClaimedLease[]> {
  const rows = await db.query<ClaimRow>(
    `with due as (
       select l.id, case
         when l.status = 'ending' then l.ended_because
         when ephor.is_dead(l.kill_keys, l.kill_epochs, 0, $1::bigint / 1000) then 'killed'
         when t.ended_at is not null or n.ended_at is not null then 'task_ended'
         when l.status = 'intent' then 'orphan'
         else 'expired' end as because
       from ephor.leases l left join ephor.tasks t on t.txn = l.txn left join ephor.nodes n on n.id = l.node
       where l.status <> 'ended' and l.claimed_until_ms <= $1 and (
         l.next_try_at_ms <= $1
         or (l.status = 'live' and (t.ended_at is not null or n.ended_at is not null
           or ephor.is_dead(l.kill_keys, l.kill_epochs, 0, $1::bigint / 1000))))
       order by l.next_try_at_ms limit $2
       for update of l skip locked
     )
     update ephor.leases l set status = 'ending', ended_because = due.because, claimed_until_ms = $1 + $3, attempts = l.attempts + 1
     from due where l.id = due.id
     returning l.id, l.provider, l.facts, l.settings, l.handle, l.attempts, l.ended_because, l.ends_at, l.upstream_expires_at`,
    [Math.floor(nowMs), CLAIM_ROWS, CLAIM_MS],
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
  }));
}

/** It is over at its upstream. Its handle is forgotten; a release that came meanwhile makes it `ending` again. */
export async function leaseEnded(db: Db, at: { id: string; nowMs: number; event: object }): Promise<void> {
  await db.query("select ephor.end_lease($1, $2, $3::jsonb)", [Math.floor(at.nowMs), at.id, JSON.stringify(at.event)]);
}

/** Another try, later; for ever. */
export async function leaseRetries(db: Db, id: string, next: { atMs: number; problem: string }): Promise<void> {
  await db.query(
    "update ephor.leases set next_try_at_ms = $2, claimed_until_ms = 0, last_problem = $3 where id = $1 and status = 'ending'",
    [id, Math.floor(next.atMs), next.problem],
  );
}
