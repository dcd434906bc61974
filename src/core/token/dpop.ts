import type { EpochSeconds } from "../time.ts";
import type { PublicJwk } from "../trust/model.ts";
import type { VerifiedClaims } from "../trust/subject.ts";
import { checkTyp, ownClaim, readString, requireString } from "./check.ts";
import { readJws } from "./jws.ts";
import type { JwsAlgorithm, StrictJws } from "./jws.ts";
import { checkPublicJwk, JwkError } from "./public-jwk.ts";
import type { JwkFacts } from "./public-jwk.ts";
import { RefusedToken } from "./refused.ts";

/** Algorithms accepted in proofs, as published in the metadata (`dpop_signing_alg_values_supported`). */
export const DPOP_ALGORITHMS = [
  "ES256",
  "ES384",
  "Ed25519",
  "EdDSA",
  "RS256",
  "PS256",
] as const satisfies JwsAlgorithm[];

/** Seconds that a proof's `iat` may lie back. Its `jti` has to be remembered at least this long and the next one. */
export const DPOP_MAX_AGE_SECONDS = 60;

/** Seconds that a proof's `iat` may lie ahead. */
export const DPOP_MAX_AHEAD_SECONDS = 5;

/** Longest proof, in bytes: header with an RSA-4096 key, an RSA-4096 signature, and a long `htu`. */
export const DPOP_PROOF_MAX_BYTES = 4 * 1024;

const JTI_MAX_CHARACTERS = 256;
const NONCE_MAX_CHARACTERS = 256;

/** A proof whose key its caller has to verify it with. */
export interface DpopSignature {
  readonly jwk: PublicJwk;
  /** RFC 7638 thumbprint of `jwk`, so that an imported key can be kept by it. */
  readonly jkt: string;
  readonly alg: JwsAlgorithm;
  readonly signingInput: string;
  readonly signature: Uint8Array;
}

/** What a proof has to be for. */
export interface DpopRules {
  /** Method of the request. */
  readonly method: string;
  /** URL of the endpoint by configuration, never by `Host`; without query and fragment. */
  readonly url: string;
  readonly now: EpochSeconds;
  /** Judges the nonce (undefined: the proof has none). Absent: nonces are not in use. */
  readonly isNonceGood?: (nonce: string | undefined) => boolean;
  /** At a resource: base64url SHA-256 of the access token as it was sent. */
  readonly ath?: string;
  /** Whether the key made this signature; false too for a key that cannot be imported. */
  readonly verify: (proof: DpopSignature) => boolean;
  readonly sha256Base64url: (text: string) => string;
}

/** A proof that is good, but for its `jti` having been seen. */
export interface DpopProof {
  /** RFC 7638 thumbprint of the key. */
  readonly jkt: string;
  readonly jti: string;
  readonly iat: EpochSeconds;
}

/**
 * Checks the value of a `DPoP` header. What remains to the caller: that the header came once, that the `jti` is new, and at
 * a resource that `jkt` is the token's.
 *
 * @throws {RefusedToken} `dpop_malformed` (not a proof), `dpop_invalid` (not for this request), `dpop_nonce`
 * @see RFC 9449 §4.3
 */
export function checkDpopProof(value: string, rules: DpopRules): DpopProof {
  const { proof, key } = readProof(value);
  const jwk = proof.header.jwk as PublicJwk;
  const { alg } = proof.header;
  const jkt = rules.sha256Base64url(key.thumbprintInput);
  const claims = readClaims(proof.payload);
  if (!rules.verify({ jwk, jkt, alg, signingInput: proof.signingInput, signature: proof.signature })) {
    throw invalid("signature");
  }
  if (claims.htm !== rules.method) throw invalid("htm");
  if (!isSameTarget(claims.htu, rules.url)) throw invalid("htu");
  if (rules.ath !== undefined && claims.ath !== rules.ath) throw invalid("ath");
  if (claims.iat < rules.now - DPOP_MAX_AGE_SECONDS || claims.iat > rules.now + DPOP_MAX_AHEAD_SECONDS) {
    throw invalid("iat");
  }
  // Last, so that a server nonce is only ever handed to a proof that is otherwise good.
  if (rules.isNonceGood !== undefined && !rules.isNonceGood(claims.nonce))
    throw new RefusedToken({ reason: "dpop_nonce" });
  return { jkt, jti: claims.jti, iat: claims.iat };
}

