/**
 * Limits of conditions, each with its reason. A condition runs while an agent waits for its token or its tool, on
 * arguments that the agent chose.
 */
export const CONDITION_LIMITS = {
  /** Characters of the expression: more is a program, not a condition. */
  characters: 2000,
  /** Nodes of its syntax tree. */
  nodes: 300,
  /** Nesting of its syntax tree. */
  depth: 32,
  /** Elements of one list or mapping that it writes out. */
  listElements: 64,
  /** Walks over lists inside walks over lists: two, and a membership test in the innermost. */
  degree: 3,
  /** `+` signs: each can double a text or a list. */
  additions: 8,
  /** Values in the arguments and claims it looks at, when it walks over lists at all. */
  values: 100_000,
  /** Most steps that those values and its walks may multiply to; about a tenth of a second. */
  steps: 10_000_000,
} as const;

/**
 * Counts the values inside a value, itself included; a long text counts for more.
 *
 * @returns the count, or a number above `max` as soon as it is known to be above
 */
export function measure(value: unknown, max: number): number {
  const waiting: unknown[] = [value];
  let count = 0;
  while (waiting.length > 0 && count <= max) {
    const next = waiting.pop();
    count += 1;
    if (typeof next === "string") count += next.length >>> 10;
    else if (Array.isArray(next)) {
      if (count + waiting.length + next.length > max) return max + 1;
      for (const element of next) waiting.push(element);
    } else if (typeof next === "object" && next !== null) {
      for (const member of Object.values(next)) waiting.push(member);
    }
  }
  return count;
}
