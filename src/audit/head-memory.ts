import type { Db } from "../db/database.ts";
import { readHeadClaims, type HeadClaims } from "./head-claims.ts";

/** Bounds, each with its reason. */
const LIMITS = {
  /** A replica silent for longer, counted back from the last head, appends no more: its last position was named. */
  silentMs: 10 * 60_000,
  /** A stream begun this long before the last head, or later, is named even when its replica is gone already. */
  youngMs: 60 * 60_000,
  /** Heads of others read in one go. */
  pageRows: 500,
};

/** A head as it is stored. */
export interface HeadRow {
  readonly seq: number;
  readonly at_ms: number;
  readonly jws: string;
}

/** A stream as it stands; its hash in hexadecimal. */
export interface StreamRow {
  readonly id: string;
  readonly seq: number;
  readonly hash: string;
}

/** What a process knows of the heads: the last one, and where they left the streams that may still move. */
export interface HeadMemory {
  /** Undefined before the first head. */
  last(): HeadRow | undefined;
  /** Reads the heads that others made since; a process that has seen none begins with the last one. */
  catchUp(): Promise<void>;
  /** Takes in a head that was made. */
  follow(row: HeadRow): void;
  /** Streams that moved since they were named. What is not known counts as moved: naming twice is harmless. */
  moved(): Promise<readonly StreamRow[]>;
}

/**
 * Which streams may have moved since the last head: those of replicas that were alive then, those begun since, `control`,
 * those that this process watches (`$3`), and, at its start (`$4`), those with an append since. A stream that is none of
 * these stands still, and a head has named its end; so heads do not grow with restarts.
 */
const CANDIDATES = `
  select c.id, c.seq, c.hash, c.alive from (
    select s.id, s.seq, encode(s.hash, 'hex') as hash,
      coalesce(s.id = 'control' or r.beat_at_ms >= $1 or s.started_at_ms >= $2, false) as alive
    from ephor.streams s left join ephor.replicas r on r.id = s.replica
    where s.seq > 0
  ) c
  where c.alive or c.id = any($3) or ($4 and (
    select b.at_ms from ephor.batches b where b.stream = c.id order by b.first_seq desc limit 1) >= $1)
  order by c.id`;

/** Knows nothing until it has caught up. */
export function createHeadMemory(db: Db): HeadMemory {
  const named = new Map<string, number>();
  /** Streams that may move, or that moved and are not named yet. A replica that leaves may do so with a last append. */
  let watched: ReadonlySet<string> = new Set();
  let isFirst = true;
  let last: HeadRow | undefined;

  function follow(row: HeadRow): void {
    last = row;
    for (const [id, [seq]] of Object.entries(streamsOf(row.jws))) named.set(id, seq);
  }

  return {
    last: () => last,
    follow,
    async catchUp() {
      if (!last) {
        const row = await lastHead(db);
        if (row) follow(row);
        return;
      }
      for (;;) {
        const rows = await db.query<HeadRow>(
          `select seq, at_ms, jws from ephor.heads where seq > $1 order by seq limit ${LIMITS.pageRows}`,
          [last.seq],
        );
        for (const row of rows) follow(row);
        if (rows.length < LIMITS.pageRows) return;
      }
    },
    async moved() {
      const atMs = last?.at_ms ?? 0;
      const rows = await db.query<StreamRow & { alive: boolean }>(CANDIDATES, [
        atMs - LIMITS.silentMs,
        atMs - LIMITS.youngMs,
        [...watched],
        isFirst,
      ]);
      isFirst = false;
      watched = new Set(rows.filter((row) => row.alive || named.get(row.id) !== row.seq).map((row) => row.id));
      for (const id of named.keys()) if (!watched.has(id)) named.delete(id);
      return rows.filter((row) => watched.has(row.id) && named.get(row.id) !== row.seq);
    },
  };
}

/** @returns undefined before the first */
export async function lastHead(db: Db): Promise<HeadRow | undefined> {
  const [row] = await db.query<HeadRow>("select seq, at_ms, jws from ephor.heads order by seq desc limit 1");
  return row;
}

/** Only to know what need not be named again: whoever forges this text breaks the chain of heads, which `verify` sees. */
function streamsOf(jws: string): HeadClaims["streams"] {
  try {
    const payload: unknown = JSON.parse(Buffer.from(jws.split(".")[1] ?? "", "base64url").toString());
    return readHeadClaims(payload)?.streams ?? {};
  } catch {
    return {};
  }
}
