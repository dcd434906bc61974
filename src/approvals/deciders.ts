import type { Approver } from "../core/trust/model.ts";

/** Who decides. */
export type Decider =
  | { readonly kind: "operator"; readonly id: string }
  /** By a token with `ephor:approve`; `sub` and `txn` are the token's. */
  | { readonly kind: "agent"; readonly agent: string; readonly sub: string; readonly txn: string };

/** What one grant asks for, as it is stored. */
export interface StoredNeed {
  readonly agent: string;
  readonly grant: string;
  readonly by: readonly Approver[];
  readonly count: number;
}

/** What is known of an approval by whoever judges a decider. */
export interface Judged {
  readonly path: readonly string[];
  readonly txn: string;
  readonly needs: readonly StoredNeed[];
}

/** How a decider is called where decisions are stored and recorded. */
export function nameOf(decider: Decider): string {
  return decider.kind === "operator" ? `operator:${decider.id}` : decider.agent;
}

/**
 * Why somebody may not decide, or undefined. Whoever asked never does: no agent of the chain, and no agent that acts for
 * somebody else, for then it is he who decides. An operator may always deny.
 *
 * An operator's key has no person's name: whoever holds it stands in for the owner.
 */
export function whyNotDecide(
  approval: Judged,
  decider: Decider,
  isApproving: boolean,
): "approver_is_requester" | "approver_not_asked" | undefined {
  if (decider.kind === "agent") {
    const { agent, sub, txn } = decider;
    if (approval.path.includes(agent) || txn === approval.txn) return "approver_is_requester";
    if (sub !== `agent|${agent}`) return "approver_not_asked";
  } else if (!isApproving) return undefined;
  return approval.needs.some((need) => isAsked(need, nameOf(decider))) ? undefined : "approver_not_asked";
}

/** Whether a grant asks this decider, by the name it is stored under. */
function isAsked({ by }: StoredNeed, decider: string): boolean {
  const isOperator = decider.startsWith("operator:");
  return by.some((approver) =>
    approver === "owner"
      ? isOperator
      : typeof approver === "object" && "agent" in approver && approver.agent === decider,
  );
}

/** Whether every grant has the approvals that it asks for, each by different ones of those it names. */
export function isApproved(needs: readonly StoredNeed[], approvedBy: readonly string[]): boolean {
  const different = [...new Set(approvedBy)];
  return needs.every((need) => different.filter((decider) => isAsked(need, decider)).length >= need.count);
}
