import { OAuthError } from "../core/oauth/errors.ts";
import { ssfError, type SsfError } from "../core/kill/ssf-vocabulary.ts";
import type { Egress, EgressResponse } from "../system/egress.ts";
import { EgressError } from "../system/egress-error.ts";
import { randomToken } from "../system/random.ts";
import type { SsfEvent } from "./ssf-events.ts";
import { claimStreams, headerPlace, keepClaim, type ClaimedStream } from "./ssf-streams.ts";
import type { SsfDeps } from "./ssf.ts";

/** Streams that this replica pushes for at the same time. */
const MAX_UNDER_WAY = 20;
/** Events that are read at once. */
const READ_EVENTS = 20;
/** Longest that one push may take, in milliseconds; below the time for which a stream is claimed. */
const PUSH_LIMIT_MS = 10_000;
const CLAIM_MS = 30_000;
/** The first retry, and the longest pause between two, in milliseconds. It is tried for ever. */
const RETRY_MS = 1_000;
const RETRY_MAX_MS = 60_000;
/** A receiver may ask for a longer pause, up to this, in milliseconds. */
const RETRY_AFTER_MAX_MS = 600_000;
/** An error answer is one small object (RFC 8935 §2.3). */
const MAX_ANSWER_BYTES = 16 * 1024;

/** What became of one push. */
type Outcome =
  | { readonly kind: "delivered" }
  | { readonly kind: "refused"; readonly err: SsfError }
  | { readonly kind: "retry"; readonly problem: string; readonly afterMs: number };

/** Pushes events to their receivers. */
export interface SsfPusher {
  /** Claims what is due and begins to push. What hangs is not waited for. */
  look(): Promise<void>;
  close(): Promise<void>;
}

/** @param signed a signed event, made anew for each try: by the key that is active then */
export function createSsfPusher(
  deps: SsfDeps,
  signed: (event: SsfEvent, stream: ClaimedStream) => Promise<string>,
): SsfPusher {
  const { db } = deps;
  const now = (): number => Math.floor(deps.clock.nowMs());
  const underWay = new Set<Promise<void>>();
  const stop = new AbortController();

  async function pushAll(stream: ClaimedStream): Promise<void> {
    let { attempts } = stream;
    const header = await openHeader(deps, stream);
    for (;;) {
      const events = await deps.store.next(stream.id, READ_EVENTS);
      if (events.length === 0 || stop.signal.aborted)
        return void (await keepClaim(db, stream, { retryAtMs: 0, problem: null, nowMs: now() }));
      for (const event of events) {
        const outcome = await pushOne(deps, stream, { set: await signed(event, stream), header, signal: stop.signal });
        if (outcome.kind === "retry") return await later(deps, { ...stream, attempts }, outcome);
        await deps.store.settle(stream.id, [event.jti], outcome.kind);
        deps.metrics.ssfEvents.inc({ method: "push", outcome: outcome.kind });
        if (outcome.kind === "refused")
          deps.log.warn("ssf_event_refused", { name: stream.id, jti: event.jti, reason: outcome.err });
        // Gone where somebody paused, changed or deleted it meanwhile.
        const goesOn = await keepClaim(db, stream, { untilMs: now() + CLAIM_MS });
        if (!goesOn) return;
        attempts = 0;
        if (stop.signal.aborted) break;
      }
    }
  }

  async function look(): Promise<void> {
    const limit = MAX_UNDER_WAY - underWay.size;
    if (limit <= 0 || stop.signal.aborted) return;
    const nowMs = now();
    const claim = randomToken(12);
    for (const stream of await claimStreams(db, { claim, nowMs, untilMs: nowMs + CLAIM_MS, limit })) {
      const pushing: Promise<void> = pushAll(stream)
        .catch(async (err: unknown) => {
          const problem = err instanceof OAuthError ? err.reason : "internal";
          deps.log.warn("ssf_not_pushed", { name: stream.id, reason: problem, err });
          await later(deps, stream, { problem, afterMs: 0 }).catch(() => {});
        })
        .finally(() => underWay.delete(pushing));
      underWay.add(pushing);
    }
  }

  return {
    look,
    async close() {
      stop.abort();
      await Promise.all(underWay);
    },
  };
}

/** The time of the next try; attempts count up until something is delivered. */
async function later(
  deps: SsfDeps,
  stream: ClaimedStream,
  { problem, afterMs }: { problem: string; afterMs: number },
): Promise<void> {
  const nowMs = Math.floor(deps.clock.nowMs());
  deps.metrics.ssfEvents.inc({ method: "push", outcome: "retried" });
  const pause = Math.max(Math.min(RETRY_MAX_MS, RETRY_MS * 2 ** Math.min(stream.attempts, 10)), afterMs);
  deps.log.warn("ssf_push_retries", { name: stream.id, reason: problem, attempt: stream.attempts + 1 });
  await keepClaim(deps.db, stream, { retryAtMs: nowMs + pause, problem, nowMs });
}

/** A stream's own secret, for its own endpoint: opened by the pusher alone. */
async function openHeader(deps: SsfDeps, stream: ClaimedStream): Promise<string | undefined> {
  if (stream.header === null) return undefined;
  const value = await deps.envelope.open(stream.header, headerPlace(stream.id, stream.header_version));
  try {
    return value.use((bytes) => Buffer.from(bytes).toString("latin1"));
  } finally {
    value.wipe();
  }
}

/** RFC 8935 §2: 202 is taken, 400 is final, anything else is tried again. */
async function pushOne(
  { egress, clock }: { egress: Pick<Egress, "send">; clock: SsfDeps["clock"] },
  stream: ClaimedStream,
  { set, header, signal }: { set: string; header: string | undefined; signal: AbortSignal },
): Promise<Outcome> {
  let answer: EgressResponse;
  try {
    answer = await egress.send({
      method: "POST",
      url: stream.endpoint_url ?? "",
      headers: {
        "content-type": "application/secevent+jwt",
        accept: "application/json",
        ...(header !== undefined && { authorization: header }),
      },
      body: set,
      internal: stream.internal,
      maxBytes: MAX_ANSWER_BYTES,
      timeoutMs: PUSH_LIMIT_MS,
      signal,
    });
  } catch (error) {
    if (error instanceof EgressError) return { kind: "retry", problem: error.kind, afterMs: 0 };
    throw error;
  }
  if (answer.status >= 200 && answer.status < 300) return { kind: "delivered" };
  if (answer.status === 400) return { kind: "refused", err: errorOf(answer.body) };
  const afterMs = Math.min(retryAfterMs(answer.headers["retry-after"], clock.nowMs()), RETRY_AFTER_MAX_MS);
  return { kind: "retry", problem: `status ${answer.status}`, afterMs };
}

function errorOf(body: Uint8Array): SsfError {
  try {
    return ssfError((JSON.parse(Buffer.from(body).toString("utf8")) as { err?: unknown } | null)?.err);
  } catch {
    return "other";
  }
}

/** Seconds or a date (RFC 9110 §10.2.3); 0 for anything else. */
function retryAfterMs(header: string | string[] | undefined, nowMs: number): number {
  if (typeof header !== "string") return 0;
  if (/^\d{1,9}$/.test(header)) return Number(header) * 1_000;
  const at = Date.parse(header);
  return Number.isNaN(at) ? 0 : Math.max(0, at - nowMs);
}
