import { KilledError, UnavailableError } from "../../sdk/client/outcome.ts";
import { ask, listen, pause, type ClientRequest } from "./ask.ts";
import { errorMessage, MessageError, readClientMessage, RPC, type ClientMessage, type RpcId } from "./message.ts";
import { failedMessage, killedMessage, post, type Destination } from "./post.ts";
import { createSession, type Session } from "./session.ts";

type Notification = Extract<ClientMessage, { kind: "notification" }>;

/** Milliseconds for a notification to be taken: later messages wait for it. */
const NOTIFICATION_MS = 30_000;

/** What the bridge is built from. */
export interface BridgeDeps extends Destination {
  /** A message for the client. */
  readonly write: (message: object) => void;
  /** A word for the person who started it. */
  readonly say: (line: string) => void;
  /** The work was stopped: every request that waited has been told. */
  readonly killed: (error: KilledError) => void;
}

/** A client's messages on their way. */
export interface Bridge {
  /** Takes one line; undefined is one that was too long. */
  take(line: Uint8Array | undefined): void;
  /** Waits for the answers that are due, at most so long, and not beyond the signal. */
  settle(ms: number, signal: AbortSignal): Promise<void>;
  /** Breaks off whatever is left. */
  close(): void;
}

interface Relay {
  readonly deps: BridgeDeps;
  readonly session: Session;
  /** Requests that are not answered yet. */
  readonly waiting: Map<RpcId, { readonly request: ClientRequest; readonly cancel: AbortController }>;
  readonly running: Set<Promise<void>>;
  /** Notifications go one after the other, and what comes after one follows it. */
  turn: Promise<void>;
  isOver: boolean;
}

/** Relays the messages of one client of either era: of 2026-07-28, and of the revisions with `initialize`. */
export function createBridge(deps: BridgeDeps): Bridge {
  const relay: Relay = {
    deps,
    session: createSession(({ message, headers }, signal) =>
      post(deps, { method: "POST", headers, json: message }, signal),
    ),
    waiting: new Map(),
    running: new Set(),
    turn: Promise.resolve(),
    isOver: false,
  };
  const { waiting, running } = relay;
  return {
    take(line) {
      if (relay.isOver || (line !== undefined && isBlank(line))) return;
      try {
        if (line === undefined) throw new MessageError(RPC.invalidRequest, "The message is too long.");
        take(relay, readClientMessage(line));
      } catch (error) {
        if (!(error instanceof MessageError)) throw error;
        deps.write(errorMessage(null, { code: error.code, message: error.message }));
      }
    },
    async settle(ms, signal) {
      for (const { request, cancel } of waiting.values()) if (request.method === "subscriptions/listen") cancel.abort();
      const patience = new AbortController();
      void Promise.allSettled(running).then(() => patience.abort());
      await pause(ms, AbortSignal.any([signal, patience.signal]));
    },
    close() {
      relay.isOver = true;
      for (const { cancel } of waiting.values()) cancel.abort();
      waiting.clear();
    },
  };
}

const BLANK = new Set([0x20, 0x09, 0x0d]);

function isBlank(line: Uint8Array): boolean {
  return line.every((byte) => BLANK.has(byte));
}

function take(relay: Relay, message: ClientMessage): void {
  const { deps, session, waiting } = relay;
  // In the revision without sessions no server asks.
  if (message.kind === "response") return session.era === "legacy" ? track(relay, reply(relay, message)) : undefined;
  session.hear(message);
  if (message.kind === "notification") {
    if (message.method === "notifications/cancelled" && isCancelled(relay, message)) return;
    relay.turn = relay.turn.then(() => (relay.isOver ? undefined : notify(relay, message)));
    return track(relay, relay.turn);
  }
  if (waiting.has(message.id)) {
    const error = { code: RPC.invalidRequest, message: "A request with this id waits already." };
    return deps.write(errorMessage(message.id, error));
  }
  const cancel = new AbortController();
  waiting.set(message.id, { request: message, cancel });
  track(relay, serve(relay, message, { signal: cancel.signal, after: relay.turn }));
}

function track({ running }: Relay, work: Promise<void>): void {
  running.add(work);
  void work.finally(() => running.delete(work));
}

/** Never rejects. */
async function serve(
  relay: Relay,
  request: ClientRequest,
  { signal, after }: { signal: AbortSignal; after: Promise<void> },
): Promise<void> {
  const { deps, session, waiting } = relay;
  const isWaiting = (): boolean => waiting.get(request.id)?.request === request;
  /** The only way by which a request is answered, so that it is answered once. */
  const answer = (message: object): void => {
    if (!isWaiting()) return;
    waiting.delete(request.id);
    deps.write(message);
  };
  const meanwhile = (message: object): void => {
    if (isWaiting()) deps.write(message);
  };
  try {
    await after;
    if (signal.aborted) return;
    const asking = { access: deps.access, session, signal, meanwhile };
    const way = request.method === "subscriptions/listen" ? listen : ask;
    const message = await way(request, asking);
    if (message !== undefined || !signal.aborted) answer(message ?? brokenMessage(request.id));
  } catch (error) {
    if (error instanceof KilledError) stop(relay, error);
    else if (signal.aborted) return;
    else if (error instanceof UnavailableError && error.code === "interrupted") answer(brokenMessage(request.id));
    else answer(failedMessage(request.id, error));
  } finally {
    if (isWaiting()) waiting.delete(request.id);
  }
}

async function notify(relay: Relay, notification: Notification): Promise<void> {
  const { method } = notification;
  try {
    const response = await relay.session.send(notification, AbortSignal.timeout(NOTIFICATION_MS));
    await response.body?.cancel();
    if (response.status >= 400) relay.deps.say(`${method} was not taken (${response.status})`);
  } catch (error) {
    if (error instanceof KilledError) stop(relay, error);
    else relay.deps.say(`${method} was not sent`);
  }
}

/** A question that nobody waits for any more is not asked again. */
async function reply(relay: Relay, answer: Extract<ClientMessage, { kind: "response" }>): Promise<void> {
  try {
    const response = await relay.session.reply(answer, AbortSignal.timeout(NOTIFICATION_MS));
    await response.body?.cancel();
    if (response.status >= 400) relay.deps.say(`an answer of the client was not taken (${response.status})`);
  } catch (error) {
    if (error instanceof KilledError) stop(relay, error);
    else relay.deps.say("an answer of the client was not sent");
  }
}

/** In the revision without sessions the end of the request is what cancels; in the others it is a message of its own. */
function isCancelled({ session, waiting }: Relay, { params }: Notification): boolean {
  if (session.era !== "modern") return false;
  const id = params["requestId"] as RpcId;
  const found = waiting.get(id);
  waiting.delete(id);
  found?.cancel.abort();
  return true;
}

function stop(relay: Relay, error: KilledError): void {
  if (relay.isOver) return;
  relay.isOver = true;
  const { deps, waiting } = relay;
  for (const [id, { cancel }] of waiting) {
    deps.write(killedMessage(id, error));
    cancel.abort();
  }
  waiting.clear();
  deps.killed(error);
}

function brokenMessage(id: RpcId): object {
  return errorMessage(id, {
    code: RPC.internal,
    message: "Ephor: the connection broke before the answer was there; what was asked for may have happened.",
    data: { error: "interrupted" },
  });
}
