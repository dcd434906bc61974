import type { PublicJwk } from "../trust/model.ts";
import { decodeBase64url } from "./base64url.ts";
import type { JwsAlgorithm } from "./jws.ts";

/** Smallest RSA modulus, in bits (NIST SP 800-131A; A-JWT-16). */
export const RSA_MIN_BITS = 2048;

/** Largest RSA modulus, in bits: verifying takes time in its square, and nobody needs more. */
export const RSA_MAX_BITS = 8192;

/** Largest RSA exponent, in bytes: verifying takes time in its length. */
const RSA_EXPONENT_MAX_BYTES = 4;

const KEY_TEXT_MAX_CHARACTERS = 512;

/** Why a JWK is not used. */
export type JwkProblem =
  | "kty"
  | "curve"
  | "coordinates"
  | "private"
  | "use"
  | "alg"
  | "rsa_size"
  | "rsa_exponent"
  | "weak";

/** A JWK that is not used. Carries nothing of the key. */
export class JwkError extends Error {
  readonly problem: JwkProblem;

  constructor(problem: JwkProblem, options?: { cause?: unknown }) {
    super(problem, options);
    this.name = "JwkError";
    this.problem = problem;
  }
}

/** Private and symmetric members (RFC 7518 §6.2.2, §6.3.2, §6.4.1; RFC 8037 §2). */
const PRIVATE_MEMBERS = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/** Bytes of a coordinate, and the algorithms of a curve. One key, one family of algorithms (RFC 8725 §3.1). */
const CURVES: Readonly<Record<string, { kty: string; bytes: number; algorithms: readonly JwsAlgorithm[] }>> = {
  "P-256": { kty: "EC", bytes: 32, algorithms: ["ES256"] },
  "P-384": { kty: "EC", bytes: 48, algorithms: ["ES384"] },
  "P-521": { kty: "EC", bytes: 66, algorithms: ["ES512"] },
  Ed25519: { kty: "OKP", bytes: 32, algorithms: ["Ed25519", "EdDSA"] },
};

const RSA_ALGORITHMS: readonly JwsAlgorithm[] = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

/** What the check of a JWK found. */
export interface JwkFacts {
  /** Signature algorithms that this key may verify: by its type and curve, narrowed by its own `alg`. */
  readonly algorithms: readonly JwsAlgorithm[];
  /** The text whose SHA-256 is the RFC 7638 thumbprint. */
  readonly thumbprintInput: string;
}

/**
 * Judges a public signature key by its JWK alone: type, curve, lengths, size, exponent, known weak shape, declared use. That
 * an EC point lies on its curve shows when the key is imported.
 *
 * @throws {JwkError}
 * @see RFC 7517 §4, RFC 7518 §6, RFC 8037 §2, A-JWT-16
 */
export function checkPublicJwk(jwk: Readonly<Record<string, unknown>>): JwkFacts {
  for (const name of PRIVATE_MEMBERS) if (Object.hasOwn(jwk, name)) throw new JwkError("private");
  if (jwk.use !== undefined && jwk.use !== "sig") throw new JwkError("use");
  const operations = jwk.key_ops;
  // RFC 7517 §4.3: an array; a key for something else must not verify.
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes("verify")))
    throw new JwkError("use");
  const possible = jwk.kty === "RSA" ? checkRsa(jwk) : checkCurve(jwk);
  const algorithms = jwk.alg === undefined ? possible : possible.filter((alg) => alg === jwk.alg);
  if (algorithms.length === 0) throw new JwkError("alg");
  return { algorithms, thumbprintInput: thumbprintInput(jwk as PublicJwk) };
}

/**
 * The canonical JSON of a key: its required members only, in order, without spaces. Hash it with SHA-256.
 *
 * @throws {JwkError} `kty` for a type that has no signature algorithm here
 * @see RFC 7638 §3.2, RFC 8037 appendix A.3
 */
export function thumbprintInput(jwk: PublicJwk): string {
  if (jwk.kty === "EC") return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x, y: jwk.y });
  if (jwk.kty === "OKP") return JSON.stringify({ crv: jwk.crv, kty: jwk.kty, x: jwk.x });
  if (jwk.kty === "RSA") return JSON.stringify({ e: jwk.e, kty: jwk.kty, n: jwk.n });
  throw new JwkError("kty");
}

function checkCurve(jwk: Readonly<Record<string, unknown>>): readonly JwsAlgorithm[] {
  if (jwk.kty !== "EC" && jwk.kty !== "OKP") throw new JwkError("kty");
  const curve = typeof jwk.crv === "string" && Object.hasOwn(CURVES, jwk.crv) ? CURVES[jwk.crv] : undefined;
  if (curve === undefined || curve.kty !== jwk.kty) throw new JwkError("curve");
  const coordinates = jwk.kty === "EC" ? [jwk.x, jwk.y] : [jwk.x];
  // RFC 7518 §6.2.1.2: full length, so each point has one spelling.
  if (!coordinates.every((text) => bytesOf(text)?.length === curve.bytes)) throw new JwkError("coordinates");
  return curve.algorithms;
}

function checkRsa(jwk: Readonly<Record<string, unknown>>): readonly JwsAlgorithm[] {
  const modulus = bytesOf(jwk.n, (RSA_MAX_BITS / 8) * 2);
  const exponent = bytesOf(jwk.e);
  if (modulus === undefined || exponent === undefined) throw new JwkError("coordinates");
  const bits = bitLength(modulus);
  if (bits < RSA_MIN_BITS || bits > RSA_MAX_BITS) throw new JwkError("rsa_size");
  const value = exponent.reduce((sum, byte) => sum * 256 + byte, 0);
  if (exponent.length > RSA_EXPONENT_MAX_BYTES || value < 3 || value % 2 === 0) throw new JwkError("rsa_exponent");
  if (((modulus.at(-1) ?? 0) & 1) === 0 || hasRocaShape(modulus)) throw new JwkError("weak");
  return RSA_ALGORITHMS;
}

/** A base64url member as bytes, or undefined. */
function bytesOf(text: unknown, maxCharacters = KEY_TEXT_MAX_CHARACTERS): Uint8Array | undefined {
  return typeof text === "string" && text.length <= maxCharacters ? decodeBase64url(text) : undefined;
}

function bitLength(bytes: Uint8Array): number {
  // Some libraries put a zero octet before the modulus (RFC 7518 §6.3.1.1 warns of it).
  const first = bytes.findIndex((byte) => byte !== 0);
  return first < 0 ? 0 : (bytes.length - first) * 8 - (Math.clz32(bytes[first] as number) - 24);
}

/** Primes whose residues tell keys of the library that failed (CVE-2017-15361) from all others. */
const ROCA_PRIMES = [11, 13, 17, 19, 37, 53, 61, 71, 73, 79, 97, 103, 107, 109, 127, 151, 157];

/** Whether the modulus is, modulo each of these primes, a power of 65537: such keys can be factored. */
function hasRocaShape(modulus: Uint8Array): boolean {
  return ROCA_PRIMES.every((prime) => {
    const residue = modulus.reduce((rest, byte) => (rest * 256 + byte) % prime, 0);
    let power = 1;
    do {
      if (power === residue) return true;
      power = (power * 65537) % prime;
    } while (power !== 1);
    return false;
  });
}
