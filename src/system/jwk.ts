import { createPublicKey } from "node:crypto";
import type { JsonWebKey, KeyObject } from "node:crypto";
import type { JwsAlgorithm } from "../core/token/jws.ts";
import { checkPublicJwk, JwkError } from "../core/token/public-jwk.ts";

/** A public key that may verify signatures, and those of which algorithms. */
export interface VerificationKey {
  readonly key: KeyObject;
  /** A token's `alg` must be one of these. */
  readonly algorithms: readonly JwsAlgorithm[];
  /** SHA-256 of this text is the RFC 7638 thumbprint. */
  readonly thumbprintInput: string;
}

/**
 * Imports a public signature key of an issuer, an agent or a DPoP proof. Takes 50 to 100 µs: keep the result.
 *
 * @throws {JwkError} for a private or symmetric key, one for another use, a weak or malformed one, or a point off its curve
 * @see RFC 7517, A-JWT-16
 */
export function importVerificationKey(jwk: Readonly<Record<string, unknown>>): VerificationKey {
  const { algorithms, thumbprintInput } = checkPublicJwk(jwk);
  const { kty, crv, x, y, n, e } = jwk;
  let key: KeyObject;
  try {
    // Only the members that were judged: nothing else of a stranger's object reaches OpenSSL.
    key = createPublicKey({ key: { kty, crv, x, y, n, e } as JsonWebKey, format: "jwk" });
  } catch (error) {
    throw new JwkError("coordinates", { cause: error });
  }
  return { key, algorithms, thumbprintInput };
}

/**
 * The key alone, of {@link importVerificationKey}, for a caller who has settled the algorithm.
 *
 * @throws {JwkError} as there
 */
export function importPublicJwk(jwk: Readonly<Record<string, unknown>>): KeyObject {
  return importVerificationKey(jwk).key;
}
