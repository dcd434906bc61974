/**
 * The room `grants`: who may do what, for whom, under which conditions. Default deny; every path that releases something
 * asks `decide` or `decideHandOver` and nothing else. It knows trust objects; it knows no token, request or database.
 */
import type { Facts } from "../oauth/errors.ts";
import type { Reason } from "../oauth/reasons.ts";
import type { EpochSeconds } from "../time.ts";
import type { CompiledGrant, TrustIndex } from "../trust/compiled.ts";
import type { Agent, Resource } from "../trust/model.ts";
import { findCandidates, grantsAction } from "./candidates.ts";
import type { Candidates } from "./candidates.ts";
import type { Allowed, ApprovalNeed, DecideInput, Decision, Refused } from "./decision.ts";
import { boundBy, choose } from "./effect.ts";
import { askedActions, isWithin, offeredActions } from "./scopes.ts";

export type { DecideInput, Decision, HandOverInput } from "./decision.ts";

/**
 * Decides whether a path of agents may use scopes at a resource. Each agent on the path must be in good standing and hold,
 * for every scope, a grant that has not ended, fits the subject and whose condition is true (CONTRACT §2 rule 3). Of
 * several grants of one agent any one suffices; over the path all of them bind: the smallest `ttl`, `until` and
 * `residual`, every policy, `once` if any says so.
 *
 * Naming scopes is all or nothing. Asking for everything gives what is granted to all, and is refused when that is nothing.
 */
export function decide(trust: TrustIndex, input: DecideInput): Decision {
  const standing = checkStanding(trust, input.path, input.now);
  if (!standing.ok) return standing.refusal;

  const asked = askedActions(input.resource, input.scopes);
  if ("reason" in asked) return refuse(asked.reason, { resource: input.resource.name });
  const scopeOf = (action: string): string => `${input.resource.name}:${action}`;
  const above = asked.named.find((action) => !isWithin(scopeOf(action), input.ceilings));
  if (above !== undefined) return refuse("scope_above_ceiling", { scope: scopeOf(above) });

  const actors = standing.agents.map((agent) => findCandidates(trust, agent, input));
  const isObserved = input.passesProxy !== false && isObserving(input.resource, input.now);
  const offered = asked.everything
    ? offeredActions(input.resource, actors, { ceilings: input.ceilings, isObserved })
    : [];
  const granting = grantAll(
    actors,
    new Set([...asked.named, ...offered.filter((action) => isWithin(scopeOf(action), input.ceilings))]),
  );
  if (isObserved) return observe(input, granting);

  const refused = asked.named.map((action) => granting.refused.get(action)).find((refusal) => refusal !== undefined);
  if (refused !== undefined) return refused;
  if (granting.chosen.size > 0) return allow(input.resource, granting.chosen);
  return nearest(granting) ?? refuse("scope_not_granted", { agent: input.path.at(-1) ?? "" });
}

/** Whether grants, conditions and pins only take notes at a resource for now (CONTRACT §4). */
export function isObserving(resource: Resource, now: EpochSeconds): boolean {
  return (resource.kind === "mcp" || resource.kind === "http") && resource.mode.observe && now < resource.mode.until;
}

type Standing =
  | { readonly ok: true; readonly agents: readonly Agent[] }
  | { readonly ok: false; readonly refusal: Refused };

/** Every agent on the path must still exist, be active and not be overdue for review. */
export function checkStanding(trust: TrustIndex, path: readonly string[], now: EpochSeconds): Standing {
  const agents: Agent[] = [];
  for (const name of path) {
    const agent = trust.agent(name);
    const reason = agent === undefined ? "client_unknown" : standingProblem(agent, now);
    if (agent === undefined || reason !== undefined)
      return { ok: false, refusal: refuse(reason ?? "client_unknown", { agent: name }) };
    agents.push(agent);
  }
  // A path without an actor is a bug of the caller; nobody is granted nothing.
  if (agents.length === 0) return { ok: false, refusal: refuse("actor_missing", {}) };
  return { ok: true, agents };
}

