import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import { DecryptError } from "../vault/decrypt-error.ts";
import type { Envelope } from "../vault/envelope.ts";
import { type Attestor, createAttestor } from "./attestor.ts";
import { createHeldKeys } from "./held-keys.ts";
import { createIdentitySigner, type IdentitySigner } from "./identity-signer.ts";
import type { PublishedJwk, SigningAlgorithm } from "./key-material.ts";
import { isPublished, type KeyUse } from "./key-ring.ts";
import { createRotation, type Rotation } from "./rotation.ts";
import { createSignatureMemo } from "./signature-memo.ts";
import { createSigner, type Signer } from "./signer.ts";
import { isWithoutKeys, KEYS_CHANNEL } from "./store.ts";
import { createVerifier, type Verifier } from "./verifier.ts";

/** The room. */
export interface Keys {
  readonly signer: Signer;
  /** For the broker alone. */
  readonly identity: IdentitySigner;
  readonly verifier: Verifier;
  readonly attestor: Attestor;
  /**
   * The token keys and, after them, the identity keys that anyone may need now, for `/.well-known/jwks.json`. Served with
   * `max-age` of at most 300 s.
   */
  jwks(): { keys: PublishedJwk[] };
  /** All record keys there ever were, for `/.well-known/ephor-record-keys`. */
  recordJwks(): { keys: PublishedJwk[] };
  /** The secret of DPoP nonces, the same at all replicas. */
  nonceSecret(): Buffer;
  rotate: Rotation["rotate"];
  /** Makes the identity keys where there are none: before the key set is first shown, if `tick` did not. */
  ensureIdentityKeys: Rotation["ensureIdentityKeys"];
  /** The channel on which replicas announce that the keys changed. */
  readonly channel: string;
  /** Reads the keys again: call it at each notification on `channel`, and when the listener has reconnected. */
  reload(): Promise<void>;
  /** Reads the keys again unless that was done within 10 s. Await it once in each request that signs or verifies. */
  fresh(): Promise<void>;
  /** Reads the keys again, makes the identity keys where there are none, and rotates what is due. Call it every 5 s or so: after 20 s without, nothing is signed. */
  tick(): Promise<void>;
}

/** The keys are sealed under another key-encryption key than this process has; the start stops. */
export class WrongKekError extends Error {
  constructor(ours: string, options: { cause: unknown }) {
    super(
      `kek: the keys in this database were sealed under another key-encryption key than the one given here (its id is ${ours}); ` +
        "every replica on one database needs the same `kek`: copy the first one's key, or restore it from its backup; " +
        "where `kek` was changed, name the one before as `kek_previous`",
      options,
    );
    this.name = "WrongKekError";
  }
}

/** Whether the database holds no key yet, so that a missing key-encryption key may be made. */
export async function isFirstStart(db: Db): Promise<boolean> {
  return isWithoutKeys(db);
}

/**
 * Opens the keys of this database, after making them where there are none.
 *
 * @param deps.algorithm of new token keys; default ES256
 * @param deps.tokenKeySeconds how long a token key or an identity key signs; default 30 days
 * @throws {WrongKekError} when the keys there are sealed under another key-encryption key
 * @throws {DecryptError} `decrypt_failed` when a key that is in use was changed in the database
 */
export async function createKeys(deps: {
  db: Db;
  vault: Envelope;
  clock: DatabaseClock;
  log: Log;
  algorithm?: SigningAlgorithm;
  tokenKeySeconds?: number;
}): Promise<Keys> {
  const { db, vault: envelope, clock, log, algorithm = "ES256", tokenKeySeconds } = deps;
  const held = createHeldKeys({ db, envelope, clock, log });
  const rotation = createRotation({ db, envelope, clock, log, held, algorithm, tokenKeySeconds });
  try {
    await rotation.start();
  } catch (error) {
    if (error instanceof DecryptError && error.fault === "kek_unknown")
      throw new WrongKekError(envelope.kekId, { cause: error });
    throw error;
  }
  const memo = createSignatureMemo();
  const published = (use: KeyUse): { keys: PublishedJwk[] } => {
    const all = [...held.latest().keys.values()];
    return {
      keys: all.filter((key) => key.use === use && isPublished(key, clock.nowMs())).map((key) => key.publicJwk),
    };
  };
  return {
    signer: createSigner({ held, clock, memo }),
    identity: createIdentitySigner({ held, clock, ensureKeys: rotation.ensureIdentityKeys }),
    verifier: createVerifier({ held, clock, memo }),
    attestor: createAttestor({ held }),
    jwks: () => ({ keys: [...published("token").keys, ...published("identity").keys] }),
    recordJwks: () => published("record"),
    nonceSecret: () => held.latest().nonceSecret,
    rotate: rotation.rotate,
    ensureIdentityKeys: rotation.ensureIdentityKeys,
    channel: KEYS_CHANNEL,
    async reload() {
      await held.reload();
    },
    fresh: held.fresh,
    async tick() {
      await held.reload();
      await rotation.rotateIfDue();
    },
  };
}
