import type { Issuer } from "../core/trust/model.ts";
import type { IssuerProblem } from "./issuer-document.ts";
import { readKeys, type KeyUse, type SignerKey } from "./key-set.ts";
import { LIMITS } from "./limits.ts";

/** The keys of one trust entry. All times are monotonic milliseconds. */
export interface KeyEntry {
  readonly issuer: Issuer;
  keys: readonly SignerKey[] | undefined;
  generation: number;
  fetchedAtMs: number;
  freshForMs: number;
  attemptedAtMs: number;
  refreshing: Promise<void> | undefined;
  problem: IssuerProblem | undefined;
}

/** What is known of an issuer's keys. */
export interface KeyState {
  /** `fixed`: the keys are in the trust file. `cold`: never asked for. `stale`: the last refresh failed, older keys are used. */
  readonly state: "fixed" | "cold" | "fresh" | "stale" | "unreachable";
  readonly keys: number;
  /** Seconds since the keys were fetched. */
  readonly ageSeconds?: number;
  /** Why the last refresh failed. */
  readonly problem?: IssuerProblem;
}

/** Answers that no outage explains: the issuer, or whoever answers for it, says where we must not go (A-OIDC-05, A-OIDC-06). */
const NOT_OUTAGES: ReadonlySet<IssuerProblem> = new Set(["issuer_mismatch", "jwks_uri", "redirect", "address", "url"]);

/** An entry without keys, or with those of the trust file. */
export function newKeyEntry(issuer: Issuer, generation: number): KeyEntry {
  return {
    issuer,
    keys: issuer.jwks === undefined ? undefined : readKeys(issuer.jwks.keys, keyUseOf(issuer)),
    generation,
    fetchedAtMs: -Infinity,
    freshForMs: 0,
    attemptedAtMs: -Infinity,
    refreshing: undefined,
    problem: undefined,
  };
}

/** Which of the issuer's keys count. */
export function keyUseOf(issuer: Issuer): KeyUse {
  return issuer.spiffe === undefined ? "sig" : "jwt-svid";
}

/** Whether the fetched keys are young enough: an outage is ridden out, an issuer that says something else than before is not. */
export function isUsable(entry: KeyEntry, nowMs: number): boolean {
  const isChanged = entry.problem !== undefined && NOT_OUTAGES.has(entry.problem);
  return nowMs - entry.fetchedAtMs < (isChanged ? LIMITS.keysFreshMs : LIMITS.keysStaleMs);
}

/** What to tell an operator. */
export function describeEntry(entry: KeyEntry, nowMs: number): KeyState {
  const { keys, problem } = entry;
  if (entry.issuer.jwks !== undefined) return { state: "fixed", keys: keys?.length ?? 0 };
  if (keys === undefined)
    return problem === undefined ? { state: "cold", keys: 0 } : { state: "unreachable", keys: 0, problem };
  const ageSeconds = Math.floor((nowMs - entry.fetchedAtMs) / 1000);
  const facts = { keys: keys.length, ageSeconds, ...(problem === undefined ? {} : { problem }) };
  if (!isUsable(entry, nowMs)) return { ...facts, state: problem === undefined ? "cold" : "unreachable" };
  return { ...facts, state: problem === undefined ? "fresh" : "stale" };
}
