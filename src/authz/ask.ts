/**
 * The room `authz` is the gate: it decides and records in one durable step, and hands back a `Permit`. It owns the gate's
 * function in the database, and nothing else may make a permit. Plug-ins prove who is asking; what may happen is said here.
 */
import type { EventDraft } from "../audit/event.ts";
import type { Keeping } from "../audit/keeping.ts";
import type { Subject } from "../core/trust/subject.ts";
import type { PermitAction } from "../core/permit.ts";

/**
 * What would kill a thing, and the kill epoch at which it took each on; null means now. A thing is dead when a kill of
 * one of its keys is in force, or came after that epoch (CONTRACT §6: compared by stored position, never by clock).
 */
export interface KillPairs {
  readonly keys: readonly string[];
  readonly epochs: readonly (number | null)[];
}

/** A task to be opened with the release. */
export interface NewTask {
  readonly txn: string;
  readonly opener: string;
  readonly subject: Subject;
  readonly sub: string;
  readonly purpose?: string | undefined;
  readonly ceiling: readonly string[] | null;
  readonly opened_at: number;
  readonly deadline: number;
}

/** A node to be made with the release, unless it is there. */
export interface NewNode {
  readonly id: string;
  readonly txn: string;
  readonly parent: string | null;
  readonly agent: string;
  readonly path: readonly string[];
  readonly ceiling: readonly string[] | null;
  readonly made_at: number;
  readonly kill_keys: readonly string[];
  readonly kill_epochs: readonly (number | null)[];
}

/** The record of a token. */
export interface NewHop {
  readonly jti: string;
  readonly txn: string;
  readonly node: string;
  readonly kind: "access" | "hand_over" | "txn_token";
  readonly actor: string;
  readonly aud: string;
  readonly scopes: readonly string[];
  readonly iat: number;
  readonly exp: number;
  readonly jkt?: string | undefined;
}

/** Whose subject token this is: the first agent's, with the task it opened. */
export interface Binding {
  readonly key: string;
  readonly node: string;
  /** True for an explicit opening, which may open another task with the same subject token. */
  readonly opens: boolean;
  readonly singleUse: boolean;
  readonly jkt?: string | undefined;
  /** Until when it is remembered, epoch seconds. */
  readonly exp: number;
}

/** Something that works once, and until when it must be remembered (epoch seconds). */
export interface ReplayKey {
  readonly key: string;
  /** Who may use it again: a single-use token that came with a DPoP key continues with proofs by that key. */
  readonly holder?: string | undefined;
  readonly exp: number;
}

/** A downstream credential that is about to be made: written down with the decision, before it is. */
export interface NewLease {
  readonly id: string;
  readonly resource: string;
  readonly provider: string;
  readonly facts: object;
  readonly settings: unknown;
  readonly txn: string;
  readonly node: string;
  readonly agent: string;
  readonly created_at: number;
  readonly ends_at: number;
  /** When it is taken as left behind if nobody releases it, epoch milliseconds. */
  readonly next_try_at_ms: number;
}

/** A downstream credential that was made and may leave with this step, unless somebody has taken it as left behind. */
export interface LeaseRelease {
  readonly id: string;
  /** Only where nothing was written down after the mint: when its upstream lets it die, and its names there. */
  readonly upstream_expires_at?: number | undefined;
  readonly marks?: readonly { readonly kind: string; readonly value: string }[] | undefined;
}

/** A tool's definition as the asker remembers it to be accepted. */
export interface RememberedPin {
  /** Which server it is, beside the event's resource. */
  readonly entry: string;
  readonly tool: string;
  readonly hash: string;
}

/** One release to be decided and recorded. Made by a synchronous function of the trust index, so that it can be made again. */
export interface Ask {
  readonly action: PermitAction;
  readonly target: string;
  readonly actor: string;
  readonly event: EventDraft;
  readonly kill: KillPairs;
  /** The trust version by which `core/grants` decided. */
  readonly trustVersion: number;
  /** An existing task, and the nodes of the path, which must be open. */
  readonly task?: { readonly txn: string; readonly nodes: readonly string[] };
  readonly replay?: readonly ReplayKey[];
  readonly binding?: Binding;
  readonly newTask?: NewTask;
  readonly newNode?: NewNode;
  readonly newHop?: NewHop;
  readonly newLease?: NewLease;
  readonly leaseRelease?: LeaseRelease;
  /** What is kept beside the event; durable with it, or nothing is released. */
  readonly keeping?: Keeping | undefined;
  /** Secrets of the vault that what is released needs: each gets a permit of its own. */
  readonly opens?: readonly string[];
  /** Those among them whose sealed values come with the answer. */
  readonly brings?: readonly string[];
  /** What was judged by memory: the gate sees whether it is so. */
  readonly pin?: RememberedPin | undefined;
}
