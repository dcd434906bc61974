import { isObserving } from "../core/grants/decide.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { CALL_LIMITS, callLimitsOf } from "../core/trust/call-limits.ts";
import type { Resource } from "../core/trust/model.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Breakers, Destination } from "./breakers.ts";
import type { CallCounts } from "./call-counts.ts";
import type { ProxiedCall } from "./decided.ts";
import { LimitedError } from "./exchange.ts";

/** What decides whether a call may be made now; whether it may be made at all is said by grants. */
export interface Admissions {
  /**
   * Takes a place for a call, before anything is spent on it.
   *
   * @param look throws where the call is refused anyway: such a call is told so, and takes no place
   * @throws {LimitedError}; whatever `look` throws; {DatabaseUnreachableError} where its agent's calls cannot be counted
   */
  admit(call: ProxiedCall, look: () => void): Promise<Admission>;
}

/** A call's place. */
export interface Admission {
  /** The limit that it is beyond, where the resource only observes. */
  readonly over: Reason | undefined;
  /** It will not be made after all. */
  readonly notMade: () => void;
}

/** Who may wait for an agent's call to end: a second or so. */
const SOON_SECONDS = 1;

/** @param deps.breakers tells whether an upstream is there; @param deps.counts the calls of a minute, over all replicas */
export function createAdmissions(deps: { clock: DatabaseClock; breakers: Breakers; counts: CallCounts }): Admissions {
  const { clock, breakers, counts } = deps;
  /** Calls in progress on this replica, by agent and resource. */
  const inProgress = new Map<string, number>();

  function take(key: string): () => void {
    inProgress.set(key, (inProgress.get(key) ?? 0) + 1);
    return () => {
      const left = (inProgress.get(key) ?? 1) - 1;
      if (left > 0) inProgress.set(key, left);
      else inProgress.delete(key);
    };
  }

  /** @returns the limit that it is beyond, where that is only noted */
  async function limited(call: ProxiedCall, look: () => void): Promise<Reason | undefined> {
    const { resource, holder, whenOver } = call;
    // What Ephor asks by itself on a caller's way belongs to his call.
    if (whenOver === undefined) return undefined;
    const agent = holder.agent.name;
    const { callsPerMinute, concurrent } = callLimitsOf(resource);
    const isNoted = isObserving(resource, clock.now());
    // Who has no place left can still answer, cancel, and hang up.
    const key = `${agent} ${resource.name}${call.isListening === true ? " listening" : call.isAside === true ? " aside" : ""}`;
    const isFull = (inProgress.get(key) ?? 0) >= concurrent;
    if (isFull || callsPerMinute !== undefined) look();
    if (isFull && !isNoted) throw new LimitedError("too_many_streams", SOON_SECONDS);
    whenOver(take(key));
    if (callsPerMinute === undefined) return isFull ? "too_many_streams" : undefined;
    const wait = await counts.count({ agent, resource: resource.name, perMinute: callsPerMinute });
    if (wait !== undefined && !isNoted) throw new LimitedError("rate_limited", wait);
    return isFull ? "too_many_streams" : wait === undefined ? undefined : "rate_limited";
  }

  return {
    async admit(call, look) {
      const to = destinationOf(call.resource);
      const { waitMs, giveBack = () => {} } = to === undefined ? {} : breakers.enter(to);
      try {
        if (waitMs !== undefined) {
          look();
          throw new LimitedError("upstream_unavailable", Math.ceil(waitMs / 1_000));
        }
        return { over: await limited(call, look), notMade: giveBack };
      } catch (error) {
        giveBack();
        throw error;
      }
    },
  };
}

/** @returns undefined for a server that Ephor starts itself, which has a back-off of its own */
export function destinationOf(resource: Resource): Destination | undefined {
  const settings = "settings" in resource ? resource.settings : {};
  const origin = resource.kind === "http" ? settings["http"] : settings["mcp"];
  return typeof origin === "string" ? { resource: resource.name, origin } : undefined;
}

/** How much of a body is taken, and the limit that one is beyond which is only noted. */
export interface BodyBounds {
  readonly flowBytes: number;
  readonly readBytes: number;
  readonly over: {
    readonly flow: (bytes: number) => Reason | undefined;
    readonly read: (bytes: number) => Reason | undefined;
  };
}

/** A resource that only observes takes what any may take, and notes what its own limit would refuse (CONTRACT §4). */
export function bodyBounds(resource: Resource, now: EpochSeconds): BodyBounds {
  const limits = callLimitsOf(resource);
  const beyond = (most: number) => (bytes: number) => (bytes > most ? "body_too_large" : undefined);
  const { flowBytes, readBytes } = isObserving(resource, now) ? CALL_LIMITS : limits;
  return { flowBytes, readBytes, over: { flow: beyond(limits.flowBytes), read: beyond(limits.readBytes) } };
}
