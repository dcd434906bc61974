import type { JwsAlgorithm } from "../../core/token/jws.ts";
import type { Issuer, TrustRule } from "../../core/trust/model.ts";
import type { VerifiedClaims } from "../../core/trust/subject.ts";

/** What a workload token says about who runs where. */
export interface Workload {
  /** `sub`, or the SPIFFE ID. */
  readonly id: string;
  /** Few claims that tell an operator which job, pod or service it was; for audit events. Never used to decide. */
  readonly display: Readonly<Record<string, string | number>>;
}

/**
 * What is special about one kind of issuer. A profile only ever adds checks: choosing the wrong one can refuse a token, and
 * never accept one that the pipeline would refuse.
 */
export interface IssuerProfile {
  /** Recorded with every verified token. */
  readonly kind: string;
  /** Accepted `typ` header values in lower case, without `application/`; `undefined` in it accepts a missing one. */
  readonly typ: readonly (string | undefined)[];
  /** Accepted algorithms where the issuer's own list is absent; default all asymmetric ones. */
  readonly algorithms?: readonly JwsAlgorithm[];
  /** Which of the issuer's JWKs count: `sig`, those without `use` or with `sig`; `jwt-svid`, those that say so (SPIFFE). */
  readonly keyUse: "sig" | "jwt-svid";
  /** Header members other than `alg`, `kid` and `typ` refuse the token. */
  readonly bareHeader: boolean;
  /** Whether `iat` must be there. */
  readonly requireIat: boolean;
  /** Whether the issuer is of this kind, by its configuration. */
  matches(issuer: Issuer): boolean;
  /** Whether a token of an issuer that no profile matches looks like this kind: clusters and servers live at any URL. */
  recognises(claims: VerifiedClaims): boolean;
  /**
   * Further checks of verified claims.
   *
   * @throws {RefusedToken}
   */
  check(claims: VerifiedClaims, issuer: Issuer): void;
  /** Whether a rule whose claims match may be used for this token: some situations count only when the rule names them. */
  admits(claims: VerifiedClaims, rule: TrustRule): boolean;
  workload(claims: VerifiedClaims): Workload;
}

/** Those of the named claims that are strings or numbers, for {@link Workload.display}. */
export function pick(claims: VerifiedClaims, names: readonly string[]): Record<string, string | number> {
  const picked: Record<string, string | number> = {};
  for (const name of names) {
    const value = Object.hasOwn(claims, name) ? claims[name] : undefined;
    if (typeof value === "number" || (typeof value === "string" && value.length <= DISPLAY_MAX_CHARACTERS))
      picked[name] = value;
  }
  return picked;
}

/** Longest displayed claim: these go into audit events. */
const DISPLAY_MAX_CHARACTERS = 300;

/** Whether the claims have all these members. */
export function hasAll(claims: VerifiedClaims, names: readonly string[]): boolean {
  return names.every((name) => Object.hasOwn(claims, name));
}

/** Whether the rule names this claim with exactly this value, alone or in a list; a glob is not naming. */
export function namesExactly(rule: TrustRule, claim: string, value: unknown): boolean {
  const matcher = Object.hasOwn(rule.claims, claim) ? rule.claims[claim] : undefined;
  return matcher === value || (Array.isArray(matcher) && matcher.includes(value));
}
