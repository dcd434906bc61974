import type { Named } from "../api/kill.ts";
import { ProblemError } from "../api/problem.ts";
import { isCanary } from "../core/trust/canary.ts";
import type { Db } from "../db/database.ts";
import type { KillTarget } from "./revocation.ts";

/** A trace that more chains carried is no way to name them. */
const MAX_CHAINS = 10_000;

/** How each sort of thing is known, by an index. `x.id` is its name. */
const KNOWN: Readonly<Record<Exclude<Named["kind"], "all" | "trace">, string>> = {
  agent:
    "exists (select 1 from ephor.trust_objects o where o.kind = 'agents' and o.name = x.id) or exists (select 1 from ephor.events e where e.agent = x.id)",
  txn: "exists (select 1 from ephor.tasks t where t.txn = x.id) or exists (select 1 from ephor.events e where e.txn = x.id)",
  jti: "exists (select 1 from ephor.hops h where h.jti = x.id) or exists (select 1 from ephor.events e where e.jti = x.id)",
  lease: "exists (select 1 from ephor.leases l where l.id = x.id)",
  issuer: "exists (select 1 from ephor.trust_objects o where o.kind = 'issuers' and o.name = x.id)",
  resource: "exists (select 1 from ephor.trust_objects o where o.kind = 'resources' and o.name = x.id)",
  owner:
    "exists (select 1 from ephor.trust_objects o where o.kind = 'agents' and o.body ->> 'owner' = x.id) or exists (select 1 from ephor.nodes n where n.ended_at is null and n.kill_keys && array['owner:' || x.id])",
  // People are not registered here: one whom we never saw can be killed before he comes, if his issuer is known.
  subject: `exists (select 1 from ephor.tasks t where t.sub = x.id) or exists (
    select 1 from ephor.trust_objects o where o.name = case when x.id like 'agent|%' then substr(x.id, 7) else split_part(x.id, '|', 1) end
      and o.kind = case when x.id like 'agent|%' then 'agents' else 'issuers' end)`,
};

/**
 * What a kill is to name in the database, every trace as the chains that carried it until now.
 *
 * @throws {ProblemError} `not_found` for what was never heard of, so that a mistyped name is no silent success (A-KILL-08);
 * `unprocessable` for Ephor itself, and for a trace of too many chains
 */
export async function killTargets(db: Pick<Db, "query">, named: readonly Named[]): Promise<readonly KillTarget[]> {
  if (
    named.some(({ kind, value }) => (kind === "resource" && value === "ephor") || (kind === "agent" && isCanary(value)))
  )
    throw new ProblemError("unprocessable", {
      detail: "Ephor itself is no target: whoever kills must be able to restore",
    });
  const targets: KillTarget[] = [];
  const unknown: string[] = [];
  for (const [kind, values] of byKind(named)) {
    if (kind === "trace") {
      const chains = await chainsOf(db, values);
      unknown.push(...values.filter((trace) => !chains.has(trace)).map((trace) => `trace ${trace}`));
      for (const txn of new Set([...chains.values()].flat())) targets.push({ kind: "txn", value: txn });
    } else {
      const rows = await db.query<{ id: string }>(
        `select x.id from unnest($1::text[]) as x(id) where not (${KNOWN[kind]})`,
        [values],
      );
      unknown.push(...rows.map(({ id }) => `${kind} ${id}`));
      for (const value of values) targets.push({ kind, value });
    }
  }
  if (unknown.length > 0)
    throw new ProblemError("not_found", { detail: `not known: ${unknown.slice(0, 10).join(", ")}` });
  if (named.some(({ kind }) => kind === "all")) targets.push({ kind: "all" });
  return targets;
}

function byKind(named: readonly Named[]): ReadonlyMap<Exclude<Named["kind"], "all">, string[]> {
  const values = new Map<Exclude<Named["kind"], "all">, string[]>();
  for (const one of named) {
    if (one.kind === "all") continue;
    values.set(one.kind, [...(values.get(one.kind) ?? []), one.value]);
  }
  return values;
}

async function chainsOf(db: Pick<Db, "query">, traces: readonly string[]): Promise<ReadonlyMap<string, string[]>> {
  const rows = await db.query<{ trace_id: string; txn: string }>(
    `select distinct trace_id, txn from ephor.events
     where trace_id = any($1) and txn is not null and decision = 'granted' limit ${MAX_CHAINS + 1}`,
    [traces],
  );
  if (rows.length > MAX_CHAINS)
    throw new ProblemError("unprocessable", {
      detail: `more than ${MAX_CHAINS} chains carried it: kill the agent, or all`,
    });
  const chains = new Map<string, string[]>();
  for (const { trace_id: trace, txn } of rows) chains.set(trace, [...(chains.get(trace) ?? []), txn]);
  return chains;
}
