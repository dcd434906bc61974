/** One value of a JSON text that is replaced by another. */
export interface Splice {
  /** Names of members and indexes of lists, from the outermost value. */
  readonly path: readonly string[];
  /** JSON. */
  readonly to: string;
}

/**
 * A JSON text with some values replaced and every other byte as it came: numbers keep their digits.
 *
 * @param text valid JSON whose members are each spelled once (`readJson`)
 */
export function spliced(text: string, splices: readonly Splice[]): string {
  let made = text;
  for (const { path, to } of splices) {
    const span = spanOf(made, path);
    if (span !== undefined) made = made.slice(0, span.from) + to + made.slice(span.to);
  }
  return made;
}

function spanOf(text: string, path: readonly string[]): { from: number; to: number } | undefined {
  let span = { from: skipSpace(text, 0), to: text.length };
  for (const name of path) {
    const inner = text[span.from] === "[" ? elementSpan(text, span.from, name) : memberSpan(text, span.from, name);
    if (inner === undefined) return undefined;
    span = inner;
  }
  return span;
}

/** Where the value of an object's member stands. @param at of the object's brace */
function memberSpan(text: string, at: number, name: string): { from: number; to: number } | undefined {
  if (text[at] !== "{") return undefined;
  let i = skipSpace(text, at + 1);
  while (text[i] === '"') {
    const end = afterString(text, i);
    const isWanted = JSON.parse(text.slice(i, end)) === name;
    const from = skipSpace(text, skipSpace(text, end) + 1);
    const to = afterValue(text, from);
    if (isWanted) return { from, to };
    i = skipSpace(text, to);
    if (text[i] === ",") i = skipSpace(text, i + 1);
  }
  return undefined;
}

/** Where an element of a list stands. @param at of its bracket; @param index in digits */
function elementSpan(text: string, at: number, index: string): { from: number; to: number } | undefined {
  let from = skipSpace(text, at + 1);
  for (let left = Number(index); text[from] !== "]"; left--) {
    const to = afterValue(text, from);
    if (left === 0) return { from, to };
    const next = skipSpace(text, to);
    if (text[next] !== ",") return undefined;
    from = skipSpace(text, next + 1);
  }
  return undefined;
}

function skipSpace(text: string, at: number): number {
  let i = at;
  while (i < text.length && " \t\r\n".includes(text[i] as string)) i++;
  return i;
}

function afterString(text: string, at: number): number {
  let i = at + 1;
  while (i < text.length && text[i] !== '"') i += text[i] === "\\" ? 2 : 1;
  return i + 1;
}

function afterValue(text: string, at: number): number {
  if (text[at] === '"') return afterString(text, at);
  let depth = 0;
  let i = at;
  while (i < text.length) {
    const character = text[i] as string;
    if (character === '"') {
      i = afterString(text, i);
      continue;
    }
    if (depth === 0 && ",]} \t\r\n".includes(character)) return i;
    if (character === "{" || character === "[") depth++;
    else if (character === "}" || character === "]") depth--;
    i++;
    if (depth === 0 && (character === "}" || character === "]")) return i;
  }
  return i;
}
