import { requireString } from "../../core/token/check.ts";
import type { VerifiedClaims } from "../../core/trust/subject.ts";
import { hasAll, namesExactly, pick, type IssuerProfile } from "./profile.ts";

/**
 * GitLab CI `id_tokens`, of GitLab.com and of instances of one's own. Authors of a pipeline choose the audience freely, so it
 * proves nothing about the project (A-OIDC-19).
 *
 * @see standards.md 13.2
 */
export const gitlab: IssuerProfile = {
  kind: "gitlab",
  typ: [undefined, "jwt"],
  keyUse: "sig",
  bareHeader: false,
  requireIat: true,
  matches: (issuer) => issuer.url === "https://gitlab.com",
  recognises: (claims) => hasAll(claims, ["project_id", "namespace_id", "pipeline_id", "job_id"]),
  check(claims) {
    for (const name of ["project_id", "namespace_id"]) requireString(claims, name);
  },
  admits(claims, rule) {
    // Since 18.4: in a merge request's pipeline that the parent runs for a fork, `project_*` is the fork and `job_project_*` the
    // parent. Such a token is good only for a rule that says where the job runs.
    const mismatches = ["project_id", "namespace_id"].filter((name) => isForeign(claims, name));
    return mismatches.every((name) => namesExactly(rule, `job_${name}`, claims[`job_${name}`]));
  },
  workload: (claims) => ({
    id: requireString(claims, "sub"),
    display: pick(claims, [
      "project_path",
      "ref",
      "ref_type",
      "pipeline_id",
      "pipeline_source",
      "job_id",
      "environment",
      "user_login",
    ]),
  }),
};

function isForeign(claims: VerifiedClaims, name: string): boolean {
  const job = `job_${name}`;
  return Object.hasOwn(claims, job) && claims[job] !== claims[name];
}
