import { credentialIdentifier, httpIdentifier } from "./identifiers.ts";
import type { AccessGrant, PublicJwk, Resource, TrustKind, TrustObjects } from "./model.ts";

/**
 * Name of the built-in agent by which a replica measures how fast its kills are, and of the resource that introspects its tokens
 * and reads its feed. Whatever it does is recorded under this name; it is left out of lists and told to no other resource.
 */
export const CANARY = "ephor-canary";
/** Its resource behind the proxy. Nothing is sent anywhere: what answers is in the process. */
export const CANARY_PROXIED = `${CANARY}-proxied`;
/** Its `credential` resource: what is vended opens nothing. */
export const CANARY_VENDED = `${CANARY}-vended`;

/** What the canary may do at its resources, and is vended. */
export const CANARY_ACTION = "probe";
/** The path of the call that it makes. */
export const CANARY_PATH = "/stream";
/** The provider of what it is vended. No trust file can name it. */
export const CANARY_PROVIDER = "canary";

/** Names of its resources, and of the grants to use them. */
export const CANARY_RESOURCES: readonly string[] = [CANARY, CANARY_PROXIED, CANARY_VENDED];

/** Whether an agent's name, or whoever did something, is the canary. */
export function isCanary(name: string | undefined): boolean {
  return name === CANARY;
}

/** Whether a resource is one of the canary's. */
export function isCanaryResource(name: string): boolean {
  return CANARY_RESOURCES.includes(name);
}

/**
 * The canary in the index of one replica: it alone knows the private half of the key and the secret.
 *
 * @param of.key public, ES256
 * @param of.secretHash `sha256:` and the digest, of the secret that introspects its tokens
 */
export function canaryTrust(of: { issuerUrl: string; key: PublicJwk; secretHash: string }): TrustObjects {
  return {
    issuers: [],
    operators: [],
    channels: [],
    agents: [{ name: CANARY, owner: "ephor", trust: [], keys: [of.key], status: "active" }],
    resources: resourcesOf(of),
    grants: [
      grantOf(CANARY, CANARY_ACTION),
      grantOf(CANARY_PROXIED, CANARY_ACTION),
      // As a lease of any kind: dead at its end.
      { ...grantOf(CANARY_VENDED, "vend"), residual: "none" },
    ],
  };
}

function resourcesOf({ issuerUrl, secretHash }: { issuerUrl: string; secretHash: string }): readonly Resource[] {
  return [
    {
      kind: "verify",
      name: CANARY,
      identifier: `${issuerUrl}/canary`,
      actions: [CANARY_ACTION],
      introspection: { secretHash },
    },
    {
      kind: "http",
      name: CANARY_PROXIED,
      identifier: httpIdentifier(issuerUrl, CANARY_PROXIED),
      actions: [CANARY_ACTION],
      // Not loopback and not https: the way out would refuse it, should a call ever come there.
      settings: { http: "http://ephor-canary.invalid", routes: { [CANARY_ACTION]: [`GET ${CANARY_PATH}`] } },
      mode: { observe: false },
    },
    {
      kind: "credential",
      name: CANARY_VENDED,
      identifier: credentialIdentifier(issuerUrl, CANARY_VENDED),
      provider: CANARY_PROVIDER,
      actions: ["vend"],
      settings: {},
    },
  ];
}

function grantOf(resource: string, action: string): AccessGrant {
  return { kind: "access", name: resource, agent: CANARY, resource, actions: [action], allowAll: false, once: false };
}

/** Whether an object is the canary's own, or would give it something: no database and no file says anything about it. */
export function concernsCanary(kind: TrustKind, object: { readonly name: string; readonly agent?: string }): boolean {
  if (kind === "issuers" || kind === "operators" || kind === "channels") return false;
  if (kind === "agents") return isCanary(object.name);
  return isCanaryResource(object.name) || (kind === "grants" && isCanary(object.agent));
}
