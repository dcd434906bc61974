/** Deepest nesting of arrays and objects that is read (INV-27). Real tokens need fewer than ten. */
export const MAX_JSON_DEPTH = 32;

/** What may be wrong with a JSON text. */
export type JsonProblem = "encoding" | "syntax" | "depth" | "duplicate" | "member" | "number" | "string";

/** A JSON text that is not read. Carries no part of the text. */
export class JsonError extends Error {
  readonly problem: JsonProblem;

  constructor(problem: JsonProblem) {
    super(problem);
    this.name = "JsonError";
    this.problem = problem;
  }
}

/** What a reader of JSON may loosen. */
export interface JsonOptions {
  /** Nesting allowed; default {@link MAX_JSON_DEPTH}. */
  readonly maxDepth?: number;
  /** Accept U+0000 in strings and names. Default: refused, since PostgreSQL and C programs cut or refuse it. */
  readonly allowNul?: boolean;
  /** Accept integers beyond ±(2^53 − 1). Default: refused, since two of them can become the same number. */
  readonly allowUnsafeIntegers?: boolean;
}

const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const LONE_SURROGATE = /\p{Surrogate}/u;

const QUOTE = 0x22;
const COLON = 0x3a;
const BACKSLASH = 0x5c;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;

/**
 * The value of a JSON text that every parser reads alike. Where this returns, the value is `JSON.parse`'s; it refuses
 * duplicate members at any depth however spelled, deep nesting, `__proto__`, numbers that are not finite or not exact,
 * lone surrogates, NUL, a byte order mark, invalid UTF-8 and trailing text. Linear in the length of the text.
 *
 * @throws {JsonError}
 * @see RFC 8259 §4, §8.1, §9; RFC 7493 (I-JSON); RFC 8725 §2.4
 */
export function readJson(bytes: Uint8Array, options: JsonOptions = {}): unknown {
  let text: string;
  try {
    text = decoder.decode(bytes);
  } catch {
    throw new JsonError("encoding");
  }
  const { members, escapes } = scan(text, options.maxDepth ?? MAX_JSON_DEPTH);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new JsonError("syntax");
  }
  // INVARIANT: a valid text has one colon outside strings for each member it spells, and the parsed value one key for each
  // distinct member; JSON.parse has resolved the escapes. So the numbers differ exactly if some name was spelled twice.
  if (countMembers(value, { escapes, ...options }) !== members) throw new JsonError("duplicate");
  return value;
}

/** Counts colons outside strings; refuses deep nesting before anything recurses. The text need not be valid yet. */
function scan(text: string, maxDepth: number): { members: number; escapes: boolean } {
  let members = 0;
  let depth = 0;
  const escapes = text.includes("\\");
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === QUOTE) i = endOfString(text, i, escapes);
    else if (code === COLON) members++;
    else if (code === OPEN_OBJECT || code === OPEN_ARRAY) {
      if (++depth > maxDepth) throw new JsonError("depth");
    } else if (code === CLOSE_OBJECT || code === CLOSE_ARRAY) depth--;
  }
  return { members, escapes };
}

/** Place of the quote that ends the string begun at `start`; past the end of the text where none does. */
function endOfString(text: string, start: number, escapes: boolean): number {
  let end = text.indexOf('"', start + 1);
  while (escapes && end >= 0 && isEscaped(text, end)) end = text.indexOf('"', end + 1);
  return end < 0 ? text.length : end;
}

/** Whether an odd number of backslashes stands before it. They are counted once for each quote, so all in all once. */
function isEscaped(text: string, at: number): boolean {
  let before = at - 1;
  while (text.charCodeAt(before) === BACKSLASH) before--;
  return (at - before) % 2 === 0;
}

interface Walk extends JsonOptions {
  /** Whether the text has a backslash; without one no string can hold a NUL or half a surrogate pair. */
  readonly escapes: boolean;
}

/** Number of members in the value, after judging every number, string and name in it. Recursion is bounded by `scan`. */
function countMembers(value: unknown, walk: Walk): number {
  if (typeof value === "string") {
    if (walk.escapes) checkString(value, walk);
    return 0;
  }
  if (typeof value === "number") {
    if (!Number.isFinite(value)) throw new JsonError("number");
    const isExact = Number.isSafeInteger(value) || !Number.isInteger(value);
    if (!isExact && walk.allowUnsafeIntegers !== true) throw new JsonError("number");
    return 0;
  }
  if (typeof value !== "object" || value === null) return 0;
  let members = 0;
  if (Array.isArray(value)) {
    for (const element of value) members += countMembers(element, walk);
    return members;
  }
  for (const name of Object.keys(value)) {
    // An own `__proto__` becomes the prototype of whatever the object is next copied into by assignment.
    if (name === "__proto__") throw new JsonError("member");
    if (walk.escapes) checkString(name, walk);
    members += 1 + countMembers((value as Record<string, unknown>)[name], walk);
  }
  return members;
}

function checkString(text: string, walk: Walk): void {
  if (walk.allowNul !== true && text.includes("\0")) throw new JsonError("string");
  if (LONE_SURROGATE.test(text)) throw new JsonError("string");
}
