import { createPrivateKey } from "node:crypto";
import type { JsonWebKey, KeyObject } from "node:crypto";
import { JsonError, readJson } from "../core/token/json.ts";
import { JWS_ALGORITHMS } from "../core/token/jws.ts";
import type { JwsAlgorithm } from "../core/token/jws.ts";
import { signJws } from "../system/jws-signature.ts";
import { ProviderError } from "./provider-error.ts";

/** A private key of ours that an upstream knows the public half of. */
export interface AssertionKey {
  readonly key: KeyObject;
  readonly algorithm: JwsAlgorithm;
  readonly keyId?: string | undefined;
}

/** What is to be preferred to what the key says of itself. */
export interface AssertionChoice {
  readonly algorithm?: JwsAlgorithm | undefined;
  readonly keyId?: string | undefined;
}

/**
 * Reads a private key: PEM (PKCS #8, PKCS #1, SEC 1; without a passphrase) or a JWK.
 *
 * @throws {ProviderError} `secret_malformed`
 */
export function readAssertionKey(text: string, choice: AssertionChoice = {}): AssertionKey {
  const jwk = text.trimStart().startsWith("{") ? readJwk(text) : undefined;
  let key: KeyObject;
  try {
    key = createPrivateKey(jwk === undefined ? text : { key: jwk as JsonWebKey, format: "jwk" });
  } catch {
    // No cause: what OpenSSL says of a key is nobody's business.
    throw new ProviderError("secret_malformed");
  }
  const named = JWS_ALGORITHMS.find((algorithm) => algorithm === jwk?.["alg"]);
  const algorithm = choice.algorithm ?? named ?? usualAlgorithm(key);
  if (algorithm === undefined) throw new ProviderError("secret_malformed");
  const keyId = choice.keyId ?? jwk?.["kid"];
  return { key, algorithm, keyId: typeof keyId === "string" ? keyId : undefined };
}

/**
 * A JWT that says who we are at an upstream.
 *
 * @throws {ProviderError} `secret_malformed` when the key is not one for its algorithm, or too small
 * @see RFC 7523 §3
 */
export function signAssertion({ key, algorithm, keyId }: AssertionKey, claims: object): string {
  const header = { typ: "JWT", alg: algorithm, kid: keyId };
  const encodedHeader = Buffer.from(JSON.stringify(header)).toString("base64url");
  try {
    return signJws(algorithm, key, { encodedHeader, claims });
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new ProviderError("secret_malformed");
  }
}

function readJwk(text: string): Readonly<Record<string, unknown>> {
  try {
    return readJson(Buffer.from(text)) as Readonly<Record<string, unknown>>;
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ProviderError("secret_malformed");
  }
}

const ALGORITHM_OF_CURVE: Readonly<Record<string, JwsAlgorithm>> = {
  prime256v1: "ES256",
  secp384r1: "ES384",
  secp521r1: "ES512",
};

function usualAlgorithm({ asymmetricKeyType, asymmetricKeyDetails }: KeyObject): JwsAlgorithm | undefined {
  if (asymmetricKeyType === "rsa") return "RS256";
  if (asymmetricKeyType === "ed25519") return "EdDSA";
  return ALGORITHM_OF_CURVE[asymmetricKeyDetails?.namedCurve ?? ""];
}
