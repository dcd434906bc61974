import type { Clock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";

/** When an upstream is taken as dead, and how it is tried again. */
const LIMITS = {
  /** Connections in a row that did not come to stand. */
  failures: 5,
  /** Milliseconds that nothing is sent, doubled each time that the upstream is still away. */
  firstMs: 1_000,
  longestMs: 30_000,
  /** Milliseconds that a call which tries has for itself: more than connecting may take (`UPSTREAM_LIMITS`). */
  probeMs: 6_000,
};

/** Where a call is about to go. */
export interface Destination {
  readonly resource: string;
  /** A resource that gets another address begins anew. */
  readonly origin: string;
}

/**
 * Circuit breakers: one for each resource, on each replica. Only connections that do not come to stand count, and any answer
 * clears them: nothing that an agent sends can shut an upstream to others.
 */
export interface Breakers {
  /**
   * Asked before anything is spent on a call. While the upstream is taken as dead, one call at a time is let through to try.
   *
   * @returns milliseconds to wait, or undefined and, where it is the one that tries, how it says that it will not
   */
  enter(to: Destination): { readonly waitMs?: number; readonly giveBack?: () => void };
  /** The upstream answered, whatever it was. */
  answered(to: Destination): void;
  /** No connection came to stand. */
  failed(to: Destination): void;
}

interface State {
  readonly origin: string;
  failures: number;
  /** How long it is or was open, 0 while it never was. */
  openMs: number;
  openUntilMs: number;
  /** Until when somebody tries, 0 where nobody does. */
  probeUntilMs: number;
}

/** @param deps.clock whose monotonic time breakers go by */
export function createBreakers(deps: {
  clock: Pick<Clock, "monotonicMs">;
  log: Log;
  metrics: Pick<Metrics, "upstreamOpen">;
}): Breakers {
  const { clock, log, metrics } = deps;
  /** Only of resources whose last connection failed. */
  const states = new Map<string, State>();

  function stateOf({ resource, origin }: Destination): State | undefined {
    const state = states.get(resource);
    return state?.origin === origin ? state : undefined;
  }

  return {
    enter(to) {
      const state = stateOf(to);
      if (state === undefined && states.delete(to.resource)) metrics.upstreamOpen.set({ resource: to.resource }, 0);
      if (state === undefined || state.openMs === 0) return {};
      const now = clock.monotonicMs();
      const until = Math.max(state.openUntilMs, state.probeUntilMs);
      if (now < until) return { waitMs: Math.max(1, Math.min(until - now, LIMITS.longestMs)) };
      const mine = now + LIMITS.probeMs;
      state.probeUntilMs = mine;
      return {
        giveBack: () => {
          if (state.probeUntilMs === mine) state.probeUntilMs = 0;
        },
      };
    },
    answered(to) {
      const state = stateOf(to);
      if (state === undefined) return;
      states.delete(to.resource);
      if (state.openMs === 0) return;
      metrics.upstreamOpen.set({ resource: to.resource }, 0);
      log.info("upstream_closed_breaker", { resource: to.resource });
    },
    failed(to) {
      const fresh: State = { origin: to.origin, failures: 0, openMs: 0, openUntilMs: 0, probeUntilMs: 0 };
      const state = stateOf(to) ?? fresh;
      states.set(to.resource, state);
      const now = clock.monotonicMs();
      state.failures++;
      // Calls that left before it opened say nothing new.
      if (state.failures < LIMITS.failures || now < state.openUntilMs) return;
      state.openMs = state.openMs === 0 ? LIMITS.firstMs : Math.min(state.openMs * 2, LIMITS.longestMs);
      state.openUntilMs = now + state.openMs;
      state.probeUntilMs = 0;
      metrics.upstreamOpen.set({ resource: to.resource }, 1);
      log.warn("upstream_opened_breaker", { resource: to.resource, ms: state.openMs });
    },
  };
}
