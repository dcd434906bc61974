import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Base64url } from "../system/hash.ts";
import type { Log } from "../system/log.ts";
import { HEAD_LIMITS, type HeadClaims, type HeadPosition } from "./head-claims.ts";
import { createHeadMemory, lastHead, type HeadMemory, type HeadRow, type StreamRow } from "./head-memory.ts";

/** Times and bounds, each with its reason. */
const LIMITS = {
  /** What a thief of the database can rewrite unseen is younger than this. */
  intervalMs: 5_000,
  /** Heads in one go: what does not fit is left to the next tick. */
  headsPerTick: 50,
  /** Tries at the shutdown, where another replica may be making the same head. */
  lastTries: 5,
};

/** What signed heads are made with. */
export interface HeadsDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly issuer: string;
  /** A compact JWS `ephor-head+jwt` over the claims: the attestor's, handed in, for this room knows no keys. */
  readonly sign: (claims: HeadClaims) => string;
  /** Told each head that this process made, to keep it outside of the database. */
  readonly onHead?: (head: { seq: number; jws: string }) => Promise<void> | void;
  readonly log?: Log;
}

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

/** Starts making heads, every five seconds. Every replica tries; the sequence number decides who made one. */
export function createHeads(deps: HeadsDeps): Heads {
  const { clock } = deps;
  const memory = createHeadMemory(deps.db);
  let turn: Promise<unknown> = Promise.resolve();

  function inTurn(mayStart: () => boolean): Promise<number | "raced" | undefined> {
    const work = (): Promise<number | "raced" | undefined> => advance(deps, memory, mayStart);
    const next = turn.then(work, work);
    turn = next.catch(() => {});
    return next;
  }

  function isDue(): boolean {
    const age = clock.nowMs() - (memory.last()?.at_ms ?? 0);
    // A clock that was set back must not stop the heads until it has caught up.
    return age >= LIMITS.intervalMs || age < 0;
  }

  async function tick(): Promise<number | undefined> {
    const made = await inTurn(isDue);
    return made === "raced" ? undefined : made;
  }

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
        if ((await inTurn(() => true)) !== "raced") return;
      }
    },
  };
}

/** @returns the last head's JWS, to be kept outside of the database; undefined before the first */
export async function latestHead(db: Db): Promise<string | undefined> {
  return (await lastHead(db))?.jws;
}

/** Makes heads until all that moved is named. `raced`: another process made one at the same time. */
async function advance(
  deps: HeadsDeps,
  memory: HeadMemory,
  isDue: () => boolean,
): Promise<number | "raced" | undefined> {
  await memory.catchUp();
  if (!isDue()) return undefined;
  let made: number | undefined;
  for (let count = 0; count < LIMITS.headsPerTick; count++) {
    const streams = await memory.moved();
    if (streams.length === 0) return made;
    const row = await make(deps, memory.last(), streams.slice(0, HEAD_LIMITS.streams));
    if (!row) return "raced";
    memory.follow(row);
    await deps.onHead?.({ seq: row.seq, jws: row.jws });
    made = row.seq;
    if (streams.length <= HEAD_LIMITS.streams) return made;
  }
  return made;
}

async function make(
  deps: HeadsDeps,
  last: HeadRow | undefined,
  streams: readonly StreamRow[],
): Promise<HeadRow | undefined> {
  const iat = deps.clock.now();
  const seq = (last?.seq ?? 0) + 1;
  const positions = streams.map((row): [string, HeadPosition] => [
    row.id,
    [row.seq, Buffer.from(row.hash, "hex").toString("base64url")],
  ]);
  const prev = last ? sha256Base64url(last.jws) : null;
  const jws = deps.sign({ iss: deps.issuer, seq, iat, streams: Object.fromEntries(positions), prev });
  // INVARIANT: positions were read after the head before was committed, and nobody else made this one: they only grow.
  const [row] = await deps.db.query<HeadRow>(
    "insert into ephor.heads (seq, at_ms, jws) values ($1, $2, $3) on conflict (seq) do nothing returning seq, at_ms, jws",
    [seq, iat * 1000, jws],
  );
  return row;
}
