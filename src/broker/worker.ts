import type { EventDraft } from "../audit/event.ts";
import { OAuthError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import { STUCK } from "../tasks/lease-rows.ts";
import { SecretMissingError } from "../vault/secrets.ts";
import type { BrokerDeps } from "./deps.ts";
import {
  claimLeases,
  handlePlace,
  leaseEnded,
  leaseRetries,
  leasesEnded,
  leasesKilled,
  leaseStuck,
  type ClaimedLease,
} from "./leases.ts";
import { openSecrets } from "./opened-secrets.ts";
import type { CredentialProvider } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";
import { upstreamFor } from "./web-identity.ts";

/** How often due leases are looked for, in milliseconds. */
const ROUND_MS = 1_000;
/** Leases claimed at once. */
const CLAIM_ROWS = 20;
/** Leases that are written off at once. */
const NATURAL_ROWS = 500;
/** Leases that this replica ends at the same time. */
const MAX_UNDER_WAY = 60;
/** Of one resource no more are begun while so many are under way: an upstream that hangs must not hold up the others. */
const MAX_OF_RESOURCE = 10;
/** Longest that one `destroy` may take, in milliseconds; below the time for which a lease is claimed. */
const DESTROY_LIMIT_MS = 20_000;
/** The first retry, and the longest pause between two, in milliseconds. It is tried for ever. */
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 60_000;

/** Ends leases. Any number of replicas may run one. */
export interface LeaseWorker {
  /** Looks at once instead of within the second: something was killed or ended here. */
  wake(): void;
  close(): Promise<void>;
}

/** Starts the worker. */
export function createLeaseWorker(deps: BrokerDeps): LeaseWorker {
  const underWay = new Map<Promise<void>, string>();
  const kinds = [...deps.kinds.values()].filter((provider) => !provider.destroy).map((provider) => provider.kind);
  /** The kill epoch up to which leases were looked through. */
  let epoch = 0;
  let looking: Promise<void> | undefined;
  let isClosed = false;

  /** Claims what is due and begins to end it. What hangs is not waited for. */
  async function look(): Promise<void> {
    epoch = await leasesKilled(deps.db, epoch, deps.clock.nowMs());
    await endNatural();
    for (;;) {
      const limit = Math.min(CLAIM_ROWS, MAX_UNDER_WAY - underWay.size);
      if (isClosed || limit <= 0) return;
      const except = busy(underWay.values());
      const claimed = await claimLeases(deps.db, { nowMs: deps.clock.nowMs(), limit, except, kinds, isThem: false });
      for (const lease of claimed) {
        const ending: Promise<void> = endOne(deps, lease).finally(() => underWay.delete(ending));
        underWay.set(ending, lease.facts.resource);
      }
      if (claimed.length < limit) return;
    }
  }

  /** What its upstream ends by itself is only written down, many at once. */
  async function endNatural(): Promise<void> {
    for (;;) {
      const nowMs = deps.clock.nowMs();
      if (isClosed) return;
      const claimed = await claimLeases(deps.db, { nowMs, limit: NATURAL_ROWS, except: [], kinds, isThem: true });
      if (claimed.length === 0) return;
      const ended = claimed.map((lease) => ({ id: lease.id, event: endOf(deps, lease) }));
      await leasesEnded(deps.db, { nowMs, ended });
      if (claimed.length < NATURAL_ROWS) return;
    }
  }

  const quietly = (): void => {
    if (isClosed) return;
    looking ??= look()
      .catch((err: unknown) => deps.log.warn("leases_not_read", { err }))
      .finally(() => {
        looking = undefined;
      });
  };
  const timer = setInterval(quietly, ROUND_MS);
  timer.unref();
  return {
    // A look that is under way may have been too early to see what happened.
    wake: () => void (looking ?? Promise.resolve()).then(quietly),
    async close() {
      isClosed = true;
      clearInterval(timer);
      await looking;
      await Promise.all(underWay.keys());
    },
  };
}

/** Resources of which enough leases are being ended. */
function busy(resources: Iterable<string>): string[] {
  const counts = new Map<string, number>();
  for (const resource of resources) counts.set(resource, (counts.get(resource) ?? 0) + 1);
  return [...counts].filter(([, count]) => count >= MAX_OF_RESOURCE).map(([resource]) => resource);
}

/** Ends one lease at its upstream, or plans the next try. Never throws. */
async function endOne(deps: BrokerDeps, lease: ClaimedLease): Promise<void> {
  try {
    await destroy(deps, lease);
    await leaseEnded(deps.db, { id: lease.id, nowMs: deps.clock.nowMs(), event: endOf(deps, lease) });
  } catch (error) {
    const problem =
      error instanceof ProviderError ? error.problem : error instanceof OAuthError ? error.reason : "internal";
    deps.log.warn("lease_not_ended", {
      name: lease.id,
      resource: lease.facts.resource,
      reason: problem,
      attempt: lease.attempts,
      err: error,
    });
    await plan(deps, lease, problem).catch(() => {});
  }
}

/** The next try; and the first time that it looks stuck, a note for whoever must mend the upstream. */
async function plan(deps: BrokerDeps, lease: ClaimedLease, problem: string): Promise<void> {
  const nowMs = deps.clock.nowMs();
  const pause = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(lease.attempts - 1, 10));
  await leaseRetries(deps.db, lease.id, { atMs: nowMs + pause, problem });
  const isStuck = lease.attempts >= STUCK.attempts || nowMs / 1_000 > lease.endsAt + STUCK.afterSeconds;
  if (!isStuck || lease.stuckSince !== undefined) return;
  const event = eventOf(deps, lease, { type: "lease.stuck", facts: { attempts: lease.attempts, problem } });
  await leaseStuck(deps.db, { id: lease.id, nowMs, event });
}

