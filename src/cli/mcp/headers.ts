import { encodeHeaderValue, namedTarget } from "../../core/mcp-headers.ts";
import { isRecord } from "../../sdk/client/wire.ts";
import type { ClientMessage } from "./message.ts";

const VERSION_KEY = "io.modelcontextprotocol/protocolVersion";

/** The version that a request of the revisions without sessions says of itself. */
export function modernVersion(message: ClientMessage): string | undefined {
  if (message.kind === "response") return undefined;
  const meta = message.params["_meta"];
  const version = isRecord(meta) ? meta[VERSION_KEY] : undefined;
  return typeof version === "string" ? version : undefined;
}

/** Arguments that a tool's server wants in headers too: where they are, and the header's name. */
export type ParamHeaders = readonly { readonly path: readonly string[]; readonly name: string }[];

/**
 * The headers that say what the body says.
 *
 * @param version of the protocol
 * @see MCP 2026-07-28 basic/transports; standards 17.2
 */
export function namingHeaders(
  message: Exclude<ClientMessage, { kind: "response" }>,
  at: { version: string; paramHeaders: ParamHeaders },
): Record<string, string> {
  const target = namedTarget(message);
  const headers: Record<string, string> = {
    "mcp-protocol-version": at.version,
    "mcp-method": message.method,
    ...(target !== undefined && { "mcp-name": encodeHeaderValue(target) }),
  };
  for (const { path, name } of at.paramHeaders) {
    let value: unknown = message.params["arguments"];
    for (const part of path) value = isRecord(value) && Object.hasOwn(value, part) ? value[part] : undefined;
    if (typeof value === "string" || typeof value === "boolean" || Number.isSafeInteger(value))
      headers[`mcp-param-${name}`] = encodeHeaderValue(String(value));
  }
  return headers;
}

const HEADER_PART = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$/;
const DEPTH = 16;

/** What a list of tools says of headers, by tool. @param result of `tools/list` */
export function paramHeadersOf(result: unknown): ReadonlyMap<string, ParamHeaders> {
  const found = new Map<string, ParamHeaders>();
  const tools = isRecord(result) && Array.isArray(result["tools"]) ? result["tools"] : [];
  for (const tool of tools)
    if (isRecord(tool) && typeof tool["name"] === "string")
      found.set(tool["name"], declaredIn(tool["inputSchema"], []));
  return found;
}

function declaredIn(schema: unknown, path: readonly string[]): { path: readonly string[]; name: string }[] {
  if (!isRecord(schema) || path.length > DEPTH) return [];
  const name = schema["x-mcp-header"];
  const own = path.length > 0 && typeof name === "string" && HEADER_PART.test(name) ? [{ path, name }] : [];
  const properties = isRecord(schema["properties"]) ? Object.entries(schema["properties"]) : [];
  return [...own, ...properties.flatMap(([key, child]) => declaredIn(child, [...path, key]))];
}
