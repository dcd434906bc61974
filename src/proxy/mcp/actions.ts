import { encodeAction } from "../../core/oauth/scope.ts";
import { isRecord, RPC, RpcError, type McpMessage } from "./message.ts";

/** What a message is, to the grants. */
export type Asked =
  /** Allowed with any good token for the resource; lists are filtered (CONTRACT §8). */
  | { readonly kind: "free" }
  | {
      readonly kind: "granted";
      readonly action: string;
      /** What conditions see as `args`. */
      readonly args: Readonly<Record<string, unknown>>;
      /** What they see of `call` beside the method. */
      readonly call: Readonly<Record<string, unknown>>;
    };

const FREE = new Set([
  "initialize",
  "ping",
  "server/discover",
  "tools/list",
  "prompts/list",
  "resources/list",
  "resources/templates/list",
]);

/** What the revision without sessions took away (MCP 2026-07-28, changelog). */
const REMOVED = new Set(["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]);

/** Methods that are actions by their own name. */
export const METHOD_ACTIONS: ReadonlySet<string> = new Set([
  "resources/read",
  "resources/subscribe",
  "prompts/get",
  "completion/complete",
  "logging/setLevel",
]);

/** Lists, the member of their result, and what lets its entries through. */
export const LISTS: Readonly<Record<string, { readonly member: string; readonly action: string | undefined }>> = {
  "tools/list": { member: "tools", action: undefined },
  "prompts/list": { member: "prompts", action: "prompts/get" },
  "resources/list": { member: "resources", action: "resources/read" },
  "resources/templates/list": { member: "resourceTemplates", action: "resources/read" },
};

/** Longest name of a tool, in characters (MCP 2026-07-28, tools). */
export const TOOL_NAME_CHARACTERS = 128;

/**
 * What a message asks for. Methods that are not in a closed list are refused, whatever they would do (A-MCP-05).
 *
 * @throws {RpcError} −32601 for an unknown method, −32602 for a target that is none
 */
export function askedBy(message: McpMessage, era: "modern" | "legacy"): Asked {
  const { method, params = {} } = message;
  const id = message.kind === "request" ? message.id : undefined;
  if (message.kind === "notification") {
    if (method.startsWith("notifications/")) return { kind: "free" };
    // A call without an id would be done and never answered for (A-MCP-18).
    throw new RpcError(RPC.invalidRequest, "This method needs an id.", { status: 400 });
  }
  if (era === "modern" && REMOVED.has(method))
    throw new RpcError(RPC.methodNotFound, "This method is not of this revision.", { status: 404, id });
  if (method === "tools/call") {
    const name = textOf(params["name"], id);
    const args = params["arguments"] ?? {};
    if (!isRecord(args)) throw new RpcError(RPC.invalidParams, "arguments must be an object.", { status: 400, id });
    if (name.length > TOOL_NAME_CHARACTERS || !isToolName(name))
      throw new RpcError(RPC.invalidParams, "Unknown tool.", { status: 200, id });
    return { kind: "granted", action: encodeAction(name), args, call: { tool: name } };
  }
  // The older word for the same thing.
  const action = method === "resources/unsubscribe" ? "resources/subscribe" : method;
  if (METHOD_ACTIONS.has(action)) return { kind: "granted", action, ...factsOf(method, params, id) };
  if (method === "subscriptions/listen") {
    const wanted = params["notifications"];
    const uris = isRecord(wanted) ? wanted["resourceSubscriptions"] : undefined;
    const isPlain = uris === undefined || uris === null || (Array.isArray(uris) && uris.length === 0);
    return isPlain
      ? { kind: "free" }
      : { kind: "granted", action: "resources/subscribe", args: {}, call: { uris: Array.isArray(uris) ? uris : [] } };
  }
  if (FREE.has(method)) return { kind: "free" };
  throw new RpcError(RPC.methodNotFound, "This method is not served.", { status: 404, id });
}

/** No tool may carry the name of a method's action: a grant for one would be a grant for the other. */
export function isToolName(name: string): boolean {
  return name.length > 0 && !METHOD_ACTIONS.has(name) && name !== "*";
}

function factsOf(
  method: string,
  params: Readonly<Record<string, unknown>>,
  id: string | number | undefined,
): { args: Readonly<Record<string, unknown>>; call: Readonly<Record<string, unknown>> } {
  if (method.startsWith("resources/")) return { args: {}, call: { uri: textOf(params["uri"], id) } };
  if (method === "prompts/get") {
    const args = params["arguments"];
    return { args: isRecord(args) ? args : {}, call: { name: textOf(params["name"], id) } };
  }
  return { args: params, call: {} };
}

function textOf(value: unknown, id: string | number | undefined): string {
  if (typeof value === "string" && value !== "") return value;
  throw new RpcError(RPC.invalidParams, "A name or a URI is missing.", { status: 400, id });
}
