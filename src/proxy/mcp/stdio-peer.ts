import type { CutSignal } from "../../system/cutting.ts";
import { JsonError, readJson } from "../../core/token/json.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { spliced, type Splice } from "./json-splice.ts";
import { isRecord, isRpcId, RPC, writeMessage, type McpMessage, type RpcId, type RpcParams } from "./message.ts";
import { writeEvent } from "./sse.ts";
import { createWrittenBody, type WrittenBody } from "./stdio-body.ts";
import { LocalServerError, type LocalServerProblem } from "./stdio-error.ts";

/** Calls that one process may have before it at a time. */
const MAX_IN_FLIGHT = 64;
/** Questions of one process that its client has not answered yet. */
const MAX_QUESTIONS = 64;
/** Lines that nobody asked for, in a row. */
const MAX_UNASKED = 10_000;
/** As answers are read everywhere (`answers.ts`). */
const READ = { maxDepth: 256, allowUnsafeIntegers: true, allowNul: true } as const;
/** By which a server says for which `subscriptions/listen` a notification is (MCP 2026-07-28). */
const SUBSCRIPTION_KEY = "io.modelcontextprotocol/subscriptionId";

type McpRequest = Extract<McpMessage, { kind: "request" }>;

/** A request to a local server. */
export interface PeerOrder {
  readonly message: McpRequest;
  /** Whether notifications may come before the answer, as an event stream. */
  readonly events: boolean;
  readonly signal: CutSignal;
  /** Hears the whole answer before its caller does. */
  readonly onAnswer?: (answer: Readonly<Record<string, unknown>>) => void;
}

/**
 * One side of a conversation by lines of JSON-RPC (MCP, transports/stdio), shared by the calls of one agent for one person.
 * Ids and progress tokens of callers are replaced by our own, so that equal ones do not meet. Answers look as if they came
 * over HTTP; what of them may go on is judged there.
 */
export interface Peer {
  readonly inFlight: number;
  /** @throws {LocalServerError} */
  ask(order: PeerOrder): Promise<UpstreamAnswer>;
  /** Tells it something; a cancellation names the caller's id. */
  tell(message: McpMessage): void;
  /** Hands it the answer to a question of its own. @returns false where it did not ask, or does not wait any more */
  answer(id: RpcId, said: RpcParams): boolean;
  /** A line that it wrote. @returns false where it writes what nobody wants, again and again */
  heard(line: Buffer): boolean;
  /** Nothing comes any more. */
  ended(problem: LocalServerProblem): void;
}

interface Pending {
  readonly order: PeerOrder;
  readonly token: RpcId | undefined;
  readonly answered: (answer: UpstreamAnswer) => void;
  readonly failed: (error: Error) => void;
  readonly forget: () => void;
  /** Where the answer is an event stream already. */
  stream: WrittenBody | undefined;
}

/** What the functions below share. */
interface Talk {
  /** Writes a line. @returns false where that is no use any more */
  readonly write: (line: string) => boolean;
  readonly pending: Map<number, Pending>;
  /** What it asked and was not answered, by its own id as JSON, and the call on whose stream its client was asked. */
  readonly questions: Map<string, number>;
  readonly mayAsk: (method: unknown) => boolean;
}

function drop(talk: Talk, id: number, problem: LocalServerProblem): void {
  const { pending } = talk;
  const call = pending.get(id);
  if (call === undefined) return;
  pending.delete(id);
  call.forget();
  // Whoever was asked on its stream is gone: the server need not wait.
  for (const [question, of] of talk.questions) if (of === id) giveUp(talk, question);
  const error = new LocalServerError(problem);
  if (call.stream) call.stream.end(error);
  else call.failed(error);
}

function giveUp(talk: Talk, question: string): void {
  talk.questions.delete(question);
  talk.write(noAnswer(JSON.parse(question) as RpcId));
}

/**
 * A question of the server's goes to the session that the process is of, on the stream of its latest call that takes events:
 * lines do not say on whose behalf something is asked, and all of them are the same client's.
 */
