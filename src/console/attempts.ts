/** Bounds of attempts that fail (A-ADM-08). */
const LIMITS = {
  /** Places that are told apart within a minute; the rest counts as one. */
  places: 1_000,
};

/** Counts attempts that failed, by the place they came from. */
export interface Attempts {
  /**
   * Takes an attempt before it is known how it ends, so that a hundred at once count as a hundred.
   *
   * @returns what to call when it succeeded; undefined when there were too many
   */
  begin(address: string, nowMs: number): (() => void) | undefined;
}

/**
 * Begins to count, in memory: another replica counts for itself.
 *
 * @param perMinute that may fail, from one place
 */
export function createAttempts(perMinute: number): Attempts {
  let minute = 0;
  let counts = new Map<string, number>();
  return {
    begin(address, nowMs) {
      const now = Math.floor(nowMs / 60_000);
      if (now !== minute) {
        minute = now;
        counts = new Map();
      }
      const own = placeOf(address);
      const place = counts.has(own) || counts.size < LIMITS.places ? own : "elsewhere";
      const count = counts.get(place) ?? 0;
      if (count >= perMinute) return undefined;
      counts.set(place, count + 1);
      const of = counts;
      return () => void of.set(place, Math.max(0, (of.get(place) ?? 0) - 1));
    },
  };
}

/** One customer has a whole /64 of IPv6. */
function placeOf(address: string): string {
  if (!address.includes(":")) return address;
  const [head = "", tail] = address.split("::");
  const groups = head.split(":").filter(Boolean);
  const missing = tail === undefined ? 0 : 8 - groups.length - tail.split(":").filter(Boolean).length;
  return [...groups, ...Array.from({ length: missing }, () => "0"), ...(tail ?? "").split(":")].slice(0, 4).join(":");
}
