import type { Reason } from "../core/oauth/reasons.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { EventDraft } from "./event.ts";
import type { Recorder } from "./recorder.ts";

/** Bounds of what a stranger's flood can make us write (A-AUD-07). */
const LIMITS = {
  /** Different (reason, source) pairs a minute; the rest is counted under the source `other`. */
  pairsPerMinute: 500,
  flushMs: 2_000,
};

/** Refusals before anybody was authenticated: counted, with one event per reason, source prefix and minute. */
export interface Noise {
  /**
   * @param source the remote address; only its prefix (/24, /48) is kept
   * @returns resolves when the event is durable, where this refusal got one
   */
  refused(draft: EventDraft, reason: Reason, source: string): Promise<void>;
  flush(): Promise<void>;
  close(): Promise<void>;
}

/** Starts counting; counts are written every two seconds. */
export function createNoise(deps: { db: Db; clock: DatabaseClock; recorder: Recorder }): Noise {
  const { db, clock, recorder } = deps;
  let minute = 0;
  let seen = new Set<string>();
  let counts = new Map<string, { minute: number; reason: Reason; source: string; count: number }>();

  function count(reason: Reason, source: string): boolean {
    const now = Math.floor(clock.nowMs() / 60_000);
    if (now !== minute) {
      minute = now;
      seen = new Set();
    }
    let key = `${reason} ${source}`;
    if (!seen.has(key) && seen.size >= LIMITS.pairsPerMinute) key = `${reason} other`;
    const isFirst = !seen.has(key);
    seen.add(key);
    const countKey = `${minute} ${key}`;
    const row = counts.get(countKey) ?? { minute, reason, source: key.slice(reason.length + 1), count: 0 };
    row.count += 1;
    counts.set(countKey, row);
    return isFirst;
  }

  async function flush(): Promise<void> {
    if (counts.size === 0) return;
    const rows = [...counts.values()];
    counts = new Map();
    await db.query(
      `insert into ephor.noise (minute, reason, source, count)
       select * from unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[])
       on conflict (minute, reason, source) do update set count = noise.count + excluded.count`,
      [rows.map((r) => r.minute), rows.map((r) => r.reason), rows.map((r) => r.source), rows.map((r) => r.count)],
    );
  }

  const timer = setInterval(() => void flush().catch(() => {}), LIMITS.flushMs);
  timer.unref();
  return {
    async refused(draft, reason, source) {
      const prefix = sourcePrefix(source);
      if (count(reason, prefix))
        await recorder.refused({ ...draft, facts: { ...draft.facts, source: prefix } }, reason);
    },
    flush,
    async close() {
      clearInterval(timer);
      await flush().catch(() => {});
    },
  };
}

/** `192.0.2.0/24` or `2001:db8:1::/48`: enough to find the source, too little to name a person. */
export function sourcePrefix(address: string): string {
  const v4 = /^(?:::ffff:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.\d{1,3}$/.exec(address);
  if (v4) return `${v4[1]}.${v4[2]}.${v4[3]}.0/24`;
  const groups = address.split("%")[0]?.split("::")[0]?.split(":").filter(Boolean) ?? [];
  return `${groups.slice(0, 3).join(":") || "0"}::/48`;
}
