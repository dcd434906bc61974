import { considerGrants } from "../core/grants/considered.ts";
import { checkStanding, decide, isObserving, type DecideInput } from "../core/grants/decide.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { InvalidTokenError } from "../core/oauth/errors.ts";
import type { Resource } from "../core/trust/model.ts";
import type { Place } from "../tasks/facts.ts";
import type { ProxiedCall } from "./decided.ts";
import type { ProxyDeps } from "./deps.ts";
import { Refusal, type Looked } from "./refusal.ts";

/** What a call may be forwarded by. */
export interface Judged {
  readonly action: string;
  readonly allowed: Allowed;
  /** Where it is only observed and would have been refused. */
  readonly looked?: Looked;
}

/**
 * Judges a call by the token's scopes and the grants as they are now.
 *
 * @throws {Refusal} not granted, or not in this token; {InvalidTokenError} `token_expired`
 */
export function judge(deps: ProxyDeps, order: ProxiedCall, place: Place): Judged {
  const { actions, holder } = order;
  // As it is now: it may have been changed or removed while the body came in.
  const resource = deps.trust().resourceByName(order.resource.name);
  if (resource?.kind !== order.resource.kind)
    throw new Refusal({ allowed: false, reason: "target_unknown", facts: { resource: order.resource.name } });
  // A body may take its time, and a token dies meanwhile.
  if (deps.clock.now() >= holder.token.claims.exp) throw new InvalidTokenError({ reason: "token_expired" });
  if (order.free !== undefined) return judgeFree(deps, { place, action: order.free });
  let first: Refusal | undefined;
  let waiting: Judged | undefined;
  for (const action of actions) {
    const scope = `${resource.name}:${action}`;
    const input = inputOf(deps, { order, place, resource, scope });
    const decision = decide(deps.trust(), input);
    const looked = (): Looked => ({
      action,
      path: input.path,
      considered: considerGrants(deps.trust(), input, action),
    });
    if (decision.allowed && isHeld(order, scope)) {
      const allowed = unblocked(deps, { order, resource, allowed: decision });
      const judged = { action, allowed, ...(decision.wouldRefuse && { looked: looked() }) };
      if (allowed.approvals === undefined) return judged;
      // Another action that stands for the same call may need none.
      waiting ??= judged;
      continue;
    }
    const refusal = decision.allowed
      ? new Refusal({ allowed: false, reason: "insufficient_scope", facts: { scope } }, { lacking: scope })
      : new Refusal(decision, { looked: looked() });
    // What a better token would cure helps more than what it would not.
    if (first === undefined || (first.lacking === undefined && refusal.lacking !== undefined)) first = refusal;
  }
  if (waiting !== undefined) return waiting;
  throw first ?? new Refusal({ allowed: false, reason: "scope_unknown", facts: { resource: resource.name } });
}

/** Pinning refuses what is granted, and takes notes where grants do (CONTRACT §4). */
function unblocked(deps: ProxyDeps, at: { order: ProxiedCall; resource: Resource; allowed: Allowed }): Allowed {
  const { order, resource, allowed } = at;
  const { blocked } = order;
  if (blocked === undefined) return allowed;
  if (!isObserving(resource, deps.clock.now())) throw new Refusal({ allowed: false, ...blocked });
  return { ...allowed, wouldRefuse: allowed.wouldRefuse ?? blocked };
}

/** Whoever is on the path must be in good standing; more is not asked. */
function judgeFree(deps: ProxyDeps, { place, action }: { place: Place; action: string }): Judged {
  const standing = checkStanding(deps.trust(), place.node.path, deps.clock.now());
  if (!standing.ok) throw new Refusal(standing.refusal);
  return { action, allowed: { allowed: true, scopes: [], once: false, grants: [] } };
}

/** Whether the token and the grants, as they are now, allow another action of the resource: for what a list shows. */
export function mayUse(
  deps: ProxyDeps,
  { order, place, action }: { order: ProxiedCall; place: Place; action: string },
): boolean {
  const resource = deps.trust().resourceByName(order.resource.name);
  const scope = `${order.resource.name}:${action}`;
  if (resource?.kind !== order.resource.kind || !isHeld(order, scope)) return false;
  return decide(deps.trust(), inputOf(deps, { order, place, resource, scope, isListed: true })).allowed;
}

/** Whether the token carries a scope, or everything at an MCP server. */
function isHeld({ holder, resource }: ProxiedCall, scope: string): boolean {
  const held = holder.token.claims.scope.split(" ");
  return held.includes(scope) || (resource.kind === "mcp" && held.includes(`${resource.name}:*`));
}

function inputOf(
  deps: ProxyDeps,
  at: { order: ProxiedCall; place: Place; resource: Resource; scope: string; isListed?: boolean },
): DecideInput {
  const { order, place, resource, scope, isListed = false } = at;
  const purpose = order.holder.token.claims.purpose ?? place.task.purpose;
  return {
    path: place.node.path,
    subject: place.task.subject,
    resource,
    scopes: [scope],
    ceilings: [place.task.ceiling, place.node.ceiling],
    txn: place.task.txn,
    now: deps.clock.now(),
    // What a list shows has no arguments yet: a condition on them is judged at the call.
    ...(isListed ? {} : { call: { args: order.args, call: order.call } }),
    ...(purpose === undefined ? {} : { purpose }),
  };
}
