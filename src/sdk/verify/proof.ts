import { createHash } from "node:crypto";
import { compactVerify, importJWK } from "jose";
import {
  checkDpopProof,
  DPOP_ALGORITHMS,
  DPOP_MAX_AGE_SECONDS,
  DPOP_MAX_AHEAD_SECONDS,
  type DpopSignature,
} from "../../core/token/dpop.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import type { EpochSeconds } from "../../core/time.ts";

/** Proofs remembered in this process. More within a minute than this is an attack or a fault; then proofs are refused. */
const MAX_REMEMBERED = 200_000;
/** Seconds that a proof must be remembered: while it could be accepted again. */
const REMEMBERED_SECONDS = DPOP_MAX_AGE_SECONDS + 2 * DPOP_MAX_AHEAD_SECONDS;

/** Remembers proofs. Several processes that serve one resource share one, else a proof works once at each. */
export interface ProofMemory {
  /**
   * Notes a proof.
   *
   * @param key of the proof, printable ASCII under 150 characters
   * @param until epoch seconds from which it may be forgotten
   * @returns whether it was new
   */
  spend(key: string, until: EpochSeconds): boolean | Promise<boolean>;
}

/** A memory in this process, bounded; it refuses when it is full. */
export function createProofMemory(now: () => EpochSeconds, maxRemembered = MAX_REMEMBERED): ProofMemory {
  const seen = new Map<string, EpochSeconds>();
  return {
    spend(key, until) {
      // In the order of insertion, which is nearly that of expiry.
      for (const [old, end] of seen) {
        if (end > now()) break;
        seen.delete(old);
      }
      if (seen.has(key) || seen.size >= maxRemembered) return false;
      seen.set(key, until);
      return true;
    },
  };
}

/** The request that a proof must be for. */
export interface ProvedRequest {
  readonly method: string;
  /** As the caller addressed it, by configuration; without query. */
  readonly url: string;
  /** The value of its `DPoP` header. */
  readonly proof: string | undefined;
}

/**
 * Checks that the holder of the key a token is bound to made this request, once.
 *
 * @param at.jkt thumbprint of that key
 * @throws {RefusedToken} `dpop_missing`, `dpop_malformed`, `dpop_invalid`, `dpop_key_mismatch`, `dpop_replayed`
 * @see RFC 9449 §4.3, §7.1
 */
export async function checkProof(
  request: ProvedRequest,
  at: { readonly token: string; readonly jkt: string; readonly now: EpochSeconds; readonly memory: ProofMemory },
): Promise<void> {
  const { token, jkt, now, memory } = at;
  if (request.proof === undefined) throw new RefusedToken({ reason: "dpop_missing" });
  let signed: DpopSignature | undefined;
  const proof = checkDpopProof(request.proof, {
    method: request.method,
    url: request.url,
    now,
    ath: sha256Base64url(token),
    // Looked at below, before anything is believed: the platform's keys answer asynchronously.
    verify: (given) => (signed = given) !== undefined,
    sha256Base64url,
  });
  if (signed === undefined || !(await isSignedBy(request.proof, signed))) {
    throw new RefusedToken({ reason: "dpop_invalid", part: "signature" });
  }
  if (proof.jkt !== jkt) throw new RefusedToken({ reason: "dpop_key_mismatch" });
  const isNew = await memory.spend(`dpop:${jkt}:${sha256Base64url(proof.jti)}`, now + REMEMBERED_SECONDS);
  if (!isNew) throw new RefusedToken({ reason: "dpop_replayed" });
}

async function isSignedBy(proof: string, { jwk, alg }: DpopSignature): Promise<boolean> {
  try {
    await compactVerify(proof, await importJWK({ ...jwk }, alg), { algorithms: [...DPOP_ALGORITHMS] });
    return true;
  } catch {
    // A key that cannot be imported verifies nothing.
    return false;
  }
}

function sha256Base64url(text: string): string {
  return createHash("sha256").update(text).digest("base64url");
}
