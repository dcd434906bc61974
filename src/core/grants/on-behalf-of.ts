import type { CompiledParty } from "../trust/compiled.ts";
import { compileMatchers, matchClaims } from "../trust/matcher.ts";
import type { Agent } from "../trust/model.ts";
import type { Subject, VerifiedClaims } from "../trust/subject.ts";

/**
 * Whether a grant's `on_behalf_of` lets its agent act for this subject: absent, only for itself; present, never for itself
 * and only for those it names (CONTRACT §4). An entry for an issuer means its humans, all of them or those whose claims
 * fit; a claim that is a list fits when one element does.
 *
 * @param agent the agent that holds the grant
 */
export function fitsSubject(parties: readonly CompiledParty[] | undefined, agent: string, subject: Subject): boolean {
  const isItself = subject.type === "agent" && subject.agent === agent;
  if (parties === undefined) return isItself;
  if (isItself) return false;
  return parties.some((party) => {
    if ("agent" in party) return subject.type === "agent" && subject.agent === party.agent;
    return (
      subject.type === "human" && subject.issuer === party.issuer && matchClaims(party.claims, subject.claims, "member")
    );
  });
}

/**
 * The same for permission to hand over, with one difference: absent means whoever the work is done for. The permission to
 * act for them is checked beside it, scope by scope.
 */
export function fitsHandOver(parties: readonly CompiledParty[] | undefined, agent: string, subject: Subject): boolean {
  return parties === undefined || fitsSubject(parties, agent, subject);
}

/** Whether an agent may carry the token of this human: its `subject_from` must fit, where it has one. */
export function mayCarry(agent: Agent, claims: VerifiedClaims): boolean {
  return agent.subjectFrom === undefined || matchClaims(compileMatchers(agent.subjectFrom), claims, "member");
}
