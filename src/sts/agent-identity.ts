import {
  InsufficientScopeError,
  InvalidDpopProofError,
  InvalidTokenError,
  OAuthError,
  TemporarilyUnavailableError,
} from "../core/oauth/errors.ts";
import { readBearer } from "../core/oauth/bearer.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { pathOf } from "../core/delegation/chain.ts";
import { decide, type Decision } from "../core/grants/decide.ts";
import type { Permit } from "../core/permit.ts";
import type { Ask, KillPairs, ReplayKey } from "../authz/ask.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { onceKeys } from "../core/token/once.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Agent } from "../core/trust/model.ts";
import { checkStanding } from "../federation/match.ts";
import type { Place } from "../tasks/facts.ts";
import { sha256Base64url } from "../system/hash.ts";
import { deathKeys } from "../core/kill/keys.ts";
import { proveAgent, type ActingAgent } from "./acting-agent.ts";
import type { StsDeps } from "./deps.ts";
import { isKilled } from "./is-killed.ts";
import type { LiveTokens, TokenState } from "./live-tokens.ts";
import { looksOwn, readOwnToken } from "./own-token.ts";
import { readProof } from "./proof.ts";
import type { DpopKey } from "./request.ts";

/** By what a request is found in the ledger. */
export interface RequestTrace {
  readonly requestId: string;
  /** Method and pattern. */
  readonly route: string;
  readonly remoteAddress: string;
}

/** What came with a request to Ephor's own API. `url` is ours by configuration, for the proof. */
export interface Presented extends RequestTrace {
  readonly authorization: string | undefined;
  readonly dpop: string | undefined;
  readonly method: string;
  readonly url: string;
}

/** An agent that proved itself at Ephor's own API. */
export interface AgentIdentity {
  readonly agent: Agent;
  readonly kill: KillPairs;
  /** By its platform's token or its own key. */
  readonly acting?: ActingAgent;
  /** By a token of ours for `<issuer>/v1`. */
  readonly token?: { readonly claims: AccessTokenClaims; readonly state: TokenState };
  readonly proof?: DpopKey | undefined;
}

const asTokenError = (e: RefusedToken): OAuthError =>
  new InvalidTokenError({ reason: e.reason, ...e.facts }, { cause: e });

/**
 * An agent by its own workload token, `private_key_jwt`, or a token of ours for `<issuer>/v1`; no grant is needed. Where it
 * changes anything, the gate is asked again; here a kill that covers the agent is seen for reads.
 *
 * @throws {InvalidTokenError | InvalidDpopProofError | UseDpopNonceError}
 */
export async function agentIdentity(deps: StsDeps, live: LiveTokens, presented: Presented): Promise<AgentIdentity> {
  await deps.keys.fresh();
  return await proved(deps, live, presented).catch((error: unknown) => recordStranger(deps, presented, error));
}

/**
 * Whoever does not get in leaves a trace as at the OAuth endpoints: under his name once that is proved, else counted like
 * any stranger (INV-29). What is refused later is recorded where it is decided.
 */
async function recordStranger(deps: StsDeps, request: RequestTrace, error: unknown): Promise<never> {
  if (error instanceof OAuthError && !(error instanceof TemporarilyUnavailableError)) {
    const { requestId, route, remoteAddress } = request;
    const { agent, ...facts } = error.facts;
    const draft = { type: "admin.request" as const, requestId, facts: { ...facts, route } };
    if (typeof agent === "string") await deps.recorder.refused({ ...draft, agent }, error.reason);
    else await deps.noise.refused(draft, error.reason, remoteAddress);
  }
  throw error;
}

async function proved(deps: StsDeps, live: LiveTokens, presented: Presented): Promise<AgentIdentity> {
  const given = readBearer(presented.authorization);
  if (!given) throw new InvalidTokenError({ reason: "client_missing" });
  if (looksOwn(deps, given.token)) return await byOwnToken(deps, live, presented);
  if (given.scheme !== "Bearer") throw new InvalidTokenError({ reason: "token_malformed" });
  const acting = await proveAgent(deps, given.token, { face: asTokenError });
  const keys = deathKeys.ofAgent(acting.agent, acting.workload?.issuer.name);
  if (await isKilled(deps, acting)) throw new InvalidTokenError({ reason: "killed", agent: acting.agent.name });
  return { agent: acting.agent, acting, kill: { keys, epochs: keys.map(() => null) } };
}

/**
 * What a request spends that proved the agent so: a `private_key_jwt`, a DPoP proof, a once-only token.
 *
 * @param isOnce whether the decision makes the token once-only
 */
