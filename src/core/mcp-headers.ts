/**
 * The headers in which MCP repeats what a message says, for readers that do not open its body.
 *
 * @see MCP 2026-07-28 basic/transports; standards 17.2
 */
import { decodeBase64url, encodeBase64url } from "./token/base64url.ts";

/** Methods whose target is named by `Mcp-Name` too, and by which member. */
const NAMED: ReadonlyMap<string, "name" | "uri"> = new Map([
  ["tools/call", "name"],
  ["prompts/get", "name"],
  ["resources/read", "uri"],
]);

/** Whether messages of a method have a target that `Mcp-Name` names. */
export function hasNamedTarget(method: string): boolean {
  return NAMED.has(method);
}

/** What `Mcp-Name` says of a message, not encoded; undefined where its method has no target, or the message names none. */
export function namedTarget({
  method,
  params,
}: {
  method: string;
  params?: Readonly<Record<string, unknown>> | undefined;
}): string | undefined {
  const member = NAMED.get(method);
  const target = member && params?.[member];
  return typeof target === "string" ? target : undefined;
}

const BEGIN = "=?base64?";
const ENCODED = /^=\?base64\?([A-Za-z0-9+/]*)(={0,2})\?=$/;
/** What goes as it is: visible ASCII, with blanks inside. */
const PLAIN = /^[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?$/;
const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** A value as it goes in a header. */
export function encodeHeaderValue(value: string): string {
  if (PLAIN.test(value) && !value.startsWith(BEGIN)) return value;
  const text = encodeBase64url(encoder.encode(value)).replaceAll("-", "+").replaceAll("_", "/");
  return `${BEGIN}${text}${paddingOf(text)}?=`;
}

/**
 * The value of a header.
 *
 * @returns undefined for what looks encoded and is not, or has another spelling: another decoder could read it as something else
 */
export function decodeHeaderValue(value: string): string | undefined {
  if (!value.startsWith(BEGIN)) return value;
  const [, text, padding] = ENCODED.exec(value) ?? [];
  if (text === undefined || padding !== paddingOf(text)) return undefined;
  const bytes = decodeBase64url(text.replaceAll("+", "-").replaceAll("/", "_"));
  try {
    return bytes && decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function paddingOf(text: string): string {
  return "=".repeat((4 - (text.length % 4)) % 4);
}
