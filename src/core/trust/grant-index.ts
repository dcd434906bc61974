import { compileCondition } from "../grants/condition.ts";
import type { CompiledDelegation, CompiledGrant, CompiledParty } from "./compiled.ts";
import { compileMatchers } from "./matcher.ts";
import type { AccessGrant, Grant, OnBehalfOf } from "./model.ts";

/** Grants by name, by agent and resource, and those to hand over by agent; compiled as they come in. */
export function createGrants() {
  const names = new Map<string, CompiledGrant | CompiledDelegation>();
  const access = new Map<string, Several<CompiledGrant>>();
  const delegations = new Map<string, Several<CompiledDelegation>>();
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
    access: (agent: string, resource: string) => all(access.get(keyOf(agent, resource))),
    delegations: (agent: string) => all(delegations.get(agent)),
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
    actionSet: setOf(grant.actions),
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

/** A million grants have a handful of lists of actions between them. */
const actionSets = new Map<string, ReadonlySet<string>>();
const MAX_ACTION_SETS = 1_000;

function setOf(actions: readonly string[]): ReadonlySet<string> {
  const key = JSON.stringify(actions);
  const known = actionSets.get(key);
  if (known !== undefined) return known;
  const set = new Set(actions);
  if (actionSets.size < MAX_ACTION_SETS) actionSets.set(key, set);
  return set;
}

/** Nearly every pair has one grant, and a map for each would be half of the index. */
type Several<T> = T | Map<string, T>;

function all<T extends object>(several: Several<T> | undefined): T[] {
  if (several === undefined) return [];
  return several instanceof Map ? [...several.values()] : [several];
}

function putInto<T extends { readonly name: string }>(maps: Map<string, Several<T>>, key: string, value: T): void {
  const old = maps.get(key);
  if (old === undefined) maps.set(key, value);
  else if (old instanceof Map) old.set(value.name, value);
  else maps.set(key, new Map([old, value].map((one) => [one.name, one])));
}

function dropFrom<T extends { readonly name: string }>(maps: Map<string, Several<T>>, key: string, name: string): void {
  const old = maps.get(key);
  if (old instanceof Map) old.delete(name);
  const isEmpty = old instanceof Map ? old.size === 0 : old?.name === name;
  if (isEmpty) maps.delete(key);
}
