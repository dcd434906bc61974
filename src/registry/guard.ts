import type { Asker } from "../core/kill/asker.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { EPHOR_RESOURCE } from "../core/trust/ephor-resource.ts";
import type { Grant } from "../core/trust/model.ts";
import type { TrustProblem } from "../core/trust/problem.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import type { Change } from "./plan.ts";

/** Who changes trust objects, and by which request. */
export type Actor = { readonly requestId?: string } &
  /** Whoever holds the operator key; `start` is the process itself reading its configuration. */
  (
    | { readonly type: "operator"; readonly id: string }
    /** A person with the role `trust`. */
    | { readonly type: "person"; readonly operator: string }
    /** An agent with a token for `ephor:trust`. */
    | { readonly type: "agent"; readonly name: string; readonly asker?: Asker }
  );

/**
 * What an agent must not change: its own rules and grants, and any grant on Ephor's own API (CONTRACT §4). What those rest on
 * is as good as they are, so the same holds for agents with a grant on `ephor`, and for the issuers by whose tokens they or
 * this agent are known. People with a session are held to the same, and nobody but the holder of the operator key says who
 * operates: neither `operators`, nor the channels that speak for them, nor the issuers at which they sign in.
 *
 * @returns a problem for each change that is forbidden; none for the operator key
 */
export function forbiddenChanges(
  actor: Actor,
  changes: readonly Change[],
  trust: TrustIndex,
  entries: readonly TrustEntry[],
): TrustProblem[] {
  if (actor.type === "operator") return [];
  const self = actor.type === "agent" ? actor.name : undefined;
  const mine = new Set([...(self === undefined ? [] : [self]), ...ephorAgents(trust)]);
  const issuers = new Set([...mine].flatMap((name) => trust.agent(name)?.trust.map((rule) => rule.issuer) ?? []));
  for (const grant of ephorGrants(trust)) {
    for (const party of grant.onBehalfOf ?? []) if ("issuer" in party) issuers.add(party.issuer);
  }
  for (const { signIns } of trust.operators()) for (const { issuer } of signIns) issuers.add(issuer);
  const wanted = new Map(entries.filter((entry) => entry.kind === "grants").map((entry) => [entry.name, entry.model]));
  const isForbidden = (change: Change): boolean => {
    switch (change.kind) {
      case "issuers":
        return issuers.has(change.name);
      case "agents":
        return mine.has(change.name);
      case "operators":
      // Whoever holds a channel's secret speaks for operators.
      case "channels":
        return true;
      case "resources":
        return false;
      case "grants":
        return [trust.grantByName(change.name), wanted.get(change.name)].some(
          (grant) => grant !== undefined && (grant.agent === self || isOnEphor(grant)),
        );
    }
  };
  return changes.filter(isForbidden).map(({ kind, name }) => ({
    path: [kind, name],
    what: "is something that its maker's own power rests on, or power over Ephor",
    mend: "apply this change with the operator key",
  }));
}

function ephorGrants(trust: TrustIndex): Grant[] {
  return trust.all().grants.filter(isOnEphor);
}

function ephorAgents(trust: TrustIndex): string[] {
  return ephorGrants(trust).map((grant) => grant.agent);
}

function isOnEphor(grant: Grant): boolean {
  return grant.kind === "access" && grant.resource === EPHOR_RESOURCE;
}
