import { RefusedToken } from "../core/token/refused.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Agent } from "../core/trust/model.ts";
import { compileRule } from "../core/trust/rules.ts";
import { profileOf } from "./issuers/profiles.ts";
import type { VerifiedToken } from "./verify.ts";

/**
 * The one agent that a verified workload token is. A token that fits several is refused unless the caller names one of them;
 * their rights are never joined (A-OIDC-22).
 *
 * @param o.clientId the `client_id` of the request, if it has one: it must be the agent's name
 * @throws {RefusedToken} `actor_not_workload`, `no_rule_matches`, `several_agents_match`, `client_mismatch`, `agent_suspended`,
 * `agent_review_overdue`
 */
export function matchAgent(
  trust: TrustIndex,
  verified: VerifiedToken,
  o: { clientId?: string | undefined; now: EpochSeconds },
): Agent {
  const { issuer, claims } = verified;
  if (verified.identifies !== "workloads")
    throw new RefusedToken({ reason: "actor_not_workload", issuer: issuer.name });
  const agents = new Map<string, Agent>();
  for (const { agent, rule } of trust.agentsMatching(issuer, claims)) {
    if (isAdmitted(agent, rule, verified)) agents.set(agent.name, agent);
  }
  const agent = chooseAgent(agents, o.clientId);
  checkStanding(agent, o.now);
  return agent;
}

/** Whether the issuer's profile lets the rule count; the index names an agent's first rule only, so others get their turn. */
function isAdmitted(agent: Agent, first: number, { issuer, claims }: VerifiedToken): boolean {
  const profile = profileOf(issuer, claims);
  return agent.trust.some(
    (rule, at) =>
      rule.issuer === issuer.name &&
      profile.admits(claims, rule) &&
      (at === first || (at > first && compileRule(rule, issuer).matches(claims))),
  );
}

function chooseAgent(agents: ReadonlyMap<string, Agent>, clientId: string | undefined): Agent {
  const [only, ...others] = agents.values();
  if (only === undefined) throw new RefusedToken({ reason: "no_rule_matches" });
  if (clientId !== undefined) {
    const named = agents.get(clientId);
    if (named === undefined) throw new RefusedToken({ reason: "client_mismatch" });
    return named;
  }
  if (others.length > 0) throw new RefusedToken({ reason: "several_agents_match", agents: agents.size });
  return only;
}

/**
 * Refuses an agent that may not act now, however well it proved who it is.
 *
 * @throws {RefusedToken} `agent_suspended`, `agent_review_overdue`
 */
export function checkStanding(agent: Agent, now: EpochSeconds): void {
  if (agent.status !== "active") throw new RefusedToken({ reason: "agent_suspended", agent: agent.name });
  if (agent.reviewBy !== undefined && now >= agent.reviewBy) {
    throw new RefusedToken({ reason: "agent_review_overdue", agent: agent.name });
  }
}