function readProof(value: string): { proof: StrictJws; key: JwkFacts } {
  // Node joins two DPoP headers with a comma; a comma is outside base64url, so two headers are refused here (§4.3 no. 1).
  try {
    const proof = readJws(value, { maxBytes: DPOP_PROOF_MAX_BYTES, allowJwk: true });
    checkTyp(proof.header.typ, ["dpop+jwt"]);
    const { alg, jwk } = proof.header;
    if (typeof jwk !== "object" || jwk === null || Array.isArray(jwk)) throw malformed("jwk");
    const key = checkPublicJwk(jwk as Readonly<Record<string, unknown>>);
    const isServed = (DPOP_ALGORITHMS as readonly string[]).includes(alg) && key.algorithms.includes(alg);
    if (!isServed) throw malformed("alg");
    return { proof, key };
  } catch (error) {
    if (error instanceof JwkError)
      throw new RefusedToken({ reason: "dpop_malformed", part: "jwk", problem: error.problem });
    if (error instanceof RefusedToken) throw asMalformed(error);
    throw error;
  }
}

interface ProofClaims {
  readonly jti: string;
  readonly htm: string;
  readonly htu: string;
  readonly iat: EpochSeconds;
  readonly nonce?: string | undefined;
  readonly ath?: string | undefined;
}

function readClaims(payload: VerifiedClaims): ProofClaims {
  const iat = ownClaim(payload, "iat");
  if (typeof iat !== "number" || !Number.isSafeInteger(iat)) throw malformed("iat");
  try {
    return {
      jti: requireString(payload, "jti", JTI_MAX_CHARACTERS),
      htm: requireString(payload, "htm"),
      htu: requireString(payload, "htu"),
      iat,
      nonce: readString(payload, "nonce", NONCE_MAX_CHARACTERS),
      ath: readString(payload, "ath"),
    };
  } catch (error) {
    throw error instanceof RefusedToken ? asMalformed(error) : error;
  }
}

/** The reasons of the token reader, told as those of a proof; the cause keeps the first. */
function asMalformed(error: RefusedToken): RefusedToken {
  if (error.reason === "dpop_malformed") return error;
  return new RefusedToken({ reason: "dpop_malformed", part: "jws", problem: error.reason }, { cause: error });
}

const URI_CHARACTERS = /^[\x21\x23-\x3b\x3d\x3f-\x5b\x5d\x5f\x61-\x7a\x7e]+$/;
const UNRESERVED = /^[A-Za-z0-9\-._~]$/;

/**
 * A URL after syntax-based and scheme-based normalisation; undefined when it is no absolute http(s) URL, or has a query, a
 * fragment or user information, which an `htu` must not have.
 *
 * @see RFC 9449 §4.2 and §4.3 no. 9, RFC 3986 §6.2.2 and §6.2.3
 */
export function normaliseTarget(text: string): string | undefined {
  // The WHATWG parser forgives blanks, backslashes and a missing slash; a proof is signed, so it can be exact.
  if (!URI_CHARACTERS.test(text) || !/^https?:\/\//i.test(text) || text.includes("?") || text.includes("#"))
    return undefined;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    return undefined;
  }
  if (url.username !== "" || url.password !== "") return undefined;
  const path = url.pathname.replace(/%([0-9A-Fa-f]{2})/g, (escape, hex: string) => {
    const character = String.fromCharCode(Number.parseInt(hex, 16));
    return UNRESERVED.test(character) ? character : escape.toUpperCase();
  });
  return url.origin + path;
}

function isSameTarget(htu: string, url: string): boolean {
  if (htu === url) return true;
  const target = normaliseTarget(url);
  return target !== undefined && normaliseTarget(htu) === target;
}

function malformed(part: string): RefusedToken {
  return new RefusedToken({ reason: "dpop_malformed", part });
}

function invalid(part: string): RefusedToken {
  return new RefusedToken({ reason: "dpop_invalid", part });
}
