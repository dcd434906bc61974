import type { Facts } from "../oauth/errors.ts";
import type { Reason } from "../oauth/reasons.ts";
import type { CompiledDelegation, TrustIndex } from "../trust/compiled.ts";
import { checkStanding, decide, standingProblem } from "./decide.ts";
import type { Allowed, Decision, HandOverInput, Refused } from "./decision.ts";
import { fitsHandOver } from "./on-behalf-of.ts";

/**
 * Decides whether the current actor may hand scopes over to another agent: it needs a grant `delegate_to` for that agent
 * and this subject, and the whole path must be granted every scope at this moment, as if it were to be used. What the
 * addressee may do with it is decided when it does it. Nothing of Ephor's own API can be handed over, and nothing that is
 * open only because its resource observes (CONTRACT §4, §5).
 */
export function decideHandOver(trust: TrustIndex, input: HandOverInput): Decision {
  const standing = checkStanding(trust, input.path, input.now);
  if (!standing.ok) return standing.refusal;
  const addressee = trust.agent(input.to);
  if (addressee === undefined) return refuse("target_unknown", { agent: input.to });
  if (input.path.includes(input.to)) return refuse("chain_loop", { agent: input.to });
  const overdue = standingProblem(addressee, input.now);
  if (overdue !== undefined) return refuse(overdue, { agent: input.to });

  const permission = findDelegation(trust, input);
  if ("reason" in permission) return permission;
  if (input.wanted.length === 0) return refuse("scope_missing", {});

  const { to: _to, wanted, ...context } = input;
  const parts: Allowed[] = [];
  for (const { resource, scopes } of wanted) {
    if (resource.kind === "ephor") return refuse("not_transferable", { resource: resource.name });
    const decision = decide(trust, { ...context, resource, scopes });
    if (!decision.allowed) return decision;
    if (decision.wouldRefuse !== undefined) return refuse("not_transferable", { resource: resource.name });
    parts.push(decision);
  }
  return combine(parts, permission);
}

function findDelegation(trust: TrustIndex, input: HandOverInput): CompiledDelegation | Refused {
  const actor = input.path.at(-1) ?? "";
  const all = trust.delegationsOf(actor).filter((grant) => grant.targets.has(input.to));
  const fitting = all.filter((grant) => fitsHandOver(grant.parties, actor, input.subject));
  const current = fitting
    .filter((grant) => grant.until === undefined || input.now < grant.until)
    .toSorted((a, b) => (b.until ?? Infinity) - (a.until ?? Infinity) || (a.name < b.name ? -1 : 1))[0];
  if (current !== undefined) return current;
  const facts = { agent: actor, to: input.to };
  if (fitting.length > 0) return refuse("grant_expired", facts);
  return refuse(all.length > 0 ? "on_behalf_of_mismatch" : "delegation_not_granted", facts);
}

/** The bounds of everything together; what is vended by a policy or a residual is judged again where it is vended. */
function combine(parts: readonly Allowed[], permission: CompiledDelegation): Allowed {
  const ttls = parts.flatMap((part) => part.ttlSeconds ?? []);
  const untils = [
    ...parts.flatMap((part) => part.until ?? []),
    ...(permission.until === undefined ? [] : [permission.until]),
  ];
  return {
    allowed: true,
    scopes: parts.flatMap((part) => part.scopes),
    ...(ttls.length > 0 && { ttlSeconds: Math.min(...ttls) }),
    ...(untils.length > 0 && { until: Math.min(...untils) }),
    once: parts.some((part) => part.once),
    grants: [{ agent: permission.agent, grant: permission.name }, ...parts.flatMap((part) => part.grants)],
  };
}

function refuse(reason: Reason, facts: Facts): Refused {
  return { allowed: false, reason, facts };
}
