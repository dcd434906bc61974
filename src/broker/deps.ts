import type { Recorder } from "../audit/recorder.ts";
import type { Authorizer } from "../authz/authorize.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Places } from "../tasks/facts.ts";
import type { Envelope } from "../vault/envelope.ts";
import type { Secrets } from "../vault/secrets.ts";
import type { ProviderKinds } from "./kinds.ts";

/** What the room is built from. */
export interface BrokerDeps {
  readonly db: Db;
  readonly clock: DatabaseClock;
  readonly trust: () => TrustIndex;
  readonly authorizer: Authorizer;
  readonly recorder: Recorder;
  readonly places: Places;
  readonly secrets: Secrets;
  /** Seals what `destroy` needs. */
  readonly envelope: Envelope;
  readonly egress: Egress;
  readonly kinds: ProviderKinds;
  readonly log: Log;
}
