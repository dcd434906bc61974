import { requireString } from "../../core/token/check.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import type { Issuer } from "../../core/trust/model.ts";
import type { VerifiedClaims } from "../../core/trust/subject.ts";
import { pick, type IssuerProfile } from "./profile.ts";

/**
 * Projected service account tokens of a Kubernetes cluster. Legacy tokens from secrets have no `exp` and end in the pipeline;
 * a deleted pod's token stays valid here until its `exp`, since only the cluster's TokenReview knows.
 *
 * @see standards.md 13.3, A-OIDC-20
 */
export const kubernetes: IssuerProfile = {
  kind: "kubernetes",
  typ: [undefined, "jwt"],
  keyUse: "sig",
  bareHeader: false,
  requireIat: true,
  matches: isClusterUrl,
  recognises: (claims) => Object.hasOwn(claims, MEMBER),
  check(claims) {
    const { namespace, account } = readAccount(claims);
    const details = clusterDetails(claims);
    // Only tokens for the API server itself carry it; their `exp` is stretched to a year.
    if (Object.hasOwn(details, "warnafter")) throw new RefusedToken({ reason: "token_audience", claim: MEMBER });
    const named = [details["namespace"], member(details["serviceaccount"], "name")];
    if (named[0] !== namespace || named[1] !== account)
      throw new RefusedToken({ reason: "token_claim_type", claim: MEMBER });
  },
  admits: () => true,
  workload(claims) {
    const details = clusterDetails(claims);
    const pod = { pod: member(details["pod"], "name"), node: member(details["node"], "name") };
    return { id: requireString(claims, "sub"), display: pick(pod, ["pod", "node"]) };
  },
};

const MEMBER = "kubernetes.io";

/** EKS, GKE and AKS; other clusters are known by the claim. */
function isClusterUrl(issuer: Issuer): boolean {
  const url = issuer.url ?? "";
  return (
    /^https:\/\/oidc\.eks\.[a-z0-9-]+\.amazonaws\.com(\.cn)?\/id\//.test(url) ||
    url.startsWith("https://container.googleapis.com/v1/projects/") ||
    /^https:\/\/[a-z0-9-]+\.oic\.prod-aks\.azure\.com\//.test(url)
  );
}

function readAccount(claims: VerifiedClaims): { namespace: string; account: string } {
  const [, namespace, account] = /^system:serviceaccount:([^:]+):([^:]+)$/.exec(requireString(claims, "sub")) ?? [];
  if (namespace === undefined || account === undefined)
    throw new RefusedToken({ reason: "token_claim_type", claim: "sub" });
  return { namespace, account };
}

function clusterDetails(claims: VerifiedClaims): Readonly<Record<string, unknown>> {
  const details = Object.hasOwn(claims, MEMBER) ? claims[MEMBER] : undefined;
  if (details === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: MEMBER });
  if (typeof details !== "object" || details === null)
    throw new RefusedToken({ reason: "token_claim_type", claim: MEMBER });
  return details as Record<string, unknown>;
}

function member(value: unknown, name: string): unknown {
  return typeof value === "object" && value !== null && Object.hasOwn(value, name)
    ? (value as Record<string, unknown>)[name]
    : undefined;
}
