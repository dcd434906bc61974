import { compileCondition } from "../grants/condition.ts";
import type { CompiledDelegation, CompiledGrant, CompiledParty } from "./compiled.ts";
import { compileMatchers } from "./matcher.ts";
import type { AccessGrant, Grant, OnBehalfOf } from "./model.ts";

/** Grants by name, by agent and resource, and those to hand over by agent; compiled as they come in. */
export function createGrants() {
  const names = new Map<string, CompiledGrant | CompiledDelegation>();
  const access = new Map<string, Map<string, CompiledGrant>>();
  const delegations = new Map<string, Map<string, CompiledDelegation>>();
  // A space is in no name, so two pairs never share a key.
  const keyOf = (agent: string, resource: string): string => `${agent} ${resource}`;
  const remove = (name: string): void => {
    const old = names.get(name);
    if (old === undefined) return;
    names.delete(name);
    if (old.kind === "access") dropFrom(access, keyOf(old.agent, old.resource), name);
    else dropFrom(delegations, old.agent, name);
  };
  return {
    byName: (name: string): Grant | undefined => names.get(name),
    access: (agent: string, resource: string) => [...(access.get(keyOf(agent, resource))?.values() ?? [])],
    delegations: (agent: string) => [...(delegations.get(agent)?.values() ?? [])],
    all: () => [...names.values()],
    remove,
    put(grant: Grant) {
      remove(grant.name);
      if (grant.kind === "access") {
        const compiled = compileGrant(grant);
        names.set(grant.name, compiled);
        putInto(access, keyOf(grant.agent, grant.resource), compiled);
      } else {
        const compiled: CompiledDelegation = {
          ...grant,
          targets: new Set(grant.delegateTo),
          ...compileParties(grant.onBehalfOf),
        };
        names.set(grant.name, compiled);
        putInto(delegations, grant.agent, compiled);
      }
    },
  };
}

function compileGrant(grant: AccessGrant): CompiledGrant {
  return {
    ...grant,
    actionSet: new Set(grant.actions),
    ...compileParties(grant.onBehalfOf),
    ...(grant.when !== undefined && { condition: compileCondition(grant.when) }),
  };
}

function compileParties(parties: readonly OnBehalfOf[] | undefined): { parties?: readonly CompiledParty[] } {
  if (parties === undefined) return {};
  return {
    parties: parties.map((party) =>
      "issuer" in party
        ? { issuer: party.issuer, claims: compileMatchers(party.claims ?? {}) }
        : { agent: party.agent },
    ),
  };
}

function putInto<T extends { readonly name: string }>(maps: Map<string, Map<string, T>>, key: string, value: T): void {
  const map = maps.get(key);
  if (map === undefined) maps.set(key, new Map([[value.name, value]]));
  else map.set(value.name, value);
}

function dropFrom<T>(maps: Map<string, Map<string, T>>, key: string, name: string): void {
  const map = maps.get(key);
  map?.delete(name);
  if (map?.size === 0) maps.delete(key);
}
