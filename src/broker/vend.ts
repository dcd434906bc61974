import type { Ask, LeaseRelease } from "../authz/ask.ts";
import { AccessDeniedError, InvalidTokenError, OAuthError, TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Allowed } from "../core/grants/decision.ts";
import { deathKeys } from "../core/kill/keys.ts";
import type { Permit } from "../core/permit.ts";
import { ulid } from "../system/random.ts";
import type { BrokerDeps } from "./deps.ts";
import { intentOf, leaseAbandoned, leaseMinted } from "./leases.ts";
import type { Held } from "./one-at-a-time.ts";
import { openSecrets, storeRotated } from "./opened-secrets.ts";
import type { LeaseFacts, Minted } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";
import { askOf, factsOf, judged, lifeOf, type Order } from "./vend-order.ts";
import { upstreamFor } from "./web-identity.ts";

/** Longest that a mint may take, in milliseconds; a client waits no longer. */
const MINT_LIMIT_MS = 20_000;

/** A credential that was made, recorded and may leave. */
export interface Vended {
  readonly lease: string;
  readonly kind: string;
  /** Epoch seconds. */
  readonly expiresAt: number;
  /** Seconds that it lives on at its upstream after that; null: nobody knows when it ends. */
  readonly residualSeconds: number | null;
  readonly credential: Minted["credential"];
  /** What kills it, each with the kill epoch at which it was decided. */
  readonly kill: { readonly keys: readonly string[]; readonly epochs: readonly number[] };
  /** Asked right before it is written to the socket. */
  readonly permit: Permit;
}

/**
 * Vends a credential: decides and records the intent, opens what the provider needs, mints, records what would end it, and
 * asks the gate again. If that sees a kill, or anything fails, the credential is destroyed.
 *
 * @throws {InsufficientScopeError} not granted; {AccessDeniedError} more would live on than the grant allows;
 * {InvalidTokenError} killed or ended; {TemporarilyUnavailableError} the upstream or the database is away
 */
export async function vend(
  deps: BrokerDeps,
  request: Pick<Order, "resource" | "holder" | "requestId" | "injected">,
): Promise<Vended> {
  const order = await orderOf(deps, request);
  const id = `lease_${ulid(deps.clock.nowMs())}`;
  const held = await alone(deps, order, id);
  try {
    const intent = await decided(deps, order, id).catch(async (error: unknown) => {
      // Where nobody knows what the gate did, the intent may stand.
      if (error instanceof TemporarilyUnavailableError)
        await leaseAbandoned(deps.db, id, deps.clock.nowMs()).catch(() => {});
      throw error;
    });
    try {
      const minted = await mint(deps, order, { intent, held });
      await held.release();
      return await release(deps, order, { intent, minted });
    } catch (error) {
      // Whatever was made is due now; the worker ends it, and goes on trying.
      await leaseAbandoned(deps.db, id, deps.clock.nowMs()).catch(() => {});
      throw await failed(deps, order, { error, id });
    }
  } finally {
    await held.release();
  }
}

/** Waits for secrets that the mint may replace before the intent is decided: permits to open them would lapse meanwhile. */
async function alone(deps: BrokerDeps, order: Order, id: string): Promise<Held> {
  const { provider, settings, holder } = order;
  const names = provider.rotates?.(settings, factsOf(order, id)) ?? [];
  // Whoever would be refused waits for nobody, and nobody for them.
  if (names.length > 0) await refusing(deps, order, () => judged(deps, order));
  const held = await deps.oneAtATime.acquire(names);
  if (names.length === 0 || deps.clock.now() < holder.claims.exp) return held;
  await held.release();
  throw new InvalidTokenError({ reason: "token_expired" });
}

async function orderOf(
  deps: BrokerDeps,
  { resource, holder, requestId, injected }: Pick<Order, "resource" | "holder" | "requestId" | "injected">,
): Promise<Order> {
  const provider = deps.kinds.get(resource.provider);
  const parsed = provider?.settings.safeParse(resource.settings);
  const place = await deps.places.find(holder.txn, holder.node);
  if (!provider || !parsed?.success) throw new AccessDeniedError({ reason: "not_served", resource: resource.name });
  if (!place) throw new InvalidTokenError({ reason: "token_unknown" });
  return { resource, provider, settings: parsed.data, holder, place, requestId, injected };
}

interface Intent {
  readonly facts: LeaseFacts;
  readonly allowed: Allowed;
  readonly issuedAt: number;
  readonly endsAt: number;
  readonly epochs: readonly number[];
  readonly keys: readonly string[];
  readonly opens: ReadonlyMap<string, Permit>;
}

/** The first durable step: what is about to be made, for whom, by which grant, with its lease. */
async function decided(deps: BrokerDeps, order: Order, id: string): Promise<Intent> {
  const { holder, resource, injected } = order;
  const facts = factsOf(order, id);
  const own = [deathKeys.lease(id), deathKeys.resource(resource.name)];
  if (injected !== undefined) own.push(deathKeys.resource(injected.into));
  const keys = [...holder.killKeys, ...own];
  const epochs = [...holder.killEpochs, ...own.map(() => null)];
  const prepare = (): { ask: Ask; value: { allowed: Allowed; issuedAt: number; endsAt: number } } => {
    const allowed = judged(deps, order);
    const issuedAt = deps.clock.now();
    const endsAt = issuedAt + lifeOf(order, allowed, issuedAt);
    const { provider, settings } = resource;
    const ask = askOf(deps, order, { action: "credential.vend", facts, kill: { keys, epochs }, allowed });
    const newLease = intentOf({ facts, provider, settings, node: holder.node, now: issuedAt, endsAt });
    return { ask: { ...ask, newLease }, value: { allowed, issuedAt, endsAt } };
  };
  await refusing(deps, order, prepare);
  const result = await deps.authorizer.authorize(prepare);
  if (result.outcome !== "granted")
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  const known = epochs.map((epoch) => epoch ?? result.epoch);
  return { facts, ...result.value, epochs: known, keys, opens: result.opens };
}

