import { BadGatewayError, type ProxiedAnswer } from "../exchange.ts";
import { ANSWER_REFUSED, cutNow } from "../inspected-body.ts";
import { isEncoded, RELAYED, type HeaderLines, rawHeader } from "../forwarded-headers.ts";
import { readWhole, relayed, relayedBody, wholeBody, type Flight } from "../relay.ts";
import type { UpstreamAnswer } from "../../system/egress-upstreams.ts";
import { readUpstreamMessage, type ReadBy } from "./answers.ts";
import type { ToolWatch } from "./judge-tools.ts";
import { isRecord, RPC, RpcError, type McpMessage } from "./message.ts";
import { declaredBy } from "./questions.ts";
import { sealEvent } from "./resumed-event.ts";
import { isSessionId, type Session, type SessionOwner, type Sessions } from "./sessions.ts";
import { createEventParser, EventTooLargeError, writeEvent } from "./sse.ts";

/** Bytes of one message of a server. */
const ANSWER_BYTES = 4 * 1024 * 1024;
const JSON_TYPE = "application/json";
export const STREAM_TYPE = "text/event-stream";
/** Of an answer that is an event stream: no proxy in between may hold it back. */
export const STREAM_LINES: HeaderLines = [
  ["Content-Type", STREAM_TYPE],
  ["X-Accel-Buffering", "no"],
];

/** An event's name that can come back in a header. */
const EVENT_NAME = /^[\x21-\x7e]{1,512}$/;

/** What relaying an answer needs. */
export interface AnsweringDeps {
  readonly sessions: Sessions;
}

/** An answer that has begun, and by what it is judged. */
export interface Answering {
  readonly owner: SessionOwner;
  readonly message: McpMessage;
  readonly by: ReadBy;
  /** The session that the message belongs to. */
  readonly session: Session | undefined;
  /** What the message was decided as. */
  readonly action: string;
  readonly watch: ToolWatch | undefined;
  readonly flight: Flight;
  readonly answer: UpstreamAnswer;
}

/** @throws {BadGatewayError | RpcError} for what must not be relayed */
export async function answered(deps: AnsweringDeps, at: Answering): Promise<ProxiedAnswer> {
  const { message, flight, answer } = at;
  const { status, rawHeaders, body } = answer;
  const type = rawHeader(rawHeaders, "content-type")?.split(";", 1)[0]?.trim().toLowerCase() ?? "";
  const headers: HeaderLines = [...RELAYED, ...sessionLine(deps, at)];
  const isAccepted = status >= 200 && status < 300;
  if (message.kind === "notification" && isAccepted) {
    body.destroy();
    flight.finish("done");
    return { status: 202, headers, body: new Uint8Array() };
  }
  const isReadable = !isEncoded(rawHeaders);
  if (isAccepted && isReadable && type === STREAM_TYPE) {
    const lines: HeaderLines = [...headers, ...STREAM_LINES];
    return { status: 200, headers: lines, body: relayedBody(flight, events(at, resumingOf(deps, at))) };
  }
  // What says no to a credential says it to us; everything else that is a message goes on with its status.
  if (isReadable && type === JSON_TYPE && status !== 401 && status !== 403 && status !== 407)
    return await single(at, { headers, status: isAccepted ? 200 : status });
  body.destroy();
  flight.finish("upstream_error", { problem: isReadable ? "answer" : "encoding" });
  if (status === 404)
    throw new RpcError(RPC.invalidRequest, "There is no such session.", { status: 404, id: idOf(message) });
  throw new BadGatewayError(502);
}

/** The upstream's session, sealed for this agent. */
function sessionLine({ sessions }: AnsweringDeps, { owner, message, session, flight, answer }: Answering): HeaderLines {
  const id = rawHeader(answer.rawHeaders, "mcp-session-id");
  if (id === undefined || !isSessionId(id) || flight.masking.holds(id)) return [];
  // Servers say it again with every answer; what the client declared was said once.
  const declared = session?.id === id ? session.declared : declaredBy(message);
  return [["Mcp-Session-Id", sessions.seal({ id, declared }, owner)]];
}

/** How events of this answer are named, so that its client can come back for the rest. */
function resumingOf({ sessions }: AnsweringDeps, { owner, message, session, action }: Answering): Resuming | undefined {
  if (session === undefined || message.kind !== "request") return undefined;
  const { id, method } = message;
  return (event) => sealEvent(sessions, { event, request: { id, method, action } }, { owner, session: session.id });
}

/** One message as JSON. */
async function single(at: Answering, head: { headers: HeaderLines; status: number }): Promise<ProxiedAnswer> {
  const { by, watch, flight, answer } = at;
  const whole = await readWhole(flight, answer.body, ANSWER_BYTES);
  const said = whole === undefined ? ({ kind: "other" } as const) : readUpstreamMessage(whole, by);
  if (said.kind !== "answer") {
    flight.finish("upstream_error", { problem: whole === undefined ? "too_large" : "answer" });
    throw new BadGatewayError(502);
  }
  await settled(watch, flight);
  const text = await inspected(flight, said.text);
  if (text === undefined) {
    flight.finish("inspection_refused");
    throw refusedAnswer(flight, by.request);
  }
  flight.tap?.message(text);
  const body = wholeBody(flight, text);
  const length: HeaderLines = "text" in body ? [] : [["Content-Length", String(Buffer.byteLength(text, "utf8"))]];
  return { status: head.status, headers: [...head.headers, ["Content-Type", JSON_TYPE], ...length], body };
}

