import type { EpochSeconds } from "../time.ts";
import type { CompiledGrant } from "../trust/compiled.ts";
import { grantsAction } from "./candidates.ts";
import type { Candidates } from "./candidates.ts";

/**
 * The grants of one agent that carry an action. One suffices, so of several that certainly hold the least restrictive is
 * taken. Where all of them wait for a condition at the call, nobody knows yet which will hold: then all are taken, and the
 * token is bounded by each.
 *
 * @returns none when the action is not granted
 */
export function choose(actor: Candidates, action: string): readonly CompiledGrant[] {
  const fitting = actor.usable.filter(({ grant }) => grantsAction(grant, action));
  const certain = fitting.filter(({ isCertain }) => isCertain).map(({ grant }) => grant);
  if (certain.length === 0) return fitting.map(({ grant }) => grant);
  return certain.toSorted(byRestriction).slice(0, 1);
}

/** Least restrictive first; the name decides between equals, so that equal questions get equal answers. */
function byRestriction(a: CompiledGrant, b: CompiledGrant): number {
  return (
    Number(a.approval !== undefined) - Number(b.approval !== undefined) ||
    Number(a.once) - Number(b.once) ||
    (b.ttlSeconds ?? Infinity) - (a.ttlSeconds ?? Infinity) ||
    (b.until ?? Infinity) - (a.until ?? Infinity) ||
    residualRank(b.residual) - residualRank(a.residual) ||
    Number(a.policy !== undefined) - Number(b.policy !== undefined) ||
    (a.name < b.name ? -1 : 1)
  );
}

/** What grants bound together. */
export interface Bound {
  readonly ttlSeconds?: number;
  readonly until?: EpochSeconds;
  readonly once: boolean;
  readonly policies?: readonly string[];
  readonly residual?: "none" | "unlimited" | number;
}

/** The bounds of several grants that all bind: the smallest of each, every policy, `once` if any says so. */
export function boundBy(grants: readonly CompiledGrant[]): Bound {
  const ttls = grants.flatMap((grant) => grant.ttlSeconds ?? []);
  const untils = grants.flatMap((grant) => grant.until ?? []);
  const policies = new Set(grants.flatMap((grant) => grant.policy ?? []));
  const residual = grants
    .map((grant) => grant.residual)
    .reduce((least, next) => (residualRank(next) < residualRank(least) ? next : least), grants[0]?.residual);
  return {
    ...(ttls.length > 0 && { ttlSeconds: Math.min(...ttls) }),
    ...(untils.length > 0 && { until: Math.min(...untils) }),
    once: grants.some((grant) => grant.once),
    ...(policies.size > 0 && { policies: [...policies] }),
    ...(residual !== undefined && { residual }),
  };
}

/** Smallest first: none, a number of seconds, unsaid, unlimited (which every grant has to say). */
function residualRank(residual: "none" | "unlimited" | number | undefined): number {
  if (residual === "none") return 0;
  if (residual === undefined) return Number.MAX_SAFE_INTEGER;
  return residual === "unlimited" ? Infinity : residual;
}