function asked(talk: Talk, text: string, { method, id }: { method: unknown; id: RpcId }): void {
  const { pending, questions, mayAsk } = talk;
  if (method === "ping") return void talk.write(JSON.stringify({ jsonrpc: "2.0", id, result: {} }));
  const question = JSON.stringify(id);
  const open = [...pending].filter(([, { order }]) => order.events && order.message.method !== "initialize");
  const [call] = open.at(-1) ?? [];
  const isNew = !questions.has(question) && questions.size < MAX_QUESTIONS;
  if (call === undefined || !isNew || !mayAsk(method)) return void talk.write(noAnswer(id));
  questions.set(question, call);
  notify(talk, call, text);
}

/** The caller wants it no more: the server may stop working. */
function cancel(talk: Talk, id: number, problem: LocalServerProblem): void {
  const call = talk.pending.get(id);
  drop(talk, id, problem);
  if (call === undefined || call.order.message.method === "initialize") return;
  const params = { requestId: id, reason: "The caller is gone." };
  talk.write(writeMessage({ kind: "notification", method: "notifications/cancelled", params }));
}

function answer({ pending }: Talk, id: number, at: { text: string; value: Readonly<Record<string, unknown>> }): void {
  const call = pending.get(id);
  if (call === undefined) return;
  pending.delete(id);
  call.forget();
  call.order.onAnswer?.(at.value);
  const own = spliced(at.text, backTo(call.order.message.id, { value: at.value, id }));
  if (call.stream === undefined) call.answered(jsonAnswer(own));
  else if (call.stream.push(eventOf(own))) call.stream.end();
  else call.stream.end(new LocalServerError("slow_reader"));
}

function notify(talk: Talk, id: number, text: string): void {
  const call = talk.pending.get(id);
  if (call?.order.events !== true) return;
  if (call.stream === undefined) {
    const stream = createWrittenBody(() => cancel(talk, id, "cancelled"));
    call.stream = stream;
    call.answered({ status: 200, rawHeaders: ["content-type", "text/event-stream"], body: stream.body });
  }
  if (!call.stream.push(eventOf(text))) cancel(talk, id, "slow_reader");
}

/** Hands a notification to the call that it is about, with that caller's own names. */
function notified(talk: Talk, text: string, value: Record<string, unknown>): void {
  const { pending } = talk;
  const params = isRecord(value["params"]) ? value["params"] : {};
  const meta = isRecord(params["_meta"]) ? params["_meta"] : {};
  const question = JSON.stringify(params["requestId"]);
  const asking = value["method"] === "notifications/cancelled" ? talk.questions.get(question) : undefined;
  if (asking !== undefined) {
    talk.questions.delete(question);
    notify(talk, asking, text);
  } else if (value["method"] === "notifications/progress") {
    const id = Number(params["progressToken"]);
    const token = pending.get(id)?.token;
    const path = ["params", "progressToken"];
    if (token !== undefined) notify(talk, id, spliced(text, [{ path, to: JSON.stringify(token) }]));
  } else if (meta[SUBSCRIPTION_KEY] !== undefined) {
    const id = Number(meta[SUBSCRIPTION_KEY]);
    const original = pending.get(id)?.order.message.id;
    const path = ["params", "_meta", SUBSCRIPTION_KEY];
    if (original !== undefined) notify(talk, id, spliced(text, [{ path, to: JSON.stringify(original) }]));
  } else if (pending.size === 1) {
    // Of several calls nobody knows which it is about.
    for (const id of pending.keys()) notify(talk, id, text);
  }
}

function heard(talk: Talk, line: Buffer, value: Record<string, unknown>): void {
  // Outside strings, where alone it can stand, it is a space; in an event stream it would end a line.
  const text = line.toString("utf8").replaceAll("\r", " ");
  const { id } = value;
  if (Object.hasOwn(value, "method")) {
    if (!Object.hasOwn(value, "id")) notified(talk, text, value);
    else if (isRpcId(id)) asked(talk, text, { method: value["method"], id });
    else if (typeof id === "string" || typeof id === "number") talk.write(noAnswer(id));
  } else if (typeof id === "number") answer(talk, id, { text, value });
  else if (talk.pending.size === 1 && Object.hasOwn(value, "error"))
    // About a message that it could not read: there was only this one (JSON-RPC 2.0 §5).
    for (const only of talk.pending.keys()) answer(talk, only, { text, value });
}

