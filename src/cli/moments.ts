import { CliFailure, EXIT } from "./exit-code.ts";

const UNIT_SECONDS: Readonly<Record<string, number>> = { s: 1, m: 60, h: 3_600, d: 86_400 };

/**
 * A point in time as people write it: `90m`, `7d` (that long ago), an RFC 3339 instant, or seconds since the epoch.
 *
 * @param now seconds since the epoch
 * @returns whole seconds since the epoch
 * @throws {CliFailure} wrong usage
 */
export function readMoment(text: string, option: string, now: number): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  if (count !== undefined && unit !== undefined) {
    return Math.max(0, Math.floor(now) - Number(count) * (UNIT_SECONDS[unit] ?? 1));
  }
  if (/^\d{1,12}$/.test(text)) return Number(text);
  const ms = /^\d{4}-\d\d-\d\d(?:T[\d:.]+(?:Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(ms)) {
    throw new CliFailure(`${option}: write 7d, 2026-07-01, 2026-07-01T08:00:00Z or seconds since the epoch`, {
      exitCode: EXIT.wrongUsage,
    });
  }
  return Math.floor(ms / 1_000);
}

/**
 * A span as people write it: `45s`, `90m`, `8h`, `2d`.
 *
 * @returns seconds
 * @throws {CliFailure} wrong usage
 */
export function readSpan(text: string, option: string): number {
  const [, count, unit] = /^(\d{1,9})([smhd])$/.exec(text) ?? [];
  const seconds = Number(count) * (UNIT_SECONDS[unit ?? ""] ?? 0);
  if (!(seconds > 0)) throw new CliFailure(`${option}: write 45s, 90m, 8h or 2d`, { exitCode: EXIT.wrongUsage });
  return seconds;
}

/** Seconds since the epoch as people and machines read them: RFC 3339, UTC. */
export function shownInstant(seconds: number): string {
  return new Date(seconds * 1_000).toISOString().replace(".000Z", "Z");
}

/** The wall clock of this machine, in seconds since the epoch. */
export function nowSeconds(): number {
  return Date.now() / 1_000;
}
