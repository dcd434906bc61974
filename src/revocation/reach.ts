import type { Db } from "../db/database.ts";

/** One thing that a kill hits. Times in epoch seconds. */
export type Hit =
  | { readonly kind: "txn" | "node"; readonly id: string; readonly agent: string }
  | { readonly kind: "jti"; readonly id: string; readonly agent: string; readonly expiresAt: number }
  | { readonly kind: "lease"; readonly id: string };

/** What a kill reaches. */
export interface Reach {
  readonly hits: readonly Hit[];
  /** How many more there are, counted to {@link MAX_COUNTED}. */
  readonly leftOff: number;
}

/** A receipt names so many of each sort at most; the rest dies all the same. */
const MAX_HITS = 1_000;
/** Beyond this nobody counts. */
const MAX_COUNTED = 100_000;

interface Row {
  kind: "node" | "jti" | "lease";
  id: string;
  txn: string;
  agent: string;
  exp: number | null;
  more: number;
}

/**
 * What carries one of these keys and lives now: open places, unexpired tokens, leases that have not ended. Tokens go by their
 * expiry, of which a minute's are alive; places by their keys; leases by the index of open ones.
 *
 * @param now epoch seconds
 */
export async function reachOf(db: Pick<Db, "query">, keys: readonly string[], now: number): Promise<Reach> {
  const part = (kind: Row["kind"], columns: string, from: string): string =>
    `(with hit as materialized (select ${columns} from ${from} limit ${MAX_COUNTED})
      select '${kind}' as kind, hit.*, (select count(*)::int from hit) - ${MAX_HITS} as more from hit limit ${MAX_HITS})`;
  const parts = [
    part(
      "node",
      "n.id, n.txn, n.agent, null::bigint as exp",
      "ephor.nodes n join ephor.tasks t on t.txn = n.txn where n.ended_at is null and n.kill_keys && $1 and t.ended_at is null and t.deadline > $2",
    ),
    part("jti", "h.jti as id, h.txn, h.actor as agent, h.exp", "ephor.hops h where h.exp > $2 and h.kill_keys && $1"),
    part(
      "lease",
      "l.id, l.txn, l.agent, null::bigint as exp",
      "ephor.leases l where l.status <> 'ended' and l.kill_keys && $1",
    ),
  ];
  const found = await Promise.all(parts.map((sql, i) => db.query<Row>(sql, i === 2 ? [keys] : [keys, now])));
  const leftOff = found.reduce((sum, rows) => sum + Math.max(0, rows[0]?.more ?? 0), 0);
  return { hits: found.flat().map(hitOf), leftOff };
}

/** The root of a task is the whole task. */
function hitOf({ kind, id, txn, agent, exp }: Row): Hit {
  if (kind === "lease") return { kind, id };
  if (kind === "jti") return { kind, id, agent, expiresAt: exp ?? 0 };
  return { kind: id === txn ? "txn" : "node", id, agent };
}
