import { isRecord } from "../../sdk/client/wire.ts";

/** Error codes of JSON-RPC 2.0 §5.1, and ours. */
export const RPC = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  internal: -32603,
  /** The task or the agent was killed; nothing more will be answered. */
  killed: -32004,
} as const;

/** A JSON-RPC id as MCP allows it. */
export type RpcId = string | number;

/** A message of the client, as far as the bridge has to understand it. */
export type ClientMessage =
  | {
      readonly kind: "request";
      readonly id: RpcId;
      readonly method: string;
      readonly params: Readonly<Record<string, unknown>>;
      readonly value: object;
    }
  | {
      readonly kind: "notification";
      readonly method: string;
      readonly params: Readonly<Record<string, unknown>>;
      readonly value: object;
    }
  /** An answer to a question of the server's, in the revisions with sessions. */
  | { readonly kind: "response"; readonly value: object };

/** Text that is no message. */
export class MessageError extends Error {
  override readonly name = "MessageError";
  readonly code: number;

  constructor(code: number, message: string) {
    super(message);
    this.code = code;
  }
}

/** Reads one message. What is granted is decided by the server, on what is sent to it. @throws {MessageError} */
export function readClientMessage(bytes: Uint8Array): ClientMessage {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch {
    throw new MessageError(RPC.parse, "This is no JSON text.");
  }
  if (Array.isArray(value)) throw new MessageError(RPC.invalidRequest, "Batches are not served.");
  if (!isRecord(value)) throw new MessageError(RPC.invalidRequest, "A message is an object.");
  const { id, method, params } = value;
  if (typeof method !== "string") {
    if (Object.hasOwn(value, "result") || Object.hasOwn(value, "error")) return { kind: "response", value };
    throw new MessageError(RPC.invalidRequest, "A message has a method.");
  }
  const given = isRecord(params) ? params : {};
  if (id === undefined) return { kind: "notification", method, params: given, value };
  if (typeof id !== "string" && typeof id !== "number")
    throw new MessageError(RPC.invalidRequest, "An id is a string or a number.");
  return { kind: "request", id, method, params: given, value };
}

/** A JSON-RPC error; without an id where it was not to be read. */
export function errorMessage(id: RpcId | null, error: { code: number; message: string; data?: object }): object {
  return { jsonrpc: "2.0", id, error };
}

/** Whether a message of the server is the answer to this request. */
export function isAnswerTo(value: Record<string, unknown>, id: RpcId): boolean {
  if (Object.hasOwn(value, "method")) return false;
  // An error about a message that could not be read has no id, or a null one (JSON-RPC 2.0 §5).
  return value["id"] === id || (isRecord(value["error"]) && (value["id"] === undefined || value["id"] === null));
}

const LINE_FEED = 0x0a;

/**
 * Messages as lines (MCP, stdio transport).
 *
 * @param maxBytes a longer line is passed over, and comes as undefined
 */
export async function* readLines(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
): AsyncGenerator<Uint8Array | undefined> {
  let parts: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of chunks) {
    let from = 0;
    for (let at = chunk.indexOf(LINE_FEED); at !== -1; at = chunk.indexOf(LINE_FEED, from)) {
      size += at - from;
      yield size > maxBytes ? undefined : Buffer.concat([...parts, chunk.subarray(from, at)]);
      [parts, size, from] = [[], 0, at + 1];
    }
    size += chunk.length - from;
    if (size > maxBytes) parts = [];
    else parts.push(chunk.subarray(from));
  }
  if (size > 0) yield size > maxBytes ? undefined : Buffer.concat(parts);
}
