import type { z } from "zod";
import { ProblemError } from "../api/problem.ts";
import type { ProblemEntry } from "../api/problem.ts";
import { JsonError, readJson } from "../core/token/json.ts";

const JSON_TYPE = /^application\/json[ \t]*(?:;[ \t]*charset=(?:utf-8|"utf-8")[ \t]*)?$/i;
/** Entries of one answer; the rest would only repeat. */
const MAX_ENTRIES = 20;

/** @throws {ProblemError} `unsupported_media_type` unless the body is declared as JSON in UTF-8 */
export function checkJsonType(contentType: string | undefined): void {
  if (contentType === undefined || !JSON_TYPE.test(contentType)) {
    throw new ProblemError("unsupported_media_type", { detail: "Send Content-Type: application/json." });
  }
}

/**
 * The value of a JSON body that every parser reads alike.
 *
 * @throws {ProblemError} `malformed`
 */
export function readJsonBody(bytes: Uint8Array): unknown {
  try {
    return readJson(bytes);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new ProblemError("malformed", {
      detail: `The body is not JSON as we read it (${error.problem}).`,
      cause: error,
    });
  }
}

/**
 * Checks a value against its shape. Unknown members are refused, for whoever sends one means something by it (A-ADM-07).
 *
 * @param where stands before the path of each entry: `body`, `query`, `path`
 * @throws {ProblemError} `malformed`, with one entry for each thing that is wrong; values are not quoted
 */
export function checkShape<T extends z.ZodType>(shape: T, value: unknown, where: string): z.output<T> {
  const result = shape.safeParse(value, { reportInput: false });
  if (result.success) return result.data;
  const entries = result.error.issues.flatMap((issue) => entriesOf(issue, where)).slice(0, MAX_ENTRIES);
  throw new ProblemError("malformed", {
    detail: `The ${where} does not have the shape that this route takes.`,
    entries,
  });
}

function entriesOf(issue: z.core.$ZodIssue, where: string): ProblemEntry[] {
  const path = [where, ...issue.path.map(String)].join(".");
  if (issue.code === "unrecognized_keys") {
    return issue.keys.map((key) => ({ path: `${path}.${key.slice(0, 64)}`, detail: "is not known here" }));
  }
  return [{ path, detail: issue.message }];
}
