import type { Recorder } from "../audit/recorder.ts";
import { CANARY } from "../core/trust/canary.ts";
import type { TrustObjects } from "../core/trust/model.ts";
import { CANARY_POINTS, canaryTurn, type CanaryDoors } from "../revocation/canary.ts";
import { createCanaryIdentity } from "../revocation/canary-identity.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Lifecycle } from "../system/lifecycle.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { randomBytes } from "../system/random.ts";
import { canaryDoors, type CanaryRooms } from "./canary-doors.ts";

/** What the canary tells, and whom. */
export interface CanaryReport {
  readonly clock: DatabaseClock;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "killToDenySeconds" | "canaryFailures" | "canaryLastSuccess">;
  readonly recorder: Pick<Recorder, "noted">;
}

/** This replica's canary. */
export interface Canary {
  /** For the trust index of this replica. */
  readonly trust: TrustObjects;
  /** Begins its turns; they end with the shutdown, before the rooms do. */
  start(rooms: CanaryRooms, at: CanaryReport & { readonly lifecycle: Lifecycle }): void;
}

/** @param o.everySeconds from one turn to the next; null: there is no canary */
export function createCanary(o: { everySeconds: number | null; issuer: string }): Canary | undefined {
  const { everySeconds, issuer } = o;
  if (everySeconds === null) return undefined;
  const identity = createCanaryIdentity(issuer);
  return {
    trust: identity.trust,
    start(rooms, { lifecycle, ...report }) {
      const turn = canaryTurns(canaryDoors(rooms, identity, { clock: report.clock, issuer }), report);
      report.metrics.canaryLastSuccess.set(report.clock.nowMs() / 1_000);
      for (const point of [...CANARY_POINTS, "run"]) report.metrics.canaryFailures.inc({ point }, 0);
      repeat(everySeconds * 1_000, lifecycle, turn);
    },
  };
}

/** @returns what takes one turn and tells what it found; it never throws */
export function canaryTurns(doors: CanaryDoors, { clock, log, metrics, recorder }: CanaryReport): () => Promise<void> {
  let place: number | undefined;
  let isSilent = false;
  return async () => {
    try {
      const { txn, seq, denied, allowed } = await canaryTurn(doors, place);
      place = seq;
      isSilent = false;
      for (const [point, seconds] of denied) metrics.killToDenySeconds.observe({ point }, seconds);
      if (allowed.length === 0) metrics.canaryLastSuccess.set(clock.nowMs() / 1_000);
      for (const point of allowed) {
        metrics.canaryFailures.inc({ point });
        const note = "a kill was answered and this point still allowed; see Canary in docs/operations.md";
        log.error("kill_not_enforced", { kind: point, txn, note });
      }
      if (allowed.length > 0)
        await recorder.noted({ type: "canary.failed", agent: CANARY, txn, facts: { points: [...allowed] } });
    } catch (err) {
      metrics.canaryFailures.inc({ point: "run" });
      // Once: whatever it is, the rooms say so too, and the metric counts.
      if (!isSilent) log.warn("canary_not_run", { err });
      isSilent = true;
    }
  };
}

/** The first at a random moment and each a little earlier or later, so that replicas do not beat together. */
function repeat(everyMs: number, lifecycle: Lifecycle, work: () => Promise<void>): void {
  let timer: NodeJS.Timeout | undefined;
  let running: Promise<void> | undefined;
  const next = (ms: number): void => {
    if (lifecycle.isStopping()) return;
    timer = setTimeout(() => {
      running = work().finally(() => next(everyMs * (0.9 + 0.2 * chance())));
    }, ms);
    timer.unref();
  };
  next(everyMs * chance());
  // Last registered of its phase, so first to end: it stands on what the others close.
  lifecycle.onStop("accepting", "canary", async () => {
    clearTimeout(timer);
    await running;
  });
}

/** From 0 to 1. */
function chance(): number {
  return (randomBytes(1)[0] ?? 0) / 255;
}
