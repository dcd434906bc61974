import type { Permit } from "../core/permit.ts";

/** Permits that were handed out and may still release something, and the kills that this replica heard of meanwhile. */
export interface Outstanding {
  /**
   * Keeps a permit for as long as it may live. Where a kill was heard of before the gate's answer, it is dropped at once: the
   * answer left the database before the kill, and came after the news of it.
   *
   * @param of.keys what kills the thing that it releases
   * @param of.epoch the kill epoch at which the gate decided: no earlier kill covers it
   */
  add(permit: Permit, of: { readonly keys: readonly string[]; readonly epoch: number }): void;
  /** Drops what these kills cover. @param positions of the latest kill of each key */
  struck(positions: ReadonlyMap<string, number>): void;
  /** Counts kills heard of: what was read while it changed may be from before one. */
  readonly strikes: number;
}

interface Entry {
  readonly permit: Permit;
  readonly keys: readonly string[];
  readonly epoch: number;
}

/** Longer than any permit lives and any gate's answer counts, in milliseconds: nothing younger is forgotten. */
const KEPT_MS = 1_500;

/**
 * Two generations, changed when the younger one is old enough: adding costs a push, and nothing is looked for before a kill.
 *
 * @param nowMs monotonic milliseconds, by the clock of the permits
 */
export function createOutstanding(nowMs: () => number): Outstanding {
  let young: Entry[] = [];
  let old: Entry[] = [];
  let recent = new Map<string, number>();
  let past = new Map<string, number>();
  let bornMs = nowMs();
  let strikes = 0;

  function age(): void {
    const now = nowMs();
    if (now - bornMs <= KEPT_MS) return;
    // After a long silence both are too old.
    const isStill = now - bornMs > 2 * KEPT_MS;
    old = isStill ? [] : young;
    past = isStill ? new Map() : recent;
    young = [];
    recent = new Map();
    bornMs = now;
  }

  const isCovered = ({ keys, epoch }: Pick<Entry, "keys" | "epoch">, positions: ReadonlyMap<string, number>): boolean =>
    positions.size > 0 && keys.some((key) => (positions.get(key) ?? 0) > epoch);

  return {
    add(permit, { keys, epoch }) {
      age();
      const entry = { permit, keys, epoch };
      if (isCovered(entry, recent) || isCovered(entry, past)) permit.drop();
      else young.push(entry);
    },
    struck(positions) {
      age();
      strikes += 1;
      for (const [key, position] of positions) recent.set(key, Math.max(position, recent.get(key) ?? 0));
      for (const entry of [...old, ...young]) if (isCovered(entry, positions)) entry.permit.drop();
    },
    get strikes() {
      return strikes;
    },
  };
}
