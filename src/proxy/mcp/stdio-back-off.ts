/** A server that ran this long did not fail at its start, in milliseconds. */
const SOUND_MS = 30_000;
const FIRST_WAIT_MS = 1_000;
const MAX_WAIT_MS = 30_000;
/** How long after its wait a failure is remembered, in milliseconds. */
const REMEMBERED_MS = 60_000;

/** How long servers that end by themselves are not started again. Times are monotonic milliseconds. */
export interface BackOff {
  /** Told of a failure. */
  failed(key: string, at: { startedMs: number; nowMs: number }): void;
  /** Milliseconds until it may be started; 0: now. */
  waitMs(key: string, nowMs: number): number;
  /** Forgets what is long past. */
  sweep(nowMs: number): void;
}

/** The first failure waits for nothing; each further one twice as long as the one before, to half a minute. */
export function createBackOff(): BackOff {
  const failures = new Map<string, { count: number; untilMs: number }>();
  return {
    failed(key, { startedMs, nowMs }) {
      const before = nowMs - startedMs > SOUND_MS ? 0 : (failures.get(key)?.count ?? 0);
      const waitMs = before === 0 ? 0 : Math.min(MAX_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(before - 1, 10));
      failures.set(key, { count: before + 1, untilMs: nowMs + waitMs });
    },
    waitMs: (key, nowMs) => Math.max(0, (failures.get(key)?.untilMs ?? 0) - nowMs),
    sweep(nowMs) {
      for (const [key, { untilMs }] of failures) if (nowMs - untilMs > REMEMBERED_MS) failures.delete(key);
    },
  };
}
