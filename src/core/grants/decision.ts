import type { Facts } from "../oauth/errors.ts";
import type { Reason } from "../oauth/reasons.ts";
import type { EpochSeconds } from "../time.ts";
import type { ApprovalRule, Resource } from "../trust/model.ts";
import type { Subject } from "../trust/subject.ts";

/** What every decision is about. */
export interface DecisionContext {
  /** Agents, oldest first, the current actor last. */
  readonly path: readonly string[];
  readonly subject: Subject;
  /** Full scopes that bound the node and its task; null where nothing but the grants does. */
  readonly ceilings: readonly (readonly string[] | null)[];
  readonly purpose?: string;
  readonly txn: string;
  readonly now: EpochSeconds;
}

/** May this path use these scopes at this resource, for this subject? */
export interface DecideInput extends DecisionContext {
  readonly resource: Resource;
  /**
   * Full scopes of the resource; the resource's name alone, as an entry or as `"all"`, asks for everything that is granted
   * there.
   */
  readonly scopes: readonly string[] | "all";
  /** At a call: what is called, so that conditions on `args` and `call` can be judged. Without it they are left out. */
  readonly call?: {
    readonly args: Readonly<Record<string, unknown>>;
    readonly call: Readonly<Record<string, unknown>>;
  };
  /** What is allowed is not spent through our proxy: nobody will judge the call, and nothing is only observed. */
  readonly passesProxy?: false;
}

/** May the current actor hand these scopes, of whatever resources, over to that agent? */
export interface HandOverInput extends DecisionContext {
  readonly to: string;
  readonly wanted: readonly { readonly resource: Resource; readonly scopes: readonly string[] | "all" }[];
}

/** One grant's approval: its rule, and whose grant it is. */
export interface ApprovalNeed extends ApprovalRule {
  readonly agent: string;
  readonly grant: string;
}

/** A yes, with everything that bounds it. */
export interface Allowed {
  readonly allowed: true;
  /** In full, in the order asked for; `<resource>:*` where everything at an MCP server is granted and nothing bounds it. */
  readonly scopes: readonly string[];
  /** The smallest `ttl` of the grants. */
  readonly ttlSeconds?: number;
  /** The earliest `until` of the grants. */
  readonly until?: EpochSeconds;
  /** Some grant says `once`. */
  readonly once: boolean;
  /** The grants that carry it. */
  readonly grants: readonly { readonly agent: string; readonly grant: string }[];
  /** Session policies that the grants name; all of them bind. */
  readonly policies?: readonly string[];
  /** The smallest `residual` of the grants; absent where some grant does not say. */
  readonly residual?: "none" | "unlimited" | number;
  /** What a call needs before it is forwarded: all of them. Matters at the call alone. */
  readonly approvals?: readonly ApprovalNeed[];
  /** The resource only observes and the grants would have refused, for this reason. Such a token cannot be handed over. */
  readonly wouldRefuse?: { readonly reason: Reason; readonly facts: Facts };
}

/** A no. The facts are names of agents, grants and resources. */
export interface Refused {
  readonly allowed: false;
  readonly reason: Reason;
  readonly facts: Facts;
}

export type Decision = Allowed | Refused;
