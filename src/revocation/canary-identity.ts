import { CANARY, canaryTrust } from "../core/trust/canary.ts";
import type { PublicJwk, TrustObjects } from "../core/trust/model.ts";
import type { EpochSeconds } from "../core/time.ts";
import { sha256Hex } from "../system/hash.ts";
import { signJws } from "../system/jws-signature.ts";
import { makeKeyPair } from "../system/key-pair.ts";
import { randomToken } from "../system/random.ts";

/** How long a proof of the canary counts, in seconds; it works once anyway. */
const PROOF_SECONDS = 30;
const HEADER = Buffer.from(JSON.stringify({ typ: "JWT", alg: "ES256" })).toString("base64url");

/** What this replica's canary proves itself with. Made at the start, kept in memory, known to no other replica. */
export interface CanaryIdentity {
  /** What the trust index of this replica says about it. */
  readonly trust: TrustObjects;
  /** A `private_key_jwt` as any agent's with a key of its own (RFC 7523 §2.2). */
  proof(now: EpochSeconds): string;
  /** `Authorization` of the resource that introspects its tokens and reads its feed. */
  readonly introspection: string;
}

/** @param issuerUrl our own issuer */
export function createCanaryIdentity(issuerUrl: string): CanaryIdentity {
  const { privateKey, publicKey } = makeKeyPair("P-256");
  const secret = randomToken(32);
  const key = publicKey.export({ format: "jwk" }) as unknown as PublicJwk;
  return {
    trust: canaryTrust({ issuerUrl, key, secretHash: `sha256:${sha256Hex(secret)}` }),
    proof: (now) =>
      signJws("ES256", privateKey, {
        encodedHeader: HEADER,
        claims: { iss: CANARY, sub: CANARY, aud: issuerUrl, jti: randomToken(16), iat: now, exp: now + PROOF_SECONDS },
      }),
    introspection: `Basic ${Buffer.from(`${CANARY}:${secret}`).toString("base64")}`,
  };
}
