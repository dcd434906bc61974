import { InvalidScopeError } from "./errors.ts";

/** Most scopes in one request (A-TX-11). */
export const MAX_SCOPES = 100;

/** RFC 6749 §3.3: printable ASCII without blank, quote and backslash. */
const SCOPE_TOKEN = /^[\x21\x23-\x5b\x5d-\x7e]+$/;

/** A scope in full, or a resource's name alone, which asks for whatever is granted there. */
export interface ScopeParts {
  readonly resource: string;
  /** Absent: whatever is granted at the resource. */
  readonly action?: string;
}

const OBJECT_NAME = /^[a-z0-9][a-z0-9-]{0,62}$/;
const ACTION = /^(?:[A-Za-z0-9_./-]|%[0-9A-F]{2})+$/;
const NOT_PLAIN = /[^A-Za-z0-9_./-]/;

const encoder = new TextEncoder();

/**
 * The entries of a `scope` parameter, each once, in order. They are parted by single blanks and by nothing else.
 *
 * @throws {InvalidScopeError} `scope_missing` (absent or empty: no default is "all"), `scope_malformed`
 * @see RFC 6749 §3.3, CONTRACT §2 rule 2
 */
export function parseScope(text: string | undefined): readonly string[] {
  if (text === undefined || text === "") throw new InvalidScopeError({ reason: "scope_missing" });
  const entries = text.split(" ", MAX_SCOPES + 1);
  if (entries.length > MAX_SCOPES) throw malformed();
  // An empty entry is a double blank, or one at an end.
  if (!entries.every((entry) => SCOPE_TOKEN.test(entry))) throw malformed();
  return [...new Set(entries)];
}

/** The scope for one action at a resource, in full. `action` is in its encoded form ({@link encodeAction}). */
export function scopeOf(resource: string, action: string): string {
  return `${resource}:${action}`;
}

/**
 * Resource and action of a scope, parted at the first colon.
 *
 * @throws {InvalidScopeError} `scope_unknown` when it cannot name any resource or action
 */
export function splitScope(scope: string): ScopeParts {
  const colon = scope.indexOf(":");
  const resource = colon < 0 ? scope : scope.slice(0, colon);
  const action = colon < 0 ? undefined : scope.slice(colon + 1);
  const isKnown = OBJECT_NAME.test(resource) && (action === undefined || ACTION.test(action));
  if (!isKnown) throw new InvalidScopeError({ reason: "scope_unknown" });
  return action === undefined ? { resource } : { resource, action };
}

/** Whether the text can be the name of an issuer, agent, resource, grant or secret (CONTRACT §1). */
export function isObjectName(text: string): boolean {
  return OBJECT_NAME.test(text);
}

/**
 * A tool's name as an action: characters outside `[A-Za-z0-9_./-]` as `%XX` of their UTF-8. Different names give different
 * actions, since `%` itself is encoded.
 */
export function encodeAction(name: string): string {
  if (!NOT_PLAIN.test(name)) return name;
  let action = "";
  for (const character of name) {
    if (!NOT_PLAIN.test(character)) action += character;
    else for (const byte of encoder.encode(character)) action += `%${byte.toString(16).toUpperCase().padStart(2, "0")}`;
  }
  return action;
}

/** The tool's name of an action; undefined when no name is encoded so. */
export function decodeAction(action: string): string | undefined {
  if (!action.includes("%")) return ACTION.test(action) ? action : undefined;
  let name: string;
  try {
    name = decodeURIComponent(action);
  } catch (error) {
    if (error instanceof URIError) return undefined;
    throw error;
  }
  // `%41` would be a second spelling of `A`.
  return encodeAction(name) === action ? name : undefined;
}

function malformed(): InvalidScopeError {
  return new InvalidScopeError({ reason: "scope_malformed" });
}
