import { ID_JAG_TYP } from "../core/oauth/vocabulary.ts";
import {
  checkAudience,
  checkTimes,
  checkTyp,
  OUTSIDE_SKEW_SECONDS,
  ownClaim,
  readString,
  requireString,
} from "../core/token/check.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import { readConfirmation } from "./confirmation.ts";
import { LIMITS } from "./limits.ts";
import { readAuthTime, standingIssuer, tokenKey, type VerifyDeps } from "./verify.ts";

/** An identity assertion of a company's IdP: this person, through this agent. */
export interface VerifiedIdJag {
  readonly issuer: Issuer;
  readonly claims: VerifiedClaims;
  /** The person, at the issuer. */
  readonly sub: string;
  readonly jti: string;
  /** Name of this assertion for the replay table. */
  readonly key: string;
  readonly exp: EpochSeconds;
  readonly iat: EpochSeconds;
  readonly authTime?: EpochSeconds;
  /** The request must carry a DPoP proof by this key. */
  readonly jkt?: string;
  /** Resources that the IdP allows; the request may not go beyond. */
  readonly resource?: readonly string[];
  /** Scopes that the IdP allows, space-delimited; likewise. */
  readonly scope?: string;
}

/**
 * Verifies an ID-JAG: its own `typ`, an issuer of humans, `aud` exactly our issuer, and `client_id` the agent that
 * authenticated. What it binds (`jkt`, `resource`, `scope`) is handed on for the caller to enforce.
 *
 * @param agentName the authenticated agent
 * @throws {RefusedToken} with the reason of the check that failed
 * @see draft-ietf-oauth-identity-assertion-authz-grant-04 §4.4.1, standards.md 16.2
 */
export async function verifyIdJag(deps: VerifyDeps, token: string, agentName: string): Promise<VerifiedIdJag> {
  const jws = readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES });
  checkTyp(jws.header.typ, [ID_JAG_TYP]);
  const issuer = await standingIssuer(deps, jws, (candidate) => {
    if (candidate.identifies !== "humans")
      throw new RefusedToken({ reason: "subject_not_human", issuer: candidate.name });
    if (candidate.algorithms?.includes(jws.header.alg) === false)
      throw new RefusedToken({ reason: "token_alg", issuer: candidate.name });
    return deps.checkSignature(token, jws, candidate);
  });
  return judge(jws, { issuer, agentName, now: deps.clock.now(), issuerUrl: deps.issuerUrl });
}

function judge(
  { payload, signingInput }: StrictJws,
  o: { issuer: Issuer; agentName: string; now: EpochSeconds; issuerUrl: string },
): VerifiedIdJag {
  checkAudience(ownClaim(payload, "aud"), [o.issuerUrl]);
  const { exp, iat } = checkTimes(payload, {
    now: o.now,
    skewSeconds: OUTSIDE_SKEW_SECONDS,
    aheadSeconds: OUTSIDE_SKEW_SECONDS,
    maxLifetimeSeconds: Math.min(o.issuer.maxTokenAgeSeconds ?? Infinity, LIMITS.idJagLifetimeSeconds),
    requireIat: true,
  });
  if (requireString(payload, "client_id") !== o.agentName) throw new RefusedToken({ reason: "client_mismatch" });
  const jti = requireString(payload, "jti");
  const scope = readString(payload, "scope", OUTSIDE_TOKEN_MAX_BYTES);
  const authTime = readAuthTime(payload);
  const jkt = readConfirmation(payload);
  const resource = readResources(payload);
  return {
    issuer: o.issuer,
    claims: payload,
    sub: requireString(payload, "sub"),
    jti,
    key: tokenKey(o.issuer, jti, signingInput),
    exp,
    iat: iat as EpochSeconds,
    ...(authTime === undefined ? {} : { authTime }),
    ...(jkt === undefined ? {} : { jkt }),
    ...(resource === undefined ? {} : { resource }),
    ...(scope === undefined ? {} : { scope }),
  };
}

/** A string or an array of strings, as RFC 8707 allows several. */
function readResources(claims: VerifiedClaims): readonly string[] | undefined {
  const value = ownClaim(claims, "resource");
  if (value === undefined) return undefined;
  const list: readonly unknown[] = Array.isArray(value) ? value : [value];
  if (list.length > 0 && list.every((entry): entry is string => typeof entry === "string" && entry !== "")) return list;
  throw new RefusedToken({ reason: "token_claim_type", claim: "resource" });
}
