import type { EpochSeconds } from "../core/time.ts";

/** How a task or a node stands. */
export type PlaceStatus = "open" | "ended" | "expired" | "killed";

/**
 * How a place in a task stands now. A kill says more than an end, an end more than a deadline.
 *
 * @param place `dead` by `ephor.is_dead`; `endedAt` of the place or of its whole task
 */
export function placeStatus(
  place: { dead: boolean; endedAt: EpochSeconds | null; deadline: EpochSeconds },
  now: EpochSeconds,
): PlaceStatus {
  if (place.dead) return "killed";
  if (place.endedAt !== null) return "ended";
  return place.deadline <= now ? "expired" : "open";
}

/** SQL: whether a kill covers the row `alias`, which carries `kill_keys` and `kill_epochs`; `now` is a placeholder for epoch seconds. */
export function deadSql(alias: string, now: string): string {
  // Stored epochs are never null, so the position to compare null ones with is not needed.
  return `ephor.is_dead(${alias}.kill_keys, ${alias}.kill_epochs, 0, ${now})`;
}
