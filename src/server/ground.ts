import { join } from "node:path";
import { createHeartbeat, type Heartbeat } from "../authz/heartbeat.ts";
import { createHeed, type Heed } from "../authz/heed.ts";
import { createOutstanding, type Outstanding } from "../authz/outstanding.ts";
import { createStreams, type Streams } from "../authz/streams.ts";
import type { Config } from "../config.ts";
import type { Db } from "../db/database.ts";
import { createKeys, isFirstStart, type Keys } from "../keys/keys.ts";
import { ensureOperatorKey, type OperatorKeyOutcome } from "../operators/first-key.ts";
import type { Overrides } from "../server.ts";
import { createDatabaseClock, systemClock, type DatabaseClock } from "../system/clock.ts";
import type { Lifecycle } from "../system/lifecycle.ts";
import { droppedLogLines, type Log } from "../system/log.ts";
import type { ResolveAll } from "../system/egress-connector.ts";
import { createMetrics, type Metrics } from "../system/metrics.ts";
import { ulid } from "../system/random.ts";
import { createEnvelope, type Envelope } from "../vault/envelope.ts";
import { openKeks, tellUnopenable } from "./key-encryption.ts";
import { every } from "./background.ts";
import { openStore } from "./store.ts";
import { VERSION } from "./version.ts";

/** How often keys are read again, and rotated when due, in milliseconds. */
const KEYS_TICK_MS = 5_000;

/** What every room stands on: the database, its clock, the keys. */
export interface Ground {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly metrics: Metrics;
  readonly replica: string;
  readonly heartbeat: Heartbeat;
  /** How kills reach this replica, and the permits that they drop. */
  readonly heed: Heed;
  readonly outstanding: Outstanding;
  /** Answers that are being relayed; kills cut them. */
  readonly streams: Streams;
  readonly keys: Keys;
  /** Seals what lies in the vault. */
  readonly envelope: Envelope;
  /** Nothing was sealed in this database before. */
  readonly isFirstStart: boolean;
  readonly operatorKey: OperatorKeyOutcome;
  readonly notices: readonly string[];
  readonly lifecycle: Lifecycle;
  readonly log: Log;
  /** Finds addresses of issuers' host names; undefined: as the system does. */
  readonly resolve: ResolveAll | undefined;
}

/** Opens the database, makes the first keys where there are none, and begins to beat. */
export async function layGround(
  config: Config,
  at: { overrides: Overrides; log: Log; lifecycle: Lifecycle },
): Promise<Ground> {
  const { overrides, log, lifecycle } = at;
  const store = await openStore(config, log, { durable: overrides.durable ?? true });
  lifecycle.onStop("resources", "database", store.stop);
  const { db } = store;
  const clock = createDatabaseClock(overrides.clock ?? systemClock());
  const replica = ulid(clock.nowMs());
  const outstanding = createOutstanding(() => clock.monotonicMs());
  // A replica that is not beating yet relays nothing.
  let beats: Pick<Heartbeat, "mayRelease"> = { mayRelease: () => false };
  const streams = createStreams({ now: () => clock.now(), mayRelease: () => beats.mayRelease() });
  const heed = createHeed({ db, replica, outstanding, streams });
  const heartbeat = createHeartbeat({
    db,
    clock,
    replica,
    version: VERSION,
    readTimeMs: overrides.readTimeMs,
    heed: (epoch) => heed.catchUp(epoch),
  });
  beats = heartbeat;
  lifecycle.onStop("background", "streams", streams.close);
  lifecycle.onStop("background", "heartbeat", heartbeat.close);
  await heartbeat.begin();
  const operatorKey = await ensureOperatorKey(db, {
    path: join(config.dataDirectory, "operator-key"),
    nowMs: clock.nowMs(),
    ...(config.operatorKey === null ? {} : { seed: config.operatorKey.reveal() }),
  });
  const firstStart = await isFirstStart(db);
  const { kek, previous } = await openKeks(config, { db, resolve: overrides.resolve });
  const envelope = createEnvelope({ kek, previous });
  const keys = await createKeys({
    db,
    vault: envelope,
    clock,
    log,
    algorithm: config.keys.algorithm,
    tokenKeySeconds: config.keys.rotateEverySeconds,
  });
  await tellUnopenable(db, [kek, ...previous], log);
  every(KEYS_TICK_MS, "keys", { lifecycle, log, work: () => keys.tick() });
  return {
    db,
    clock,
    metrics: createMetrics({ version: VERSION, process: overrides.clock === undefined, droppedLogLines }),
    replica,
    heartbeat,
    heed,
    outstanding,
    streams,
    keys,
    envelope,
    isFirstStart: firstStart,
    operatorKey,
    notices: store.weakened,
    lifecycle,
    log,
    resolve: overrides.resolve,
  };
}
