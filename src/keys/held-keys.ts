import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import { DecryptError } from "../vault/decrypt-error.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { Place } from "../vault/place.ts";
import { type HeldKey, openKey } from "./key-material.ts";
import { activeAndNext, type KeyUse, RING_LIMITS } from "./key-ring.ts";
import { type KeyRow, NONCE_ROW, readKeys } from "./store.ts";

/** An unknown `kid` makes us read the keys again, at most once in this time whatever strangers send. */
const UNKNOWN_KID_SECONDS = 1;

/** Where the nonce secret lies. */
export const NONCE_PLACE: Place = { table: "keys", row: NONCE_ROW, version: 1, purpose: "nonce-secret" };

/** One reading of the table. Never changed, only replaced. */
export interface KeySet {
  readonly keys: ReadonlyMap<string, HeldKey>;
  readonly nonceSecret: Buffer;
  /** Monotonic milliseconds before which the reading began. */
  readonly readAtMs: number;
}

/** The keys of this process: what was read last, and ways to read again. */
export interface HeldKeys {
  /** What was read last, however long ago. */
  latest(): KeySet;
  /**
   * What was read last.
   *
   * @throws {TemporarilyUnavailableError} `keys_stale` when that was too long ago to know that no rotation was missed
   */
  usable(): KeySet;
  /** @returns the key that signs for this use, and its successor, from a reading */
  pair(set: KeySet, use: KeyUse): { active: HeldKey; next: HeldKey };
  /** Reads the table; the reading begins after this call. @returns false while the first start has made no keys */
  reload(): Promise<boolean>;
  /** Reads the table unless that was done within the last seconds. Await it once in each request, before `usable` is needed. */
  fresh(): Promise<void>;
  /** Reads the table when no key has this name; bounded. */
  learn(kid: string): Promise<void>;
}

/** What reading needs. */
interface ReadingDeps {
  readonly db: Db;
  readonly envelope: Envelope;
  readonly clock: DatabaseClock;
  readonly log: Log;
}

/** Holds nothing until the first `reload`. */
export function createHeldKeys(deps: ReadingDeps): HeldKeys {
  const { clock } = deps;
  let set: KeySet | undefined;
  let learnedAtMs = Number.NEGATIVE_INFINITY;

  const reload = coalesced(async () => {
    const reading = await readKeySet(deps, set);
    set = reading ?? set;
    return reading !== undefined;
  });

  function latest(): KeySet {
    if (set === undefined) throw new TemporarilyUnavailableError({ reason: "keys_stale" });
    return set;
  }

  function ageSeconds(): number {
    return set === undefined ? Number.POSITIVE_INFINITY : (clock.monotonicMs() - set.readAtMs) / 1000;
  }

  return {
    latest,
    usable() {
      if (ageSeconds() > RING_LIMITS.staleSeconds) throw new TemporarilyUnavailableError({ reason: "keys_stale" });
      return latest();
    },
    pair(from, use) {
      const pair = activeAndNext(from.keys.values(), use);
      if (pair === undefined) throw new Error(`the table of keys has no active and next ${use} key`);
      return pair;
    },
    reload,
    async fresh() {
      if (ageSeconds() > RING_LIMITS.reloadSeconds) await reload();
    },
    async learn(kid) {
      const nowMs = clock.monotonicMs();
      if (latest().keys.has(kid) || nowMs < learnedAtMs + UNKNOWN_KID_SECONDS * 1000) return;
      learnedAtMs = nowMs;
      await reload();
    },
  };
}

/** @returns undefined while there are no keys */
async function readKeySet(deps: ReadingDeps, before: KeySet | undefined): Promise<KeySet | undefined> {
  const { db, envelope, clock } = deps;
  const readAtMs = clock.monotonicMs();
  const rows = await readKeys(db, Math.floor(clock.nowMs()) - RING_LIMITS.retiredPublishedSeconds * 1000);
  const nonce = rows.find((row) => row.kid === NONCE_ROW);
  if (nonce === undefined) return undefined;
  const opened = await Promise.all(rows.map((row) => openRow(deps, row, before?.keys.get(row.kid))));
  const keys = new Map(opened.filter((key) => key !== undefined).map((key) => [key.kid, key]));
  const secret = await envelope.open(nonce.sealed, NONCE_PLACE);
  const nonceSecret = secret.use((bytes) => Buffer.from(bytes));
  secret.wipe();
  return { keys, nonceSecret, readAtMs };
}

/** A retired key that does not open is left out, so that one spoilt row of the past does not stop the service. */
async function openRow(deps: ReadingDeps, row: KeyRow, known: HeldKey | undefined): Promise<HeldKey | undefined> {
  if (row.use === "nonce") return undefined;
  try {
    return await openKey(deps.envelope, row, known);
  } catch (err) {
    if (row.status !== "retired" || !(err instanceof DecryptError)) throw err;
    deps.log.error("retired_key_unreadable", { kid: row.kid, kind: row.use, reason: err.reason, err });
    return undefined;
  }
}

/** One run at a time. Who asks while one is under way gets the next, which begins later: one more run serves all of them. */
function coalesced<T>(work: () => Promise<T>): () => Promise<T> {
  let running: Promise<T> | undefined;
  let queued: Promise<T> | undefined;

  function run(): Promise<T> {
    if (running === undefined) {
      running = work().finally(() => {
        running = undefined;
      });
      return running;
    }
    queued ??= running.then(again, again);
    return queued;
  }

  function again(): Promise<T> {
    queued = undefined;
    return run();
  }

  return run;
}
