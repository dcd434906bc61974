import type { Noise } from "../audit/noise.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Authorizer } from "../authz/authorize.ts";
import type { Outstanding } from "../authz/outstanding.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { Federation } from "../federation/federation.ts";
import type { DpopNonces } from "../keys/dpop-nonce.ts";
import type { Keys } from "../keys/keys.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import type { Places } from "../tasks/facts.ts";
import type { Revocation } from "../revocation/revocation.ts";

/** What the room is built from. */
export interface StsDeps {
  /** Our issuer identifier, by configuration. */
  readonly issuer: string;
  /** The audience of transaction tokens, where configured. */
  readonly trustDomain?: string | undefined;
  /** What a token lives when the request names no `ttl`. */
  readonly defaultTtlSeconds: number;
  readonly taskSeconds: { readonly default: number; readonly max: number };
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  /** Brings what `trust` answers to at least this version. @throws {DatabaseUnreachableError} */
  readonly takeIn: (version: number) => Promise<void>;
  readonly federation: Federation;
  readonly keys: Keys;
  readonly dpopNonces: DpopNonces;
  readonly authorizer: Authorizer;
  readonly outstanding: Pick<Outstanding, "strikes">;
  readonly recorder: Recorder;
  readonly noise: Noise;
  readonly places: Places;
  readonly revocation: Revocation;
  readonly log: Log;
  readonly metrics: Metrics;
}
