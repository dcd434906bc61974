import { TRUST_LIMITS } from "./limits.ts";

/** A pattern made ready: where it may begin and end, and the test itself. */
export interface Glob {
  /** Literal text before the first star; the whole pattern when it has none. */
  readonly prefix: string;
  /** Literal text after the last star; empty when it has none. */
  readonly suffix: string;
  /** Whether the whole of `text` fits. */
  matches(text: string): boolean;
}

/**
 * Reads a pattern of a matcher. It is literal and anchored at both ends; only `*` means something: any run of characters,
 * also none, that holds no `/`, no `:` and no control character. Alternation, dots, brackets and the like are themselves.
 *
 * The test takes time linear in the text: a star never crosses a separator, so the pieces between separators pair up
 * one to one, and within a piece the leftmost find of each literal is as good as any other (A-OIDC-14, A-OIDC-15).
 *
 * @throws {RangeError} for a pattern that is too long or has too many or doubled stars
 */
export function compileGlob(pattern: string): Glob {
  const problem = globProblem(pattern);
  if (problem !== undefined) throw new RangeError(problem);
  const first = pattern.indexOf("*");
  if (first === -1) return { prefix: pattern, suffix: "", matches: (text) => text === pattern };

  const pieces = splitAtSeparators(pattern).map((piece) => piece.split("*"));
  const separators = separatorsOf(pattern);
  return {
    prefix: pattern.slice(0, first),
    suffix: pattern.slice(pattern.lastIndexOf("*") + 1),
    matches(text) {
      if (text.length > TRUST_LIMITS.globSubjectCharacters) return false;
      if (separatorsOf(text) !== separators) return false;
      const parts = splitAtSeparators(text);
      return parts.every((part, at) => pieceMatches(pieces[at] ?? [], part));
    },
  };
}

/** Why a text is no pattern of ours, or undefined. */
export function globProblem(pattern: string): string | undefined {
  if (pattern === "") return "is an empty pattern";
  if (pattern.length > TRUST_LIMITS.valueCharacters) return `is longer than ${TRUST_LIMITS.valueCharacters} characters`;
  if (pattern.includes("**")) return "has `**`, which means nothing here";
  if (pattern.split("*").length - 1 > TRUST_LIMITS.stars) return `has more than ${TRUST_LIMITS.stars} stars`;
  return undefined;
}

function separatorsOf(text: string): string {
  return text.replaceAll(/[^/:]+/g, "");
}

function splitAtSeparators(text: string): string[] {
  return text.split(/[/:]/);
}

/** C0 and C1 controls, DEL, and the line and paragraph separators: a star stands for none of them. */
// oxlint-disable-next-line no-control-regex
const CONTROL = /[\u0000-\u001f\u007f-\u009f\u2028\u2029]/;

/** @param literals the piece of the pattern, split at its stars: at least one, a star between each two */
function pieceMatches(literals: readonly string[], part: string): boolean {
  const head = literals[0] ?? "";
  if (literals.length === 1) return part === head;
  const tail = literals[literals.length - 1] ?? "";
  if (part.length < head.length + tail.length || !part.startsWith(head) || !part.endsWith(tail)) return false;

  const end = part.length - tail.length;
  let at = head.length;
  for (const literal of literals.slice(1, -1)) {
    const found = part.indexOf(literal, at);
    if (found === -1 || found + literal.length > end || CONTROL.test(part.slice(at, found))) return false;
    at = found + literal.length;
  }
  return !CONTROL.test(part.slice(at, end));
}
