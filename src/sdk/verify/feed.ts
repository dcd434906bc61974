import { randomInt } from "node:crypto";
import type { AccessTokenClaims } from "../../core/token/claims.ts";
import type { Clock } from "./clock.ts";
import { basicAuthorization, type ResourceCredential } from "./credential.ts";
import { readEvents } from "./event-stream.ts";
import { MAX_FRAME_BYTES, readFrame, type FeedFrame } from "./feed-frame.ts";
import { createFeedState } from "./feed-state.ts";
import { createKeySet } from "./key-set.ts";

/** Waits between attempts, in milliseconds: the first, and the longest. */
const RETRY_MS = { first: 100, most: 2_000 } as const;
/** Milliseconds beyond `next_by` after which a connection is given up. */
const GRACE_MS = 500;
/** Milliseconds that a connection may take to bring its first frame. */
const FIRST_FRAME_MS = 3_000;

/** Why the feed tells nothing, for the tool server's log. */
export type FeedProblem =
  /** It cannot be reached, or ended. */
  | { readonly kind: "unreachable"; readonly cause: unknown }
  /** It does not know this resource's credential, or has no feed. */
  | { readonly kind: "refused"; readonly status: number }
  /** A frame is forged, malformed, for another resource, or out of order. */
  | { readonly kind: "frame"; readonly cause: unknown }
  /** No frame came by the time that the last one promised. */
  | { readonly kind: "late" };

/** What is dead, as the server tells it. */
export interface Feed {
  /** Whether it was heard within its bound. */
  isFresh(): boolean;
  isDead(claims: AccessTokenClaims): boolean;
  /** Resolves when it is fresh, or after the time given. */
  settled(timeoutMs: number): Promise<void>;
  close(): void;
}

/** Which feed. */
export interface FeedOptions {
  readonly issuer: string;
  readonly resource: string;
  readonly credential: ResourceCredential;
  readonly boundSeconds: number;
  readonly clock: Clock;
  readonly onProblem: (problem: FeedProblem) => void;
}

/**
 * Follows `GET /v1/revocations` (CONTRACT §6) for as long as the process lives: server-sent events, resumed at the last position
 * that was verified. Begins at once.
 */
export function createFeed(options: FeedOptions): Feed {
  const { issuer, resource, boundSeconds, clock, onProblem } = options;
  const keys = createKeySet(`${issuer}/.well-known/ephor-record-keys`);
  const state = createFeedState(boundSeconds, clock);
  const closing = new AbortController();
  let waiting: (() => void)[] = [];

  /** Whether the connection is worth keeping. */
  const take = async (text: string): Promise<FeedFrame | undefined> => {
    const frame = await readFrame(text, { keys, issuer, resource });
    const taken = state.take(frame);
    if (taken === "gap" || taken === "ahead" || taken === "back") throw new FrameOrderError(taken);
    if (taken === "old") return undefined;
    if (state.isFresh()) {
      for (const go of waiting) go();
      waiting = [];
    }
    return frame;
  };

  const follow = async (): Promise<void> => {
    let failures = 0;
    while (!closing.signal.aborted) {
      const problem = await listen(options, {
        seq: state.seq,
        closing: closing.signal,
        take: async (text) => {
          const frame = await take(text);
          if (frame !== undefined) failures = 0;
          return frame;
        },
      });
      if (closing.signal.aborted) return;
      onProblem(problem);
      await pause(failures++, closing.signal);
    }
  };
  void follow();

  return {
    isFresh: () => state.isFresh(),
    isDead: (claims) => state.isDead(claims),
    settled: (timeoutMs) =>
      new Promise((resolve) => {
        if (state.isFresh() || closing.signal.aborted) return resolve();
        const timer = setTimeout(resolve, timeoutMs);
        waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      }),
    close: () => closing.abort(),
  };
}

/** Frames are missing or came out of order, or one is from the future. */
class FrameOrderError extends Error {
  override readonly name = "FrameOrderError";
}

/** One connection, until it ends; it says why. */
async function listen(
  { issuer, credential, boundSeconds }: FeedOptions,
  at: { seq: number | undefined; closing: AbortSignal; take: (text: string) => Promise<FeedFrame | undefined> },
): Promise<FeedProblem> {
  const ending = new AbortController();
  const end = (): void => ending.abort();
  at.closing.addEventListener("abort", end);
  let isLate = false;
  const late = (): void => {
    isLate = true;
    end();
  };
  let watchdog = setTimeout(late, FIRST_FRAME_MS);
  try {
    const url = new URL(`${issuer}/v1/revocations`);
    if (!("secret" in credential)) url.searchParams.set("resource", credential.name);
    const response = await fetch(url, {
      headers: {
        accept: "text/event-stream",
        authorization:
          "secret" in credential ? basicAuthorization(credential) : `Bearer ${await credential.assertion()}`,
        ...(at.seq !== undefined && { "last-event-id": String(at.seq) }),
      },
      redirect: "error",
      signal: ending.signal,
    });
    const isStream = response.headers.get("content-type")?.toLowerCase().startsWith("text/event-stream") === true;
    if (response.status !== 200 || !isStream || response.body === null) {
      return { kind: "refused", status: response.status };
    }
    for await (const text of readEvents(response.body as AsyncIterable<Uint8Array>, MAX_FRAME_BYTES)) {
      let frame: FeedFrame | undefined;
      try {
        frame = await at.take(text);
      } catch (cause) {
        return { kind: "frame", cause };
      }
      if (frame === undefined) continue;
      clearTimeout(watchdog);
      const promisedMs = Math.max(0, frame.nextBy - frame.asOf) * 1000;
      watchdog = setTimeout(late, Math.min(promisedMs, boundSeconds * 1000) + GRACE_MS);
    }
    return { kind: "unreachable", cause: "the stream ended" };
  } catch (cause) {
    return isLate ? { kind: "late" } : { kind: "unreachable", cause };
  } finally {
    clearTimeout(watchdog);
    at.closing.removeEventListener("abort", end);
    end();
  }
}

/** Longer after each failure, and not the same for all who were cut off together. */
function pause(failures: number, signal: AbortSignal): Promise<void> {
  const most = Math.min(RETRY_MS.first * 2 ** failures, RETRY_MS.most);
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, most / 2 + randomInt(Math.ceil(most / 2)));
    signal.addEventListener("abort", done);
  });
}
