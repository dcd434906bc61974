import type { VerifiedClaims } from "../trust/subject.ts";
import { decodeBase64url } from "./base64url.ts";
import { JsonError, MAX_JSON_DEPTH, readJson } from "./json.ts";
import { RefusedToken } from "./refused.ts";

/** Signature algorithms that can ever be accepted: asymmetric, spelled exactly (RFC 7518 §3.1, RFC 8037, RFC 9864). */
export const JWS_ALGORITHMS = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
] as const;

/** One of {@link JWS_ALGORITHMS}. */
export type JwsAlgorithm = (typeof JWS_ALGORITHMS)[number];

/** Longest token of an outside issuer, in bytes (A-JWT-11). */
export const OUTSIDE_TOKEN_MAX_BYTES = 16 * 1024;

/** Longest token of ours, in bytes (CONTRACT §5). */
export const OWN_TOKEN_MAX_BYTES = 8 * 1024;

/** Longest `kid`; it is only ever compared, but also logged. */
const KID_MAX_CHARACTERS = 512;
const TYP_MAX_CHARACTERS = 128;

/** Header members that carry or fetch a key, change what is signed, or make the token something else than a plain JWS. */
const REFUSED_MEMBERS: ReadonlySet<string> = new Set([
  ..."jku jwk x5u x5c trust_chain crit b64 zip cty".split(" "),
  ..."enc epk apu apv iv tag p2s p2c".split(" "),
]);

const OWN_MEMBERS: ReadonlySet<string> = new Set(["alg", "typ", "kid"]);
const ALGORITHMS: ReadonlySet<string> = new Set(JWS_ALGORITHMS);

/** The members of a protected header that anything of ours looks at. */
export interface JoseHeader {
  readonly alg: JwsAlgorithm;
  readonly typ?: string;
  readonly kid?: string;
  /** Only where the reader allowed it (DPoP), and not judged yet. */
  readonly jwk?: unknown;
}

/** What a reader accepts. */
export interface JwsLimits {
  readonly maxBytes: number;
  /** A header `jwk` is read, not refused (RFC 9449 §4.2). */
  readonly allowJwk?: boolean;
  /** Only `alg`, `typ` and `kid` may occur: for what we signed ourselves. Else unknown members are ignored (RFC 7515 §4). */
  readonly ownHeader?: boolean;
}

/** A strictly read compact JWS whose payload is any bytes. Nothing in it is verified. */
export interface CompactJws {
  readonly header: JoseHeader;
  readonly payloadBytes: Uint8Array;
  /** ASCII: the encoded header, a dot and the encoded payload, as they were sent. */
  readonly signingInput: string;
  readonly signature: Uint8Array;
}

/** A strictly read JWT. Nothing in it is verified. */
export interface StrictJws {
  readonly header: JoseHeader;
  readonly payload: VerifiedClaims;
  readonly signingInput: string;
  readonly signature: Uint8Array;
}

/**
 * Reads a signed JWT in compact serialisation. Every JSON and base64url parser that accepts the same text gives the same
 * answer. The signature is decoded, not verified.
 *
 * @throws {RefusedToken} `token_too_large`, `token_malformed`, `token_duplicate_member`, `token_alg`, `token_header_member`
 * @see RFC 7515 §5.2, RFC 7519 §7.2, RFC 8725 §3
 */
export function readJws(token: string, limits: JwsLimits): StrictJws {
  const { header, payloadBytes, signingInput, signature } = readCompactJws(token, limits);
  return { header, payload: readObject(payloadBytes, "payload"), signingInput, signature };
}

/**
 * As {@link readJws}, for a payload that need not be JSON.
 *
 * @throws {RefusedToken} as `readJws`
 */
export function readCompactJws(token: string, limits: JwsLimits): CompactJws {
  // Characters are bytes here: a character outside ASCII is refused below.
  if (token.length > limits.maxBytes) throw new RefusedToken({ reason: "token_too_large", maxBytes: limits.maxBytes });
  const first = token.indexOf(".");
  const second = first < 0 ? -1 : token.indexOf(".", first + 1);
  if (second < 0) throw malformed("parts");
  const headerBytes = decodeBase64url(token.slice(0, first));
  const payloadBytes = decodeBase64url(token.slice(first + 1, second));
  // A third dot is outside the alphabet, so five-part JWE and other shapes end here.
  const signature = decodeBase64url(token.slice(second + 1));
  if (headerBytes === undefined || payloadBytes === undefined || signature === undefined) throw malformed("base64url");
  if (signature.length === 0) throw malformed("signature");
  return { header: readHeader(headerBytes, limits), payloadBytes, signingInput: token.slice(0, second), signature };
}

function readHeader(bytes: Uint8Array, limits: JwsLimits): JoseHeader {
  const header = readObject(bytes, "header");
  for (const name of Object.keys(header)) {
    if (name === "jwk" && limits.allowJwk === true) continue;
    const isRefused = limits.ownHeader === true ? !OWN_MEMBERS.has(name) : REFUSED_MEMBERS.has(name);
    if (isRefused) throw new RefusedToken({ reason: "token_header_member" });
  }
  const { alg, typ, kid, jwk } = header;
  if (typeof alg !== "string" || !ALGORITHMS.has(alg)) throw new RefusedToken({ reason: "token_alg" });
  checkText(typ, TYP_MAX_CHARACTERS);
  checkText(kid, KID_MAX_CHARACTERS);
  return {
    alg: alg as JwsAlgorithm,
    ...(typ === undefined ? {} : { typ }),
    ...(kid === undefined ? {} : { kid }),
    ...(jwk === undefined ? {} : { jwk }),
  };
}

function checkText(value: unknown, maxCharacters: number): asserts value is string | undefined {
  if (value === undefined || (typeof value === "string" && value.length <= maxCharacters)) return;
  throw malformed("header");
}

function readObject(bytes: Uint8Array, part: string): VerifiedClaims {
  let value: unknown;
  try {
    value = readJson(bytes, { maxDepth: MAX_JSON_DEPTH });
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const reason = error.problem === "duplicate" ? "token_duplicate_member" : "token_malformed";
    throw new RefusedToken({ reason, part, problem: error.problem });
  }
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw malformed(part);
  return value as VerifiedClaims;
}

function malformed(part: string): RefusedToken {
  return new RefusedToken({ reason: "token_malformed", part });
}
