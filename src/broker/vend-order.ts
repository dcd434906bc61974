import type { Ask, ReplayKey } from "../authz/ask.ts";
import { AccessDeniedError, InsufficientScopeError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { decide, type Decision } from "../core/grants/decide.ts";
import type { Allowed } from "../core/grants/decision.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { lifetimeSeconds, MAX_LIFETIME_SECONDS } from "../core/token/lifetime.ts";
import { onceKeys } from "../core/token/once.ts";
import type { Agent, Resource } from "../core/trust/model.ts";
import type { Place } from "../tasks/facts.ts";
import type { BrokerDeps } from "./deps.ts";
import type { CredentialProvider, LeaseFacts } from "./provider.ts";

/** Who asks for a credential, by a token of ours for that resource that was verified and is live. */
export interface Holder {
  readonly agent: Agent;
  readonly claims: AccessTokenClaims;
  readonly txn: string;
  readonly node: string;
  readonly killKeys: readonly string[];
  readonly killEpochs: readonly number[];
  /** A DPoP proof, not spent yet. */
  readonly proof?: ReplayKey | undefined;
  /** The proof, and a once-only token, were spent before, for this very request. */
  readonly hasSpent?: boolean;
}

/** A resource that credentials are made of. */
export type CredentialResource = Extract<Resource, { kind: "credential" }>;

/**
 * What a credential is made for that does not leave: it is put into calls to another resource, and that one's grants decide.
 */
export interface InjectedUse {
  /** Name of the resource whose calls get it. */
  readonly into: string;
  /** Decides on the call as it is now. @throws whatever refuses it */
  readonly judge: () => Allowed;
  /** How long it is kept at most. */
  readonly lifeSeconds: number;
  /** Session policies that narrow it. */
  readonly policies: readonly string[];
}

/** One credential that is to be made. */
export interface Order {
  readonly resource: CredentialResource;
  readonly provider: CredentialProvider;
  readonly settings: unknown;
  readonly holder: Holder;
  readonly place: Place;
  readonly requestId: string;
  /** Absent where it is vended. */
  readonly injected?: InjectedUse | undefined;
}

/**
 * Whether it may be made, as things are now.
 *
 * @throws {InsufficientScopeError | AccessDeniedError}; for what is injected {TemporarilyUnavailableError}, and what its own judge throws
 */
export function judged(deps: BrokerDeps, order: Order): Allowed {
  const { resource, place, provider, settings, holder, injected } = order;
  if (injected !== undefined) return judgedByCall(deps, order, injected);
  const scope = `${resource.name}:vend`;
  if (!holder.claims.scope.split(" ").includes(scope))
    throw new InsufficientScopeError({ reason: "insufficient_scope", scope });
  const current = deps.trust().resourceByName(resource.name);
  const decision: Decision = current
    ? decide(deps.trust(), {
        path: place.node.path,
        subject: place.task.subject,
        resource: current,
        scopes: [scope],
        ceilings: [place.task.ceiling, place.node.ceiling],
        txn: place.task.txn,
        now: deps.clock.now(),
      })
    : { allowed: false, reason: "target_unknown", facts: {} };
  if (!decision.allowed) throw new InsufficientScopeError({ reason: decision.reason, scope, ...decision.facts });
  refuseResidual(provider.residualSeconds(settings), decision.residual);
  return decision;
}

/** The call decides; but what was made by an entry that is another by now goes nowhere. */
function judgedByCall(deps: BrokerDeps, { resource }: Order, { judge, policies }: InjectedUse): Allowed {
  if (deps.trust().resourceByName(resource.name) !== resource)
    throw new TemporarilyUnavailableError({ reason: "stale_trust", credential: resource.name });
  const { policies: _theirs, ...allowed } = judge();
  return { ...allowed, policies };
}

/**
 * What its provider cannot end in time needs a grant that says so (CONTRACT §7).
 *
 * @throws {AccessDeniedError} `residual_not_granted`
 */
function refuseResidual(seconds: number, granted: Allowed["residual"]): void {
  if (seconds === 0 || granted === "unlimited") return;
  const limit = typeof granted === "number" ? granted : granted === "none" ? 0 : Number.POSITIVE_INFINITY;
  // A value that nobody can take back leaves only where a grant says `residual: unlimited`.
  if (seconds > limit || !Number.isFinite(seconds)) throw new AccessDeniedError({ reason: "residual_not_granted" });
}

/** Seconds until the lease ends. What is injected is decided on anew at each call, so no grant shortens it. */
export function lifeOf({ place, injected }: Order, allowed: Allowed, issuedAt: number): number {
  if (injected !== undefined) return Math.max(1, Math.min(injected.lifeSeconds, place.task.deadline - issuedAt));
  return lifetimeSeconds({
    asked: MAX_LIFETIME_SECONDS,
    ...(allowed.ttlSeconds === undefined ? {} : { grantTtl: allowed.ttlSeconds }),
    ...(allowed.until === undefined ? {} : { until: allowed.until }),
    taskDeadline: place.task.deadline,
    issuedAt,
  });
}

/** Who gets it, for whom and why. */
export function factsOf(order: Order, id: string): LeaseFacts {
  const { holder, place, resource } = order;
  const { subject, purpose } = place.task;
  const email = subject.type === "human" ? subject.claims["email"] : undefined;
  const why = holder.claims.purpose ?? purpose;
  return {
    id,
    resource: resource.name,
    agent: holder.agent.name,
    owner: holder.agent.owner,
    path: place.node.path,
    sub: subject.sub,
    txn: holder.txn,
    jti: holder.claims.jti,
    ...(typeof email === "string" ? { email } : {}),
    ...(why === undefined ? {} : { purpose: why }),
  };
}

/** The gate's step before the mint, or the one after it. */
export function askOf(
  deps: BrokerDeps,
  order: Order,
  at: { action: "credential.vend" | "credential.release"; facts: LeaseFacts; kill: Ask["kill"]; allowed: Allowed },
): Ask {
  const { holder, resource, provider, settings, requestId, injected } = order;
  const { action, facts, allowed } = at;
  const isIntent = action === "credential.vend";
  return {
    action,
    target: facts.id,
    actor: holder.agent.name,
    trustVersion: deps.trust().version,
    kill: at.kill,
    task: { txn: holder.txn, nodes: [holder.node] },
    ...(isIntent ? { opens: provider.secrets(settings, facts) } : {}),
    // The call spends them.
    ...(isIntent && !holder.hasSpent && injected === undefined
      ? { replay: [...(holder.proof ? [holder.proof] : []), ...onceKeys(holder.claims, allowed.once)] }
      : {}),
    event: {
      type: action,
      agent: holder.agent.name,
      sub: facts.sub,
      txn: holder.txn,
      jti: holder.claims.jti,
      resource: resource.name,
      requestId,
      facts: {
        lease: facts.id,
        kind: resource.provider,
        into: injected?.into,
        path: facts.path,
        owner: facts.owner,
        purpose: facts.purpose,
        grants: allowed.grants.map((grant) => grant.grant),
        trust_version: deps.trust().version,
      },
    },
  };
}
