import { ownClaim } from "../core/token/check.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";

/**
 * The thumbprint of the key that a token is bound to. A binding that we cannot check (a certificate, an embedded key) refuses
 * the token: ignoring `cnf` would make a bearer token of it.
 *
 * @throws {RefusedToken} `token_bound`
 * @see RFC 7800 §3, RFC 9449 §6.1
 */
export function readConfirmation(claims: VerifiedClaims): string | undefined {
  const cnf = ownClaim(claims, "cnf");
  if (cnf === undefined) return undefined;
  if (typeof cnf === "object" && cnf !== null && !Array.isArray(cnf)) {
    const members = Object.entries(cnf);
    const [only] = members;
    if (members.length === 1 && only?.[0] === "jkt" && typeof only[1] === "string") return only[1];
  }
  throw new RefusedToken({ reason: "token_bound" });
}

/**
 * Refuses a token that is bound to another key than the request was proved with.
 *
 * @param proofJkt thumbprint of the key of the request's good DPoP proof, if any
 * @throws {RefusedToken} `token_bound`
 */
export function checkConfirmation(claims: VerifiedClaims, proofJkt: string | undefined): void {
  const jkt = readConfirmation(claims);
  if (jkt !== undefined && jkt !== proofJkt) throw new RefusedToken({ reason: "token_bound" });
}
