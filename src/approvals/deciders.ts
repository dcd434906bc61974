import { deathKeys, killKey } from "../core/kill/keys.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { KEY_HOLDER } from "../core/trust/ephor-resource.ts";
import type { Approver, Operator } from "../core/trust/model.ts";
import { isOwner, subsOf } from "../core/trust/operator-index.ts";

/** By which way a person decided. */
export type DecidedVia = "console" | "slack" | "teams" | "webhook";

/** Who decides. */
export type Decider =
  /** Whoever holds the operator key. */
  | { readonly kind: "operator"; readonly id: string }
  /** By a token with `ephor:approve`; `sub` and `txn` are the token's. */
  | {
      readonly kind: "agent";
      readonly agent: string;
      readonly sub: string;
      readonly txn: string;
      /** What kills its place in that chain. */
      readonly killKeys: readonly string[];
    }
  | {
      readonly kind: "person";
      /** Which operator this is now; undefined for a human who is none. */
      readonly operator: string | undefined;
      /** The human who signed in, as our tokens name him; undefined where a chat says who it is. */
      readonly sub: string | undefined;
      /** Of that sign-in, at the issuer. */
      readonly authTime: EpochSeconds | undefined;
      readonly via: DecidedVia;
      /** Whether what brought him still names that operator; of a sign-in, its `sub` says so. */
      readonly isStill?: (trust: TrustIndex) => boolean;
    };

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
  /** On whose behalf. */
  readonly sub: string;
  readonly needs: readonly StoredNeed[];
}

/** By what deciders are judged: operators, owners and the time as they are now. */
export interface JudgedBy {
  readonly trust: TrustIndex;
  readonly now: EpochSeconds;
}

/** Why somebody may not decide. */
export type DeciderRefusal =
  | "approver_is_requester"
  | "approver_not_asked"
  | "approver_unproven"
  | "role_missing"
  | "sign_in_too_old";

/** Seconds that a sign-in is fresh enough to approve one's own call by it (CONTRACT §8 "Approval"). */
export const SELF_SIGN_IN_SECONDS = 300;
/** Seconds that an issuer's clock may be ahead of ours. */
const CLOCK_AHEAD_SECONDS = 60;

/**
 * How a decider is called where decisions are stored and recorded. An operator has one name whatever the way, so that one
 * person is one decider; the human on whose behalf the call is made is called so, operator or not.
 */
export function nameOf(decider: Decider, { sub }: Pick<Judged, "sub">): string {
  switch (decider.kind) {
    case "operator":
      return `operator:${decider.id}`;
    case "agent":
      return decider.agent;
    case "person":
      return decider.operator === undefined || isSubject(decider, sub)
        ? `human:${decider.sub ?? ""}`
        : `operator:${decider.operator}`;
  }
}

/**
 * Why somebody may not decide, or undefined. Whoever asked never does: no agent of the chain, no agent that acts for somebody
 * else, for then it is he who decides, and not the human on whose behalf the call is made, but where the grant asks just him.
 * An operator who may approve may always deny.
 *
 * An operator's key has no person's name: whoever holds it stands in for the owner, and for nobody else.
 */
export function whyNotDecide(
  approval: Judged,
  decider: Decider,
  at: JudgedBy & { readonly isApproving: boolean },
): DeciderRefusal | undefined {
  if (decider.kind === "person") return whyNotPerson(approval, decider, at);
  if (decider.kind === "agent") {
    const { agent, sub, txn } = decider;
    if (approval.path.includes(agent) || txn === approval.txn) return "approver_is_requester";
    if (sub !== `agent|${agent}`) return "approver_not_asked";
  } else if (!at.isApproving) return undefined;
  return isAskedByAny(approval, nameOf(decider, approval), at.trust) ? undefined : "approver_not_asked";
}

type PersonDecider = Extract<Decider, { kind: "person" }>;

