import type { StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Issuer } from "../core/trust/model.ts";
import { sha256Base64url } from "../system/hash.ts";
import { verifyJwsSignature } from "../system/jws-signature.ts";
import type { Metrics } from "../system/metrics.ts";
import type { JwksCache } from "./jwks-cache.ts";
import type { SignatureMemo } from "./signature-memo.ts";

/**
 * Refuses a token that was not signed by the issuer.
 *
 * @throws {RefusedToken} `token_key_unknown`, `token_issuer_unreachable`, `token_signature`
 */
export type SignatureCheck = (token: string, jws: StrictJws, issuer: Issuer) => Promise<void>;

/** What the check needs. */
export interface SignatureDeps {
  readonly jwks: JwksCache;
  readonly memo: SignatureMemo;
  readonly metrics?: Pick<Metrics, "signatureMemoHits" | "signatureMemoMisses"> | undefined;
}

/** The key is looked up every time, also for a remembered signature: a key that is gone verifies nothing. */
export function createSignatureCheck({ jwks, memo, metrics }: SignatureDeps): SignatureCheck {
  return async (token, jws, issuer) => {
    const { key, generation } = await jwks.find(issuer, jws.header);
    const entry = `${generation} ${key.thumbprint} ${sha256Base64url(token)}`;
    if (memo.has(entry)) {
      metrics?.signatureMemoHits.inc();
      return;
    }
    metrics?.signatureMemoMisses.inc();
    if (!verifyJwsSignature(jws.header.alg, key.key, jws))
      throw new RefusedToken({ reason: "token_signature", issuer: issuer.name });
    memo.add(entry);
  };
}
