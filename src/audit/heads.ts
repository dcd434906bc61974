import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Base64url } from "../system/hash.ts";
import type { Log } from "../system/log.ts";
import { HEAD_LIMITS, readHeadClaims, type HeadClaims, type HeadPosition } from "./head-claims.ts";

/** Times and bounds, each with its reason. */
const LIMITS = {
  /** What a thief of the database can rewrite unseen is younger than this. */
  intervalMs: 5_000,
  /** A replica silent for longer, counted back from the last head, appends no more: its last position was named. */
  silentMs: 10 * 60_000,
  /** A stream begun this long before the last head, or later, is named even when its replica is gone already. */
  youngMs: 60 * 60_000,
  /** Heads in one go: what does not fit is left to the next tick. */
  headsPerTick: 50,
  /** Tries at the shutdown, where another replica may be making the same head. */
  lastTries: 5,
  /** Heads of others read in one go. */
  catchUpRows: 500,
};

/** Signed heads of the ledger. */
export interface Heads {
  /**
   * Signs a head if the last one is five seconds old and a stream has moved.
   *
   * @returns the sequence number of the last head made, or undefined when none was due or another process made it
   */
  tick(): Promise<number | undefined>;
  /** Stops the timer and signs a last head. Call it after the gate and the recorder are idle and before the heartbeat ends. */
  close(): Promise<void>;
}

/** What this process knows of the heads: the last one, and where they left each stream. */
interface Known {
  seq: number;
  jws: string;
  atMs: number;
  named: Map<string, number>;
}

interface HeadRow {
  seq: number;
  at_ms: number;
  jws: string;
}

interface StreamRow {
  id: string;
  seq: number;
  hash: string;
}

/**
 * Which streams may have moved since the last head: those of replicas that were alive then, those begun since, and
 * `control`. A stream that is none of these stands still, and a head has named its end; so heads do not grow with restarts.
 */
const CANDIDATES = `
  select s.id, s.seq, encode(s.hash, 'hex') as hash
  from ephor.streams s left join ephor.replicas r on r.id = s.replica
  where s.seq > 0 and (s.id = 'control' or r.beat_at_ms >= $1 or s.started_at_ms >= $2)
  order by s.id`;

/**
 * Starts making heads. Every replica tries; the sequence number decides who made one.
 *
 * @param deps.sign a compact JWS `ephor-head+jwt` over the claims: the attestor's, handed in
 * @param deps.onHead told each head that this process made, to keep it outside of the database
 */
export function createHeads(deps: {
  db: Db;
  clock: DatabaseClock;
  issuer: string;
  sign: (claims: HeadClaims) => string;
  onHead?: (head: { seq: number; jws: string }) => Promise<void> | void;
  log?: Log;
}): Heads {
  const { db, clock, issuer, sign } = deps;
  let known: Known = { seq: 0, jws: "", atMs: 0, named: new Map() };
  let turn: Promise<unknown> = Promise.resolve();

  /** Reads the heads that others made, from the last one only when this process has seen none. */
  async function catchUp(): Promise<void> {
    if (known.seq === 0) {
      const [last] = await db.query<HeadRow>("select seq, at_ms, jws from ephor.heads order by seq desc limit 1");
      if (last) follow(last);
      return;
    }
    for (;;) {
      const rows = await db.query<HeadRow>(
        `select seq, at_ms, jws from ephor.heads where seq > $1 order by seq limit ${LIMITS.catchUpRows}`,
        [known.seq],
      );
      for (const row of rows) follow(row);
      if (rows.length < LIMITS.catchUpRows) return;
    }
  }

  function follow(row: HeadRow): void {
    known = { seq: row.seq, jws: row.jws, atMs: row.at_ms, named: known.named };
    for (const [id, [seq]] of Object.entries(streamsOf(row.jws))) known.named.set(id, seq);
  }

  /** Streams that moved since they were named. What this process does not know of counts as moved: naming twice is harmless. */
  async function moved(): Promise<readonly StreamRow[]> {
    const rows = await db.query<StreamRow>(CANDIDATES, [known.atMs - LIMITS.silentMs, known.atMs - LIMITS.youngMs]);
    const candidates = new Set(rows.map((row) => row.id));
    for (const id of known.named.keys()) if (!candidates.has(id)) known.named.delete(id);
    return rows.filter((row) => known.named.get(row.id) !== row.seq);
  }

  async function make(streams: readonly StreamRow[]): Promise<boolean> {
    const iat = clock.now();
    const positions = streams.map((row): [string, HeadPosition] => [row.id, [row.seq, Buffer.from(row.hash, "hex").toString("base64url")]]);
    const jws = sign({
      iss: issuer,
      seq: known.seq + 1,
      iat,
      streams: Object.fromEntries(positions),
      prev: known.seq === 0 ? null : sha256Base64url(known.jws),
    });
    // INVARIANT: positions were read after the head before was committed, and nobody else made this one: they only grow.
    const [row] = await db.query<HeadRow>(
      "insert into ephor.heads (seq, at_ms, jws) values ($1, $2, $3) on conflict (seq) do nothing returning seq, at_ms, jws",
      [known.seq + 1, iat * 1000, jws],
    );
    if (!row) return false;
    follow(row);
    await deps.onHead?.({ seq: row.seq, jws });
    return true;
  }

  /** @returns the last head made, or `raced` when another process made one at the same time */
  async function once(isDue: () => boolean): Promise<number | "raced" | undefined> {
    await catchUp();
    if (!isDue()) return undefined;
    let made: number | undefined;
    for (let count = 0; count < LIMITS.headsPerTick; count++) {
      const streams = await moved();
      if (streams.length === 0) return made;
      if (!(await make(streams.slice(0, HEAD_LIMITS.streams)))) return "raced";
      made = known.seq;
      if (streams.length <= HEAD_LIMITS.streams) return made;
    }
    return made;
  }

  const inTurn = <T>(work: () => Promise<T>): Promise<T> => {
    const next = turn.then(work, work);
    turn = next.catch(() => {});
    return next;
  };
  const isDue = (): boolean => {
    const age = clock.nowMs() - known.atMs;
    // A clock that was set back must not stop the heads until it has caught up.
    return age >= LIMITS.intervalMs || age < 0;
  };
  const tick = async (): Promise<number | undefined> => {
    const made = await inTurn(() => once(isDue));
    return made === "raced" ? undefined : made;
  };

  const timer = setInterval(
    () => void tick().catch((error: unknown) => deps.log?.error("ledger_head_failed", { err: error })),
    LIMITS.intervalMs,
  );
  timer.unref();
  return {
    tick,
    async close() {
      clearInterval(timer);
      for (let count = 0; count < LIMITS.lastTries; count++) {
        if ((await inTurn(() => once(() => true))) !== "raced") return;
      }
    },
  };
}

/** @returns the last head's JWS, to be kept outside of the database; undefined before the first */
export async function latestHead(db: Db): Promise<string | undefined> {
  const [last] = await db.query<HeadRow>("select seq, at_ms, jws from ephor.heads order by seq desc limit 1");
  return last?.jws;
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