export function spendsOf({ acting, proof, token }: AgentIdentity, isOnce: boolean = false): readonly ReplayKey[] {
  return [
    ...(acting?.replay ?? []),
    ...(proof ? [{ key: proof.replayKey, exp: proof.replayUntil }] : []),
    ...(token ? onceKeys(token.claims, isOnce) : []),
  ];
}

/**
 * Spends what proves the agent only once, where no release does it: `private_key_jwt`, DPoP proofs and once-only tokens that
 * come with a read or the end of a task (A-CLI-04, RFC 9449 §11.1, CONTRACT §5 "Once").
 *
 * @throws {InvalidTokenError} `replayed`
 */
export async function spendProofs(deps: StsDeps, identity: AgentIdentity, request: RequestTrace): Promise<void> {
  const once = spendsOf(identity);
  if (once.length === 0) return;
  const spent = await deps.db.query<{ key: string }>(
    `insert into ephor.replay (key, holder, exp) select k.key, $3, k.exp from unnest($1::text[], $2::bigint[]) as k(key, exp)
     order by k.key on conflict (key) do nothing returning key`,
    [once.map((entry) => entry.key), once.map((entry) => entry.exp), request.requestId],
  );
  if (spent.length === once.length) return;
  await recordStranger(deps, request, new InvalidTokenError({ reason: "replayed", agent: identity.agent.name }));
}

/**
 * Looks once more whether the token of a request lives, when time has passed since it was presented.
 *
 * @throws {InvalidTokenError} `token_revoked`, recorded
 */
export async function tokenStillLives(
  deps: StsDeps,
  live: LiveTokens,
  at: { identity: AgentIdentity; request: RequestTrace },
): Promise<void> {
  const claims = at.identity.token?.claims;
  if (claims === undefined || (await live.isLive(claims.jti)).live) return;
  await recordStranger(deps, at.request, new InvalidTokenError({ reason: "token_revoked", agent: claims.client_id }));
}

/**
 * Whoever holds a token of ours for one of our own endpoints: the token is good, live, of this audience, and proved where
 * it is bound to a key. What it may do there is the endpoint's to decide.
 *
 * @param at.isGateNext whether whatever is granted goes through the gate, which sees what ended the token; before anything
 *   else refuses, the token is to be looked at once more
 * @throws {InvalidTokenError | InvalidDpopProofError} recorded
 */
export async function tokenHolder(
  deps: StsDeps,
  live: LiveTokens,
  at: { presented: Presented; audience: string; isGateNext?: boolean },
): Promise<AgentIdentity & { readonly token: NonNullable<AgentIdentity["token"]> }> {
  await deps.keys.fresh();
  try {
    if (!readBearer(at.presented.authorization)) throw new InvalidTokenError({ reason: "client_missing" });
    return await byOwnToken(deps, live, at.presented, at);
  } catch (error) {
    return await recordStranger(deps, at.presented, error);
  }
}

async function byOwnToken(
  deps: StsDeps,
  live: LiveTokens,
  presented: Presented,
  { audience = `${deps.issuer}/v1`, isGateNext = false }: { audience?: string; isGateNext?: boolean } = {},
): Promise<AgentIdentity & { readonly token: NonNullable<AgentIdentity["token"]> }> {
  const given = readBearer(presented.authorization);
  try {
    const claims = await readOwnToken(deps, given?.token ?? "", audience);
    const proof = holderProof(deps, claims, presented, given);
    const state = await (isGateNext ? live.remembered(claims.jti) : live.state(claims.jti));
    if (!state) throw new RefusedToken({ reason: "token_unknown" });
    // Here for what is never decided, such as a scope that is not in it; whoever comes at the same moment loses at the gate.
    if (claims.once === true && (await live.isSpent(claims.jti)))
      throw new RefusedToken({ reason: "replayed", agent: claims.client_id });
    if (!state.live) throw new RefusedToken({ reason: "token_revoked", agent: claims.client_id });
    const agent = deps.trust().agent(claims.client_id);
    if (!agent) throw new RefusedToken({ reason: "client_unknown", agent: claims.client_id });
    checkStanding(agent, deps.clock.now());
    return { agent, kill: { keys: state.killKeys, epochs: state.killEpochs }, token: { claims, state }, proof };
  } catch (error) {
    throw error instanceof RefusedToken ? asTokenError(error) : error;
  }
}

