import { randomBytes } from "node:crypto";
import { Permit } from "../../src/core/permit.ts";
import { OWN_TOKEN_MAX_BYTES, readJws, type StrictJws } from "../../src/core/token/jws.ts";
import type { Db } from "../../src/db/database.ts";
import { createKeys, type Keys } from "../../src/keys/keys.ts";
import type { SigningAlgorithm } from "../../src/keys/key-material.ts";
import { createDatabaseClock, type DatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { createEnvelope, type KeyEncryptionKey, localKeyEncryptionKey } from "../../src/vault/envelope.ts";
import { SecretBytes } from "../../src/vault/secret-bytes.ts";
import { type HandClock, handClock } from "../support/hand-clock.ts";
import { type Cleanup, testDatabase, type TestDatabase } from "../support/database.ts";

export const AUDIENCE = "https://billing.acme.example";

/** Several replicas' keys on one real database, with clocks that move together. */
export interface KeysWorld extends TestDatabase {
  readonly clock: HandClock;
  readonly kek: KeyEncryptionKey;
  /** @param skewSeconds how far this replica's idea of the database's time is off */
  replica(options?: {
    db?: Db;
    kek?: KeyEncryptionKey;
    algorithm?: SigningAlgorithm;
    skewSeconds?: number;
  }): Promise<Keys>;
}

export function newKek(id: string): KeyEncryptionKey {
  return localKeyEncryptionKey(id, new SecretBytes(randomBytes(32)));
}

export async function keysWorld(t: Cleanup): Promise<KeysWorld> {
  const database = await testDatabase(t);
  const clock = handClock();
  const kek = newKek("k1");
  return {
    ...database,
    clock,
    kek,
    replica({ db = database.db, kek: own = kek, algorithm = "ES256", skewSeconds = 0 } = {}) {
      const vault = createEnvelope({ kek: own });
      return createKeys({
        db,
        vault,
        clock: skewed(clock, skewSeconds),
        log: createLog({ level: "silent" }),
        algorithm,
      });
    },
  };
}

function skewed(clock: HandClock, seconds: number): DatabaseClock {
  return createDatabaseClock({ nowMs: () => clock.nowMs() + seconds * 1000, monotonicMs: clock.monotonicMs });
}

export function permitFor(
  clock: HandClock,
  facts: { action?: "token.issue" | "secret.open"; target?: string } = {},
): Permit {
  const { action = "token.issue", target = AUDIENCE } = facts;
  return new Permit({ action, target, actor: "triage-bot", eventId: "evt_1", lapsesAtMs: clock.monotonicMs() + 1000 });
}

export function claimsAt(clock: HandClock, lifeSeconds = 59) {
  const iat = clock.seconds();
  return {
    iss: "https://sts.acme.example",
    aud: AUDIENCE,
    sub: "agent|triage-bot",
    iat,
    exp: iat + lifeSeconds,
    jti: "01J",
  };
}

/** A token signed by this replica. */
export function signAt(keys: Keys, clock: HandClock): string {
  return keys.signer.sign(permitFor(clock), { typ: "at+jwt", claims: claimsAt(clock) });
}

export function read(token: string): StrictJws {
  return readJws(token, { maxBytes: OWN_TOKEN_MAX_BYTES, ownHeader: true });
}
