import type { ExactCall } from "../approvals/content.ts";
import type { McpMessage } from "./mcp/message.ts";
import { preferredBut } from "./prefer.ts";

/** Headers that say how an answer is wanted or where a trace goes, and nothing of what is to be done. */
const UNBOUND = new Set(["accept", "accept-language", "last-event-id", "traceparent", "tracestate", "baggage"]);

/**
 * Members of `_meta` that differ from call to call: the trace, and the protocol's own, whose second label says so. A vendor's
 * `com.example.mcp/` is not reserved, and may say what is to be done (MCP 2025-11-25, basic protocol, `_meta`).
 */
const UNBOUND_META =
  /^(?:progressToken|traceparent|tracestate|baggage|[a-z0-9-]+\.(?:modelcontextprotocol|mcp)(?:\.[a-z0-9-]+)*\/.*)$/i;

/**
 * An HTTP call as an approval is bound to it: method, path, query, JSON body, and the headers that reach the upstream.
 *
 * @param of.body the JSON text that is sent; undefined for none
 */
export function exactHttp(of: {
  readonly method: string;
  readonly path: string;
  readonly query: string | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string | undefined;
}): ExactCall {
  return {
    call: { kind: "http", method: of.method, path: of.path || "/", headers: boundHeaders(of.headers) },
    args: { query: of.query ?? null, body: of.body === undefined ? null : (JSON.parse(of.body) as unknown) },
  };
}

/**
 * An MCP message as an approval is bound to it. What its `args_digest` is over: a tool's `arguments`; of any other method
 * all `params` but `_meta`.
 *
 * @param headers of its caller that reach the upstream, those that repeat arguments included
 */
export function exactMcp({ method, params = {} }: McpMessage, headers: Readonly<Record<string, string>>): ExactCall {
  const { _meta: meta, ...rest } = params;
  const more = { meta: boundMeta(meta), headers: boundHeaders(headers) };
  if (method !== "tools/call") return { call: { kind: "mcp", method, ...more }, args: rest };
  const { name, arguments: args = {}, ...others } = rest;
  // Apart from what we say: by its name nothing of the sender's may take the place of ours, or be displaced by it.
  const theirs = Object.keys(others).length > 0 && { params: others };
  return { call: { kind: "mcp", method, name, ...theirs, ...more }, args };
}

function boundHeaders(headers: Readonly<Record<string, string>>): Record<string, string> {
  const bound = Object.fromEntries(Object.entries(headers).filter(([name]) => !UNBOUND.has(name)));
  const { prefer, ...rest } = bound;
  const preferred = prefer === undefined ? undefined : preferredBut(prefer);
  return preferred === undefined ? rest : { ...rest, prefer: preferred };
}

function boundMeta(meta: unknown): unknown {
  if (typeof meta !== "object" || meta === null || Array.isArray(meta)) return meta ?? null;
  return Object.fromEntries(Object.entries(meta).filter(([name]) => !UNBOUND_META.test(name)));
}

/** Where a local server, which gets no headers, finds the signed claim of an approved call. */
export const APPROVAL_META = "ephor/approval";

/** The message as its server gets it: with the claim of its approval, if any, and never with one that its sender put there. */
export function withClaim(message: McpMessage, claim: string | undefined): McpMessage {
  const meta = message.params?.["_meta"];
  const isThere = typeof meta === "object" && meta !== null && Object.hasOwn(meta, APPROVAL_META);
  if (claim === undefined && !isThere) return message;
  const { [APPROVAL_META]: _theirs, ...rest } = (typeof meta === "object" ? (meta ?? {}) : {}) as Record<
    string,
    unknown
  >;
  const said = claim === undefined ? rest : { ...rest, [APPROVAL_META]: claim };
  return { ...message, params: { ...message.params, _meta: said } };
}
