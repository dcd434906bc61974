import type { Recorder } from "../audit/recorder.ts";
import type { Authorizer } from "../authz/authorize.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { IdentitySigner } from "../keys/identity-signer.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Places } from "../tasks/facts.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { NextVersions } from "../vault/next-version.ts";
import type { Secrets } from "../vault/secrets.ts";
import type { ProviderKinds } from "./kinds.ts";
import type { OneAtATime } from "./one-at-a-time.ts";

/** What the room is built from. */
export interface BrokerDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly authorizer: Authorizer;
  readonly recorder: Recorder;
  readonly places: Places;
  readonly secrets: Secrets;
  /** Of secrets that are being replaced at their upstream. */
  readonly nextVersions: NextVersions;
  /** Seals what `destroy` needs. */
  readonly envelope: Envelope;
  readonly egress: Egress;
  readonly kinds: ProviderKinds;
  /** `iss` of web-identity tokens. */
  readonly issuer: string;
  readonly identity: IdentitySigner;
  /** For secrets that a mint may replace. */
  readonly oneAtATime: OneAtATime;
  readonly log: Log;
}