function whyNotPerson(
  approval: Judged,
  decider: PersonDecider,
  { trust, now, isApproving }: JudgedBy & { readonly isApproving: boolean },
): DeciderRefusal | undefined {
  const operator = operatorNow(decider, trust);
  const mayDecide = operator !== undefined && isReviewer(operator);
  const isSelf = isSubject(decider, approval.sub);
  const asksSelf = approval.needs.some(({ by }) => by.includes("self"));
  if (!isApproving) {
    if (mayDecide || (isSelf && asksSelf)) return undefined;
    return operator === undefined ? "approver_not_asked" : "role_missing";
  }
  if (isSelf) {
    if (!asksSelf) return "approver_is_requester";
    return isFresh(decider.authTime, now) ? undefined : "sign_in_too_old";
  }
  if (operator === undefined) return "approver_not_asked";
  if (!mayDecide) return "role_missing";
  const subs = [...subsOf(operator), ...(decider.sub === undefined ? [] : [decider.sub])];
  if (subs.includes(approval.sub)) return "approver_is_requester";
  // Nobody can say that this is not the human himself.
  if (subs.length === 0 && !approval.sub.startsWith("agent|")) return "approver_unproven";
  return isAskedByAny(approval, nameOf(decider, approval), trust) ? undefined : "approver_not_asked";
}

/** The operator that he is by these trust objects: since he was found by others, his entry may have become somebody else's. */
function operatorNow({ operator: name, sub, isStill }: PersonDecider, trust: TrustIndex): Operator | undefined {
  const operator = name === undefined ? undefined : trust.operator(name);
  if (operator === undefined || isStill?.(trust) === false) return undefined;
  return sub === undefined || subsOf(operator).includes(sub) ? operator : undefined;
}

/** Whether somebody is the human on whose behalf the call is made, and shows it by a sign-in: a chat shows none. */
function isSubject({ sub, via }: PersonDecider, subject: string): boolean {
  return via === "console" && sub === subject;
}

function isFresh(authTime: EpochSeconds | undefined, now: EpochSeconds): boolean {
  if (authTime === undefined) return false;
  const age = now - authTime;
  return age <= SELF_SIGN_IN_SECONDS && age >= -CLOCK_AHEAD_SECONDS;
}

function isReviewer({ roles }: Operator): boolean {
  return roles.includes("approve");
}

function isAskedByAny(approval: Judged, decider: string, trust: TrustIndex): boolean {
  return approval.needs.some((need) => isAsked(need, decider, { trust, sub: approval.sub }));
}

/** Whether a grant asks this decider, by the name it is stored under and by what the trust objects say of it now. */
function isAsked(need: StoredNeed, decider: string, at: { trust: TrustIndex; sub: string }): boolean {
  const { trust, sub } = at;
  const name = decider.startsWith("operator:") ? decider.slice("operator:".length) : undefined;
  const found = name === undefined ? undefined : trust.operator(name);
  const operator = found !== undefined && isReviewer(found) ? found : undefined;
  return need.by.some((approver) => {
    if (approver === "self") return decider === `human:${sub}`;
    if (approver === "owner") {
      if (name === KEY_HOLDER) return true;
      const owner = trust.agent(need.agent)?.owner;
      return operator !== undefined && owner !== undefined && isOwner(operator, owner);
    }
    return "agent" in approver ? approver.agent === decider : operator?.groups.includes(approver.group) === true;
  });
}

/**
 * Whether every grant has the approvals that it asks for, each by different ones of those it names.
 *
 * @param approvedBy the names of those who approved
 */
export function isApproved(
  approval: Pick<Judged, "needs" | "sub">,
  approvedBy: readonly string[],
  trust: TrustIndex,
): boolean {
  const different = [...new Set(approvedBy)];
  const { needs, sub } = approval;
  return needs.every(
    (need) => different.filter((decider) => isAsked(need, decider, { trust, sub })).length >= need.count,
  );
}

/**
 * What kills a decision that was made: whatever kills the agent's place in its chain; an operator when he is changed or removed,
 * the human, his issuer.
 */
export function killKeysOf(decider: Decider, trust: TrustIndex): string[] {
  if (decider.kind === "operator") return [];
  if (decider.kind === "agent") return [...decider.killKeys];
  const operator = decider.operator === undefined ? undefined : trust.operator(decider.operator);
  const subs = new Set([
    ...(decider.sub === undefined ? [] : [decider.sub]),
    ...(operator === undefined ? [] : subsOf(operator)),
  ]);
  return [
    ...(operator === undefined ? [] : [deathKeys.operator(operator.name)]),
    ...[...subs].map((sub) => killKey("subject", sub)),
    ...[...new Set([...subs].map((sub) => sub.slice(0, sub.indexOf("|"))))].map((issuer) => killKey("issuer", issuer)),
  ];
}
