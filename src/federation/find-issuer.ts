import { ownClaim } from "../core/token/check.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Issuer } from "../core/trust/model.ts";
import { parseSpiffeId } from "../core/trust/spiffe-id.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";

/**
 * The configured issuer that a token claims to be of: by `iss`, byte for byte (A-JWT-17); else, since a JWT-SVID's `iss` means
 * nothing, by the trust domain of the SPIFFE ID in `sub`. Nothing is fetched from anywhere to find it (A-OIDC-01).
 *
 * @param claims not verified yet
 * @param ownIssuer our issuer identifier: no entry can make an outside token one of ours (A-JWT-13)
 * @throws {RefusedToken} `token_issuer_unknown`, `token_claim_missing`, `token_claim_type`
 * @see SPIFFE JWT-SVID §3, standards.md 12.2 and 14.2
 */
export function findIssuer(trust: TrustIndex, claims: VerifiedClaims, ownIssuer: string): Issuer {
  const iss = ownClaim(claims, "iss");
  if (iss !== undefined && typeof iss !== "string")
    throw new RefusedToken({ reason: "token_claim_type", claim: "iss" });
  if (iss === ownIssuer) throw new RefusedToken({ reason: "token_issuer_unknown" });
  const byUrl = iss === undefined ? undefined : trust.issuerByUrl(iss);
  if (byUrl !== undefined) return byUrl;
  const sub = ownClaim(claims, "sub");
  const spiffeId = typeof sub === "string" ? parseSpiffeId(sub) : undefined;
  const byTrustDomain = spiffeId === undefined ? undefined : trust.issuerByTrustDomain(spiffeId.trustDomain);
  if (byTrustDomain !== undefined) return byTrustDomain;
  if (iss === undefined && spiffeId === undefined)
    throw new RefusedToken({ reason: "token_claim_missing", claim: "iss" });
  throw new RefusedToken({ reason: "token_issuer_unknown" });
}
