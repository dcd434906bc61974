/** A secret's version that counted when the gate was asked, as it lay sealed: whoever holds no permit for it has nothing. */
export interface SealedSecret {
  readonly version: number;
  readonly sealed: unknown;
}

/**
 * Proof that a release was decided and durably recorded. `keys.sign` and `vault.open` take one; only `authz` makes them
 * (an architecture test sees to it). A permit names one action on one thing for one actor, works once, and lapses one
 * second after the gate's call was sent, or at once when this replica hears of a kill that covers it.
 */
export class Permit {
  readonly action: PermitAction;
  /** What it is for: the audience of a token, the name of a secret, the `sub` of a web-identity token. */
  readonly target: string;
  /** The agent, or `operator`. */
  readonly actor: string;
  /** Id of the audit event that recorded the grant. */
  readonly eventId: string;
  /** Monotonic milliseconds after which it is worth nothing. */
  readonly lapsesAtMs: number;
  #spent = false;
  #isDropped = false;

  constructor(facts: { action: PermitAction; target: string; actor: string; eventId: string; lapsesAtMs: number }) {
    this.action = facts.action;
    this.target = facts.target;
    this.actor = facts.actor;
    this.eventId = facts.eventId;
    this.lapsesAtMs = facts.lapsesAtMs;
  }

  /**
   * Uses the permit up.
   *
   * @param nowMs monotonic milliseconds
   * @returns false when it was spent before or has lapsed
   */
  spend(nowMs: number): boolean {
    if (this.#spent || !this.isLive(nowMs)) return false;
    this.#spent = true;
    return true;
  }

  /** Whether what it released may still be written to a socket. */
  isLive(nowMs: number): boolean {
    return !this.#isDropped && nowMs <= this.lapsesAtMs;
  }

  /** From here on it is worth nothing, spent or not: a kill covers it. */
  drop(): void {
    this.#isDropped = true;
  }
}

/** What a permit can be for. */
export type PermitAction =
  | "token.issue"
  | "token.consume"
  | "task.open"
  | "admin.request"
  | "credential.vend"
  | "call.forward"
  | "call.inspect"
  | "credential.release"
  | "lease.end"
  | "secret.open"
  | "secret.rotate"
  | "approval.notify"
  | "hook.receive"
  | "identity.sign";
