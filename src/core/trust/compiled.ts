import type { Condition } from "../grants/condition.ts";
import { canonicalTarget } from "../oauth/target.ts";
import { createAgents } from "./agent-index.ts";
import { concernsCanary } from "./canary.ts";
import { EPHOR_RESOURCE, ephorResource } from "./ephor-resource.ts";
import { createGrants } from "./grant-index.ts";
import { createOperatorIndex } from "./operator-index.ts";
import type { CompiledMatcher } from "./matcher.ts";
import type { Person } from "./person.ts";
import type {
  AccessGrant,
  Agent,
  Channel,
  DelegationGrant,
  Grant,
  Issuer,
  Operator,
  Resource,
  TrustKind,
  TrustObjects,
} from "./model.ts";
import type { VerifiedClaims } from "./subject.ts";

/** One entry of `on_behalf_of`, made ready. */
export type CompiledParty =
  | { readonly issuer: string; readonly claims: readonly CompiledMatcher[] }
  | { readonly agent: string };

/** A grant to use actions, with everything a decision needs made ready when it was indexed. */
export interface CompiledGrant extends AccessGrant {
  readonly actionSet: ReadonlySet<string>;
  readonly parties?: readonly CompiledParty[];
  readonly condition?: Condition;
}

/** A grant to hand over, made ready. */
export interface CompiledDelegation extends DelegationGrant {
  readonly targets: ReadonlySet<string>;
  readonly parties?: readonly CompiledParty[];
}

/**
 * All trust objects of one version, in memory. Every lookup is by an index: a million agents cost a request as much as ten.
 */
export interface TrustIndex {
  /** Trust version of the database that it mirrors; 0 before anything was applied. */
  readonly version: number;
  issuerByName(name: string): Issuer | undefined;
  /** By exact `iss`. */
  issuerByUrl(iss: string): Issuer | undefined;
  /** By `spiffe://trust-domain`, or the trust domain alone. */
  issuerByTrustDomain(trustDomain: string): Issuer | undefined;
  agent(name: string): Agent | undefined;
  resourceByName(name: string): Resource | undefined;
  /** By identifier, in whatever spelling of the same URI. */
  resourceByIdentifier(identifier: string): Resource | undefined;
  /** The resources that name this agent as the one that introspects for them. */
  resourcesIntrospectedBy(agent: string): readonly Resource[];
  grantByName(name: string): Grant | undefined;
  grantsOf(agent: string, resource: string): readonly CompiledGrant[];
  delegationsOf(agent: string): readonly CompiledDelegation[];
  /**
   * The agents that a verified token of this issuer is, each with the first of its rules that fits, in the order of names.
   * Whether an agent is suspended is not asked here.
   */
  agentsMatching(issuer: Issuer, claims: VerifiedClaims): { readonly agent: Agent; readonly rule: number }[];
  operator(name: string): Operator | undefined;
  /** Whose account at Slack this is; nobody's where two say so. */
  operatorBySlack(team: string, user: string): Operator | undefined;
  /** Whose account at Microsoft Teams this is, by the tenant's id and the user's object id. */
  operatorByTeams(tenant: string, user: string): Operator | undefined;
  /** Which operator somebody who signed in is. To be asked at each request: it may have changed since. */
  operatorOf(person: Pick<Person, "sub" | "claims">): Operator | undefined;
  operators(): readonly Operator[];
  channel(name: string): Channel | undefined;
  /** Every channel, in the order of their names; they are few. */
  channels(): readonly Channel[];
  /** Every issuer; they are few. */
  issuers(): readonly Issuer[];
  /** Everything but what is built in. */
  all(): TrustObjects;
}

/** What changed between two versions. */
export interface TrustDelta {
  readonly upserts: TrustObjects;
  readonly deletes: readonly { readonly kind: TrustKind; readonly name: string }[];
  readonly version: number;
}

/** The index with its one way to change: all of a delta, between two turns of the event loop. */
export interface MutableTrustIndex extends TrustIndex {
  apply(delta: TrustDelta): void;
}

/**
 * An empty index.
 *
 * @param options `issuerUrl`, our own issuer, puts the built-in resource `ephor` in; `canary` this replica's canary
 */
