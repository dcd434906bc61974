import type { Ask, Binding, ReplayKey } from "../authz/ask.ts";
import {
  InvalidRequestError,
  InvalidScopeError,
  InvalidTargetError,
  type Facts,
  type OAuthError,
} from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { deathKeys, killKey } from "../core/kill/keys.ts";
import { buildAccessTokenClaims } from "../core/token/build.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { lifetimeSeconds } from "../core/token/lifetime.ts";
import { decide, type Decision } from "../core/grants/decide.ts";
import { decideHandOver } from "../core/grants/hand-over.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import { singleUseKeys } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";
import { recheckSubject, type Origin, type Proved } from "./origin.ts";
import { joined, positionOf, type Position } from "./position.ts";
import type { Context } from "./request.ts";
import type { Trail } from "./trail.ts";
import { txnTokenClaims, type TxnTokenClaims } from "./txn-token.ts";
import { recordable, resolveTarget, scopesAt, scopesByResource, type Target, type Wanted } from "./wanted.ts";

/** One request as it will be decided: everything but the trust index and the outcome of the gate. */
export interface Request {
  readonly context: Context;
  readonly trail: Trail;
  readonly proved: Proved;
  readonly wanted: Wanted;
  /** More that this request spends, such as the `jti` of an ID-JAG. */
  readonly replay: readonly ReplayKey[];
  /** Name of a task opened by it, and of the token. */
  readonly txn: string;
  readonly jti: string;
}

/** A token to be signed once it is allowed to leave. */
export interface Planned {
  readonly typ: "at+jwt" | "txntoken+jwt";
  readonly claims: AccessTokenClaims | TxnTokenClaims;
  readonly expiresInSeconds: number;
  readonly bound: boolean;
}

/** What a request may have, by grants and ceilings. */
interface Allowed {
  readonly scopes: readonly string[];
  readonly decision: Extract<Decision, { allowed: true }>;
  readonly audience: string;
  readonly resource: string;
}

/**
 * Decides by the trust index as it is now, and says what would be recorded and signed. Synchronous, so that it sees one
 * trust version; called again when the gate found that version to be old.
 *
 * @throws {InvalidScopeError | InvalidTargetError | InvalidRequestError} with the reason of the decision
 */
export function plan(deps: StsDeps, request: Request, origin: Origin): { ask: Ask; value: Planned } {
  const { context, trail, proved, wanted } = request;
  const trust = deps.trust();
  proved.acting.recheck();
  const now = deps.clock.now();
  const position = positionOf(origin, proved.acting, { txn: request.txn, now, purpose: wanted.purpose });
  const { subject } = position;
  recheckSubject(trust, { origin, subject, agent: proved.acting.agent.name });
  trail.sub = subject.sub;
  trail.txn = position.txn;
  trail.scope = recordable(wanted.scopes.join(" "));
  trail.resource = recordable(wanted.target);
  const target = resolveTarget(trust, wanted, deps);
  const granted = allow(trust, { request, position, target, now });
  trail.resource = granted.resource;
  const life = lifetimeSeconds({
    asked: wanted.ttlSeconds ?? deps.defaultTtlSeconds,
    ...(granted.decision.ttlSeconds === undefined ? {} : { grantTtl: granted.decision.ttlSeconds }),
    ...(granted.decision.until === undefined ? {} : { until: granted.decision.until }),
    taskDeadline: position.deadline,
    issuedAt: now,
  });
  // A hand-over is for another agent, whose key we do not know; it is never bound to this one's.
  const jkt = target.kind === "agent" || target.kind === "domain" ? undefined : context.proof?.jkt;
  const value = signable(deps, { request, position, target, allowed: granted, life, now, jkt });
  return { ask: askOf({ request, position, target, allowed: granted, value, jkt, origin, trust, now }), value };
}

