import type { EpochSeconds } from "../core/time.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Envelope } from "../vault/envelope.ts";
import { makeFirstKeys, makePair } from "./first-keys.ts";
import type { HeldKeys } from "./held-keys.ts";
import { makeKey, sealRetired, type SigningAlgorithm } from "./key-material.ts";
import { activeAndNext, isRotationDue, type KeyUse, readyAtMs } from "./key-ring.ts";
import { insertFirstKeys, insertIdentityKeys, replaceNextRow, rotateRows } from "./store.ts";

const DAY_SECONDS = 86_400;
/** Token keys: a month, so that rotation is ordinary. */
const TOKEN_KEY_SECONDS = 30 * DAY_SECONDS;
/** Record keys: a year, for each of them is published for ever. */
const RECORD_KEY_SECONDS = 365 * DAY_SECONDS;
/** What AWS, Google Cloud and Azure all take; Azure takes no other. */
const IDENTITY_ALGORITHM: SigningAlgorithm = "RS256";
/** Records are read by our own tools, years later: one algorithm, whatever the tokens' is. */
const RECORD_ALGORITHM: SigningAlgorithm = "ES256";

/** What came of asking for a rotation. */
export type RotationOutcome =
  | { readonly rotated: true; readonly retired: string; readonly active: string; readonly next: string }
  /** The next key has not been published long enough for every verifier to have it. */
  | { readonly rotated: false; readonly because: "too_soon"; readonly readyAt: EpochSeconds }
  /** Another replica rotated at the same moment; its keys are the ones in use. */
  | { readonly rotated: false; readonly because: "done_elsewhere" };

/** Which keys, and whether the active one is in wrong hands. */
export interface RotationRequest {
  /** Default `token`. */
  readonly use?: KeyUse;
  /**
   * The active key is known to others: it verifies nothing and is published no more from now on, whatever tokens are
   * out, and its successor takes over although some verifiers may not have it yet. Asked twice, it withdraws the
   * successor too.
   */
  readonly compromised?: boolean;
}

/** Makes, rotates and retires keys in the database. */
export interface Rotation {
  /** Makes the first keys where there are none, else reads those that are there, and prepares a change of algorithm. */
  start(): Promise<void>;
  /**
   * Makes the identity keys where there are none: in a new database, and in one of a version that had no such keys. Any
   * number of replicas may call it at the same moment.
   */
  ensureIdentityKeys(): Promise<void>;
  rotate(request?: RotationRequest): Promise<RotationOutcome>;
  /** Rotates what the schedule says. Any number of replicas may call it at the same moment. */
  rotateIfDue(): Promise<void>;
}

/** What rotation needs. */
export interface RotationDeps {
  readonly db: Db;
  readonly envelope: Envelope;
  readonly clock: DatabaseClock;
  readonly log: Log;
  readonly held: HeldKeys;
  /** Of new token keys. */
  readonly algorithm: SigningAlgorithm;
  /** How long a token key or an identity key signs; default 30 days. */
  readonly tokenKeySeconds: number | undefined;
}

/** Times are the database's, as parameters, so that all replicas see one schedule. */
export function createRotation(deps: RotationDeps): Rotation {
  const { db, envelope, clock, log, held } = deps;
  const tokenKeySeconds = deps.tokenKeySeconds ?? TOKEN_KEY_SECONDS;
  const plans = {
    token: { algorithm: deps.algorithm, everySeconds: tokenKeySeconds },
    identity: { algorithm: IDENTITY_ALGORITHM, everySeconds: tokenKeySeconds },
    record: { algorithm: RECORD_ALGORITHM, everySeconds: RECORD_KEY_SECONDS },
  } as const;
  const nowMs = (): number => Math.floor(clock.nowMs());
  const ensureIdentityKeys = identityKeysMaker(deps);

  /** Only at the start: replicas of two configurations would else undo each other's choice for ever. */
  async function prepareAlgorithm(): Promise<void> {
    const { next } = held.pair(held.latest(), "token");
    if (next.algorithm === deps.algorithm) return;
    const successor = await makeKey(envelope, {
      use: "token",
      algorithm: deps.algorithm,
      status: "next",
      nowMs: nowMs(),
    });
    await replaceNextRow(db, next.kid, successor);
    await held.reload();
  }

  async function rotate({ use = "token", compromised = false }: RotationRequest = {}): Promise<RotationOutcome> {
    if (use === "identity") await ensureIdentityKeys();
    await held.reload();
    const { active, next } = held.pair(held.latest(), use);
    if (!compromised && nowMs() < readyAtMs(next)) {
      return { rotated: false, because: "too_soon", readyAt: Math.ceil(readyAtMs(next) / 1000) };
    }
    const successor = await makeKey(envelope, { use, algorithm: plans[use].algorithm, status: "next", nowMs: nowMs() });
    // As late as can be: the window in which the retired key still verifies begins here.
    const atMs = nowMs();
    // Retired at the beginning of time: every window of it is over.
    const retiredAtMs = compromised ? 0 : atMs;
    const activeSealed = await sealRetired(envelope, active, retiredAtMs);
    const isOurs = await rotateRows(db, {
      active: active.kid,
      activeSealed,
      next: next.kid,
      atMs,
      retiredAtMs,
      successor,
    });
    await held.reload();
    if (!isOurs) return { rotated: false, because: "done_elsewhere" };
    log.info("keys_rotated", { kind: use, kid: next.kid, outcome: compromised ? "compromised" : "retired" });
    return { rotated: true, retired: active.kid, active: next.kid, next: successor.kid };
  }

  return {
    async start() {
      if (!(await held.reload())) {
        const first = await makeFirstKeys(envelope, { plans, nowMs: nowMs() });
        if (await insertFirstKeys(db, first)) log.info("first_keys_made", { count: first.rows.length });
        await held.reload();
      }
      await prepareAlgorithm();
    },
    ensureIdentityKeys,
    rotate,
    async rotateIfDue() {
      await ensureIdentityKeys();
      for (const use of ["token", "record", "identity"] as const) {
        if (isRotationDue(held.pair(held.latest(), use), { ...plans[use], nowMs: nowMs() })) await rotate({ use });
      }
    },
  };
}

/** What {@link Rotation.ensureIdentityKeys} does. */
function identityKeysMaker({ db, envelope, clock, log, held }: RotationDeps): () => Promise<void> {
  let making: Promise<void> | undefined;
  const areThere = (): boolean => activeAndNext(held.latest().keys.values(), "identity") !== undefined;

  async function make(): Promise<void> {
    await held.reload();
    if (areThere()) return;
    const order = { use: "identity", algorithm: IDENTITY_ALGORITHM, nowMs: Math.floor(clock.nowMs()) } as const;
    const rows = await makePair(envelope, order);
    if (await insertIdentityKeys(db, rows)) log.info("identity_keys_made", { count: rows.length });
    await held.reload();
  }

  return async () => {
    if (areThere()) return;
    // One at a time: they cost a good part of a second of computing.
    making ??= make().finally(() => {
      making = undefined;
    });
    await making;
  };
}
