import { requireString } from "../../core/token/check.ts";
import { isGithubActions } from "../../core/trust/shared-issuers.ts";
import { hasAll, namesExactly, pick, type IssuerProfile } from "./profile.ts";

/**
 * GitHub Actions: github.com, enterprises with an issuer of their own, GHE.com and GitHub Enterprise Server. `sub` is neither
 * parsed nor trusted to have a grammar: organisations redefine it, and since July 2026 it comes in two forms (A-OIDC-18);
 * rules bind `repository_id` and `repository_owner_id`.
 *
 * @see standards.md 13.1
 */
export const githubActions: IssuerProfile = {
  kind: "github-actions",
  typ: [undefined, "jwt"],
  keyUse: "sig",
  bareHeader: false,
  requireIat: true,
  matches: (issuer) => issuer.url !== undefined && isGithubActions(issuer.url),
  recognises: (claims) => hasAll(claims, ["repository_id", "event_name", "run_id"]),
  check(claims) {
    // Every job has them; ids are strings, and one that came as a number would be a GitHub that we do not know.
    for (const name of ["repository", "repository_id", "repository_owner_id", "event_name"])
      requireString(claims, name);
  },
  admits(claims, rule) {
    const event = claims["event_name"];
    return !isOutsiderEvent(event) || namesExactly(rule, "event_name", event);
  },
  workload: (claims) => ({
    id: requireString(claims, "sub"),
    display: pick(claims, [
      "repository",
      "ref",
      "event_name",
      "workflow_ref",
      "job_workflow_ref",
      "run_id",
      "run_attempt",
      "check_run_id",
      "actor",
    ]),
  }),
};

/** Events that run with the repository's identity on what an outsider wrote (A-OIDC-16, CONTRACT §4). */
function isOutsiderEvent(event: unknown): boolean {
  return (
    typeof event === "string" &&
    (event.startsWith("pull_request") || event === "issue_comment" || event === "workflow_run")
  );
}
