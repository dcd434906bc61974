import type { Log } from "./log.ts";

/**
 * The order in which a server ends: first nothing new is accepted, then what was accepted is finished, then background work
 * stops, then what all of them stood on is closed (A-OPS-08).
 */
export const PHASES = ["accepting", "accepted", "background", "resources"] as const;

/** A step of the shutdown. */
export type Phase = (typeof PHASES)[number];

/** Registered ends, run once and in order. */
export interface Lifecycle {
  /**
   * Registers what must be done in a phase. Within a phase the last registered runs first, for it may stand on the others.
   *
   * @param end may take until the phase's share of the grace is over; then the next one runs regardless
   */
  onStop(phase: Phase, name: string, end: () => void | Promise<void>): void;
  /** Runs every end. A second call waits for the first. Never throws: a failing end is logged and the rest go on. */
  stop(why: string): Promise<void>;
  isStopping(): boolean;
}

/** Resolves after some milliseconds, unless cancelled. */
export interface Alarm {
  readonly rung: Promise<void>;
  cancel(): void;
}

/**
 * @param options `graceMs` bounds each end in milliseconds; `alarm` is the timer, which tests replace by one they ring by hand
 */
export function createLifecycle(options: { log: Log; graceMs: number; alarm?: (ms: number) => Alarm }): Lifecycle {
  const { log, graceMs, alarm = timeoutAlarm } = options;
  const ends: Record<Phase, { name: string; end: () => void | Promise<void> }[]> = {
    accepting: [],
    accepted: [],
    background: [],
    resources: [],
  };
  let stopped: Promise<void> | undefined;

  const run = async (phase: Phase, name: string, end: () => void | Promise<void>): Promise<void> => {
    const limit = alarm(graceMs);
    try {
      const late = Symbol("late");
      const result = await Promise.race([Promise.resolve().then(end), limit.rung.then(() => late)]);
      if (result === late) log.warn("shutdown.late", { phase, name });
    } catch (err) {
      log.error("shutdown.failed", { phase, name, err });
    } finally {
      limit.cancel();
    }
  };
  const runAll = async (why: string): Promise<void> => {
    log.info("shutdown.started", { reason: why });
    for (const phase of PHASES) {
      for (const { name, end } of ends[phase].toReversed()) await run(phase, name, end);
    }
    log.info("shutdown.done", { reason: why });
  };

  return {
    onStop(phase, name, end) {
      ends[phase].push({ name, end });
    },
    stop(why) {
      stopped ??= runAll(why);
      return stopped;
    },
    isStopping: () => stopped !== undefined,
  };
}

/** The part of `process` that signals come from. */
export interface SignalSource {
  on(signal: "SIGTERM" | "SIGINT", listener: (signal: string) => void): unknown;
}

/**
 * Ends the server on SIGTERM and SIGINT. A second signal does not wait any longer.
 *
 * @param exit called with 0 after an orderly end, with 1 at the second signal
 */
export function stopOnSignals(
  lifecycle: Pick<Lifecycle, "stop" | "isStopping">,
  source: SignalSource,
  exit: (code: number) => void,
): void {
  const heard = (signal: string): void => {
    if (lifecycle.isStopping()) return exit(1);
    void lifecycle.stop(signal).then(() => exit(0));
  };
  source.on("SIGTERM", heard);
  source.on("SIGINT", heard);
}

function timeoutAlarm(ms: number): Alarm {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const rung = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, ms);
  });
  return { rung, cancel: () => clearTimeout(timer) };
}
