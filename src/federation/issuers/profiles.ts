import type { Issuer } from "../../core/trust/model.ts";
import type { VerifiedClaims } from "../../core/trust/subject.ts";
import { generic } from "./generic.ts";
import { githubActions } from "./github-actions.ts";
import { gitlab } from "./gitlab.ts";
import { kubernetes } from "./kubernetes.ts";
import type { IssuerProfile } from "./profile.ts";
import { spiffe } from "./spiffe.ts";

const WORKLOAD_PROFILES: readonly IssuerProfile[] = [spiffe, githubActions, gitlab, kubernetes];

/**
 * The profile of a token whose claims are not verified yet: by the issuer's configuration, else by the look of the claims, by
 * which a token can only choose more checks for itself. People's tokens are `generic`: the traps of CI systems are not theirs.
 */
export function profileOf(issuer: Issuer, claims: VerifiedClaims): IssuerProfile {
  if (issuer.identifies === "humans") return generic;
  return (
    WORKLOAD_PROFILES.find((profile) => profile.matches(issuer)) ??
    WORKLOAD_PROFILES.find((profile) => profile.recognises(claims)) ??
    generic
  );
}
