import { decodeAction } from "../oauth/scope.ts";
import { TRUST_LIMITS } from "../trust/limits.ts";
import type { Resource } from "../trust/model.ts";
import type { Candidates } from "./candidates.ts";

/** Everything at an MCP server, whose tools we do not know before they are listed. Never asked for by that name. */
export const EVERY_ACTION = "*";

/** What a request asks of one resource. */
export type Asked =
  | { readonly named: readonly string[]; readonly everything: boolean }
  | { readonly reason: "scope_missing" | "scope_unknown" };

/** Reads the scopes of a request at one resource: actions by name, and whether everything granted is asked for beside them. */
export function askedActions(resource: Resource, scopes: readonly string[] | "all"): Asked {
  if (scopes === "all") return { named: [], everything: true };
  if (scopes.length === 0) return { reason: "scope_missing" };
  const named = new Set<string>();
  let everything = false;
  for (const scope of scopes) {
    if (scope === resource.name) everything = true;
    else if (!scope.startsWith(`${resource.name}:`)) return { reason: "scope_unknown" };
    else named.add(scope.slice(resource.name.length + 1));
  }
  for (const action of named) if (!isKnownAction(resource, action)) return { reason: "scope_unknown" };
  return { named: [...named], everything };
}

function isKnownAction(resource: Resource, action: string): boolean {
  if (resource.kind === "mcp") {
    return action.length <= TRUST_LIMITS.actionCharacters && decodeAction(action) !== undefined;
  }
  return (resource.actions as readonly string[]).includes(action);
}

/**
 * What asking for everything could mean: the declared actions, or at an MCP server whatever grants and ceilings name, and
 * everything while it is only observed.
 */
export function offeredActions(
  resource: Resource,
  actors: readonly Candidates[],
  bounds: { readonly ceilings: readonly (readonly string[] | null)[]; readonly isObserved: boolean },
): readonly string[] {
  if (resource.kind !== "mcp") return resource.actions;
  const offered = new Set<string>(bounds.isObserved ? [EVERY_ACTION] : []);
  for (const actor of actors) {
    for (const { grant } of [...actor.usable, ...actor.missed]) {
      for (const action of grant.actions) offered.add(action);
    }
  }
  // A node bounded to `tickets:get_ticket` gets that out of a grant of everything.
  for (const scope of bounds.ceilings.flatMap((ceiling) => ceiling ?? [])) {
    if (scope.startsWith(`${resource.name}:`)) offered.add(scope.slice(resource.name.length + 1));
  }
  return [...offered];
}

/** Whether a full scope lies within all ceilings. `<resource>:*`, which only we write, holds every action of the resource. */
export function isWithin(scope: string, ceilings: readonly (readonly string[] | null)[]): boolean {
  const every = `${scope.slice(0, scope.indexOf(":"))}:${EVERY_ACTION}`;
  return ceilings.every((ceiling) => ceiling === null || ceiling.includes(scope) || ceiling.includes(every));
}
