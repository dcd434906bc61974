import { compileMatchers, matchClaims, readClaim } from "./matcher.ts";
import type { CompiledMatcher } from "./matcher.ts";
import type { Issuer, TrustRule } from "./model.ts";
import type { TrustProblem } from "./problem.ts";
import { isGithubActions, sharedIssuer } from "./shared-issuers.ts";
import type { SharedIssuer } from "./shared-issuers.ts";
import type { VerifiedClaims } from "./subject.ts";

/** A trust rule made ready for the issuer it names. */
export interface CompiledRule {
  readonly matchers: readonly CompiledMatcher[];
  /** Whether a verified token of that issuer is the agent, by this rule alone. */
  matches(claims: VerifiedClaims): boolean;
}

/** Claims that the verifier has judged before: binding them tells no workload from another. */
const JUDGED_CLAIMS = new Set(["iss", "aud", "exp", "nbf", "iat", "jti"]);

/**
 * GitHub events whose workflow runs with the repository's identity on what a stranger wrote: they fit only a rule that
 * lists them by name (A-OIDC-16).
 */
function isRiskyEvent(event: string): boolean {
  return event.startsWith("pull_request") || event === "issue_comment" || event === "workflow_run";
}

/** Compiles a rule. */
export function compileRule(rule: TrustRule, issuer: Issuer): CompiledRule {
  const matchers = compileMatchers(rule.claims);
  if (issuer.url === undefined || !isGithubActions(issuer.url)) {
    return { matchers, matches: (claims) => matchClaims(matchers, claims, "strict") };
  }
  const events = rule.claims["event_name"];
  // Only exact values count as listed: a pattern was not written with these events in mind.
  const listed = new Set((Array.isArray(events) ? events : [events]).filter((event) => typeof event === "string"));
  return {
    matchers,
    matches(claims) {
      const event = readClaim(claims, "event_name");
      if (typeof event !== "string" || (isRiskyEvent(event) && !listed.has(event))) return false;
      return matchClaims(matchers, claims, "strict");
    },
  };
}

/**
 * What is wrong with a rule at its issuer: it binds nothing, nothing that can be looked up, or at an issuer shared by many
 * customers nothing that a stranger cannot take over (A-OIDC-13, CONTRACT §4).
 */
export function checkRule(rule: TrustRule, issuer: Issuer): TrustProblem[] {
  const names = Object.keys(rule.claims);
  if (names.length === 0) {
    return [
      {
        path: ["claims"],
        what: "binds no claim at all, so any token of the issuer would do",
        mend: "name the claims that tell this workload from all others",
      },
    ];
  }
  const problems = names
    .filter((name) => JUDGED_CLAIMS.has(name))
    .map((name) => ({
      path: ["claims", name],
      what: "is checked for every token and tells no workload from another",
      mend: "take it out and bind a claim that names the workload",
    }));
  const matchers = compileMatchers(rule.claims);
  if (!matchers.some(isLookedUp)) {
    problems.push({
      path: ["claims"],
      what: "fixes neither a value nor the beginning or end of one",
      mend: "bind at least one claim to an exact value or to a pattern that begins or ends with text",
    });
  }
  const shared = issuer.url === undefined ? undefined : sharedIssuer(issuer.url);
  return shared === undefined ? problems : [...problems, ...checkSharedRule(rule, shared, matchers)];
}

/** Whether the index can find a rule by this matcher. */
function isLookedUp(matcher: CompiledMatcher): boolean {
  if (matcher.absent) return false;
  return matcher.globs.every((glob) => glob.prefix !== "" || glob.suffix !== "");
}

function checkSharedRule(rule: TrustRule, shared: SharedIssuer, matchers: readonly CompiledMatcher[]): TrustProblem[] {
  const ids = matchers.filter((matcher) => shared.ids.includes(matcher.claim));
  const problems = ids
    .filter((matcher) => matcher.exact.some((value) => typeof value !== "string" || value === ""))
    .map((matcher) => ({
      path: ["claims", matcher.claim],
      what: `is text in tokens of ${shared.title}, and types are compared strictly`,
      mend: "write the id in quotes",
    }));
  const isBound = ids.some((matcher) => matcher.exact.length > 0 && matcher.globs.length === 0);
  if (!isBound && rule.byName !== true) {
    problems.push({
      path: ["claims"],
      what: `binds names only, and ${shared.title} is shared by many customers who may take a name over`,
      mend: `${shared.mend}; by_name: true insists on names`,
    });
  }
  return problems;
}
