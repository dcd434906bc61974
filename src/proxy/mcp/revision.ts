import { decodeHeaderValue, encodeHeaderValue, hasNamedTarget, namedTarget } from "../../core/mcp-headers.ts";
import type { HeaderLines } from "../forwarded-headers.ts";
import { isRecord, RPC, RpcError, type McpMessage } from "./message.ts";

/** Revisions without sessions: each request says its own. */
export const MODERN = ["2026-07-28"] as const;
/** Revisions with `initialize`, and sessions if the server has them. */
export const LEGACY = ["2025-11-25", "2025-06-18", "2025-03-26"] as const;

const VERSION_KEY = "io.modelcontextprotocol/protocolVersion";
/** Where a client of a revision without sessions says what it can do. */
export const CAPABILITIES_KEY = "io.modelcontextprotocol/clientCapabilities";

/** What of a message's headers counts, and goes on. */
export interface Spoken {
  readonly era: "modern" | "legacy";
  /** `MCP-Protocol-Version`; absent only where a legacy client did not send one. */
  readonly version: string | undefined;
  /** `Mcp-Param-*`, by lower-case name, which an intermediary hands on. */
  readonly mirrored: Readonly<Record<string, string>>;
}

/**
 * The revision that a message is of, with its headers checked against its body. They are checked whenever they are there,
 * whatever revision the message claims (A-MCP-06, A-MCP-07).
 *
 * @throws {RpcError} −32020 where header and body differ, −32022 for a revision that is not served, −32602 where a member of
 *   `_meta` is missing
 * @see MCP 2026-07-28 basic/transports; standards 17.2
 */
export function spokenBy(message: McpMessage, headers: HeaderLines): Spoken {
  const id = message.kind === "request" ? message.id : undefined;
  const version = one(headers, "mcp-protocol-version", id);
  const meta = message.params?.["_meta"];
  const said = isRecord(meta) ? meta[VERSION_KEY] : undefined;
  checkNames(message, headers);
  const mirrored = mirroredOf(headers, id);
  if (said !== undefined) {
    if (typeof said !== "string" || said !== version) throw mismatch("MCP-Protocol-Version is not the body's.", id);
    // Only a revision without sessions is said in a body: the others are no answer to it.
    if (!isModern(said)) throw unsupported(said, id, MODERN);
    if (message.kind === "request" && !isRecord((meta as Record<string, unknown>)[CAPABILITIES_KEY]))
      throw new RpcError(RPC.invalidParams, `_meta has no ${CAPABILITIES_KEY}.`, { status: 400, id });
    for (const name of ["mcp-method", ...(hasNamedTarget(message.method) ? ["mcp-name"] : [])])
      if (message.kind === "request" && one(headers, name, id) === undefined)
        throw mismatch(`The header ${name} is missing.`, id);
    return { era: "modern", version, mirrored };
  }
  // A notification of the modern era says nothing of itself but its header.
  if (version !== undefined && isModern(version)) {
    if (message.kind === "request")
      throw new RpcError(RPC.invalidParams, `_meta has no ${VERSION_KEY}.`, { status: 400, id });
    return { era: "modern", version, mirrored };
  }
  if (version !== undefined && !isLegacy(version)) throw unsupported(version, id);
  return { era: "legacy", version, mirrored };
}

/**
 * The revision of a request without a message, which only the older revisions know.
 *
 * @returns the header, where it is there; `modern` where the revision has no such request
 * @throws {RpcError} −32022, −32020
 */
export function spokenWithout(headers: HeaderLines): { readonly version: string | undefined } | "modern" {
  const version = one(headers, "mcp-protocol-version", undefined);
  if (version !== undefined && isModern(version)) return "modern";
  if (version !== undefined && !isLegacy(version)) throw unsupported(version, undefined);
  return { version };
}

/** The headers that say to an upstream what the body says, written from the body. */
export function namingHeaders(message: McpMessage): Record<string, string> {
  const target = namedTarget(message);
  return { "mcp-method": message.method, ...(target !== undefined && { "mcp-name": encodeHeaderValue(target) }) };
}

/** `_meta` of a request of our own. */
export function ownMeta(version: string): Record<string, unknown> {
  return { [VERSION_KEY]: version, [CAPABILITIES_KEY]: {} };
}

function isModern(version: string): boolean {
  return (MODERN as readonly string[]).includes(version);
}

function isLegacy(version: string): boolean {
  return (LEGACY as readonly string[]).includes(version);
}

function checkNames(message: McpMessage, headers: HeaderLines): void {
  const id = message.kind === "request" ? message.id : undefined;
  const method = one(headers, "mcp-method", id);
  if (method !== undefined && method !== message.method) throw mismatch("Mcp-Method is not the body's.", id);
  const name = one(headers, "mcp-name", id);
  if (name === undefined) return;
  const said = decodeHeaderValue(name);
  if (said === undefined) throw mismatch("A header is badly encoded.", id);
  if (said !== namedTarget(message)) throw mismatch("Mcp-Name is not the body's.", id);
}

function mirroredOf(headers: HeaderLines, id: McpId): Record<string, string> {
  const found: Record<string, string> = {};
  for (const [written, value] of headers) {
    const name = written.toLowerCase();
    if (!name.startsWith("mcp-param-")) continue;
    if (found[name] !== undefined) throw mismatch("A header stands there twice.", id);
    found[name] = value;
  }
  return found;
}

type McpId = string | number | undefined;

function one(headers: HeaderLines, wanted: string, id: McpId): string | undefined {
  const values = headers.filter(([name]) => name.toLowerCase() === wanted).map(([, value]) => value);
  if (values.length > 1) throw mismatch("A header stands there twice.", id);
  return values[0];
}

function mismatch(message: string, id: McpId): RpcError {
  return new RpcError(RPC.headerMismatch, message, { status: 400, id });
}

function unsupported(requested: string, id: McpId, supported: readonly string[] = [...MODERN, ...LEGACY]): RpcError {
  const data = { supported, requested: requested.slice(0, 32) };
  return new RpcError(RPC.unsupportedVersion, "This protocol version is not served.", { status: 400, id, data });
}
