import { requireString } from "../../core/token/check.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import { parseSpiffeId } from "../../core/trust/spiffe-id.ts";
import { pick, type IssuerProfile } from "./profile.ts";

/**
 * JWT-SVIDs of a SPIFFE trust domain. The keys are those of the trust domain in `sub`, whatever `iss` says.
 *
 * @see SPIFFE JWT-SVID §2 to §5, standards.md 14.2
 */
export const spiffe: IssuerProfile = {
  kind: "spiffe",
  typ: [undefined, "jwt", "jose"],
  // JWT-SVID §2.1 lists these; EdDSA is not among them.
  algorithms: ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"],
  keyUse: "jwt-svid",
  bareHeader: true,
  requireIat: false,
  matches: (issuer) => issuer.spiffe !== undefined,
  // A token with a SPIFFE ID of an ordinary OIDC issuer (SPIRE's discovery provider) follows that issuer's rules.
  recognises: () => false,
  check(claims, issuer) {
    const id = parseSpiffeId(requireString(claims, "sub"));
    // The lookup found the issuer by this trust domain; said again here, where the signature is known to be good.
    if (id === undefined || `spiffe://${id.trustDomain}` !== issuer.spiffe) {
      throw new RefusedToken({ reason: "token_issuer_unknown", claim: "sub" });
    }
    // A trust domain's own ID is no workload.
    if (id.path === "") throw new RefusedToken({ reason: "token_claim_type", claim: "sub" });
  },
  admits: () => true,
  workload: (claims) => ({ id: requireString(claims, "sub"), display: pick(claims, ["iss"]) }),
};
