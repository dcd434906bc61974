import { createHash, randomUUID } from "node:crypto";
import { calculateJwkThumbprint, type JWK } from "jose";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { signJws } from "../../src/system/jws-signature.ts";

/** What a proof says; by default what a good client would say. */
export interface ProofParts {
  readonly htu: string;
  readonly iat: number;
  readonly htm?: string;
  readonly nonce?: string | undefined;
  /** The access token, for `ath`. */
  readonly token?: string;
  /** Replace or, as `undefined`, remove claims and header members. */
  readonly claims?: Record<string, unknown>;
  readonly header?: Record<string, unknown>;
}

/** A client's key, and the proofs that it makes. */
export interface DpopKey {
  readonly jwk: JWK;
  /** Its RFC 7638 thumbprint, by jose. */
  readonly jkt: string;
  /** Contains the private parts; no proof may show them. */
  readonly privateJwk: JWK;
  /** A fresh proof with a `jti` of its own. */
  proof(parts: ProofParts): string;
}

/** Makes a key on P-256. */
export async function dpopKey(): Promise<DpopKey> {
  const { privateKey, publicKey } = makeKeyPair("P-256");
  const jwk = publicKey.export({ format: "jwk" }) as JWK;
  return {
    jwk,
    jkt: await calculateJwkThumbprint(jwk),
    privateJwk: privateKey.export({ format: "jwk" }) as JWK,
    proof({ htu, iat, htm = "POST", nonce, token, claims = {}, header = {} }) {
      const text = JSON.stringify({ typ: "dpop+jwt", alg: "ES256", jwk, ...header });
      return signJws("ES256", privateKey, {
        encodedHeader: Buffer.from(text).toString("base64url"),
        claims: {
          jti: randomUUID(),
          htm,
          htu,
          iat,
          ...(nonce === undefined ? {} : { nonce }),
          ...(token === undefined ? {} : { ath: createHash("sha256").update(token).digest("base64url") }),
          ...claims,
        },
      });
    },
  };
}
