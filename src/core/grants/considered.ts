import type { Reason } from "../oauth/reasons.ts";
import type { TrustIndex } from "../trust/compiled.ts";
import { findCandidates, grantsAction } from "./candidates.ts";
import type { DecideInput } from "./decision.ts";

/** What one grant of one agent on the path says to an action. */
export interface Considered {
  readonly agent: string;
  /** Absent: this agent has no grant at the resource. */
  readonly grant?: string;
  /** `fits`, or why it does not; `scope_not_granted` where it does not name the action. */
  readonly verdict: "fits" | Reason;
}

/** Most grants that a record tells of. */
const MAX_CONSIDERED = 32;

/**
 * Grant by grant, agent by agent, what was looked at for one action: for the record of a call that was refused, or would
 * have been, so that `ephor explain` tells what was true then.
 */
export function considerGrants(trust: TrustIndex, input: DecideInput, action: string): readonly Considered[] {
  const found: Considered[] = [];
  for (const name of input.path) {
    const agent = trust.agent(name);
    if (agent === undefined) {
      found.push({ agent: name, verdict: "client_unknown" });
      continue;
    }
    const { usable, missed } = findCandidates(trust, agent, input);
    if (usable.length + missed.length === 0) found.push({ agent: name, verdict: "scope_not_granted" });
    for (const { grant } of usable)
      found.push({
        agent: name,
        grant: grant.name,
        verdict: grantsAction(grant, action) ? "fits" : "scope_not_granted",
      });
    for (const { grant, reason } of missed)
      found.push({
        agent: name,
        grant: grant.name,
        verdict: grantsAction(grant, action) ? reason : "scope_not_granted",
      });
  }
  return found.slice(0, MAX_CONSIDERED);
}

/** A grant as a trust file has it. */
export interface ProposedGrant {
  readonly agent: string;
  readonly resource: string;
  readonly actions: readonly string[];
  readonly on_behalf_of?: { readonly issuer: string } | { readonly agent: string };
}

/** For whom a call was made, as a token and the ledger write it: `agent|NAME`, or `ISSUER|SUB`. */
export function partyOf(sub: string): ProposedGrant["on_behalf_of"] {
  const bar = sub.indexOf("|");
  const kind = sub.slice(0, Math.max(bar, 0));
  return kind === "agent" ? { agent: sub.slice(bar + 1) } : { issuer: kind };
}

/**
 * The smallest grants that would have allowed an action: one for each agent on the path that no grant carried, for this
 * action and this kind of subject, and nothing else.
 */
export function smallestGrants(at: {
  readonly resource: string;
  readonly action: string;
  readonly sub: string;
  readonly path: readonly string[];
  readonly considered: readonly Considered[];
}): readonly ProposedGrant[] {
  const { resource, action, sub, path, considered } = at;
  const party = partyOf(sub);
  const carried = new Set(considered.filter(({ verdict }) => verdict === "fits").map(({ agent }) => agent));
  return path
    .filter((agent) => !carried.has(agent))
    .map((agent) => {
      const isItself = party !== undefined && "agent" in party && party.agent === agent;
      return {
        agent,
        resource,
        actions: [action],
        ...(isItself || party === undefined ? {} : { on_behalf_of: party }),
      };
    });
}
