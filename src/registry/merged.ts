import type { Agent, Channel, Grant, Issuer, Operator, Resource, TrustKind } from "../core/trust/model.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { EPHOR_RESOURCE } from "../core/trust/ephor-resource.ts";
import type { TrustEntry } from "../core/trust/schema.ts";
import type { Change } from "./plan.ts";

/** The trust objects as they would be after a plan. */
export interface Merged {
  readonly issuers: ReadonlyMap<string, Issuer>;
  readonly agents: ReadonlyMap<string, Agent>;
  /** With the built-in resource. */
  readonly resources: ReadonlyMap<string, Resource>;
  readonly grants: ReadonlyMap<string, Grant>;
  readonly operators: ReadonlyMap<string, Operator>;
  readonly channels: ReadonlyMap<string, Channel>;
}

/** Lays a plan over the objects as they are. */
export function merge(trust: TrustIndex, entries: readonly TrustEntry[], changes: readonly Change[]): Merged {
  const all = trust.all();
  const merged = {
    issuers: byName(all.issuers),
    agents: byName(all.agents),
    resources: byName(all.resources),
    grants: byName(all.grants),
    operators: byName(all.operators),
    channels: byName(all.channels),
  };
  const builtIn = trust.resourceByName(EPHOR_RESOURCE);
  if (builtIn !== undefined) merged.resources.set(EPHOR_RESOURCE, builtIn);
  for (const change of changes) if (change.op === "delete") merged[change.kind].delete(change.name);
  for (const entry of entries) put(merged, entry);
  return merged;
}

function put(merged: { [K in TrustKind]: Map<string, unknown> }, entry: TrustEntry): void {
  merged[entry.kind].set(entry.name, entry.model);
}

function byName<T extends { readonly name: string }>(objects: readonly T[]): Map<string, T> {
  return new Map(objects.map((object) => [object.name, object]));
}
