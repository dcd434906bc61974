import type { EventDraft } from "../audit/event.ts";
import type { Recorder } from "../audit/recorder.ts";
import { Permit, type SealedSecret } from "../core/permit.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { DatabaseUnreachableError } from "../db/errors.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Ask } from "./ask.ts";
import type { Gate, GateOutcome, GateRefusal, Verdict } from "./gate.ts";
import type { Outstanding } from "./outstanding.ts";

/** How long after the gate's call was sent its result may still leave, in milliseconds (ARCHITECTURE, "The gate"). */
const PERMIT_LIFE_MS = 1_000;
/** Beyond this the replica's clock and the database's disagree too much to mint (INV-25). */
const MAX_SKEW_MS = 5_000;

/** What came of an ask. A refusal by the gate is recorded already, under `eventId`. */
export type Authorized<T> =
  | {
      readonly outcome: "granted";
      readonly permit: Permit;
      readonly value: T;
      readonly epoch: number;
      readonly opens: ReadonlyMap<string, Permit>;
      /** What was to be brought of them; one that is not there is not in it. */
      readonly sealed: ReadonlyMap<string, SealedSecret>;
    }
  | { readonly outcome: "continue"; readonly txn: string; readonly node: string }
  | { readonly outcome: GateRefusal; readonly eventId: string };

/** A tool is not what the asker remembers: nothing was decided. */
export class PinMovedError extends Error {
  override readonly name = "PinMovedError";
}

/** The one way to a permit. */
export interface Authorizer {
  /**
   * Decides by `prepare`, records, sees no kill, and hands back a permit.
   *
   * @param prepare decides by the trust index as it is when called; called again when the index was out of date
   * @throws {TemporarilyUnavailableError} `clock_skew`, `replica_fenced`, `stale_trust`, `permit_lapsed`, `database_unreachable`
   * @throws {PinMovedError} what `prepare` remembers of a tool is so no more
   * @throws whatever `prepare` throws to refuse
   */
  authorize<T>(prepare: () => { ask: Ask; value: T }): Promise<Authorized<T>>;
  /** Records that something granted was not released after all. */
  withheld(permit: Permit): void;
}

/**
 * @param deps.observe told each outcome
 * @param deps.catchUp brings the trust index to at least this version
 */
export function createAuthorizer(deps: {
  gate: Gate;
  recorder: Recorder;
  clock: DatabaseClock;
  mayRelease: () => boolean;
  outstanding: Outstanding;
  catchUp: (version: number) => Promise<void>;
  observe?: (outcome: GateOutcome) => void;
}): Authorizer {
  const { recorder, clock } = deps;

  /** What each permit was recorded as, for the second event of one that is not used after all. */
  const events = new WeakMap<Permit, EventDraft>();

  function withheld(permit: Permit): void {
    const at = { of: permit.eventId, agent: permit.actor, reason: "permit_lapsed" } as const;
    unreleased(recorder, events.get(permit), at);
  }

  function grant<T>(ask: Ask, value: T, verdict: Verdict): Authorized<T> {
    const permit = new Permit({
      action: ask.action,
      target: ask.target,
      actor: ask.actor,
      eventId: verdict.eventId,
      lapsesAtMs: verdict.sentAtMs + PERMIT_LIFE_MS,
    });
    events.set(permit, ask.event);
    const mortal = { keys: ask.kill.keys, epoch: verdict.epoch };
    deps.outstanding.add(permit, mortal);
    if (!permit.isLive(clock.monotonicMs()) || !deps.mayRelease()) {
      withheld(permit);
      throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
    }
    const opens = new Map<string, Permit>();
    for (const name of ask.opens ?? []) {
      const { actor, eventId, lapsesAtMs } = permit;
      const one = new Permit({ action: "secret.open", target: name, actor, eventId, lapsesAtMs });
      deps.outstanding.add(one, mortal);
      opens.set(name, one);
    }
    return { outcome: "granted", permit, value, epoch: verdict.epoch, opens, sealed: broughtOf(ask, verdict) };
  }

  async function authorize<T>(prepare: () => { ask: Ask; value: T }): Promise<Authorized<T>> {
    if (clock.skewMs() > MAX_SKEW_MS) throw new TemporarilyUnavailableError({ reason: "clock_skew" });
    if (!deps.mayRelease()) throw new TemporarilyUnavailableError({ reason: "replica_fenced" });
    for (let attempt = 0; attempt < 2; attempt++) {
      const { ask, value } = prepare();
      const verdict = await asked(deps, ask);
      deps.observe?.(verdict.outcome);
      switch (verdict.outcome) {
        case "granted":
          return grant(ask, value, verdict);
        case "continue":
          return { outcome: "continue", txn: verdict.txn ?? "", node: verdict.node ?? "" };
        case "pin_moved":
          throw new PinMovedError();
        case "stale":
          await deps.catchUp(verdict.trustVersion);
          break;
        default:
          return { outcome: verdict.outcome, eventId: verdict.eventId };
      }
    }
    throw new TemporarilyUnavailableError({ reason: "stale_trust" });
  }

  return { authorize, withheld };
}

function broughtOf({ brings = [] }: Ask, { sealed }: Verdict): ReadonlyMap<string, SealedSecret> {
  const brought = new Map<string, SealedSecret>();
  for (const name of brings) {
    const one = Object.hasOwn(sealed, name) ? sealed[name] : undefined;
    if (one !== undefined) brought.set(name, one);
  }
  return brought;
}

/** Asks the gate. Where nobody knows how that ended, a grant may stand in the record that never left. */
async function asked({ gate, recorder }: { gate: Gate; recorder: Recorder }, ask: Ask): Promise<Verdict> {
  try {
    return await gate.submit(ask);
  } catch (error) {
    const isUnknown = error instanceof DatabaseUnreachableError ? error.outcomeUnknown : isUnknownOutcome(error);
    const at = { of: "unknown", agent: ask.actor, reason: "gate_unknown_outcome" } as const;
    if (isUnknown) unreleased(recorder, ask.event, at);
    throw error;
  }
}

/** Told as a second event; if even that fails, the grant stands as recorded and nothing was released. */
function unreleased(
  recorder: Recorder,
  event: EventDraft | undefined,
  { of, agent, reason }: { of: string; agent: string; reason: Reason },
): void {
  const { resource, sub, txn, jti } = event ?? {};
  recorder.noted({ type: "release.withheld", agent, resource, sub, txn, jti, facts: { of } }, reason).catch(() => {});
}

function isUnknownOutcome(error: unknown): boolean {
  return error instanceof TemporarilyUnavailableError && error.reason === "gate_unknown_outcome";
}
