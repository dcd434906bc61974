import { CANARY, CANARY_RESOURCES } from "./canary.ts";
import { ephorIdentifier } from "./identifiers.ts";
import type { Resource } from "./model.ts";

/** Name of the built-in resource: Ephor's own API. */
export const EPHOR_RESOURCE = "ephor";

/** What can be done at Ephor's own API (CONTRACT §1). */
export const EPHOR_ACTIONS = ["read", "audit", "trust", "secrets", "kill", "restore", "approve", "replay"] as const;

/** An action at Ephor's own API; its scope is `ephor:<action>`. */
export type EphorAction = (typeof EPHOR_ACTIONS)[number];

/** The built-in resource. It is there before any apply, and no apply can change it. */
export function ephorResource(issuerUrl: string): Resource {
  return { kind: "ephor", name: EPHOR_RESOURCE, identifier: ephorIdentifier(issuerUrl), actions: EPHOR_ACTIONS };
}

/** Whoever holds the operator key: the ledger says `operator:operator`. */
export const KEY_HOLDER = "operator";

/** Names that users cannot give: each would be mistaken for something of ours. */
const RESERVED: Readonly<Record<string, readonly string[]>> = {
  // `sub` begins with the issuer's name, and `agent|…`, `resource|…` are ours.
  issuers: ["agent", "resource", "operator", "ephor"],
  agents: ["operator", "ephor", CANARY],
  resources: [EPHOR_RESOURCE, ...CANARY_RESOURCES],
  // Its grants have the names of its resources.
  grants: CANARY_RESOURCES,
  // The ledger calls the start `operator:start`.
  operators: [KEY_HOLDER, "start", "ephor", CANARY],
};

/** Whether a name is kept for Ephor itself. */
export function isReservedName(kind: string, name: string): boolean {
  return RESERVED[kind]?.includes(name) ?? false;
}
