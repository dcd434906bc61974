import { JsonError, readJson } from "../../core/token/json.ts";

/** Error codes of JSON-RPC 2.0 §5.1 and of MCP (standards 17.3). */
export const RPC = {
  parse: -32700,
  invalidRequest: -32600,
  methodNotFound: -32601,
  invalidParams: -32602,
  internal: -32603,
  /** Ours, in the legacy range: what grants do not allow (CONTRACT §8). */
  denied: -32003,
  headerMismatch: -32020,
  unsupportedVersion: -32022,
} as const;

/** A JSON-RPC id as MCP allows it: never null, never a fraction. */
export type RpcId = string | number;

/** Members of `params`. */
export type RpcParams = Readonly<Record<string, unknown>>;

/** One message of a client, strictly read. */
export type McpMessage =
  | { readonly kind: "request"; readonly id: RpcId; readonly method: string; readonly params: RpcParams | undefined }
  | { readonly kind: "notification"; readonly method: string; readonly params: RpcParams | undefined };

/** A client's answer to what its server asked. */
export interface McpResponse {
  readonly kind: "response";
  readonly id: RpcId;
  /** `result` or `error`. */
  readonly said: RpcParams;
}

/** A message that is answered with a JSON-RPC error. */
export class RpcError extends Error {
  readonly code: number;
  /** Of the HTTP answer. */
  readonly status: number;
  readonly data: object | undefined;
  readonly id: RpcId | undefined;
  /** For an answer that says when to come again. */
  readonly retryAfterSeconds: number | undefined;

  constructor(
    code: number,
    message: string,
    at: { status: number; id?: RpcId | undefined; data?: object; retryAfterSeconds?: number },
  ) {
    super(message);
    this.name = "RpcError";
    this.code = code;
    this.status = at.status;
    this.data = at.data;
    this.id = at.id;
    this.retryAfterSeconds = at.retryAfterSeconds;
  }
}

/** Arguments may nest this deep. */
const DEPTH = 64;
const ID_CHARACTERS = 256;
/** Of an id that we sealed. */
const RESPONSE_ID_CHARACTERS = 2_048;
const METHOD = /^[A-Za-z][A-Za-z0-9_$-]*(?:\/[A-Za-z0-9_$-]+)*$/;
const MEMBERS = new Set(["jsonrpc", "id", "method", "params"]);

/**
 * Reads one message: a single object with exactly the members of JSON-RPC, each once, spelled exactly so. What is decided on
 * and what is sent is the value that this returns (INV-18).
 *
 * @throws {RpcError} −32700 for what is no JSON text, −32600 for everything else: batches, doubled or unknown members, ids
 *   that are no string or whole number
 * @see JSON-RPC 2.0 §4, MCP 2026-07-28 and 2025-11-25 basic protocol
 */
export function readMessage(bytes: Uint8Array): McpMessage | McpResponse {
  const value = parsed(bytes);
  if (!isRecord(value)) throw invalid(Array.isArray(value) ? "Batches are not served." : "A message is an object.");
  if (!Object.hasOwn(value, "method") && (Object.hasOwn(value, "result") || Object.hasOwn(value, "error")))
    return responseOf(value);
  if (Object.keys(value).some((name) => !MEMBERS.has(name)))
    throw invalid("A message has jsonrpc, id, method, params.");
  const { jsonrpc, id, method, params } = value;
  const hasId = Object.hasOwn(value, "id");
  if (hasId && !isRpcId(id)) throw invalid("An id is a string or a whole number.");
  const known = hasId ? (id as RpcId) : undefined;
  if (jsonrpc !== "2.0") throw invalid("jsonrpc must be 2.0.", known);
  if (typeof method !== "string" || method.length > 128 || !METHOD.test(method))
    throw invalid("method must be the name of a method.", known);
  if (Object.hasOwn(value, "params") && !isRecord(params)) throw invalid("params must be an object.", known);
  const given = isRecord(params) ? params : undefined;
  return known === undefined
    ? { kind: "notification", method, params: given }
    : { kind: "request", id: known, method, params: given };
}

function responseOf({ jsonrpc, id, ...said }: Record<string, unknown>): McpResponse {
  const [first, ...more] = Object.entries(said);
  const [member, body] = first ?? [];
  const isResult = member === "result" && isRecord(body);
  const isError =
    member === "error" && isRecord(body) && Number.isSafeInteger(body["code"]) && typeof body["message"] === "string";
  if (jsonrpc !== "2.0" || !isRpcId(id, RESPONSE_ID_CHARACTERS) || more.length > 0 || !(isResult || isError))
    throw invalid("A response has jsonrpc, id, and either result or error.");
  return { kind: "response", id, said };
}

/** The text that goes upstream: the message that was read, and nothing else. */
export function writeMessage(message: McpMessage, params = message.params): string {
  return JSON.stringify({
    jsonrpc: "2.0",
    ...(message.kind === "request" && { id: message.id }),
    method: message.method,
    ...(params !== undefined && { params }),
  });
}

function parsed(bytes: Uint8Array): unknown {
  try {
    return readJson(bytes, { maxDepth: DEPTH });
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    const isSyntax = error.problem === "syntax" || error.problem === "encoding";
    if (isSyntax) throw new RpcError(RPC.parse, "The body is no JSON text.", { status: 400 });
    throw invalid("The body is no JSON that every parser reads alike.");
  }
}

/** Whether a value is an object, and no list. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether a value is an id as both sides may write it. */
export function isRpcId(id: unknown, characters = ID_CHARACTERS): id is RpcId {
  return typeof id === "string" ? id.length > 0 && id.length <= characters : Number.isSafeInteger(id);
}

function invalid(message: string, id?: RpcId): RpcError {
  return new RpcError(RPC.invalidRequest, message, { status: 400, id });
}
