import { queryEventById } from "../audit/query.ts";
import type { Explanation } from "../api/decisions.ts";
import { smallestGrants, type Considered } from "../core/grants/considered.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { Db } from "../db/database.ts";

/** Of several reasons the one that came nearest to a yes is told first. */
const NEAREST: readonly string[] = [
  "condition_false",
  "condition_error",
  "grant_expired",
  "on_behalf_of_mismatch",
  "scope_not_granted",
];

/** What a refusal by grants says, as a person reads it. */
const SAID: Readonly<Partial<Record<Reason, string>>> = {
  condition_false: "its condition is not true for this call",
  condition_error: "its condition could not be judged for this call",
  grant_expired: "it has ended",
  on_behalf_of_mismatch: "it is not for this subject",
  scope_not_granted: "it does not name this action",
  client_unknown: "the agent is not known any more",
};

/** What a limit says, or an upstream that is away. */
const NOT_NOW: Readonly<Partial<Record<Reason, string>>> = {
  rate_limited: "the grants allow it, but the agent had made as many calls at the resource as it may in a minute.",
  too_many_streams: "the grants allow it, but the agent had as many calls in progress at the resource as it may.",
  body_too_large: "the body was longer than the resource takes.",
  upstream_unavailable: "the grants allow it, but the upstream could not be reached.",
  account_not_connected: "the grants allow it, but its human has no account at the upstream, or it is let in no more.",
  human_missing:
    "the grants allow it, but the upstream is used with a person's own account, and no human is behind it.",
  inspection_refused:
    "the grants allow it, but the resource's inspector refused it: `inspected` of the event says why.",
  inspection_failed: "the grants allow it, but the resource's inspector could not be asked, or could not judge it.",
  approval_required: "the grants allow it once somebody approves it: ephor approvals lists what waits.",
  approval_denied: "the grants would have allowed it, but whoever was asked denied it.",
};

/** Refusals that more permission would cure. */
const CURABLE: ReadonlySet<string> = new Set(["scope_not_granted", "on_behalf_of_mismatch", "grant_expired"]);

/**
 * Why a decision fell as it did, from what was recorded with it: what was true then, whatever was applied since.
 *
 * @returns undefined where there is no such event
 */
export async function explained(
  deps: { db: Db; trustVersion: () => number },
  id: string,
): Promise<Explanation | undefined> {
  const event = await queryEventById(deps.db, id);
  if (event === undefined) return undefined;
  const { body } = event;
  const considered = consideredIn(body["considered"]);
  const reason = event.reason ?? textOf(body["would_refuse"]);
  const path = Array.isArray(body["path"]) ? body["path"].filter((name) => typeof name === "string") : [];
  const action = textOf(body["action"]);
  const isCurable = reason !== undefined && CURABLE.has(reason);
  const smallest =
    isCurable && action !== undefined && event.resource !== undefined && event.sub !== undefined
      ? smallestGrants({ resource: event.resource, action, sub: event.sub, path, considered })
      : [];
  return {
    event,
    considered: [...considered],
    difference: differenceOf({
      reason,
      considered,
      isObserved: event.reason === undefined,
      scope: textOf(body["scope"]),
    }),
    smallest: smallest.map((grant) => ({ ...grant, actions: [...grant.actions] })),
    changed: typeof body["trust_version"] === "number" && body["trust_version"] !== deps.trustVersion(),
  };
}

function differenceOf(at: {
  reason: string | undefined;
  considered: readonly Considered[];
  isObserved: boolean;
  scope: string | undefined;
}): string {
  const { reason, considered, isObserved, scope } = at;
  if (reason === undefined) return "Nothing: it was allowed.";
  const began = isObserved ? "It was let through because the resource only observes: " : "";
  if (reason === "insufficient_scope")
    return `${began}the grants allow it, but the token does not carry ${scope ?? "the scope"}.`;
  if (reason === "tool_quarantined")
    return `${began}the tool's definition is not the one that was accepted; ephor tools diff shows what changed.`;
  if (reason === "tool_unknown")
    return `${began}the tool was not there when its server was pinned, and was not accepted since; see ephor tools list.`;
  const notNow = NOT_NOW[reason as Reason];
  if (notNow !== undefined) return `${began}${notNow}`;
  if (reason === "scope_unknown") return `${began}no route or action of the resource stands for what was called.`;
  const carried = new Set(considered.filter(({ verdict }) => verdict === "fits").map(({ agent }) => agent));
  const lacking = considered
    .filter(({ agent }) => !carried.has(agent))
    .toSorted((a, b) => rank(a.verdict) - rank(b.verdict))[0];
  if (lacking === undefined) return `${began}${reason.replaceAll("_", " ")}.`;
  if (lacking.grant === undefined) return `${began}${lacking.agent} has no grant at this resource.`;
  const said = SAID[lacking.verdict as Reason] ?? lacking.verdict.replaceAll("_", " ");
  return `${began}of ${lacking.agent}'s grants ${lacking.grant} came nearest, but ${said}.`;
}

function rank(verdict: string): number {
  const at = NEAREST.indexOf(verdict);
  return at < 0 ? NEAREST.length : at;
}

function consideredIn(value: unknown): readonly Considered[] {
  if (!Array.isArray(value)) return [];
  return value.flatMap((entry: unknown) => {
    const { agent, grant, verdict } = (entry ?? {}) as Record<string, unknown>;
    if (typeof agent !== "string" || typeof verdict !== "string") return [];
    return [{ agent, verdict: verdict as Considered["verdict"], ...(typeof grant === "string" && { grant }) }];
  });
}

function textOf(value: unknown): string | undefined {
  return typeof value === "string" ? value : undefined;
}
