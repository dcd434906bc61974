import type { z } from "zod";
import { FILE_HINT, HINTS } from "./hints.ts";

/** Where something stands in the raw JSON. */
export type Path = readonly (string | number)[];

/** What is wrong with a trust object, where, and how to mend it. Never quotes values: a secret may have been pasted. */
export interface TrustProblem {
  readonly path: Path;
  /** Continues the key's name: "is missing", "must be …". */
  readonly what: string;
  /** A sentence without a full stop that says what to write. */
  readonly mend: string;
}

type Issue = z.core.$ZodIssue;

/**
 * The issues of a failed parse, in our words.
 *
 * @param raw what was parsed, to tell a missing member from a wrong one
 * @param at where `raw` stands
 */
export function problemsOf(issues: readonly Issue[], raw: unknown, at: Path): TrustProblem[] {
  return issues.flatMap((issue) => problemsOfIssue(issue, raw, at));
}

function problemsOfIssue(issue: Issue, raw: unknown, at: Path): TrustProblem[] {
  const inner = issue.path.map((step) => (typeof step === "symbol" ? String(step) : step));
  const path = [...at, ...inner];
  const mend = mendFor(path);
  switch (issue.code) {
    case "unrecognized_keys":
      return issue.keys.map((key) => ({ path: [...path, key], what: "is not known here", mend: unknownKeyMend(path) }));
    case "invalid_union": {
      const branch = bestBranch(issue.errors);
      if (branch === undefined) return [{ path, what: "is of a wrong kind", mend }];
      return problemsOf(branch, valueAt(raw, inner), path);
    }
    case "invalid_type":
      return [
        { path, what: valueAt(raw, inner) === undefined ? "is missing" : `must be ${kindWord(issue.expected)}`, mend },
      ];
    case "invalid_key":
      return [{ path, what: "is no name that fits here", mend }];
    case "custom":
      return [{ path, what: issue.message, mend: textParam(issue.params, "mend") ?? mend }];
    case "too_small":
      return [{ path, what: "is empty or too small", mend }];
    case "too_big":
      return [{ path, what: `is more than ${String(issue.maximum)} allow`, mend }];
    case "invalid_value":
      return [{ path, what: `must be ${issue.values.map(String).join(" or ")}`, mend }];
    default:
      return [{ path, what: "is malformed", mend }];
  }
}

/** The branch of a union that the writer meant: the one whose outermost kind fits. */
function bestBranch(branches: readonly (readonly Issue[])[]): readonly Issue[] | undefined {
  const meant = branches.filter((issues) =>
    issues.every((issue) => issue.path.length > 0 || issue.code !== "invalid_type"),
  );
  return meant.length === 1 || branches.length === 1 ? (meant[0] ?? branches[0]) : undefined;
}

function kindWord(expected: string): string {
  switch (expected) {
    case "string":
      return "text (in quotes where it looks like a number)";
    case "array":
      return "a list";
    case "record":
    case "object":
      return "a mapping";
    case "boolean":
      return "true or false";
    default:
      return `a ${expected}`;
  }
}

function mendFor(path: Path): string {
  const keys = path.filter((step): step is string => typeof step === "string").toReversed();
  for (const [i, key] of keys.entries()) {
    const hint = [`${keys[i + 1]}.${key}`, key].find((name) => Object.hasOwn(HINTS, name));
    if (hint !== undefined) return `${key} takes ${HINTS[hint]}`;
  }
  return "see the example in the documentation of the trust file";
}

function unknownKeyMend(path: Path): string {
  return path.length === 0
    ? FILE_HINT
    : "take it out, or correct its spelling; the documentation of the trust file lists the keys";
}

function textParam(params: Record<string, unknown> | undefined, name: string): string | undefined {
  const value = params?.[name];
  return typeof value === "string" ? value : undefined;
}

/** The value at a path, through own members only. */
export function valueAt(raw: unknown, path: Path): unknown {
  let value = raw;
  for (const step of path) {
    if (typeof value !== "object" || value === null || !Object.hasOwn(value, step)) return undefined;
    value = (value as Record<string | number, unknown>)[step];
  }
  return value;
}
