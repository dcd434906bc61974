import type { SignalEffect, SignalName } from "../signals/received-events.ts";
import type { EpochSeconds } from "../time.ts";
import type { EphorAction } from "./ephor-resource.ts";

/** A JSON Web Key, public members only. */
export type PublicJwk = Readonly<Record<string, unknown>> & { readonly kty: string };

/** How one claim must be: exactly this value (and type), any of a list, like an anchored glob, or not there at all. */
export type ClaimMatcher =
  | string
  | number
  | boolean
  | readonly (string | number | boolean | { readonly like: string })[]
  | { readonly like: string }
  | { readonly absent: true };

/** Claim name (or dotted path, for claims inside objects) to matcher. All must match. */
export type ClaimMatchers = Readonly<Record<string, ClaimMatcher>>;

/** An OIDC issuer or a SPIFFE trust domain that Ephor trusts (CONTRACT §4). */
export interface Issuer {
  readonly name: string;
  /** Exact `iss`; for a SPIFFE trust domain absent. */
  readonly url?: string;
  /** `spiffe://trust-domain`, exclusive with `url`. */
  readonly spiffe?: string;
  /** The token's `aud` must be exactly one of these and nothing else. */
  readonly audience: readonly string[];
  readonly identifies: "workloads" | "humans";
  readonly jwks?: { readonly keys: readonly PublicJwk[] };
  readonly jwksUri?: string;
  /** Accepted signature algorithms; default: the asymmetric ones. */
  readonly algorithms?: readonly string[];
  /** Private and loopback addresses (and for loopback `http:`) allowed. */
  readonly internal: boolean;
  readonly singleUse: boolean;
  /** Upper bound of `exp - iat` and of the token's age. */
  readonly maxTokenAgeSeconds?: number;
  /** OAuth client id for `ephor login` and the console. */
  readonly clientId?: string;
  /** A human's task ends at most this long after `auth_time`. */
  readonly subjectMaxAgeSeconds?: number;
  /** Its security events are heeded. */
  readonly sharedSignals?: SharedSignals;
}

/** Who tells us of an issuer's people by Shared Signals, and what that does. */
export interface SharedSignals {
  /** One of these must be in the event's `aud`. */
  readonly audience: readonly string[];
  /** The event's `iss`, exactly. */
  readonly transmitter: string;
  readonly jwks?: { readonly keys: readonly PublicJwk[] };
  /** Without keys and this: by the transmitter's own metadata. */
  readonly jwksUri?: string;
  readonly algorithms?: readonly string[];
  /** The values of `iss` of people that it may speak of: the issuer's own, and its aliases. */
  readonly subjectIssuers: readonly string[];
  /** `sha256:` of a bearer secret that must come with each event. */
  readonly secretHash?: string;
  /** Effects that differ from the usual ones. */
  readonly on: Readonly<Partial<Record<SignalName, SignalEffect>>>;
}

/** One way to recognise an agent by its workload token: the issuer, and claims that must all match. */
export interface TrustRule {
  readonly issuer: string;
  readonly claims: ClaimMatchers;
  /** Insists on a rule that binds names only, at an issuer shared by many customers. */
  readonly byName?: boolean;
}

/** A non-human identity with an owner (CONTRACT §1). */
export interface Agent {
  readonly name: string;
  readonly owner: string;
  readonly purpose?: string;
  /** Past this instant the agent is suspended. */
  readonly reviewBy?: EpochSeconds;
  readonly trust: readonly TrustRule[];
  /** For `private_key_jwt`. */
  readonly keys: readonly PublicJwk[];
  /** Only human tokens with these claims may it carry. */
  readonly subjectFrom?: ClaimMatchers;
  /** Set by an operator; survives every apply. */
  readonly status: "active" | "suspended";
}

/** Who may introspect tokens for a `verify` resource: an agent, or whoever knows the secret. */
export type Introspection = { readonly agent: string } | { readonly secretHash: string };

/** What every kind of resource has. */
interface ResourceBase {
  readonly name: string;
  /** RFC 8707 resource identifier: the `aud` of tokens for it. */
  readonly identifier: string;
  readonly introspection?: Introspection;
}

/** Anything a token can be spent at (CONTRACT §1, §4). */
export type Resource =
  | (ResourceBase & { readonly kind: "verify"; readonly actions: readonly string[] })
  | (ResourceBase & { readonly kind: "mcp"; readonly settings: Readonly<Record<string, unknown>>; readonly mode: Mode })
  | (ResourceBase & {
      readonly kind: "http";
      readonly actions: readonly string[];
      readonly settings: Readonly<Record<string, unknown>>;
      readonly mode: Mode;
    })
  | (ResourceBase & {
      readonly kind: "credential";
      readonly provider: string;
      readonly actions: readonly ["vend"];
      readonly settings: Readonly<Record<string, unknown>>;
    })
  | (ResourceBase & { readonly kind: "ephor"; readonly actions: readonly string[] });

