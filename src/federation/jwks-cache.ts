import type { JoseHeader } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { Issuer } from "../core/trust/model.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import type { WellKnown } from "./discovery.ts";
import { fetchKeys } from "./fetch-keys.ts";
import { IssuerDocumentError } from "./issuer-document.ts";
import { describeEntry, isUsable, keyUseOf, newKeyEntry, type KeyEntry, type KeyState } from "./key-entry.ts";
import { findKey, type SignerKey } from "./key-set.ts";
import { LIMITS } from "./limits.ts";

/** A key, and the generation of the issuer's keys that it belongs to. */
export interface FoundKey {
  readonly key: SignerKey;
  /** A new number whenever the issuer's keys or its trust entry change; what was remembered under an old one is void. */
  readonly generation: number;
}

/** The public keys of issuers. */
export interface JwksCache {
  /**
   * The key that must have signed a token with this header, fetched or refreshed where the limits allow.
   *
   * @throws {RefusedToken} `token_key_unknown`, or `token_issuer_unreachable` when no keys can be had
   */
  find(issuer: Issuer, header: JoseHeader): Promise<FoundKey>;
  /** Sees to it that the keys are there and fresh, and tells. Never throws for an issuer's failure. */
  warm(issuer: Issuer): Promise<KeyState>;
  state(issuer: Issuer): KeyState;
}

/** What the cache needs. */
export interface JwksCacheDeps {
  readonly egress: Egress;
  readonly clock: Pick<DatabaseClock, "monotonicMs">;
  readonly metrics?: Pick<Metrics, "issuerFetches"> | undefined;
  readonly log?: Pick<Log, "info" | "warn" | "error"> | undefined;
  /** The document that says where the keys are; default: that of OIDC Discovery. */
  readonly wellKnown?: WellKnown;
}

/**
 * Keys are kept per trust entry, never by `kid` alone (A-OIDC-03): an issuer that is changed or removed in trust is another
 * object, so its keys are gone with the same step.
 */
export function createJwksCache(deps: JwksCacheDeps): JwksCache {
  const entries = new WeakMap<Issuer, KeyEntry>();
  let generations = 0;
  const nextGeneration = (): number => ++generations;
  const refresh = createRefresh(deps, nextGeneration);
  const nowMs = (): number => deps.clock.monotonicMs();

  const entryOf = (issuer: Issuer): KeyEntry => {
    let entry = entries.get(issuer);
    if (entry === undefined) {
      entry = newKeyEntry(issuer, nextGeneration());
      entries.set(issuer, entry);
    }
    return entry;
  };

  /** The keys that may be used now, after whatever refresh is due. */
  const currentKeys = async (entry: KeyEntry): Promise<readonly SignerKey[] | undefined> => {
    if (entry.issuer.jwks !== undefined) return entry.keys;
    const ageMs = nowMs() - entry.fetchedAtMs;
    // Where the last refresh failed, nobody waits for the next try: the old keys are used as long as they may.
    const isWaitWorthwhile = ageMs >= entry.freshForMs && (entry.problem === undefined || !isUsable(entry, nowMs()));
    if (isWaitWorthwhile) await refresh(entry);
    else if (ageMs >= entry.freshForMs * LIMITS.refreshAheadShare) void refresh(entry);
    return isUsable(entry, nowMs()) ? entry.keys : undefined;
  };

  return {
    async find(issuer, header) {
      const entry = entryOf(issuer);
      const found = findKey((await currentKeys(entry)) ?? unreachable(entry), header);
      if (found !== undefined) return { key: found, generation: entry.generation };
      if (issuer.jwks === undefined) {
        // The issuer may have rotated since we asked.
        await refresh(entry);
        const again = findKey(entry.keys ?? [], header);
        if (again !== undefined) return { key: again, generation: entry.generation };
      }
      throw new RefusedToken({ reason: "token_key_unknown", issuer: issuer.name });
    },
    async warm(issuer) {
      const entry = entryOf(issuer);
      await currentKeys(entry);
      await entry.refreshing;
      return describeEntry(entry, nowMs());
    },
    state: (issuer) => describeEntry(entryOf(issuer), nowMs()),
  };
}

/** Makes the refresh that joins the one under way, starts one if the cooldown is over, or does nothing. It never rejects. */
function createRefresh(deps: JwksCacheDeps, nextGeneration: () => number): (entry: KeyEntry) => Promise<void> {
  const nowMs = (): number => deps.clock.monotonicMs();

  const refreshNow = async (entry: KeyEntry, startedAtMs: number): Promise<void> => {
    const issuer = entry.issuer.name;
    try {
      const { keys, freshForMs } = await fetchKeys(deps.egress, entry.issuer, {
        use: keyUseOf(entry.issuer),
        nowMs,
        wellKnown: deps.wellKnown ?? "openid-configuration",
      });
      if (entry.keys === undefined || !isSameSet(entry.keys, keys)) {
        entry.generation = nextGeneration();
        deps.log?.info("issuer_keys_changed", { issuer, count: keys.length });
      }
      Object.assign(entry, { keys, freshForMs, fetchedAtMs: startedAtMs, problem: undefined });
      deps.metrics?.issuerFetches.inc({ result: "ok" });
    } catch (error) {
      if (!(error instanceof IssuerDocumentError)) deps.log?.error("issuer_fetch_bug", { issuer, err: error });
      entry.problem = error instanceof IssuerDocumentError ? error.problem : "network";
      deps.metrics?.issuerFetches.inc({ result: entry.problem });
      deps.log?.warn("issuer_fetch_failed", { issuer, kind: entry.problem });
    }
  };

  return (entry) => {
    if (entry.refreshing !== undefined) return entry.refreshing;
    const startedAtMs = nowMs();
    if (startedAtMs - entry.attemptedAtMs < LIMITS.refreshCooldownMs) return Promise.resolve();
    entry.attemptedAtMs = startedAtMs;
    entry.refreshing = refreshNow(entry, startedAtMs).finally(() => {
      entry.refreshing = undefined;
    });
    return entry.refreshing;
  };
}

function unreachable(entry: KeyEntry): never {
  const problem = entry.problem ?? "cooldown";
  throw new RefusedToken({ reason: "token_issuer_unreachable", issuer: entry.issuer.name, problem });
}

function isSameSet(a: readonly SignerKey[], b: readonly SignerKey[]): boolean {
  const names = (keys: readonly SignerKey[]): string =>
    keys.map((key) => `${key.thumbprint} ${key.algorithms.join()} ${key.kid ?? ""}`).join("\n");
  return names(a) === names(b);
}
