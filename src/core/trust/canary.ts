import type { PublicJwk, Resource, TrustKind, TrustObjects } from "./model.ts";

/**
 * Name of the built-in agent by which a replica measures how fast its kills are, of its resource and of its grant. Whatever
 * it does is recorded under this name; it is left out of lists and told to no other resource.
 */
export const CANARY = "ephor-canary";

/** What the canary may do at its resource. */
export const CANARY_ACTION = "probe";

/** Whether an agent's name, or whoever did something, is the canary. */
export function isCanary(name: string | undefined): boolean {
  return name === CANARY;
}

/**
 * The canary in the index of one replica: it alone knows the private half of the key and the secret.
 *
 * @param of.key public, ES256
 * @param of.secretHash `sha256:` and the digest, of the secret that introspects its tokens
 */
export function canaryTrust(of: { issuerUrl: string; key: PublicJwk; secretHash: string }): TrustObjects {
  const resource: Resource = {
    kind: "verify",
    name: CANARY,
    identifier: `${of.issuerUrl}/canary`,
    actions: [CANARY_ACTION],
    introspection: { secretHash: of.secretHash },
  };
  return {
    issuers: [],
    operators: [],
    agents: [{ name: CANARY, owner: "ephor", trust: [], keys: [of.key], status: "active" }],
    resources: [resource],
    grants: [
      {
        kind: "access",
        name: CANARY,
        agent: CANARY,
        resource: CANARY,
        actions: [CANARY_ACTION],
        allowAll: false,
        once: false,
      },
    ],
  };
}

/** Whether an object is the canary's own, or would give it something: no database and no file says anything about it. */
export function concernsCanary(kind: TrustKind, object: { readonly name: string; readonly agent?: string }): boolean {
  if (kind === "issuers" || kind === "operators") return false;
  return isCanary(object.name) || (kind === "grants" && isCanary(object.agent));
}