/** `enforce`, or `observe` until a date at most 30 days away. */
export type Mode = { readonly observe: false } | { readonly observe: true; readonly until: EpochSeconds };

/** On whose behalf a grant lets an agent act: humans of an issuer (with claims), or another agent. */
export type OnBehalfOf = { readonly issuer: string; readonly claims?: ClaimMatchers } | { readonly agent: string };

/** Who may decide about a call: the agent's owner, its human subject, a reviewing agent, or whoever is in a group. */
export type Approver = "owner" | "self" | { readonly agent: string } | { readonly group: string };

/** What a call needs before it is forwarded (CONTRACT §8 "Approval"). */
export interface ApprovalRule {
  /** Any of them. */
  readonly by: readonly Approver[];
  /** From when it is asked for; it is decided and used within this time. */
  readonly withinSeconds: number;
  /** So many different ones of them. */
  readonly count: number;
  /** Channels where it is asked for; absent: all there are. */
  readonly notify?: readonly string[];
}

/** Permission to use actions at a resource (CONTRACT §4). */
export interface AccessGrant {
  readonly kind: "access";
  readonly name: string;
  readonly agent: string;
  readonly resource: string;
  /** Action names; `["*"]` only with `allowAll`. */
  readonly actions: readonly string[];
  readonly allowAll: boolean;
  /** Absent: only for itself. Present: never for itself. */
  readonly onBehalfOf?: readonly OnBehalfOf[];
  /** CEL text. */
  readonly when?: string;
  readonly ttlSeconds?: number;
  readonly until?: EpochSeconds;
  /** Each call waits for this. */
  readonly approval?: ApprovalRule;
  /** Parsed; apply refuses it until `once` is served. */
  readonly once: boolean;
  readonly policy?: string;
  readonly residual?: "none" | "unlimited" | number;
}

/** Permission to hand work over to other agents. */
export interface DelegationGrant {
  readonly kind: "delegation";
  readonly name: string;
  readonly agent: string;
  readonly delegateTo: readonly string[];
  readonly onBehalfOf?: readonly OnBehalfOf[];
  readonly until?: EpochSeconds;
}

/** The only source of permission. */
export type Grant = AccessGrant | DelegationGrant;

/** One human of an issuer: `claims` has its `sub`, exactly, and may have more that must fit too. */
export interface SignIn {
  readonly issuer: string;
  readonly claims: ClaimMatchers;
}

/** A person who runs Ephor, decides about calls, or both. */
export interface Operator {
  readonly name: string;
  /** Owner of the agents whose `owner` is exactly this. */
  readonly email?: string;
  /** Which human of which issuer this is; none for one who decides in a chat only. */
  readonly signIns: readonly SignIn[];
  /** What they may do at Ephor's own API: scopes of `ephor` without the prefix. */
  readonly roles: readonly EphorAction[];
  /** For `by: {group: NAME}`. */
  readonly groups: readonly string[];
  readonly slack?: { readonly team: string; readonly user: string };
  readonly teams?: { readonly tenant: string; readonly user: string };
}

/** What every channel has. */
interface ChannelBase {
  readonly name: string;
  /** Private and loopback addresses (and for loopback `http:`) allowed. */
  readonly internal: boolean;
}

/** A conversation of Slack, written to and clicked in by an app of its own. */
export interface SlackChannel extends ChannelBase {
  readonly kind: "slack";
  /** Id of the conversation. */
  readonly channel: string;
  /** Name of the secret with the app's bot token. */
  readonly token: string;
  /** Name of the secret by which Slack signs what it sends. */
  readonly signingSecret: string;
  /** Without a slash at its end. */
  readonly api: string;
}

/** A channel of Microsoft Teams: a workflow's address, and an outgoing webhook. */
export interface TeamsChannel extends ChannelBase {
  readonly kind: "teams";
  /** The address, or the name of the secret that it is. */
  readonly webhook: string | { readonly secret: string };
  /** Name of the secret by which Teams signs; absent: nothing is decided there. */
  readonly signingSecret?: string;
}

/** Whatever speaks Standard Webhooks. */
export interface WebhookChannel extends ChannelBase {
  readonly kind: "webhook";
  readonly url: string;
  /** Name of the secret by which both sides sign. */
  readonly signingSecret: string;
  /** For whom whoever holds that secret speaks; none: nothing is decided there. */
  readonly operators: readonly string[];
}

/** Where approvals are asked for and decided. */
export type Channel = SlackChannel | TeamsChannel | WebhookChannel;

/** The sorts of channels. */
export type ChannelKind = Channel["kind"];

/** Trust objects by kind, as the trust file and the admin API carry them. */
export interface TrustObjects {
  readonly issuers: readonly Issuer[];
  readonly agents: readonly Agent[];
  readonly resources: readonly Resource[];
  readonly grants: readonly Grant[];
  readonly operators: readonly Operator[];
  readonly channels: readonly Channel[];
}

/** The plural names used in paths, in the trust file and in the change log. */
export type TrustKind = "issuers" | "agents" | "resources" | "grants" | "operators" | "channels";