export function createTrustIndex(options: { issuerUrl?: string; canary?: TrustObjects } = {}): MutableTrustIndex {
  let version = 0;
  const issuers = createIssuers();
  const agents = createAgents(issuers.byName);
  const resources = createResources(options.issuerUrl);
  const grants = createGrants();
  const operators = createOperatorIndex();
  const channels = createChannels();
  const stores = { issuers, agents, resources, grants, operators, channels };
  for (const agent of options.canary?.agents ?? []) agents.put(agent);
  for (const resource of options.canary?.resources ?? []) resources.put(resource);
  for (const grant of options.canary?.grants ?? []) grants.put(grant);

  return {
    get version() {
      return version;
    },
    issuerByName: (name) => issuers.byName(name),
    issuerByUrl: (iss) => issuers.byKey(iss),
    issuerByTrustDomain: (domain) => issuers.byKey(domain.startsWith("spiffe://") ? domain : `spiffe://${domain}`),
    agent: (name) => agents.byName(name),
    resourceByName: (name) => resources.byName(name),
    resourceByIdentifier: (identifier) => resources.byIdentifier(identifier),
    resourcesIntrospectedBy: (agent) => resources.introspectedBy(agent),
    grantByName: (name) => grants.byName(name),
    grantsOf: (agent, resource) => grants.access(agent, resource),
    delegationsOf: (agent) => grants.delegations(agent),
    agentsMatching: (issuer, claims) => agents.matching(issuer, claims),
    operator: (name) => operators.byName(name),
    operatorBySlack: (team, user) => operators.bySlack(team, user),
    operatorByTeams: (tenant, user) => operators.byTeams(tenant, user),
    operatorOf: (person) => operators.of(person),
    operators: () => operators.all(),
    channel: (name) => channels.byName(name),
    channels: () => channels.all(),
    issuers: () => issuers.all(),
    all: () => ({
      issuers: issuers.all(),
      agents: agents.all().filter((agent) => !concernsCanary("agents", agent)),
      resources: resources.all().filter((resource) => !concernsCanary("resources", resource)),
      grants: grants.all().filter((grant) => !concernsCanary("grants", grant)),
      operators: operators.all(),
      channels: channels.all(),
    }),
    apply(delta) {
      // INVARIANT: what is built in is neither removed nor replaced, whatever the database says.
      for (const { kind, name } of delta.deletes) if (!concernsCanary(kind, { name })) stores[kind].remove(name);
      for (const issuer of delta.upserts.issuers) {
        issuers.put(issuer);
        agents.issuerChanged(issuer.name);
      }
      for (const { kind, name } of delta.deletes) if (kind === "issuers") agents.issuerChanged(name);
      for (const agent of delta.upserts.agents) if (!concernsCanary("agents", agent)) agents.put(agent);
      for (const resource of delta.upserts.resources)
        if (!concernsCanary("resources", resource)) resources.put(resource);
      for (const grant of delta.upserts.grants) if (!concernsCanary("grants", grant)) grants.put(grant);
      for (const operator of delta.upserts.operators) operators.put(operator);
      for (const channel of delta.upserts.channels) channels.put(channel);
      version = delta.version;
    },
  };
}

function createIssuers() {
  const names = new Map<string, Issuer>();
  const keys = new Map<string, Issuer>();
  const keyOf = (issuer: Issuer): string => issuer.url ?? issuer.spiffe ?? "";
  const remove = (name: string): void => {
    const old = names.get(name);
    if (old === undefined) return;
    names.delete(name);
    if (keys.get(keyOf(old)) === old) keys.delete(keyOf(old));
  };
  return {
    byName: (name: string) => names.get(name),
    byKey: (key: string) => (key === "" ? undefined : keys.get(key)),
    all: () => [...names.values()],
    remove,
    put(issuer: Issuer) {
      remove(issuer.name);
      names.set(issuer.name, issuer);
      keys.set(keyOf(issuer), issuer);
    },
  };
}

function createResources(issuerUrl: string | undefined) {
  const names = new Map<string, Resource>();
  const identifiers = new Map<string, Resource>();
  const introspectors = new Map<string, Map<string, Resource>>();
  const put = (resource: Resource): void => {
    remove(resource.name);
    names.set(resource.name, resource);
    const introspector = introspectorOf(resource);
    if (introspector !== undefined)
      introspectors.set(introspector, new Map(introspectors.get(introspector)).set(resource.name, resource));
    identifiers.set(canonicalTarget(resource.identifier), resource);
  };
  const remove = (name: string): void => {
    const old = names.get(name);
    if (old === undefined) return;
    names.delete(name);
    introspectors.get(introspectorOf(old) ?? "")?.delete(name);
    const key = canonicalTarget(old.identifier);
    if (identifiers.get(key) === old) identifiers.delete(key);
  };
  if (issuerUrl !== undefined) put(ephorResource(issuerUrl));
  return {
    byName: (name: string) => names.get(name),
    byIdentifier: (identifier: string) => identifiers.get(canonicalTarget(identifier)),
    introspectedBy: (agent: string) => [...(introspectors.get(agent)?.values() ?? [])],
    all: () => [...names.values()].filter((resource) => resource.kind !== "ephor"),
    // INVARIANT: the built-in resource is neither removed nor replaced, whatever the database says.
    remove: (name: string) => (name === EPHOR_RESOURCE ? undefined : remove(name)),
    put: (resource: Resource) => (resource.name === EPHOR_RESOURCE ? undefined : put(resource)),
  };
}

function createChannels() {
  const names = new Map<string, Channel>();
  return {
    byName: (name: string) => names.get(name),
    all: () => [...names.values()].toSorted((a, b) => (a.name < b.name ? -1 : 1)),
    remove: (name: string) => void names.delete(name),
    put: (channel: Channel) => void names.set(channel.name, channel),
  };
}

function introspectorOf(resource: Resource): string | undefined {
  return resource.introspection && "agent" in resource.introspection ? resource.introspection.agent : undefined;
}