function allow(trust: TrustIndex, at: { request: Request; position: Position; target: Target; now: number }): Allowed {
  const { request, position, target, now } = at;
  const { ceilings } = position;
  const common = {
    path: position.path,
    subject: position.subject,
    ceilings,
    txn: position.txn,
    now,
    ...(request.wanted.purpose === undefined ? {} : { purpose: request.wanted.purpose }),
  };
  switch (target.kind) {
    case "resource": {
      const { resource } = target;
      const decision = decide(trust, { resource, scopes: scopesAt(resource, request.wanted.scopes), ...common });
      return allowed(decision, resource.identifier, resource.name);
    }
    case "agent": {
      const wanted = scopesByResource(trust, request.wanted.scopes);
      return allowed(
        decideHandOver(trust, { to: target.name, wanted, ...common }),
        target.audience,
        `agents/${target.name}`,
      );
    }
    case "domain": {
      const decisions = scopesByResource(trust, request.wanted.scopes).map(({ resource, scopes }) =>
        decide(trust, { resource, scopes, passesProxy: false, ...common }),
      );
      const merged = mergeDecisions(decisions);
      // Services inside the domain verify it offline, each for itself: nobody could say that it was used.
      if (merged.allowed && merged.once) throw refusal("not_transferable", { resource: "trust-domain" });
      return allowed(merged, target.audience, "trust-domain");
    }
  }
}

/** All must be allowed; of their bounds the smallest hold. */
function mergeDecisions(decisions: readonly Decision[]): Decision {
  const refused = decisions.find((decision) => !decision.allowed);
  if (refused) return refused;
  const granted = decisions.filter((decision) => decision.allowed);
  const least = (values: (number | undefined)[]): number | undefined => {
    const known = values.filter((value) => value !== undefined);
    return known.length === 0 ? undefined : Math.min(...known);
  };
  const ttlSeconds = least(granted.map((decision) => decision.ttlSeconds));
  const until = least(granted.map((decision) => decision.until));
  return {
    allowed: true,
    scopes: granted.flatMap((decision) => decision.scopes),
    grants: granted.flatMap((decision) => decision.grants),
    once: granted.some((decision) => decision.once),
    ...(ttlSeconds === undefined ? {} : { ttlSeconds }),
    ...(until === undefined ? {} : { until }),
  };
}

function allowed(decision: Decision, audience: string, resource: string): Allowed {
  if (!decision.allowed) throw refusal(decision.reason, decision.facts);
  return { scopes: decision.scopes, decision, audience, resource };
}

/** A chain that may not act at all is a bad token; whoever may not be named is a bad target; the rest is about scopes. */
const ABOUT_THE_CHAIN: ReadonlySet<Reason> = new Set([
  "agent_suspended",
  "agent_review_overdue",
  "client_unknown",
  "actor_missing",
]);
const ABOUT_THE_TARGET: ReadonlySet<Reason> = new Set(["delegation_not_granted", "chain_loop", "target_unknown"]);

/** CONTRACT §5: what is not granted is `invalid_scope`; a target that may not be named at all is `invalid_target`. */
function refusal(reason: Reason, facts: Facts): OAuthError {
  if (ABOUT_THE_CHAIN.has(reason)) return new InvalidRequestError({ reason, ...facts });
  if (ABOUT_THE_TARGET.has(reason)) return new InvalidTargetError({ reason, ...facts });
  return new InvalidScopeError({ reason, ...facts });
}

function signable(
  deps: StsDeps,
  at: {
    request: Request;
    position: Position;
    target: Target;
    allowed: Allowed;
    life: number;
    now: number;
    jkt: string | undefined;
  },
): Planned {
  const { request, position, target, allowed: granted, life, now, jkt } = at;
  const purpose = request.wanted.purpose ?? position.purpose;
  const facts = {
    issuer: deps.issuer,
    audience: granted.audience,
    subject: position.subject.sub,
    path: position.path,
    scopes: granted.scopes,
    txn: position.txn,
    jti: request.jti,
    issuedAt: now,
    lifetimeSeconds: life,
    ...(purpose === undefined ? {} : { purpose }),
    ...(jkt === undefined ? {} : { jkt }),
    ...(granted.decision.once ? { once: true } : {}),
  };
  if (target.kind === "domain") {
    return { typ: "txntoken+jwt", claims: txnTokenClaims(facts, request.wanted), expiresInSeconds: life, bound: false };
  }
  return { typ: "at+jwt", claims: buildAccessTokenClaims(facts), expiresInSeconds: life, bound: jkt !== undefined };
}

