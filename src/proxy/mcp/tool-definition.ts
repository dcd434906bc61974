import { canonicalJson } from "../../core/canonical-json.ts";
import { sha256Hex } from "../../system/hash.ts";
import { hasHarmlessHeaders } from "./answers.ts";
import { isToolName, TOOL_NAME_CHARACTERS } from "./actions.ts";
import { isRecord } from "./message.ts";

/** Longest definition that is kept, in characters of its canonical text; a longer one is hidden. */
const DEFINITION_CHARACTERS = 128 * 1024;

/** What a tool says of itself, with MCP's defaults for what it does not say (MCP 2026-07-28, tools; standards 17.4). */
export interface ToolAnnotations {
  readonly readOnlyHint: boolean;
  readonly destructiveHint: boolean;
  readonly idempotentHint: boolean;
  readonly openWorldHint: boolean;
}

/** What counts for a tool of which nothing is pinned: it writes, destroys, and reaches out. */
export const UNSAID: ToolAnnotations = {
  readOnlyHint: false,
  destructiveHint: true,
  idempotentHint: false,
  openWorldHint: true,
};

/** A tool as a server defines it. */
export interface ToolDefinition {
  readonly name: string;
  /** SHA-256 of the canonical text, in lower-case hexadecimal. */
  readonly hash: string;
  /** RFC 8785. Where nobody can accept it, a list: what is wrong with it, and what it was. */
  readonly text: string;
}

/**
 * What is pinned of an entry of `tools/list`: all of it but `icons`, which no model reads and whose addresses may be signed
 * anew each time.
 *
 * @returns undefined for an entry that can be no tool
 */
export function definitionOf(entry: unknown): ToolDefinition | undefined {
  const name = toolNameOf(entry);
  if (name === undefined) return undefined;
  const { icons: _icons, ...pinned } = entry as Record<string, unknown>;
  const text = canonicalJson(pinned);
  return hasHarmlessHeaders(pinned["inputSchema"])
    ? kept(name, text)
    : kept(name, `["names a header that is none of an argument's",${text}]`);
}

/** The name of an entry of `tools/list`; undefined where nobody could call it, or a database could not keep it. */
export function toolNameOf(entry: unknown): string | undefined {
  const name = isRecord(entry) ? entry["name"] : undefined;
  if (typeof name !== "string" || name.length > TOOL_NAME_CHARACTERS || name.includes("\0")) return undefined;
  return isToolName(name) ? name : undefined;
}

/**
 * The entries of one list by name. Of several by one name nobody knows which is called: together they are one definition that
 * nobody can accept.
 */
export function definitionsOf(entries: readonly unknown[]): ReadonlyMap<string, ToolDefinition> {
  const byName = new Map<string, ToolDefinition[]>();
  for (const entry of entries) {
    const one = definitionOf(entry);
    if (one === undefined) continue;
    const before = byName.get(one.name);
    if (before) before.push(one);
    else byName.set(one.name, [one]);
  }
  return new Map(
    [...byName].map(([name, found]) => {
      const [first, ...more] = found as [ToolDefinition, ...ToolDefinition[]];
      const texts = found.map(({ text }) => text).join(",");
      return [name, more.length === 0 ? first : kept(name, `["stands in one list several times",${texts}]`)];
    }),
  );
}

/** Whether a kept text is a definition that can be accepted, and not a list of what is wrong with it and what it was. */
export function isAcceptable(text: string): boolean {
  return text.startsWith("{");
}

function kept(name: string, text: string): ToolDefinition {
  const hash = sha256Hex(text);
  return text.length <= DEFINITION_CHARACTERS
    ? { name, hash, text }
    : { name, hash, text: '["is too long to be kept"]' };
}

/** @param text of a definition */
export function annotationsOf(text: string): ToolAnnotations {
  const definition: unknown = JSON.parse(text);
  const said = isRecord(definition) && isRecord(definition["annotations"]) ? definition["annotations"] : {};
  const hint = (name: keyof ToolAnnotations): boolean => {
    const value = said[name];
    return typeof value === "boolean" ? value : UNSAID[name];
  };
  return {
    readOnlyHint: hint("readOnlyHint"),
    destructiveHint: hint("destructiveHint"),
    idempotentHint: hint("idempotentHint"),
    openWorldHint: hint("openWorldHint"),
  };
}
