import { InvalidClientError, InvalidRequestError } from "../core/oauth/errors.ts";
import type { Form } from "../core/oauth/form.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { pathOf } from "../core/delegation/chain.ts";
import { deathKeys } from "../core/kill/keys.ts";
import type { Permit } from "../core/permit.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { onceKeys } from "../core/token/once.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Resource } from "../core/trust/model.ts";
import type { Ask } from "../authz/ask.ts";
import type { EventDraft } from "../audit/event.ts";
import type { StsDeps } from "./deps.ts";
import type { LiveTokens, TokenState } from "./live-tokens.ts";
import { readOwnToken } from "./own-token.ts";
import { joined } from "./position.ts";
import type { IntrospectionClient } from "./resource-server.ts";
import { recordRefusal, type Trail } from "./trail.ts";

/** A use of a token that was decided and recorded. */
export interface Consumed {
  readonly claims: AccessTokenClaims;
  /** Asked right before the answer is written: a kill may have come. */
  readonly permit: Permit;
}

/** A consumption as it was asked for, of a token that was read. */
interface Order {
  readonly client: IntrospectionClient;
  readonly resource: Resource;
  readonly claims: AccessTokenClaims;
  readonly state: TokenState;
  readonly trail: Trail;
}

/**
 * Whether the caller uses the token now, or only asks about it.
 *
 * @throws {InvalidRequestError} `parameter_invalid`
 */
export function readConsume(form: Form): boolean {
  const value = form.get("consume");
  if (value !== undefined && value !== "true" && value !== "false")
    throw new InvalidRequestError({ reason: "parameter_invalid", help: "consume is true or false." });
  return value === "true";
}

/**
 * Introspection with `consume=true`: the use of a token at a resource that judges it itself goes through the gate, as every
 * release does. A once-only token is spent by the step that records it, so that it is active for one caller only, over all
 * replicas; what is refused spends nothing. Each answer has one event, active or not.
 *
 * @returns undefined where the token is not active, recorded with the reason
 * @throws {InvalidClientError} the caller's trust was changed meanwhile
 * @throws {TemporarilyUnavailableError} the database is away; the token may be spent, and then no later answer is active
 */
export async function consumeToken(
  deps: StsDeps,
  liveTokens: LiveTokens,
  at: { client: IntrospectionClient; token: string; trail: Trail },
): Promise<Consumed | undefined> {
  const { client, token, trail } = at;
  let claims: AccessTokenClaims;
  try {
    claims = await readOwnToken(deps, token);
  } catch (error) {
    if (!(error instanceof RefusedToken)) throw error;
    // Nothing that it says of itself is proved: counted like any stranger's.
    await recordRefusal(deps, { ...trail, type: "token.consume" }, error.reason, { by: nameOf(client) });
    return undefined;
  }
  const resource = client.resources.find(({ identifier }) => identifier === claims.aud);
  const refused = async (reason: Reason): Promise<undefined> => {
    await deps.recorder.refused(eventOf(deps, { client, claims, resource, trail }), reason);
  };
  // Whoever a token was not meant for uses nobody else's up.
  if (!resource) return await refused("token_audience");
  const state = await liveTokens.state(claims.jti);
  if (!state) return await refused("token_unknown");
  const result = await deps.authorizer
    .authorize(() => ({ ask: askOf(deps, { client, resource, claims, state, trail }), value: undefined }))
    .catch(async (error: unknown) => {
      if (error instanceof RefusedToken) return await refused(error.reason);
      throw error;
    });
  // What the gate refused, it recorded.
  return result?.outcome === "granted" ? { claims, permit: result.permit } : undefined;
}

/**
 * Judged by the trust index as it is when this is called, as everything that the gate is asked.
 *
 * @throws {InvalidClientError} the resource, or who may introspect there, was changed since the client was authenticated
 * @throws {RefusedToken} `token_expired`
 */
function askOf(deps: StsDeps, order: Order): Ask {
  const { client, resource, claims, state } = order;
  const { acting } = client;
  acting?.recheck();
  const now = deps.trust().resourceByName(resource.name);
  // The index keeps an object as it is until it is changed.
  if (now !== resource) throw new InvalidClientError({ reason: "client_not_allowed", resource: resource.name });
  if (deps.clock.now() >= claims.exp) throw new RefusedToken({ reason: "token_expired" });
  const kill = { keys: state.killKeys, epochs: state.killEpochs };
  return {
    action: "token.consume",
    target: claims.aud,
    actor: claims.client_id,
    trustVersion: deps.trust().version,
    // A kill of the agent that introspects stops it too.
    kill: acting ? joined(kill, deathKeys.ofAgent(acting.agent, acting.workload?.issuer.name)) : kill,
    task: { txn: state.txn, nodes: [state.node] },
    replay: onceKeys(claims),
    event: eventOf(deps, order),
  };
}

function eventOf(
  deps: StsDeps,
  at: Pick<Order, "client" | "claims" | "trail"> & { resource: Resource | undefined },
): EventDraft {
  const { client, claims, trail, resource } = at;
  return {
    type: "token.consume",
    agent: claims.client_id,
    sub: claims.sub,
    resource: resource?.name,
    txn: claims.txn,
    jti: claims.jti,
    requestId: trail.requestId,
    facts: {
      by: nameOf(client),
      aud: claims.aud,
      scope: claims.scope,
      path: pathOf(claims),
      once: claims.once,
      trust_version: deps.trust().version,
    },
  };
}

/** Who used it: a resource by its secret, or an agent on behalf of one. */
function nameOf(client: IntrospectionClient): string {
  return `${client.acting ? "agent" : "resource"}:${client.name}`;
}
