/** Why an answer was cut while it was being relayed. */
export type CutReason = "killed" | "expired" | "fenced" | "closing";

/** One answer that flows for longer than its permit lives. */
export interface StreamHandle {
  /** Undefined while it may flow. */
  readonly cut: CutReason | undefined;
  /** Whether another byte may leave now: neither killed nor over, and this replica still hears of kills. */
  mayFlow(): boolean;
  /** It has ended by itself. */
  close(): void;
}

/** Answers that this replica relays, and what ends each (CONTRACT §6: open proxied streams are cut). */
export interface Streams {
  /**
   * Keeps a stream until it is closed or cut.
   *
   * @param of.keys what kills it
   * @param of.epoch the kill epoch at which the gate let it begin: no earlier kill covers it
   * @param of.exp epoch seconds, by the database's clock
   * @param of.onCut called once
   */
  open(of: {
    readonly keys: readonly string[];
    readonly epoch: number;
    readonly exp: number;
    readonly onCut: (reason: CutReason) => void;
  }): StreamHandle;
  /** Cuts what these kills cover. @param positions of the latest kill of each key */
  struck(positions: ReadonlyMap<string, number>): void;
  readonly size: number;
  /** Cuts all that is left. */
  close(): void;
}

interface Entry {
  readonly keys: readonly string[];
  readonly epoch: number;
  readonly exp: number;
  readonly onCut: (reason: CutReason) => void;
  reason: CutReason | undefined;
}

/** How often ends and the lease are looked at where nothing flows, in milliseconds. */
const LOOK_MS = 100;

/**
 * Found by key, so that a kill costs what it hits.
 *
 * @param deps.mayRelease whether this replica's lease holds: without it a kill would not reach us
 */
export function createStreams(deps: { now: () => number; mayRelease: () => boolean }): Streams {
  const byKey = new Map<string, Set<Entry>>();
  const all = new Set<Entry>();

  function forget(entry: Entry): void {
    if (!all.delete(entry)) return;
    for (const key of entry.keys) {
      const entries = byKey.get(key);
      entries?.delete(entry);
      if (entries?.size === 0) byKey.delete(key);
    }
    if (all.size === 0) stop();
  }

  function cut(entry: Entry, reason: CutReason): void {
    if (entry.reason !== undefined || !all.has(entry)) return;
    entry.reason = reason;
    forget(entry);
    entry.onCut(reason);
  }

  /** What ends it now, if anything. */
  const overBy = (entry: Entry): CutReason | undefined =>
    entry.reason ?? (deps.now() >= entry.exp ? "expired" : deps.mayRelease() ? undefined : "fenced");

  // Runs while something flows.
  let timer: ReturnType<typeof setInterval> | undefined;
  const stop = (): void => {
    clearInterval(timer);
    timer = undefined;
  };
  const look = (): void => {
    for (const entry of all) {
      const reason = overBy(entry);
      if (reason !== undefined) cut(entry, reason);
    }
  };

  return {
    open({ keys, epoch, exp, onCut }) {
      const entry: Entry = { keys, epoch, exp, onCut, reason: undefined };
      all.add(entry);
      for (const key of new Set(keys)) {
        const entries = byKey.get(key);
        if (entries) entries.add(entry);
        else byKey.set(key, new Set([entry]));
      }
      timer ??= setInterval(look, LOOK_MS).unref();
      return {
        get cut() {
          return entry.reason;
        },
        mayFlow() {
          const reason = overBy(entry);
          if (reason !== undefined) cut(entry, reason);
          return entry.reason === undefined && all.has(entry);
        },
        close: () => forget(entry),
      };
    },
    struck(positions) {
      for (const [key, position] of positions)
        for (const entry of byKey.get(key) ?? []) if (position > entry.epoch) cut(entry, "killed");
    },
    get size() {
      return all.size;
    },
    close() {
      for (const entry of all) cut(entry, "closing");
    },
  };
}