/** A refusal by decision is recorded here; one by the gate is recorded there. */
async function refusing(deps: BrokerDeps, order: Order, work: () => unknown): Promise<void> {
  try {
    work();
  } catch (error) {
    // What a call is refused is recorded with the call.
    if (error instanceof OAuthError && order.injected === undefined) {
      const { holder, resource, requestId } = order;
      await deps.recorder.refused(
        {
          type: "credential.vend",
          agent: holder.agent.name,
          sub: holder.claims.sub,
          txn: holder.txn,
          jti: holder.claims.jti,
          resource: resource.name,
          requestId,
          facts: { ...error.facts, trust_version: deps.trust().version },
        },
        error.reason,
      );
    }
    throw error;
  }
}

/** Mints, and writes down what would end it before anything else happens. */
async function mint(deps: BrokerDeps, order: Order, at: { intent: Intent; held: Held }): Promise<Minted> {
  const { provider, settings } = order;
  const { intent, held } = at;
  const opened = await openSecrets(deps, intent.opens);
  let minted: Minted;
  try {
    await held.check();
    minted = await provider.mint(
      {
        settings,
        lease: intent.facts,
        secrets: opened.texts,
        policies: intent.allowed.policies ?? [],
        issuedAt: intent.issuedAt,
        endsAt: intent.endsAt,
        upstream: upstreamFor(deps, { lease: intent.facts, actor: intent.facts.agent, kill: intent }),
      },
      AbortSignal.timeout(MINT_LIMIT_MS),
    );
  } catch (error) {
    if (error instanceof ProviderError && error.rotated) await storeRotated(deps, error.rotated, intent.facts);
    throw error;
  } finally {
    opened.wipe();
  }
  const { rotated } = minted;
  // Nothing would end it early: the gate writes down the rest with the release.
  if (!provider.destroy && rotated === undefined) return minted;
  // Whichever fails, the other is written down: without the one a credential lives on, without the other the access is lost.
  const [ours, stored] = await Promise.allSettled([
    leaseMinted(deps, intent.facts.id, minted),
    rotated && storeRotated(deps, rotated, intent.facts),
  ]);
  if (stored.status === "rejected") throw stored.reason;
  if (ours.status === "rejected") throw ours.reason;
  if (!ours.value) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
  return minted;
}

/** The second durable step: nothing killed it meanwhile, and the record says that it leaves. */
async function release(deps: BrokerDeps, order: Order, at: { intent: Intent; minted: Minted }): Promise<Vended> {
  const { intent, minted } = at;
  const kill = { keys: intent.keys, epochs: intent.epochs };
  const leaseRelease: LeaseRelease = order.provider.destroy
    ? { id: intent.facts.id }
    : { id: intent.facts.id, upstream_expires_at: minted.upstreamExpiresAt, marks: minted.marks };
  const result = await deps.authorizer.authorize(() => {
    const allowed = judged(deps, order);
    const ask = askOf(deps, order, { action: "credential.release", facts: intent.facts, kill, allowed });
    return { ask: { ...ask, leaseRelease }, value: undefined };
  });
  if (result.outcome === "lease_taken") throw new TemporarilyUnavailableError({ reason: "lease_taken" });
  if (result.outcome !== "granted")
    throw new InvalidTokenError({ reason: result.outcome === "continue" ? "internal" : result.outcome });
  return {
    lease: intent.facts.id,
    kind: order.provider.kind,
    expiresAt: intent.endsAt,
    residualSeconds: residualOf(order, intent.endsAt, minted),
    credential: minted.credential,
    kill,
    permit: result.permit,
  };
}

function residualOf(order: Order, endsAt: number, minted: Minted): number | null {
  const worst = order.provider.residualSeconds(order.settings);
  if (worst === 0) return 0;
  if (minted.upstreamExpiresAt !== undefined) return Math.max(0, minted.upstreamExpiresAt - endsAt);
  return Number.isFinite(worst) ? worst : null;
}

/** What the caller may know of a failure: that it is ours to mend, never what the upstream said. */
async function failed(deps: BrokerDeps, order: Order, at: { error: unknown; id: string }): Promise<unknown> {
  const { error, id } = at;
  if (error instanceof OAuthError) return error;
  const problem = error instanceof ProviderError ? error.problem : "internal";
  deps.log.warn("vend_failed", {
    requestId: order.requestId,
    resource: order.resource.name,
    reason: problem,
    err: error,
  });
  await deps.recorder
    .noted({
      type: "credential.vend",
      agent: order.holder.agent.name,
      txn: order.holder.txn,
      resource: order.resource.name,
      requestId: order.requestId,
      facts: { lease: id, problem, code: error instanceof ProviderError ? error.code : undefined },
    })
    .catch(() => {});
  const isRefused = error instanceof ProviderError && !error.isTransient;
  return isRefused
    ? new AccessDeniedError({ reason: "upstream_refused", resource: order.resource.name }, { cause: error })
    : new TemporarilyUnavailableError(
        { reason: "upstream_unavailable", resource: order.resource.name },
        { cause: error },
      );
}
