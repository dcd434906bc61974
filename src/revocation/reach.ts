import type { KillKind } from "../core/kill/keys.ts";
import { killKey } from "../core/kill/keys.ts";
import type { Db } from "../db/database.ts";

/** One thing that a kill hits. */
export interface Hit {
  readonly kind: "agent" | "txn" | "node" | "jti";
  readonly id: string;
  readonly agent: string | undefined;
}

/** What a kill reaches. */
export interface Reach {
  readonly hits: readonly Hit[];
  readonly truncated: boolean;
}

/** One thing that a kill names. */
interface Target {
  readonly kind: KillKind;
  readonly value: string;
}

/** A receipt names this many nodes and tokens at most; the rest dies all the same. */
const MAX_HITS = 1_000;

/**
 * What carries one of these keys and lives now: open nodes and unexpired tokens.
 *
 * @param now epoch seconds
 */
export async function reachOf(db: Pick<Db, "query">, targets: readonly Target[], now: number): Promise<Reach> {
  const keys = targets.map((target) => killKey(target.kind, target.value));
  const rows = await db.query<{ kind: "node" | "jti"; id: string; agent: string }>(
    `(select 'node' as kind, n.id, n.agent from ephor.tasks t join ephor.nodes n on n.txn = t.txn
      where t.deadline > $2 and t.ended_at is null and n.ended_at is null and n.kill_keys && $1 order by n.id limit $3)
     union all
     (select 'jti' as kind, h.jti as id, h.actor as agent from ephor.hops h
      where h.exp > $2 and h.kill_keys && $1 order by h.jti limit $3)`,
    [keys, now, MAX_HITS + 1],
  );
  const named = namedBy(targets);
  const seen = new Set(named.map((hit) => `${hit.kind} ${hit.id}`));
  const found = rows.filter((row) => !seen.has(`${row.kind} ${row.id}`));
  return { hits: [...named, ...found.slice(0, MAX_HITS)], truncated: found.length > MAX_HITS };
}

/** What a kill names itself, whatever else it hits. */
export function namedBy(targets: readonly Target[]): readonly Hit[] {
  return targets.flatMap((target): Hit[] =>
    target.kind === "agent" || target.kind === "txn" || target.kind === "jti"
      ? [{ kind: target.kind, id: target.value, agent: target.kind === "agent" ? target.value : undefined }]
      : [],
  );
}

/** Which of these were never heard of, so that a mistyped name is no silent success (A-KILL-08). */
export async function unknownOf(
  db: Pick<Db, "query">,
  named: { txns: readonly string[]; jtis: readonly string[]; agents: readonly string[] },
): Promise<readonly string[]> {
  const rows = await db.query<{ id: string }>(
    `select x.id from unnest($1::text[]) as x(id) where not exists (select 1 from ephor.tasks t where t.txn = x.id)
       and not exists (select 1 from ephor.events e where e.txn = x.id)
     union all
     select x.id from unnest($2::text[]) as x(id) where not exists (select 1 from ephor.hops h where h.jti = x.id)
       and not exists (select 1 from ephor.events e where e.jti = x.id)
     union all
     select x.id from unnest($3::text[]) as x(id) where not exists (select 1 from ephor.trust_objects o where o.kind = 'agents' and o.name = x.id)
       and not exists (select 1 from ephor.events e where e.agent = x.id)`,
    [named.txns, named.jtis, named.agents],
  );
  return rows.map((row) => row.id);
}
