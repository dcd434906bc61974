import { UnavailableError, type KilledError } from "../../sdk/client/outcome.ts";
import { isRecord } from "../../sdk/client/wire.ts";
import { readEvents } from "../../sdk/verify/event-stream.ts";
import type { Access } from "./access.ts";
import { isAnswerTo, type ClientMessage } from "./message.ts";
import { ANSWER_BYTES, bodyOf, contentType, readAnswer, refusedMessage, wasKilled } from "./post.ts";
import type { Session } from "./session.ts";

/** A request of the client. */
export type ClientRequest = Extract<ClientMessage, { kind: "request" }>;

/** How a request is asked. */
export interface Asking {
  readonly access: Access;
  readonly session: Session;
  /** Fires when nobody waits for the answer any more. */
  readonly signal: AbortSignal;
  /** A message that comes before the answer. */
  readonly meanwhile: (message: object) => void;
}

/** Pauses before a stream of changes is asked for again, in milliseconds: at least, and at most. */
const LISTEN_PAUSE_MS = { first: 250, most: 30_000 } as const;
/** A stream that held for so many milliseconds was cut at its token's end, and not refused. */
const LISTEN_HELD_MS = 5_000;

/**
 * Asks once.
 *
 * @returns the answer; undefined where it broke off
 * @throws {EphorError} `KilledError` where it broke off because the work was stopped
 */
export async function ask(request: ClientRequest, at: Asking): Promise<object | undefined> {
  const { access, session, signal } = at;
  const broken = async (): Promise<undefined> => {
    const killed: KilledError | undefined = signal.aborted ? undefined : await wasKilled(access);
    if (killed !== undefined) throw killed;
  };
  const response = await session.send(request, signal).catch(async (error: unknown) => {
    if (error instanceof UnavailableError && error.isOutcomeUnknown) await broken();
    throw error;
  });
  const message = await answerIn(request, response, at.meanwhile).catch((error: unknown) => {
    if (signal.aborted) throw error;
    return undefined;
  });
  if (message === undefined) return await broken();
  // A server whose work was stopped may still say something; what counts is why.
  if (response.status >= 500) await broken();
  session.heard(request, message);
  return message;
}

/** @returns undefined for a stream that ends without the answer */
async function answerIn(
  { id }: ClientRequest,
  response: Response,
  meanwhile: Asking["meanwhile"],
): Promise<Record<string, unknown> | undefined> {
  if (contentType(response) !== "text/event-stream") {
    const json = await readAnswer(response);
    if (isRecord(json) && json["jsonrpc"] === "2.0" && isAnswerTo(json, id)) return { ...json, id };
    return refusedMessage(id, response.status, json) as Record<string, unknown>;
  }
  for await (const data of readEvents(bodyOf(response), ANSWER_BYTES)) {
    // The first event of a stream that could be resumed says nothing but its name.
    if (data === "") continue;
    const message: unknown = JSON.parse(data);
    if (!isRecord(message)) continue;
    if (isAnswerTo(message, id)) return { ...message, id };
    meanwhile(message);
  }
  return undefined;
}

const ACKNOWLEDGED = "notifications/subscriptions/acknowledged";

/**
 * A stream of changes outlives the tokens: it is cut at the end of one and asked for with the next.
 *
 * @returns the answer that ends it; undefined where nobody waits any more
 * @throws {EphorError}
 */
export async function listen(request: ClientRequest, at: Asking): Promise<object | undefined> {
  let isAcknowledged = false;
  const meanwhile = (message: object): void => {
    const isAcknowledgement = (message as { method?: unknown }).method === ACKNOWLEDGED;
    // The client heard it the first time.
    if (!isAcknowledgement || !isAcknowledged) at.meanwhile(message);
    isAcknowledged ||= isAcknowledgement;
  };
  for (let pauseMs: number = LISTEN_PAUSE_MS.first; ; pauseMs = Math.min(pauseMs * 2, LISTEN_PAUSE_MS.most)) {
    const startedMs = performance.now();
    const message = await ask(request, { ...at, meanwhile });
    if (message !== undefined || at.signal.aborted) return message;
    if (performance.now() - startedMs >= LISTEN_HELD_MS) pauseMs = LISTEN_PAUSE_MS.first;
    await pause(pauseMs, at.signal);
    if (at.signal.aborted) return undefined;
  }
}

/** Waits, at most until the signal fires. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
    if (signal.aborted) done();
  });
}