/** What goes on of a message; undefined: nothing. @throws {CutError} */
async function inspected(flight: Flight, text: string): Promise<string | undefined> {
  if (flight.judge === undefined) return text;
  const judged = await flight.judge.json(text);
  if (!flight.stream.mayFlow()) throw cutNow(flight);
  // A message that lost what makes it an answer would be another message.
  return judged === undefined || !isSameMessage(text, judged.text) ? undefined : judged.text;
}

function isSameMessage(before: string, after: string): boolean {
  if (before === after) return true;
  const [one, two] = [before, after].map((text) => JSON.parse(text) as unknown);
  if (!isRecord(one) || !isRecord(two)) return false;
  const isKept = ["jsonrpc", "id", "method"].every((name) => JSON.stringify(one[name]) === JSON.stringify(two[name]));
  return isKept && ["result", "error", "params"].every((name) => isRecord(one[name]) === isRecord(two[name]));
}

function refusedAnswer(flight: Flight, request: McpMessage | undefined): RpcError {
  const id = request && idOf(request);
  return new RpcError(RPC.denied, ANSWER_REFUSED, { status: 200, id, data: { decision: flight.judge?.decision } });
}

/** What a list gave away of its server is recorded before the list is there. */
async function settled(watch: ToolWatch | undefined, flight: Flight): Promise<void> {
  await watch?.settled().catch((error: unknown) => {
    flight.finish("withheld");
    throw error;
  });
}

/** The name of an event for the client, by the upstream's. */
export type Resuming = (event: string) => string;

/** Messages as events, each judged, until the answer is there. @param resuming none: events have no names */
export async function* events(
  at: Pick<Answering, "by" | "watch" | "flight" | "answer">,
  resuming: Resuming | undefined,
): AsyncGenerator<Uint8Array> {
  try {
    yield* judgedEvents(at, resuming);
  } catch (error) {
    at.flight.failed();
    throw error;
  }
}

async function* judgedEvents(
  { by, watch, flight, answer }: Pick<Answering, "by" | "watch" | "flight" | "answer">,
  resuming: Resuming | undefined,
): AsyncGenerator<Uint8Array> {
  const parser = createEventParser(ANSWER_BYTES);
  const encoder = new TextEncoder();
  for await (const chunk of relayed(flight, answer.body)) {
    for (const event of pushed(parser, chunk, flight)) {
      if (event === undefined) {
        yield encoder.encode(":\n\n");
        continue;
      }
      if (event.event !== "message") continue;
      const { id, retry } = event;
      const named = id !== undefined && EVENT_NAME.test(id) && resuming !== undefined ? { id: resuming(id) } : {};
      const head = { ...named, ...(retry !== undefined && { retry }) };
      if (event.data === "") {
        // The first event of a stream that can be resumed (MCP 2025-11-25, transports) says nothing but its name.
        if (resuming !== undefined) yield encoder.encode(writeEvent("", head));
        continue;
      }
      const read = readUpstreamMessage(event.data, by);
      if (read.kind === "other") continue;
      await settled(watch, flight);
      const text = await inspected(flight, read.text);
      if (text === undefined) {
        // What is no answer is left out; an answer is owed.
        if (read.kind !== "answer") continue;
        if (flight.judge !== undefined) flight.judge.isAnswerRefused = true;
        yield encoder.encode(writeEvent(errorText(refusedAnswer(flight, by.request)), head));
        return;
      }
      if (read.kind === "answer") flight.tap?.message(text);
      yield encoder.encode(writeEvent(text, head));
      // Nothing comes after the answer.
      if (read.kind === "answer") return;
    }
  }
}

function pushed(
  parser: ReturnType<typeof createEventParser>,
  chunk: Uint8Array,
  flight: Flight,
): ReturnType<typeof parser.push> {
  try {
    return parser.push(chunk);
  } catch (error) {
    if (error instanceof EventTooLargeError) flight.finish("upstream_error", { problem: "too_large" });
    throw error;
  }
}

/** A JSON-RPC error of ours. */
export function errorAnswer(error: RpcError): ProxiedAnswer {
  const { status, retryAfterSeconds } = error;
  const text = errorText(error);
  const headers: [string, string][] = [["Content-Type", JSON_TYPE]];
  if (retryAfterSeconds !== undefined) headers.push(["Retry-After", String(retryAfterSeconds)]);
  return { status, headers: [...RELAYED, ...headers], body: Buffer.from(text, "utf8") };
}

function errorText({ code, message, id, data }: RpcError): string {
  const error = { code, message, ...(data !== undefined && { data }) };
  return JSON.stringify({ jsonrpc: "2.0", id: id ?? null, error });
}

function idOf(message: McpMessage): string | number | undefined {
  return message.kind === "request" ? message.id : undefined;
}
