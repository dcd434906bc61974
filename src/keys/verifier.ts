import type { StrictJws } from "../core/token/jws.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { verifyJwsSignature } from "../system/jws-signature.ts";
import type { HeldKeys } from "./held-keys.ts";
import type { HeldKey } from "./key-material.ts";
import { type KeyUse, verifies } from "./key-ring.ts";
import type { SignatureMemo } from "./signature-memo.ts";

/** The part of a strictly read JWS that a signature is judged by. */
export type SignedParts = Pick<StrictJws, "header" | "signingInput" | "signature">;

/**
 * Says whether a signature is ours and counts now, and nothing else: `typ`, issuer, audience, times and kill state are
 * the caller's to judge, each time.
 */
export interface Verifier {
  /**
   * By a token key: named by `kid`, with the key's own algorithm, active, next, or retired within its window.
   *
   * @throws {TemporarilyUnavailableError} `keys_stale`; await `fresh` of the room once in each request
   */
  verify(jws: SignedParts): boolean;
  /** The same after reading the keys again where that is due, or where the `kid` is unknown (bounded). Prefer it. */
  prove(jws: SignedParts): Promise<boolean>;
  /** By a record key, of whatever age. */
  verifyRecord(jws: SignedParts): boolean;
}

/** @param memo shared with the signer */
export function createVerifier(deps: { held: HeldKeys; clock: DatabaseClock; memo: SignatureMemo }): Verifier {
  const { held, clock, memo } = deps;

  /** RFC 8725 §3.1: the key says which algorithm, the token only agrees. */
  function keyOf(keys: ReadonlyMap<string, HeldKey>, { header }: SignedParts, use: KeyUse): HeldKey | undefined {
    const key = header.kid === undefined ? undefined : keys.get(header.kid);
    return key?.use === use && key.algorithm === header.alg ? key : undefined;
  }

  function verify(jws: SignedParts): boolean {
    const key = keyOf(held.usable().keys, jws, "token");
    // INVARIANT: the window is judged before the memo, so that no remembered signature outlives its key (INV-23).
    if (key === undefined || !verifies(key, clock.nowMs())) return false;
    const token = `${jws.signingInput}.${Buffer.from(jws.signature).toString("base64url")}`;
    if (memo.has(key.kid, token)) return true;
    const isGood = verifyJwsSignature(key.algorithm, key.publicKey, jws);
    if (isGood) memo.add(key.kid, token);
    return isGood;
  }

  return {
    verify,
    async prove(jws) {
      await held.fresh();
      if (jws.header.kid !== undefined) await held.learn(jws.header.kid);
      return verify(jws);
    },
    verifyRecord(jws) {
      const key = keyOf(held.latest().keys, jws, "record");
      return key !== undefined && verifyJwsSignature(key.algorithm, key.publicKey, jws);
    },
  };
}
