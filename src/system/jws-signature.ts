import { constants, sign, verify } from "node:crypto";
import type { KeyObject } from "node:crypto";
import type { JwsAlgorithm } from "../core/token/jws.ts";
import { RSA_MAX_BITS, RSA_MIN_BITS } from "../core/token/public-jwk.ts";

/** How one algorithm is done with OpenSSL. */
type Scheme =
  | { readonly kind: "ec"; readonly hash: string; readonly curve: string; readonly signatureBytes: number }
  | { readonly kind: "rsa"; readonly hash: string; readonly padding: number; readonly saltLength?: number }
  | { readonly kind: "ed25519" };

const pkcs1 = (hash: string): Scheme => ({ kind: "rsa", hash, padding: constants.RSA_PKCS1_PADDING });
// RFC 7518 §3.5: the salt is as long as the hash.
const pss = (hash: string): Scheme => ({
  kind: "rsa",
  hash,
  padding: constants.RSA_PKCS1_PSS_PADDING,
  saltLength: constants.RSA_PSS_SALTLEN_DIGEST,
});

/** RFC 7518 §3.1, RFC 8037 §3.1, RFC 9864 §2.2. OpenSSL's name of P-256 is prime256v1. */
const SCHEMES: Readonly<Record<JwsAlgorithm, Scheme>> = {
  RS256: pkcs1("sha256"),
  RS384: pkcs1("sha384"),
  RS512: pkcs1("sha512"),
  PS256: pss("sha256"),
  PS384: pss("sha384"),
  PS512: pss("sha512"),
  ES256: { kind: "ec", hash: "sha256", curve: "prime256v1", signatureBytes: 64 },
  ES384: { kind: "ec", hash: "sha384", curve: "secp384r1", signatureBytes: 96 },
  ES512: { kind: "ec", hash: "sha512", curve: "secp521r1", signatureBytes: 132 },
  EdDSA: { kind: "ed25519" },
  Ed25519: { kind: "ed25519" },
};

const ED25519_SIGNATURE_BYTES = 64;

/**
 * Whether the key made this signature over the signing input. False too when the key is not one for the algorithm: another
 * type or curve, or an RSA modulus that is too small or too large. One-shot and synchronous: the fastest way there is.
 *
 * @param signingInput ASCII, as the strict reader gives it
 * @see RFC 7515 §5.2, RFC 7518 §3, RFC 8037 §3.1, A-JWT-15
 */
export function verifyJwsSignature(
  alg: JwsAlgorithm,
  key: KeyObject,
  { signingInput, signature }: { readonly signingInput: string; readonly signature: Uint8Array },
): boolean {
  const scheme = SCHEMES[alg];
  if (!isKeyFor(scheme, key) || signature.length !== signatureLength(scheme, key)) return false;
  const data = Buffer.from(signingInput, "latin1");
  if (scheme.kind === "ed25519") return verify(null, data, key, signature);
  if (scheme.kind === "ec") return verify(scheme.hash, data, { key, dsaEncoding: "ieee-p1363" }, signature);
  return verify(scheme.hash, data, rsaOptions(scheme, key), signature);
}

/** The encoded protected header of a JWS, to be kept and used for every token of one key and type. */
export function encodeJwsHeader(header: {
  readonly typ: string;
  readonly alg: JwsAlgorithm;
  readonly kid: string;
}): string {
  return Buffer.from(JSON.stringify(header)).toString("base64url");
}

/**
 * A compact JWS over JSON claims.
 *
 * @param encodedHeader from {@link encodeJwsHeader}, naming the same algorithm
 * @throws {TypeError} when the key is not one for the algorithm: a bug
 * @see RFC 7515 §5.1
 */
export function signJws(
  alg: JwsAlgorithm,
  key: KeyObject,
  { encodedHeader, claims }: { readonly encodedHeader: string; readonly claims: object },
): string {
  const scheme = SCHEMES[alg];
  if (!isKeyFor(scheme, key)) throw new TypeError(`not a key for ${alg}`);
  const signingInput = `${encodedHeader}.${Buffer.from(JSON.stringify(claims)).toString("base64url")}`;
  const data = Buffer.from(signingInput, "latin1");
  let signature: Buffer;
  if (scheme.kind === "ed25519") signature = sign(null, data, key);
  else if (scheme.kind === "ec") signature = sign(scheme.hash, data, { key, dsaEncoding: "ieee-p1363" });
  else signature = sign(scheme.hash, data, rsaOptions(scheme, key));
  return `${signingInput}.${signature.toString("base64url")}`;
}

function rsaOptions(scheme: Scheme & { kind: "rsa" }, key: KeyObject) {
  const { padding, saltLength } = scheme;
  return saltLength === undefined ? { key, padding } : { key, padding, saltLength };
}

function isKeyFor(scheme: Scheme, key: KeyObject): boolean {
  if (key.asymmetricKeyType !== scheme.kind) return false;
  if (scheme.kind === "ec") return key.asymmetricKeyDetails?.namedCurve === scheme.curve;
  if (scheme.kind === "ed25519") return true;
  const bits = key.asymmetricKeyDetails?.modulusLength ?? 0;
  return bits >= RSA_MIN_BITS && bits <= RSA_MAX_BITS;
}

function signatureLength(scheme: Scheme, key: KeyObject): number {
  if (scheme.kind === "ec") return scheme.signatureBytes;
  if (scheme.kind === "ed25519") return ED25519_SIGNATURE_BYTES;
  // RFC 8017 §8.1.2 and §8.2.2: a signature is exactly as long as the modulus.
  return Math.ceil((key.asymmetricKeyDetails?.modulusLength ?? 0) / 8);
}
