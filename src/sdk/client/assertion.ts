import { randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair, importJWK, SignJWT } from "jose";
import type { JWK } from "jose";

/** Seconds an assertion lives: long enough to be pasted; the server takes up to 300. */
const ASSERTION_SECONDS = 120;

/** A new ES256 key pair of an agent, as JWKs. */
export async function makeAgentKey(kid: string): Promise<{ readonly privateJwk: JWK; readonly publicJwk: JWK }> {
  const { privateKey } = await generateKeyPair("ES256", { extractable: true });
  const { kty, crv, x, y, d } = await exportJWK(privateKey);
  const publicJwk = { kty, crv, x, y, kid, alg: "ES256", use: "sig" } as JWK;
  return { privateJwk: { ...publicJwk, d } as JWK, publicJwk };
}

/**
 * A `private_key_jwt` assertion: the agent proves itself by its own key, once.
 *
 * @param order.issuer the server's issuer identifier, the only audience
 * @param order.nowSeconds seconds since the epoch
 * @see RFC 7523 §3, OpenID Connect Core 1.0 §9
 */
export async function signAssertion(order: {
  readonly agent: string;
  readonly issuer: string;
  readonly privateJwk: JWK;
  readonly nowSeconds: number;
}): Promise<string> {
  const { agent, issuer, privateJwk, nowSeconds } = order;
  const key = await importJWK(privateJwk, "ES256");
  return new SignJWT({})
    .setProtectedHeader({
      alg: "ES256",
      ...(privateJwk.kid === undefined ? {} : { kid: privateJwk.kid }),
      typ: "client-authentication+jwt",
    })
    .setIssuer(agent)
    .setSubject(agent)
    .setAudience(issuer)
    .setJti(randomUUID())
    .setIssuedAt(nowSeconds)
    .setExpirationTime(nowSeconds + ASSERTION_SECONDS)
    .sign(key);
}
