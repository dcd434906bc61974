import { InvalidDpopProofError, UseDpopNonceError } from "../core/oauth/errors.ts";
import { checkDpopProof, DPOP_MAX_AGE_SECONDS, DPOP_MAX_AHEAD_SECONDS } from "../core/token/dpop.ts";
import { RefusedToken } from "../core/token/refused.ts";
import { sha256Base64url } from "../system/hash.ts";
import { importPublicJwk } from "../system/jwk.ts";
import { verifyJwsSignature } from "../system/jws-signature.ts";
import type { StsDeps } from "./deps.ts";
import type { DpopKey } from "./request.ts";

/**
 * Checks the `DPoP` header of a request. At the token endpoint a nonce of ours is required, which frees agents from
 * having right clocks and makes proofs made in advance worthless.
 *
 * @param at.ath base64url SHA-256 of the presented access token, at our own resources
 * @returns undefined when there is no header
 * @throws {InvalidDpopProofError} `dpop_malformed`, `dpop_invalid`
 * @throws {UseDpopNonceError} `dpop_nonce`
 * @see RFC 9449 §4.3, §8
 */
export function readProof(
  deps: Pick<StsDeps, "clock" | "dpopNonces">,
  header: string | undefined,
  at: { method: string; url: string; ath?: string; nonce: boolean },
): DpopKey | undefined {
  if (header === undefined) return undefined;
  const now = deps.clock.now();
  try {
    const proof = checkDpopProof(header, {
      method: at.method,
      url: at.url,
      now,
      ...(at.ath === undefined ? {} : { ath: at.ath }),
      ...(at.nonce ? { isNonceGood: (nonce) => nonce !== undefined && deps.dpopNonces.accepts(nonce, now) } : {}),
      verify: ({ alg, jwk, signingInput, signature }) => verifies(alg, jwk, signingInput, signature),
      sha256Base64url,
    });
    return {
      jkt: proof.jkt,
      replayKey: `dpop:${proof.jkt}:${sha256Base64url(proof.jti)}`,
      replayUntil: now + DPOP_MAX_AGE_SECONDS + 2 * DPOP_MAX_AHEAD_SECONDS,
    };
  } catch (error) {
    if (!(error instanceof RefusedToken)) throw error;
    if (error.reason === "dpop_nonce") throw new UseDpopNonceError({ reason: "dpop_nonce" });
    throw new InvalidDpopProofError({ reason: error.reason, ...error.facts }, { cause: error });
  }
}

function verifies(
  alg: Parameters<typeof verifyJwsSignature>[0],
  jwk: Parameters<typeof importPublicJwk>[0],
  input: string,
  signature: Uint8Array,
): boolean {
  try {
    return verifyJwsSignature(alg, importPublicJwk(jwk), { signingInput: input, signature });
  } catch {
    // A key that cannot be imported verifies nothing.
    return false;
  }
}
