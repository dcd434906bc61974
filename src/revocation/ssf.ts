import type { Recorder } from "../audit/recorder.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Db } from "../db/database.ts";
import type { Keys } from "../keys/keys.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { ulid } from "../system/random.ts";
import type { Envelope } from "../vault/envelope.ts";
import { eventClaims, type SsfEvent } from "./ssf-events.ts";
import { takeSteps } from "./ssf-intake.ts";
import { createSsfPusher } from "./ssf-push.ts";
import { countStreams, type SsfStatus, type SsfStore, type SsfStream } from "./ssf-streams.ts";

/** How often streams are looked at, in milliseconds, also when no kill was heard of. */
const ROUND_MS = 1_000;
/** Longest that a poll waits for an event, in milliseconds: below the patience of proxies. */
const POLL_WAIT_MS = 25_000;
/** Polls that wait at one replica. */
const MAX_WAITING = 200;

/** What the transmitter stands on. */
export interface SsfDeps {
  readonly db: Pick<Db, "query">;
  readonly clock: DatabaseClock;
  readonly keys: Pick<Keys, "attestor" | "fresh">;
  readonly envelope: Envelope;
  readonly egress: Pick<Egress, "send">;
  readonly issuer: string;
  readonly trust: () => TrustIndex;
  readonly recorder: Recorder;
  readonly store: SsfStore;
  readonly metrics: Metrics;
  readonly log: Log;
}

/** The transmitter of Shared Signals: kills become events, events are pushed and polled. */
export interface Ssf {
  /** @returns an event by which the receiver knows that the stream works */
  verification(streamId: string, state: string | undefined): SsfEvent;
  /** Sets the status and tells the receiver. */
  setStatus(
    stream: SsfStream,
    to: { status: SsfStatus; reason: string | undefined },
    by: { agent: string; requestId: string | undefined },
  ): Promise<void>;
  /** Signed events that were not acknowledged, at most so many; waits for the first one unless told not to. */
  poll(
    stream: SsfStream,
    o: { limit: number; isImmediate: boolean; signal: AbortSignal },
  ): Promise<{ sets: Record<string, string>; moreAvailable: boolean }>;
  /** Something was killed, or written to a stream: look now instead of within the second. */
  wake(): void;
  setGauges(): Promise<void>;
  /** Answers the polls that wait: the house is closing. */
  hushPolls(): void;
  close(): Promise<void>;
}

/** Starts it. Any number of replicas may run one. */
export function createSsf(deps: SsfDeps): Ssf {
  const { db, clock, store, log } = deps;
  const waiting = new Set<() => void>();
  let looking: Promise<void> | undefined;
  let isClosed = false;
  let isHushed = false;

  const signed = async (event: SsfEvent, { aud }: Pick<SsfStream, "aud">): Promise<string> => {
    await deps.keys.fresh();
    return deps.keys.attestor.sign(JWT_TYP.securityEvent, eventClaims(event, { issuer: deps.issuer, aud }));
  };
  const pusher = createSsfPusher(deps, signed);

  const setStatus: Ssf["setStatus"] = async (stream, { status, reason }, { agent, requestId }) => {
    const nowMs = Math.floor(clock.nowMs());
    const told = ownEvent(stream.id, clock, { kind: "stream-updated", event: { status, ...(reason && { reason }) } });
    const facts = { change: "status", stream: stream.id, status, why: reason };
    const event = deps.recorder.draft({ type: "ssf.stream", agent, requestId, facts }, "granted");
    await store.setStatus(stream.id, { status, reason: reason ?? null, told }, { nowMs, event });
  };

  async function look(): Promise<void> {
    for (const { epoch, ...stream } of await behind(db)) {
      const naming = { issuer: deps.issuer, trust: deps.trust() };
      const end = await takeSteps(db, stream, { epoch, naming, nowMs: Math.floor(clock.nowMs()) });
      if (end === undefined) continue;
      log.warn("ssf_stream_disabled", { name: stream.id, reason: end });
      await setStatus(stream, { status: "disabled", reason: end }, { agent: "ephor", requestId: undefined });
    }
    for (const again of waiting) again();
    await pusher.look();
  }

  const quietly = (): void => {
    if (isClosed) return;
    looking ??= look()
      .catch((err: unknown) => log.warn("ssf_not_read", { err }))
      .finally(() => {
        looking = undefined;
      });
  };
  const timer = setInterval(quietly, ROUND_MS);
  timer.unref();

  return {
    verification: (id, state) =>
      ownEvent(id, clock, { kind: "verification", event: state === undefined ? {} : { state } }),
    setStatus,
    async poll(stream, { limit, isImmediate, signal }) {
      const until = clock.monotonicMs() + POLL_WAIT_MS;
      for (;;) {
        const events = await store.next(stream.id, limit + 1);
        const left = until - clock.monotonicMs();
        if (events.length > 0 || isImmediate || left <= 0 || signal.aborted || isHushed) {
          const sets: Record<string, string> = {};
          for (const event of events.slice(0, limit)) sets[event.jti] = await signed(event, stream);
          return { sets, moreAvailable: events.length > limit };
        }
        if (waiting.size >= MAX_WAITING) throw new TemporarilyUnavailableError({ reason: "overloaded" });
        await oneOf(waiting, { signal, ms: left });
      }
    },
    // A look that is under way may have been too early to see what happened.
    wake: () => void (looking ?? Promise.resolve()).then(quietly),
    setGauges: () => setGauges(deps),
    hushPolls() {
      isHushed = true;
      for (const again of waiting) again();
    },
    async close() {
      isClosed = true;
      clearInterval(timer);
      await looking;
      await pusher.close();
    },
  };
}

async function setGauges({ db, clock, metrics }: SsfDeps): Promise<void> {
  const { waiting, oldestSeconds, stuck } = await countStreams(db, Math.floor(clock.nowMs()));
  metrics.ssfUndelivered.set(waiting);
  metrics.ssfOldestSeconds.set(oldestSeconds);
  metrics.ssfStuck.set(stuck);
}

/** Streams that kills have gone past. */
function behind(db: Pick<Db, "query">): Promise<readonly (SsfStream & { readonly epoch: number })[]> {
  return db.query(
    `select s.*, g.epoch from ephor.gate g join ephor.ssf_streams s on s.taken < g.epoch
     where g.id = 1 and s.status <> 'disabled' order by s.id`,
  );
}

/** What a stream says about itself; its subject is the stream (SSF 1.0 §8.1.4.1, §8.1.5). */
function ownEvent(
  stream: string,
  clock: DatabaseClock,
  { kind, event }: { kind: Exclude<SsfEvent["kind"], "session-revoked">; event: SsfEvent["event"] },
): SsfEvent {
  return {
    jti: `ssf_${ulid(clock.nowMs())}`,
    kind,
    subject: { format: "opaque", id: stream },
    event,
    txn: null,
    at: clock.now(),
  };
}

/** Waits until it is woken, the signal fires or time is up. */
function oneOf(waiting: Set<() => void>, { signal, ms }: { signal: AbortSignal; ms: number }): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(late);
      waiting.delete(done);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const late = setTimeout(done, ms);
    waiting.add(done);
    signal.addEventListener("abort", done);
  });
}
