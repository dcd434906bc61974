import { encodeAction } from "../../core/oauth/scope.ts";
import { JsonError, readJson } from "../../core/token/json.ts";
import { isToolName, LISTS } from "./actions.ts";
import { spliced } from "./json-splice.ts";
import { isRecord, isRpcId, type McpMessage, type RpcId } from "./message.ts";
import type { Questions } from "./questions.ts";

/** A result may be kept this long by its client, in milliseconds: grants may change. */
const MAX_TTL_MS = 5_000;
/** Results may nest deeper than requests, and hold numbers that we need not understand. */
const READ = { maxDepth: 256, allowUnsafeIntegers: true, allowNul: true } as const;

/** A message of an upstream's answer. */
export type UpstreamMessage =
  /** The answer to the request; `text` is what may go on. */
  | { readonly kind: "answer"; readonly text: string; readonly failed: boolean }
  | { readonly kind: "notification"; readonly text: string }
  /** A request of the server that its client said it answers, under an id of ours. */
  | { readonly kind: "question"; readonly text: string }
  /** Any other request of the server, an answer to somebody else's request, or no message at all. */
  | { readonly kind: "other" };

/** By what a message is judged. */
export interface ReadBy {
  /** What was asked; undefined: nothing, so that nothing is answered. */
  readonly request: McpMessage | undefined;
  /** What the server may ask; undefined: nothing. */
  readonly questions?: Questions | undefined;
  readonly mayUse: (action: string) => boolean;
  /** The entries of a list of tools whose definitions are pinned. */
  readonly shown: (entries: readonly unknown[]) => readonly unknown[];
}

/**
 * Judges one message of an upstream (A-MCP-14): only the answer to this request, notifications and, in a session, what its
 * client said it answers go on; lists show what the token and the grants allow.
 */
export function readUpstreamMessage(data: string | Uint8Array, at: ReadBy): UpstreamMessage {
  const bytes = typeof data === "string" ? Buffer.from(data, "utf8") : data;
  let value: unknown;
  try {
    value = readJson(bytes, READ);
  } catch (error) {
    if (error instanceof JsonError) return { kind: "other" };
    throw error;
  }
  if (!isRecord(value) || value["jsonrpc"] !== "2.0") return { kind: "other" };
  const text = (): string => oneLine(typeof data === "string" ? data : Buffer.from(data).toString("utf8"), value);
  if (Object.hasOwn(value, "method")) {
    if (Object.hasOwn(value, "id")) return questionOf(value, text, at.questions);
    const { method } = value;
    if (typeof method !== "string" || !method.startsWith("notifications/")) return { kind: "other" };
    // Told of an address that it may not read any more.
    if (method === "notifications/resources/updated" && !at.mayUse("resources/subscribe")) return { kind: "other" };
    return { kind: "notification", text: withdrawn(value, text(), at.questions) };
  }
  const { request } = at;
  if (request?.kind !== "request" || !isAnswerTo(value, request.id)) return { kind: "other" };
  const { result } = value;
  if (isRecord(result)) {
    const filtered = filteredResult(result, at);
    if (filtered !== undefined)
      return { kind: "answer", text: JSON.stringify({ ...value, result: filtered }), failed: false };
  }
  return { kind: "answer", text: text(), failed: !isRecord(result) || result["isError"] === true };
}

function questionOf(
  value: Record<string, unknown>,
  text: () => string,
  questions: Questions | undefined,
): UpstreamMessage {
  const { id, method, params, jsonrpc: _version, ...more } = value;
  const isPlain = Object.keys(more).length === 0 && (params === undefined || isRecord(params)) && isRpcId(id);
  if (questions === undefined || !isPlain || !questions.may(method)) return { kind: "other" };
  return { kind: "question", text: spliced(text(), [{ path: ["id"], to: JSON.stringify(questions.seal(id)) }]) };
}