function endOf(deps: BrokerDeps, lease: ClaimedLease): object {
  const facts = { attempts: lease.attempts, stuck_since: lease.stuckSince };
  return eventOf(deps, lease, { type: "lease.end", facts });
}

function eventOf(deps: BrokerDeps, lease: ClaimedLease, { type, facts }: Pick<EventDraft, "type" | "facts">): object {
  const { agent, sub, txn, resource } = lease.facts;
  const all = { lease: lease.id, kind: lease.provider, because: lease.because, ...facts };
  return deps.recorder.draft({ type, agent, sub, txn, resource, facts: all }, "noted");
}

async function destroy(deps: BrokerDeps, lease: ClaimedLease): Promise<void> {
  const provider = deps.kinds.get(lease.provider);
  const settings = provider?.settings.safeParse(lease.settings);
  if (!provider || !settings?.success) throw new ProviderError("order_refused", { code: "settings" });
  // What the upstream cannot end early ends by itself: at once, or when its own time comes.
  if (!provider.destroy) return;
  const opened = await openSecrets(
    deps,
    await permitsFor(
      deps,
      lease,
      provider.secretsToDestroy?.(settings.data) ?? provider.secrets(settings.data, lease.facts),
    ),
  ).catch((error: unknown) => {
    if (error instanceof SecretMissingError)
      throw new ProviderError("secret_malformed", { code: "missing", cause: error });
    throw error;
  });
  try {
    await provider.destroy(
      {
        settings: settings.data,
        lease: lease.facts,
        secrets: opened.texts,
        handle: await openHandle(deps, lease),
        upstream: upstreamFor(deps, { lease: lease.facts, actor: "ephor" }),
      } satisfies Parameters<NonNullable<CredentialProvider["destroy"]>>[0],
      AbortSignal.timeout(DESTROY_LIMIT_MS),
    );
  } finally {
    opened.wipe();
  }
}

/** Nothing opens without a permit, the end of a lease neither: it is decided and recorded like everything else. */
async function permitsFor(
  deps: BrokerDeps,
  lease: ClaimedLease,
  names: readonly string[],
): Promise<ReadonlyMap<string, Permit>> {
  if (names.length === 0) return new Map();
  const result = await deps.authorizer.authorize(() => ({
    value: undefined,
    ask: {
      action: "lease.end",
      target: lease.id,
      actor: "ephor",
      trustVersion: deps.trust().version,
      kill: { keys: [], epochs: [] },
      opens: names,
      event: {
        type: "lease.end",
        agent: "ephor",
        txn: lease.facts.txn,
        resource: lease.facts.resource,
        facts: {
          lease: lease.id,
          secrets: names,
          because: lease.because,
          attempt: lease.attempts,
          trust_version: deps.trust().version,
        },
      },
    },
  }));
  if (result.outcome !== "granted") throw new ProviderError("unavailable", { code: result.outcome });
  return result.opens;
}

async function openHandle(
  deps: BrokerDeps,
  lease: ClaimedLease,
): Promise<Readonly<Record<string, string>> | undefined> {
  if (lease.handle === null || lease.handle === undefined) return undefined;
  const value = await deps.envelope.open(lease.handle, handlePlace(lease.id));
  try {
    return value.use((bytes) => JSON.parse(Buffer.from(bytes).toString("utf8")) as Record<string, string>);
  } finally {
    value.wipe();
  }
}