function askOf(at: {
  request: Request;
  position: Position;
  target: Target;
  allowed: Allowed;
  value: Planned;
  jkt: string | undefined;
  origin: Origin;
  trust: TrustIndex;
  now: number;
}): Ask {
  const { request, position, target, allowed: granted, value, jkt, origin, trust, now } = at;
  const { acting } = request.proved;
  const { jti } = request;
  const targetKeys = [...agentKeysOf(trust, position.path), ...deathKeysOf(trust, target, granted.scopes)];
  const binding = bindingOf(origin, position, request.context.proof?.jkt);
  return {
    action: "token.issue",
    target: granted.audience,
    actor: acting.agent.name,
    trustVersion: trust.version,
    kill: joined(position.kill, [...targetKeys, deathKeys.jti(jti)]),
    event: {
      type: "token.issue",
      agent: acting.agent.name,
      sub: position.subject.sub,
      resource: granted.resource,
      txn: position.txn,
      jti,
      traceId: request.context.traceId,
      requestId: request.context.requestId,
      facts: factsOf({ request, position, granted, value, jkt, origin, trust }),
    },
    replay: spent(request, position),
    newHop: {
      jti,
      txn: position.txn,
      node: position.node,
      kind: target.kind === "agent" ? "hand_over" : target.kind === "domain" ? "txn_token" : "access",
      actor: acting.agent.name,
      aud: granted.audience,
      scopes: granted.scopes,
      iat: now,
      exp: now + value.expiresInSeconds,
      ...(jkt === undefined ? {} : { jkt }),
    },
    ...(binding === undefined ? {} : { binding }),
    ...(position.task === undefined ? {} : { task: position.task }),
    ...(position.newTask === undefined ? {} : { newTask: position.newTask }),
    ...(position.newNode === undefined ? {} : { newNode: position.newNode }),
  };
}

/** What kills a token because of where it is to be spent. A hand-over dies with its addressee too, also before its first use. */
function deathKeysOf(trust: TrustIndex, target: Target, scopes: readonly string[]): readonly string[] {
  if (target.kind === "resource") return [deathKeys.resource(target.resource.name)];
  if (target.kind === "agent") return agentKeysOf(trust, [target.name]);
  return scopes.map((scope) => deathKeys.resource(scope.slice(0, scope.indexOf(":"))));
}

/** Who answers for agents may have changed since their places were made: the owners of now count beside those of then. */
function agentKeysOf(trust: TrustIndex, names: readonly string[]): readonly string[] {
  return names.flatMap((name) => {
    const agent = trust.agent(name);
    return agent === undefined ? [killKey("agent", name)] : deathKeys.ofAgent(agent, undefined);
  });
}

function bindingOf(origin: Origin, position: Position, jkt: string | undefined): Binding | undefined {
  const subjectKey = origin.kind === "redeem" ? undefined : origin.subjectKey;
  if (!subjectKey) return undefined;
  const { key, exp, singleUse } = subjectKey;
  // Remembered as long as the task, so that a single-use token's key can continue it after the token itself expired.
  return {
    key,
    node: position.node,
    opens: false,
    singleUse,
    exp: singleUse ? Math.max(exp, position.deadline) : exp,
    ...(jkt === undefined ? {} : { jkt }),
  };
}

/** Everything that works once and is spent by this request. */
function spent(request: Request, position: Position): ReplayKey[] {
  const { proof } = request.context;
  const { acting } = request.proved;
  return [
    ...acting.replay,
    ...request.replay,
    ...(proof ? [{ key: proof.replayKey, exp: proof.replayUntil }] : []),
    ...singleUseKeys(acting, proof?.jkt, `${position.txn}.${position.node}`),
  ];
}

function factsOf(at: {
  request: Request;
  position: Position;
  granted: Allowed;
  value: Planned;
  jkt: string | undefined;
  origin: Origin;
  trust: TrustIndex;
}): Ask["event"]["facts"] {
  const { request, position, granted, value, jkt, origin, trust } = at;
  const { acting } = request.proved;
  return {
    grant_type: request.trail.grantType,
    aud: granted.audience,
    scope: granted.scopes.join(" "),
    path: position.path,
    node: position.node,
    node_parent: position.newNode?.parent ?? undefined,
    opened: origin.kind === "open" ? true : undefined,
    handed_over_to: granted.resource.startsWith("agents/") ? granted.resource.slice("agents/".length) : undefined,
    purpose: request.wanted.purpose ?? position.purpose,
    exp: value.claims.exp,
    grants: granted.decision.grants.map((grant) => grant.grant),
    would_refuse: granted.decision.wouldRefuse?.reason,
    owner: acting.agent.owner,
    client: {
      method: acting.method,
      issuer: acting.workload?.issuer.name,
      workload: acting.workload?.workloadId,
      profile: acting.workload?.profile,
    },
    key_bound: jkt === undefined ? undefined : true,
    once: granted.decision.once ? true : undefined,
    trust_version: trust.version,
  };
}