/**
 * @param write writes a line; false where that is no use any more
 * @param mayAsk what the server may ask its client; nothing where several clients share it
 */
export function createPeer(write: (line: string) => boolean, mayAsk: (method: unknown) => boolean): Peer {
  const talk: Talk = { write, pending: new Map(), questions: new Map(), mayAsk };
  const { pending, questions } = talk;
  let nextId = 0;
  let unasked = 0;
  return {
    get inFlight() {
      return pending.size;
    },
    async ask(order) {
      if (pending.size >= MAX_IN_FLIGHT) throw new LocalServerError("busy");
      if (order.signal.aborted) throw new LocalServerError("cancelled");
      const id = ++nextId;
      unasked = 0;
      return await new Promise<UpstreamAnswer>((answered, failed) => {
        const gone = (): void => cancel(talk, id, "cancelled");
        const forget = (): void => order.signal.removeEventListener("abort", gone);
        const { params, token } = withToken(order.message.params, id);
        pending.set(id, { order, token, answered, failed, forget, stream: undefined });
        order.signal.addEventListener("abort", gone);
        if (!write(writeMessage({ ...order.message, id }, params))) drop(talk, id, "not_reading");
      });
    },
    tell(message) {
      if (message.method !== "notifications/cancelled") {
        write(writeMessage(message));
        return;
      }
      const wanted = message.params?.["requestId"];
      for (const [id, { order }] of pending) if (order.message.id === wanted) cancel(talk, id, "cancelled");
    },
    answer(id, said) {
      return questions.delete(JSON.stringify(id)) && write(JSON.stringify({ jsonrpc: "2.0", id, ...said }));
    },
    heard(line) {
      const value = read(line);
      if (value === undefined || pending.size === 0) unasked++;
      if (value !== undefined) heard(talk, line, value);
      return unasked <= MAX_UNASKED;
    },
    ended(problem) {
      for (const id of pending.keys()) drop(talk, id, problem);
    },
  };
}

function read(line: Buffer): Record<string, unknown> | undefined {
  try {
    const value = readJson(line, READ);
    return isRecord(value) && value["jsonrpc"] === "2.0" ? value : undefined;
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

/** Without an answer the server would wait. */
function noAnswer(id: string | number): string {
  return JSON.stringify({
    jsonrpc: "2.0",
    id,
    error: { code: RPC.methodNotFound, message: "Nobody here answers this." },
  });
}

/** The caller's own id, where the server wrote ours. */
function backTo(original: RpcId, at: { value: Readonly<Record<string, unknown>>; id: number }): Splice[] {
  const to = JSON.stringify(original);
  const { result } = at.value;
  const meta = isRecord(result) && isRecord(result["_meta"]) ? result["_meta"] : {};
  return [
    { path: ["id"], to },
    ...(Number(meta[SUBSCRIPTION_KEY]) === at.id ? [{ path: ["result", "_meta", SUBSCRIPTION_KEY], to }] : []),
  ];
}

function withToken(params: RpcParams | undefined, id: number): { params: RpcParams | undefined; token?: RpcId } {
  const meta = params?.["_meta"];
  const token = isRecord(meta) ? meta["progressToken"] : undefined;
  if (!isRecord(meta) || (typeof token !== "string" && typeof token !== "number")) return { params };
  return { params: { ...params, _meta: { ...meta, progressToken: id } }, token };
}

function jsonAnswer(text: string): UpstreamAnswer {
  const body = createWrittenBody(() => {});
  body.push(Buffer.from(text, "utf8"));
  body.end();
  return { status: 200, rawHeaders: ["content-type", "application/json"], body: body.body };
}

/** One line on both sides: a line that a server wrote has no line ends but escaped ones. */
function eventOf(text: string): Uint8Array {
  return Buffer.from(writeEvent(text), "utf8");
}