/** A server that does not wait any longer names its question, which the client knows by our id. */
function withdrawn(
  { method, params }: Record<string, unknown>,
  text: string,
  questions: Questions | undefined,
): string {
  const id = method === "notifications/cancelled" && isRecord(params) ? params["requestId"] : undefined;
  if (questions === undefined || !isRpcId(id)) return text;
  return spliced(text, [{ path: ["params", "requestId"], to: JSON.stringify(questions.seal(id)) }]);
}

/** The answer to a request of our own; undefined for any other message. */
export function ownAnswer(bytes: Uint8Array, id: RpcId): Record<string, unknown> | undefined {
  try {
    const value = readJson(bytes, READ);
    return isRecord(value) && value["jsonrpc"] === "2.0" && isAnswerTo(value, id) ? value : undefined;
  } catch (error) {
    if (error instanceof JsonError) return undefined;
    throw error;
  }
}

function isAnswerTo(value: Record<string, unknown>, id: RpcId): boolean {
  const hasResult = Object.hasOwn(value, "result");
  const hasError = Object.hasOwn(value, "error");
  // An error about a message that could not be read has no id, or a null one (JSON-RPC 2.0 §5).
  const isOurs = value["id"] === id || (hasError && (value["id"] === null || value["id"] === undefined));
  return isOurs && hasResult !== hasError;
}

/** As it came where it is one line, so that numbers keep their digits. */
function oneLine(text: string, value: unknown): string {
  return /[\r\n]/.test(text) ? JSON.stringify(value) : text;
}

/** @returns undefined where nothing about it is to be changed */
function filteredResult(
  result: Record<string, unknown>,
  { request, mayUse, shown }: ReadBy,
): Record<string, unknown> | undefined {
  const list = request && LISTS[request.method];
  const isCacheable = Object.hasOwn(result, "cacheScope") || Object.hasOwn(result, "ttlMs");
  if (list === undefined && !isCacheable) return undefined;
  const entries = list && result[list.member];
  const kept =
    list === undefined || entries === undefined
      ? undefined
      : !Array.isArray(entries)
        ? []
        : list.action === undefined
          ? toolsOf(shown(entries), mayUse)
          : mayUse(list.action)
            ? entries
            : [];
  return {
    ...result,
    ...(list !== undefined && kept !== undefined && { [list.member]: kept }),
    // Another agent's list is another list (A-MCP-13).
    ...(isCacheable && { cacheScope: "private", ttlMs: ttlOf(result["ttlMs"]) }),
  };
}

function ttlOf(ttl: unknown): number {
  return typeof ttl === "number" && ttl > 0 ? Math.min(Math.floor(ttl), MAX_TTL_MS) : 0;
}

function toolsOf(entries: readonly unknown[], mayUse: (action: string) => boolean): unknown[] {
  const times = new Map<unknown, number>();
  for (const entry of entries) if (isRecord(entry)) times.set(entry["name"], (times.get(entry["name"]) ?? 0) + 1);
  return entries.filter((entry) => {
    if (!isRecord(entry) || typeof entry["name"] !== "string") return false;
    const { name } = entry;
    // Of two tools by one name nobody knows which is called.
    const isOne = isToolName(name) && times.get(name) === 1;
    return isOne && hasHarmlessHeaders(entry["inputSchema"]) && mayUse(encodeAction(name));
  });
}

const HEADER_PART = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;
const TAKEN = /^(?:authorization|host|cookie|content-.*|transfer-encoding|connection|proxy-.*)$/i;

/** Whether no `x-mcp-header` of a schema names what is no header of an argument's (A-MCP-17). */
export function hasHarmlessHeaders(schema: unknown, depth = 0): boolean {
  if (depth > 64) return false;
  if (Array.isArray(schema)) return schema.every((entry) => hasHarmlessHeaders(entry, depth + 1));
  if (!isRecord(schema)) return true;
  return Object.entries(schema).every(([name, value]) => {
    if (name === "x-mcp-header") return typeof value === "string" && HEADER_PART.test(value) && !TAKEN.test(value);
    return hasHarmlessHeaders(value, depth + 1);
  });
}
