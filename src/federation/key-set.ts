import type { JoseHeader } from "../core/token/jws.ts";
import { JwkError } from "../core/token/public-jwk.ts";
import { sha256Base64url } from "../system/hash.ts";
import { importVerificationKey, type VerificationKey } from "../system/jwk.ts";
import { IssuerDocumentError } from "./issuer-document.ts";
import { LIMITS } from "./limits.ts";

/** A public key that signatures are verified with. */
export interface SignerKey extends VerificationKey {
  readonly kid?: string;
  /** RFC 7638, in base64url. */
  readonly thumbprint: string;
}

/** Which JWKs of a set count: `sig`, those without `use` or with `sig`; `jwt-svid`, those that say so and have a `kid`. */
export type KeyUse = "sig" | "jwt-svid";

/**
 * The keys of a JWK set that may verify signatures. Keys that are symmetric, private, weak, malformed, for another use or of
 * a type we do not know are left out and do not spoil the others (RFC 7517 §5, A-JWT-16).
 *
 * @throws {IssuerDocumentError} `keys` when it is no key set, or one that is too large
 * @see RFC 7517 §5, SPIFFE JWT-SVID §5
 */
export function readKeySet(members: Readonly<Record<string, unknown>>, use: KeyUse): readonly SignerKey[] {
  const listed = members["keys"];
  if (!Array.isArray(listed) || listed.length > LIMITS.keysPerSet) throw new IssuerDocumentError("keys");
  return readKeys(listed, use);
}

/** The usable keys of a list of JWKs, as {@link readKeySet}. */
export function readKeys(jwks: readonly unknown[], use: KeyUse): readonly SignerKey[] {
  return jwks.flatMap((jwk) => readKey(jwk, use) ?? []);
}

function readKey(jwk: unknown, use: KeyUse): SignerKey | undefined {
  if (typeof jwk !== "object" || jwk === null) return undefined;
  const { use: declared, ...rest } = jwk as Record<string, unknown>;
  const { kid } = rest;
  if (kid !== undefined && typeof kid !== "string") return undefined;
  const isForUs =
    use === "sig" ? declared === undefined || declared === "sig" : declared === "jwt-svid" && kid !== undefined;
  if (!isForUs) return undefined;
  try {
    const key = importVerificationKey(rest);
    return { ...key, thumbprint: sha256Base64url(key.thumbprintInput), ...(kid === undefined ? {} : { kid }) };
  } catch (error) {
    if (error instanceof JwkError) return undefined;
    throw error;
  }
}

/**
 * The key that must have made the signature: the one with the header's `kid`, or, without a `kid`, the only one for its `alg`.
 * Several that fit are none: which one it was would be the caller's choice.
 */
export function findKey(keys: readonly SignerKey[], header: JoseHeader): SignerKey | undefined {
  const fitting = keys.filter(
    (key) => (header.kid === undefined || key.kid === header.kid) && key.algorithms.includes(header.alg),
  );
  return fitting.length === 1 ? fitting[0] : undefined;
}
