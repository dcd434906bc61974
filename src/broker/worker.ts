import { OAuthError } from "../core/oauth/errors.ts";
import type { Permit } from "../core/permit.ts";
import { SecretMissingError } from "../vault/secrets.ts";
import type { BrokerDeps } from "./deps.ts";
import { claimLeases, handlePlace, leaseEnded, leaseRetries, type ClaimedLease } from "./leases.ts";
import { openSecrets } from "./opened-secrets.ts";
import type { CredentialProvider } from "./provider.ts";
import { ProviderError } from "./provider-error.ts";

/** How often due leases are looked for, in milliseconds. */
const ROUND_MS = 1_000;
/** Longest that one `destroy` may take, in milliseconds; below the time for which a lease is claimed. */
const DESTROY_LIMIT_MS = 20_000;
/** The first retry, and the longest pause between two, in milliseconds. It is tried for ever. */
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 60_000;

/** Ends leases. Any number of replicas may run one. */
export interface LeaseWorker {
  /** One round now; answers how many leases it took. */
  tick(): Promise<number>;
  /** Soon: something was killed or ended. */
  wake(): void;
  close(): Promise<void>;
}

/** Starts the worker. */
export function createLeaseWorker(deps: BrokerDeps): LeaseWorker {
  let running: Promise<number> | undefined;
  let isClosed = false;

  async function round(): Promise<number> {
    const claimed = await claimLeases(deps.db, deps.clock.nowMs());
    await Promise.all(claimed.map((lease) => endOne(deps, lease)));
    return claimed.length;
  }

  const tick = (): Promise<number> => {
    running ??= round().finally(() => {
      running = undefined;
    });
    return running;
  };
  const quietly = (): void => {
    if (isClosed) return;
    tick().catch((err: unknown) => deps.log.warn("leases_not_read", { err }));
  };
  const timer = setInterval(quietly, ROUND_MS);
  timer.unref();
  return {
    tick,
    wake: () => setImmediate(quietly),
    async close() {
      isClosed = true;
      clearInterval(timer);
      await running?.catch(() => {});
    },
  };
}

/** Ends one lease at its upstream, or plans the next try. Never throws. */
async function endOne(deps: BrokerDeps, lease: ClaimedLease): Promise<void> {
  try {
    await destroy(deps, lease);
    const event = deps.recorder.draft(
      {
        type: "lease.end",
        agent: lease.facts.agent,
        sub: lease.facts.sub,
        txn: lease.facts.txn,
        resource: lease.facts.resource,
        facts: { lease: lease.id, kind: lease.provider, because: lease.because, attempts: lease.attempts },
      },
      "noted",
    );
    await leaseEnded(deps.db, { id: lease.id, nowMs: deps.clock.nowMs(), event });
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
    const pause = Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(lease.attempts - 1, 10));
    await leaseRetries(deps.db, lease.id, { atMs: deps.clock.nowMs() + pause, problem }).catch(() => {});
  }
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
        upstream: { egress: deps.egress },
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
