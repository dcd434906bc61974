import type { Reason } from "../oauth/reasons.ts";
import type { CompiledGrant, TrustIndex } from "../trust/compiled.ts";
import type { Agent, Resource } from "../trust/model.ts";
import type { Subject } from "../trust/subject.ts";
import type { ConditionFacts, Verdict } from "./condition.ts";
import type { DecideInput } from "./decision.ts";
import { fitsSubject } from "./on-behalf-of.ts";

/** One agent's grants at one resource, judged once for a decision. */
export interface Candidates {
  readonly agent: string;
  /** The grants that hold for everything but the action; not certain: their condition can only be judged at the call. */
  readonly usable: readonly { readonly grant: CompiledGrant; readonly isCertain: boolean }[];
  /** The others, each with the reason why it does not hold. */
  readonly missed: readonly { readonly grant: CompiledGrant; readonly reason: Reason }[];
}

/** Judges an agent's grants: their end, whom they are for, their condition. The action is asked later. */
export function findCandidates(trust: TrustIndex, agent: Agent, input: DecideInput): Candidates {
  const usable: { grant: CompiledGrant; isCertain: boolean }[] = [];
  const missed: { grant: CompiledGrant; reason: Reason }[] = [];
  for (const grant of trust.grantsOf(agent.name, input.resource.name)) {
    const reason = whyNot(grant, agent, input);
    if (reason === undefined)
      usable.push({ grant, isCertain: grant.condition?.atCall !== true || input.call !== undefined });
    else missed.push({ grant, reason });
  }
  return { agent: agent.name, usable, missed };
}

/** Whether a grant names an action. `*` as an action is granted by `allow_all` alone. */
export function grantsAction(grant: CompiledGrant, action: string): boolean {
  return grant.allowAll || grant.actionSet.has(action);
}

function whyNot(grant: CompiledGrant, agent: Agent, input: DecideInput): Reason | undefined {
  if (grant.until !== undefined && input.now >= grant.until) return "grant_expired";
  if (!fitsSubject(grant.parties, agent.name, input.subject)) return "on_behalf_of_mismatch";
  // An approval is asked for at the call. Where no call passes us, apply refuses it; one that got there by another way must
  // not be read as "no approval".
  if (grant.approval !== undefined && !(isProxied(input.resource) && input.passesProxy !== false)) return "not_served";
  switch (judge(grant, agent, input)) {
    case "true":
      return undefined;
    case "false":
      return "condition_false";
    case "error":
      return "condition_error";
  }
}

function judge(grant: CompiledGrant, agent: Agent, input: DecideInput): Verdict {
  const { condition } = grant;
  if (condition === undefined) return "true";
  if (condition.atCall && input.call === undefined) {
    // Only what passes our proxy is judged again at the call; elsewhere such a condition would never be judged.
    return isProxied(input.resource) && input.passesProxy !== false ? "true" : "error";
  }
  return condition.judge(conditionFacts(agent, input));
}

/** Whether calls to the resource pass our proxy, where conditions on `args` and `call` are judged. */
export function isProxied(resource: Resource): boolean {
  return resource.kind === "mcp" || resource.kind === "http";
}

function conditionFacts(agent: Agent, input: DecideInput): ConditionFacts {
  return {
    ...input.call,
    subject: subjectFacts(input.subject),
    agent: {
      name: agent.name,
      owner: agent.owner,
      ...(agent.purpose !== undefined && { purpose: agent.purpose }),
      current: input.path.at(-1) ?? agent.name,
      path: input.path,
    },
    task: {
      txn: input.txn,
      ...(input.purpose !== undefined && { purpose: input.purpose }),
      now: new Date(input.now * 1000),
    },
  };
}

/** `subject.type`, `.issuer` and `.sub` are ours, as in our tokens; a claim of the same name cannot shadow them. */
function subjectFacts(subject: Subject): Readonly<Record<string, unknown>> {
  return subject.type === "human"
    ? { ...subject.claims, type: "human", issuer: subject.issuer, sub: subject.sub }
    : { type: "agent", agent: subject.agent, sub: subject.sub };
}
