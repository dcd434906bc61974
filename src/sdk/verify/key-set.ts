import { compactVerify, createRemoteJWKSet, errors } from "jose";
import type { StrictJws } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";

/** Milliseconds that the server may take to answer with its keys. */
const TIMEOUT_MS = 5_000;
/** A `kid` that we do not have makes us ask again, but not more often than this, in milliseconds. */
const COOLDOWN_MS = 5_000;
/** A key is published ten minutes before it signs; half of it keeps us ahead of every rotation. In milliseconds. */
const MAX_AGE_MS = 300_000;

/** Algorithms that Ephor signs with, as `keys.algorithm` allows. */
export const SIGNING_ALGORITHMS = ["ES256", "EdDSA", "Ed25519", "RS256"] as const;

/** The keys could not be had: nothing is known against the token. */
export class KeysUnavailableError extends Error {
  override readonly name = "KeysUnavailableError";
}

/** Published keys of the server, fetched when needed and kept. */
export interface KeySet {
  /**
   * Whether one of the keys signed it.
   *
   * @param jws the same token, strictly read
   * @throws {RefusedToken} `token_key_unknown`, `token_signature`, `token_alg`
   * @throws {KeysUnavailableError}
   */
  prove(token: string, jws: StrictJws): Promise<void>;
}

/** @param url of a JWK set: `jwks.json` for tokens, `ephor-record-keys` for frames of the feed */
export function createKeySet(url: string, algorithms: readonly string[] = SIGNING_ALGORITHMS): KeySet {
  const keys = createRemoteJWKSet(new URL(url), {
    timeoutDuration: TIMEOUT_MS,
    cooldownDuration: COOLDOWN_MS,
    cacheMaxAge: MAX_AGE_MS,
  });
  return {
    async prove(token, { header }) {
      if (!algorithms.includes(header.alg)) throw new RefusedToken({ reason: "token_alg" });
      // Every token of ours names its key; a set is never tried key by key.
      if (header.kid === undefined) throw new RefusedToken({ reason: "token_key_unknown" });
      try {
        await compactVerify(token, keys, { algorithms: [...algorithms] });
      } catch (error) {
        throw refusalOf(error);
      }
    },
  };
}

function refusalOf(cause: unknown): Error {
  if (cause instanceof errors.JWSSignatureVerificationFailed)
    return new RefusedToken({ reason: "token_signature" }, { cause });
  if (cause instanceof errors.JWKSNoMatchingKey) return new RefusedToken({ reason: "token_key_unknown" }, { cause });
  const isAboutToken = cause instanceof errors.JWSInvalid || cause instanceof errors.JOSEAlgNotAllowed;
  if (isAboutToken) return new RefusedToken({ reason: "token_malformed" }, { cause });
  return new KeysUnavailableError("keys", { cause });
}
