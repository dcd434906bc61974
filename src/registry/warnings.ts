import type { EpochSeconds } from "../core/time.ts";
import { createTrustIndex } from "../core/trust/compiled.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { AccessGrant, Agent, ClaimMatcher, Issuer, TrustRule } from "../core/trust/model.ts";
import { isOwner } from "../core/trust/operator-index.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import { isGithubActions } from "../core/trust/shared-issuers.ts";
import type { Merged } from "./merged.ts";
import type { Change } from "./plan.ts";

/** Most warnings of one apply: the rest have the same cause. */
const MAX_WARNINGS = 20;

/** What is allowed and probably not meant. */
export function findWarnings(
  trust: TrustIndex,
  entries: readonly TrustEntry[],
  context: { readonly merged: Merged; readonly changes: readonly Change[]; readonly now: EpochSeconds },
): TrustProblem[] {
  const warnings: TrustProblem[] = [];
  for (const entry of entries) {
    if (entry.kind === "agents" && entry.model.reviewBy !== undefined && context.now >= entry.model.reviewBy) {
      warnings.push({
        path: [...entry.path, "review_by"],
        what: "has passed, so the agent is suspended",
        mend: "review it and name a later date",
      });
    }
    if (entry.kind === "grants" && entry.model.kind === "access") {
      for (const warning of approverWarnings(entry.model, context.merged))
        warnings.push({ ...warning, path: [...entry.path, ...warning.path] });
    }
    if (entry.kind === "operators" && entry.model.signIns.length === 0) {
      warnings.push({
        path: entry.path,
        what: "has no sign_in, so nobody can tell which human this is, and calls on behalf of a human are not theirs to approve",
        mend: "add sign_in: {issuer: NAME, claims: {sub: …}}",
      });
    }
    if (entry.kind === "grants" && entry.model.until !== undefined && context.now >= entry.model.until) {
      warnings.push({
        path: [...entry.path, "until"],
        what: "has passed, so the grant grants nothing",
        mend: "take the grant out, or name a later date",
      });
    }
  }
  for (const warning of overlaps(trust, entries, context)) {
    if (warnings.length >= MAX_WARNINGS) break;
    warnings.push(warning);
  }
  return warnings;
}

/** Whether there are people enough today; who operates may change at any time. */
function approverWarnings({ agent, approval }: AccessGrant, merged: Merged): TrustProblem[] {
  if (approval === undefined) return [];
  const reviewers = [...merged.operators.values()].filter(({ roles }) => roles.includes("approve"));
  const warnings: TrustProblem[] = [];
  const people = new Set<string>();
  for (const [at, approver] of approval.by.entries()) {
    const path = approval.by.length === 1 ? ["approval", "by"] : ["approval", "by", at];
    if (approver === "owner") {
      const owner = merged.agents.get(agent)?.owner ?? "";
      // Whoever holds the operator key stands in.
      people.add("the operator key");
      for (const operator of reviewers) if (isOwner(operator, owner)) people.add(operator.name);
    } else if (typeof approver === "object" && "group" in approver) {
      const members = reviewers.filter(({ groups }) => groups.includes(approver.group));
      for (const { name } of members) people.add(name);
      if (members.length === 0) {
        warnings.push({
          path,
          what: `names the group ${approver.group}, and no operator with the role approve is in it`,
          mend: `write groups: [${approver.group}] at an operator`,
        });
      }
    } else people.add(JSON.stringify(approver));
  }
  if (warnings.length === 0 && people.size < approval.count) {
    warnings.push({
      path: ["approval", "count"],
      what: `needs ${approval.count} who decide, and today there are ${people.size}`,
      mend: "add operators (their email is the agent's owner, or they are in the group), or a reviewing agent: {agent: NAME}",
    });
  }
  return warnings;
}

/**
 * Agents that one token could be: for each rule that changes, a token that just fits it is tried on all others. Such a token
 * is refused unless its bearer names one of the agents as `client_id`.
 */
function* overlaps(
  trust: TrustIndex,
  entries: readonly TrustEntry[],
  context: { readonly merged: Merged; readonly changes: readonly Change[] },
): Generator<TrustProblem> {
  const { merged, changes } = context;
  const agents = entries.filter((entry) => entry.kind === "agents");
  const changed = new Set(changes.filter(({ kind }) => kind === "agents").map(({ name }) => name));
  const wanted = new Set(agents.map(({ name }) => name));
  // The index as it is, for agents that stay; a small one for those of this apply.
  const own = createTrustIndex();
  own.apply({
    version: 1,
    deletes: [],
    upserts: {
      issuers: [...merged.issuers.values()],
      agents: agents.map(({ model }) => model),
      resources: [],
      grants: [],
      operators: [],
      channels: [],
    },
  });
  for (const { name, model, path } of agents) {
    if (!changed.has(name)) continue;
    for (const [at, rule] of model.trust.entries()) {
      const issuer = merged.issuers.get(rule.issuer);
      if (issuer === undefined) continue;
      const other = firstOther({ own, trust, merged, wanted }, { name, rule, issuer });
      if (other === undefined) continue;
      yield {
        path: [...path, "trust", at],
        what: `fits tokens that are the agent ${other} too`,
        mend: "bind a claim that tells the two apart, or let callers send client_id",
      };
    }
  }
}

function firstOther(
  at: { own: TrustIndex; trust: TrustIndex; merged: Merged; wanted: ReadonlySet<string> },
  of: { name: string; rule: TrustRule; issuer: Issuer },
): string | undefined {
  const token = sampleToken(of.rule, of.issuer);
  const among = (agents: readonly { readonly agent: Agent }[]): string[] =>
    agents.map(({ agent }) => agent.name).filter((name) => name !== of.name);
  const staying = among(at.trust.agentsMatching(of.issuer, token)).filter(
    (name) => !at.wanted.has(name) && at.merged.agents.has(name),
  );
  return [...among(at.own.agentsMatching(of.issuer, token)), ...staying][0];
}

/** Claims of a token that fits a rule: its first exact values, and its patterns with every star as `x`. */
function sampleToken(rule: TrustRule, issuer: Issuer): Record<string, unknown> {
  const token: Record<string, unknown> =
    issuer.url !== undefined && isGithubActions(issuer.url) ? { event_name: "push" } : {};
  for (const [claim, matcher] of Object.entries(rule.claims)) {
    const value = sampleValue(matcher);
    if (value !== undefined) token[claim] = value;
  }
  return token;
}

function sampleValue(matcher: ClaimMatcher): unknown {
  const first: unknown = Array.isArray(matcher) ? matcher[0] : matcher;
  if (typeof first !== "object" || first === null) return first;
  return "like" in first && typeof first.like === "string" ? first.like.replaceAll("*", "x") : undefined;
}