/** Why an agent may not act at all, or undefined. */
export function standingProblem(
  agent: Agent,
  now: EpochSeconds,
): "agent_suspended" | "agent_review_overdue" | undefined {
  if (agent.status === "suspended") return "agent_suspended";
  return agent.reviewBy !== undefined && now >= agent.reviewBy ? "agent_review_overdue" : undefined;
}

/** For each action either what carries it, agent by agent, or why it is refused. */
interface Granting {
  readonly chosen: ReadonlyMap<
    string,
    readonly { readonly agent: string; readonly grants: readonly CompiledGrant[] }[]
  >;
  readonly refused: ReadonlyMap<string, Refused>;
}

function grantAll(actors: readonly Candidates[], actions: ReadonlySet<string>): Granting {
  const chosen = new Map<string, { agent: string; grants: readonly CompiledGrant[] }[]>();
  const refused = new Map<string, Refused>();
  for (const action of actions) {
    const carriers = actors.map((actor) => ({ agent: actor.agent, grants: choose(actor, action) }));
    const lacking = carriers.findIndex((carrier) => carrier.grants.length === 0);
    if (lacking === -1) chosen.set(action, carriers);
    else refused.set(action, explain(actors[lacking], action));
  }
  return { chosen, refused };
}

/** Of several refusals the one that came nearest to a yes. */
function nearest(granting: Granting): Refused | undefined {
  return [...granting.refused.values()].toSorted((a, b) => rank(b.reason) - rank(a.reason))[0];
}

/** How near a grant came to holding; the nearest one is the reason that helps. */
const NEARNESS: readonly Reason[] = [
  "scope_not_granted",
  "on_behalf_of_mismatch",
  "grant_expired",
  "not_served",
  "condition_error",
  "condition_false",
];

function rank(reason: Reason): number {
  return NEARNESS.indexOf(reason);
}

function explain(actor: Candidates | undefined, action: string): Refused {
  const misses = (actor?.missed ?? []).filter(({ grant }) => grantsAction(grant, action));
  const best = misses.toSorted((a, b) => rank(b.reason) - rank(a.reason))[0];
  const agent = actor?.agent ?? "";
  return best === undefined
    ? refuse("scope_not_granted", { agent })
    : refuse(best.reason, { agent, grant: best.grant.name });
}

function allow(resource: Resource, chosen: Granting["chosen"]): Allowed {
  const carriers = [...chosen.values()].flat();
  const names = new Set<string>();
  const grants: { agent: string; grant: string }[] = [];
  const approvals: ApprovalNeed[] = [];
  for (const { agent, grants: held } of carriers) {
    for (const grant of held) {
      if (names.has(grant.name)) continue;
      names.add(grant.name);
      grants.push({ agent, grant: grant.name });
      if (grant.approval !== undefined) approvals.push({ agent, grant: grant.name, ...grant.approval });
    }
  }
  return {
    allowed: true,
    scopes: [...chosen.keys()].map((action) => `${resource.name}:${action}`),
    grants,
    ...(approvals.length > 0 && { approvals }),
    ...boundBy(carriers.flatMap((carrier) => carrier.grants)),
  };
}

/**
 * At a resource that only observes, a missing grant, an untrue condition or a missing approval is noted instead of refused.
 * Standing and ceilings, judged before, refuse as ever (CONTRACT §4).
 */
function observe({ resource, call }: DecideInput, granting: Granting): Decision {
  const { approvals, ...granted } = allow(resource, granting.chosen);
  const [waits] = call === undefined ? [] : (approvals ?? []);
  const unapproved = waits && refuse("approval_required", { agent: waits.agent, grant: waits.grant });
  const missing = nearest(granting) ?? unapproved;
  if (missing === undefined)
    return granted.scopes.length > 0 ? granted : refuse("scope_above_ceiling", { resource: resource.name });
  return {
    ...granted,
    scopes: [...granting.chosen.keys(), ...granting.refused.keys()].map((action) => `${resource.name}:${action}`),
    wouldRefuse: { reason: missing.reason, facts: missing.facts },
  };
}

function refuse(reason: Reason, facts: Facts): Refused {
  return { allowed: false, reason, facts };
}
