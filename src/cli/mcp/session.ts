import { isRecord } from "../../sdk/client/wire.ts";
import { readEvents } from "../../sdk/verify/event-stream.ts";
import { modernVersion, namingHeaders, paramHeadersOf, type ParamHeaders } from "./headers.ts";
import { RPC, type ClientMessage } from "./message.ts";
import { ANSWER_BYTES, bodyOf, contentType, readAnswer } from "./post.ts";

type Message = Exclude<ClientMessage, { kind: "response" }>;
type Reply = Extract<ClientMessage, { kind: "response" }>;

/** A message, with what of its headers is not the same for all. */
interface Sent {
  readonly message: object;
  readonly headers: Readonly<Record<string, string>>;
}

type Send = (sent: Sent, signal: AbortSignal) => Promise<Response>;

/** What is known of the conversation: its era, and in the older one its session. */
export interface Session {
  readonly era: "modern" | "legacy" | undefined;
  /** Takes note of a message before it is sent. */
  hear(message: Message): void;
  /** Takes note of an answer. */
  heard(request: Message, answer: Record<string, unknown>): void;
  /**
   * Sends a message; where the server has lost the session, the client's own `initialize` makes a new one first (MCP
   * 2025-11-25, session management).
   */
  send(message: Message, signal: AbortSignal): Promise<Response>;
  /** Sends the client's answer to a question of the server's: in the session in which it was asked, or not at all. */
  reply(answer: Reply, signal: AbortSignal): Promise<Response>;
}

interface Known {
  era: Session["era"];
  /** Of the newer era: what the client last said. */
  modern: string;
  /** Of the older era: what was negotiated. */
  negotiated: string | undefined;
  /** Of the older era, where the server has sessions. */
  id: string | undefined;
  initialize: object | undefined;
  paramHeaders: ReadonlyMap<string, ParamHeaders>;
}

/** @param post sends one message as it is */
export function createSession(post: Send): Session {
  const known: Known = {
    era: undefined,
    modern: "",
    negotiated: undefined,
    id: undefined,
    initialize: undefined,
    paramHeaders: new Map(),
  };
  let renewing: Promise<boolean> | undefined;
  const send = async (message: Message, signal: AbortSignal): Promise<Response> => {
    const response = await post({ message: message.value, headers: headersFor(known, message) }, signal);
    noteId(known, response);
    return response;
  };
  return {
    get era() {
      return known.era;
    },
    hear(message) {
      const version = modernVersion(message);
      if (version !== undefined) {
        known.era = "modern";
        known.modern = version;
      } else if (message.method === "initialize") {
        known.era = "legacy";
        known.id = known.negotiated = undefined;
        known.initialize = message.value;
      }
    },
    heard({ method }, { result }) {
      if (!isRecord(result)) return;
      if (method === "initialize") noteVersion(known, result);
      // A page after the first adds to what is known.
      if (method === "tools/list") known.paramHeaders = new Map([...known.paramHeaders, ...paramHeadersOf(result)]);
    },
    reply: (answer, signal) => post({ message: answer.value, headers: sessionHeaders(known) }, signal),
    async send(message, signal) {
      const spent = message.method === "initialize" ? undefined : known.id;
      const response = await send(message, signal);
      if (response.status !== 404 || known.era !== "legacy" || spent === undefined) return response;
      const refusal = await readAnswer(response);
      const refused = answerAgain(response, refusal);
      if (isUnknownMethod(refusal)) return refused;
      // Whoever finds it lost at the same time waits for the same new one.
      if (known.id === spent || renewing !== undefined) {
        renewing ??= begin(known, post, signal).finally(() => (renewing = undefined));
        if (!(await renewing)) return refused;
      }
      return await send(message, signal);
    },
  };
}

function headersFor(known: Known, message: Message): Record<string, string> {
  const { era, modern, paramHeaders } = known;
  if (era === "modern") {
    const name = message.method === "tools/call" ? String(message.params["name"]) : "";
    const version = modernVersion(message) ?? modern;
    return namingHeaders(message, { version, paramHeaders: paramHeaders.get(name) ?? [] });
  }
  return message.method === "initialize" ? {} : sessionHeaders(known);
}

function sessionHeaders({ negotiated, id }: Known): Record<string, string> {
  return {
    ...(negotiated !== undefined && { "mcp-protocol-version": negotiated }),
    ...(id !== undefined && { "mcp-session-id": id }),
  };
}

function noteId(known: Known, response: Response): void {
  const id = response.headers.get("mcp-session-id");
  if (known.era === "legacy" && id !== null && response.ok) known.id = id;
}

function noteVersion(known: Known, result: Record<string, unknown>): void {
  const version = result["protocolVersion"];
  if (typeof version === "string") known.negotiated = version;
}

/** @returns whether there is a session again */
async function begin(known: Known, post: Send, signal: AbortSignal): Promise<boolean> {
  if (known.initialize === undefined) return false;
  known.id = undefined;
  const opened = await post({ message: known.initialize, headers: {} }, signal);
  noteId(known, opened);
  const result = await resultOf(opened);
  if (!opened.ok || result === undefined) return false;
  noteVersion(known, result);
  const method = "notifications/initialized";
  const message: Message = { kind: "notification", method, params: {}, value: { jsonrpc: "2.0", method } };
  const told = await post({ message: message.value, headers: headersFor(known, message) }, signal);
  await told.body?.cancel();
  return told.ok;
}

/** A 404 says that the session is lost, or that there is no such method. */
function isUnknownMethod(refusal: unknown): boolean {
  return isRecord(refusal) && isRecord(refusal["error"]) && refusal["error"]["code"] === RPC.methodNotFound;
}

/** An answer whose body was read, to be read again. */
function answerAgain({ status, headers }: Response, json: unknown): Response {
  return new Response(JSON.stringify(json ?? null), { status, headers });
}

/** The result of `initialize`, as JSON or as an event of a stream. */
async function resultOf(response: Response): Promise<Record<string, unknown> | undefined> {
  let answer: unknown;
  if (contentType(response) === "text/event-stream") {
    for await (const data of readEvents(bodyOf(response), ANSWER_BYTES)) {
      answer = JSON.parse(data);
      if (isRecord(answer) && Object.hasOwn(answer, "id")) break;
    }
  } else answer = await readAnswer(response);
  return isRecord(answer) && isRecord(answer["result"]) ? answer["result"] : undefined;
}