/** A key-bound token comes with a proof by its key, under the scheme `DPoP`; an unbound one under `Bearer` (RFC 9449 §7.1). */
function holderProof(
  deps: StsDeps,
  claims: AccessTokenClaims,
  presented: Presented,
  given: ReturnType<typeof readBearer>,
): DpopKey | undefined {
  const jkt = claims.cnf?.jkt;
  if (jkt === undefined) {
    if (given?.scheme !== "Bearer") throw new RefusedToken({ reason: "token_bound" });
    return undefined;
  }
  if (given?.scheme !== "DPoP" || presented.dpop === undefined) throw new RefusedToken({ reason: "dpop_missing" });
  const ath = sha256Base64url(given.token);
  const proof = readProof(deps, presented.dpop, { method: presented.method, url: presented.url, ath, nonce: false });
  if (proof?.jkt !== jkt) throw new InvalidDpopProofError({ reason: "dpop_key_mismatch" });
  return proof;
}

/** An agent that may do one thing at Ephor's own API now. */
export interface LetIn {
  readonly identity: AgentIdentity;
  readonly permit: Permit;
  /** The kill epoch at which it was let in: no earlier kill covers it. */
  readonly epoch: number;
}

/**
 * An agent by a token of ours for `<issuer>/v1`, for one action at Ephor's own API: decided by grants, recorded and seen by
 * the gate, like every other release.
 *
 * @param action of the resource `ephor`
 * @throws {InvalidTokenError | InsufficientScopeError | InvalidDpopProofError}
 */
export async function authorizeAtEphor(
  deps: StsDeps,
  live: LiveTokens,
  at: { presented: Presented; action: string; route: string },
): Promise<LetIn> {
  const { presented, action, route } = at;
  await deps.keys.fresh();
  const identity = await byOwnToken(deps, live, presented).catch((error: unknown) =>
    recordStranger(deps, presented, error),
  );
  const { claims, state } = identity.token as NonNullable<AgentIdentity["token"]>;
  const scope = `ephor:${action}`;
  const place = await deps.places.find(state.txn, state.node);
  const refuse = async (reason: Reason): Promise<never> => {
    const draft = {
      type: "admin.request" as const,
      agent: identity.agent.name,
      sub: claims.sub,
      txn: claims.txn,
      jti: claims.jti,
      resource: "ephor",
      requestId: presented.requestId,
      facts: { route, scope },
    };
    await deps.recorder.refused(draft, reason);
    throw reason === "token_unknown"
      ? new InvalidTokenError({ reason })
      : new InsufficientScopeError({ reason, scope });
  };
  if (!claims.scope.split(" ").includes(scope)) return await refuse("insufficient_scope");
  if (!place) return await refuse("token_unknown");
  let denied: Reason | undefined;
  const result = await deps.authorizer
    .authorize(() => {
      const decision = decideAtEphor(deps, place, scope);
      denied = decision.allowed ? undefined : decision.reason;
      if (!decision.allowed) throw new InsufficientScopeError({ reason: decision.reason, scope });
      return { value: undefined, ask: requestAsk(deps, identity, { presented, route, scope, isOnce: decision.once }) };
    })
    .catch((error: unknown) => {
      if (denied === undefined) throw error;
      return undefined;
    });
  if (!result) return await refuse(denied ?? "scope_not_granted");
  if (result.outcome !== "granted")
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  return { identity, permit: result.permit, epoch: result.epoch };
}

function decideAtEphor(deps: StsDeps, place: Place, scope: string): Decision {
  const trust = deps.trust();
  const resource = trust.resourceByName("ephor");
  if (!resource) return { allowed: false, reason: "target_unknown", facts: {} };
  return decide(trust, {
    path: place.node.path,
    subject: place.task.subject,
    resource,
    scopes: [scope],
    ceilings: [place.task.ceiling, place.node.ceiling],
    txn: place.task.txn,
    now: deps.clock.now(),
  });
}

function requestAsk(
  deps: StsDeps,
  identity: AgentIdentity,
  at: { presented: Presented; route: string; scope: string; isOnce: boolean },
): Ask {
  const { claims, state } = identity.token as NonNullable<AgentIdentity["token"]>;
  const { route, scope, presented, isOnce } = at;
  return {
    action: "admin.request",
    target: route,
    actor: identity.agent.name,
    trustVersion: deps.trust().version,
    kill: identity.kill,
    task: { txn: state.txn, nodes: [state.node] },
    replay: spendsOf(identity, isOnce),
    event: {
      type: "admin.request",
      agent: identity.agent.name,
      sub: claims.sub,
      txn: claims.txn,
      jti: claims.jti,
      resource: "ephor",
      requestId: presented.requestId,
      facts: { route, scope, path: pathOf(claims), trust_version: deps.trust().version },
    },
  };
}
