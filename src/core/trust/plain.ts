import { TRUST_LIMITS } from "./limits.ts";
import type { Path, TrustProblem } from "./problem.ts";

/**
 * Checks that a value is plain, bounded JSON that a database can store and that cannot surprise a reader: no NUL or lone
 * surrogate, no infinite number, no member named `__proto__`, no more depth, values and text than the limits allow.
 *
 * @returns the first problem, or undefined
 */
export function plainProblem(raw: unknown, at: Path): TrustProblem | undefined {
  let nodes = 0;
  const walk = (value: unknown, path: Path): TrustProblem | undefined => {
    nodes += 1;
    if (nodes > TRUST_LIMITS.nodes) return { path, what: "is too large", mend: "split it into several objects" };
    if (path.length - at.length > TRUST_LIMITS.depth) return { path, what: "is nested too deeply", mend: "flatten it" };
    if (value === null || typeof value === "boolean") return undefined;
    if (typeof value === "string") return textProblem(value, path);
    if (typeof value === "number") {
      return Number.isFinite(value)
        ? undefined
        : { path, what: "is not a finite number", mend: "write it in quotes if it is text" };
    }
    if (Array.isArray(value)) return firstOf(value.entries(), path, walk);
    if (typeof value !== "object")
      return { path, what: "is no JSON value", mend: "use text, numbers, lists and mappings" };
    const odd = Object.keys(value).find(
      (key) => key === "__proto__" || key === "" || textProblem(key, path) !== undefined,
    );
    if (odd !== undefined) return { path, what: "has a key that is not allowed", mend: "take the key out" };
    return firstOf(Object.entries(value), path, walk);
  };
  return walk(raw, at);
}

function firstOf(
  members: Iterable<readonly [string | number, unknown]>,
  path: Path,
  walk: (value: unknown, path: Path) => TrustProblem | undefined,
): TrustProblem | undefined {
  for (const [key, member] of members) {
    const problem = walk(member, [...path, key]);
    if (problem !== undefined) return problem;
  }
  return undefined;
}

function textProblem(text: string, path: Path): TrustProblem | undefined {
  if (text.length > TRUST_LIMITS.anyTextCharacters) return { path, what: "is too long", mend: "shorten it" };
  if (text.includes("\u0000") || !isWellFormed(text)) {
    return { path, what: "has characters that cannot be stored", mend: "take NUL and broken Unicode out" };
  }
  return undefined;
}

/** Whether every surrogate has its partner (what `String.prototype.isWellFormed` says where it exists). */
function isWellFormed(text: string): boolean {
  return !/[\ud800-\udfff]/u.test(text);
}
