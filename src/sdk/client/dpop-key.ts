import { createHash, randomUUID } from "node:crypto";
import { exportJWK, generateKeyPair, SignJWT, type JWK } from "jose";

/** A key that tokens are bound to. It never leaves this process. */
export interface DpopKey {
  /**
   * A proof for one request.
   *
   * @param o.url without query and fragment
   * @param o.token the access token that goes with it; absent at the token endpoint
   * @see RFC 9449 §4.2
   */
  proof(o: {
    readonly method: string;
    readonly url: string;
    readonly token?: string;
    readonly nonce?: string;
  }): Promise<string>;
}

/** Makes a new key on P-256 that cannot be exported. @param now epoch seconds */
export async function createDpopKey(now: () => number): Promise<DpopKey> {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  const { kty, crv, x, y } = await exportJWK(publicKey);
  const jwk = { kty, crv, x, y } as JWK;
  return {
    proof({ method, url, token, nonce }) {
      const { origin, pathname } = new URL(url);
      return new SignJWT({
        htm: method,
        htu: origin + pathname,
        ...(token !== undefined && { ath: createHash("sha256").update(token).digest("base64url") }),
        ...(nonce !== undefined && { nonce }),
      })
        .setProtectedHeader({ typ: "dpop+jwt", alg: "ES256", jwk })
        .setJti(randomUUID())
        .setIssuedAt(now())
        .sign(privateKey);
    },
  };
}
