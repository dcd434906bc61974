import { z } from "zod";
import { component } from "./components.ts";

/** The codes of `/v1` errors that are not OAuth codes; each has one status. The list is closed. */
export const PROBLEMS = {
  malformed: { status: 400, title: "The request is malformed" },
  not_found: { status: 404, title: "There is nothing by this name" },
  method_not_allowed: { status: 405, title: "This path does not take this method" },
  not_acceptable: { status: 406, title: "No such representation" },
  conflict: { status: 409, title: "The request conflicts with the current state" },
  superseded: { status: 409, title: "This file was applied before and has been superseded" },
  too_large: { status: 413, title: "The body is too large" },
  unsupported_media_type: { status: 415, title: "The body must be JSON" },
  unprocessable: { status: 422, title: "The request is well-formed and cannot be done" },
  too_many_requests: { status: 429, title: "Too often" },
  internal: { status: 500, title: "Something went wrong inside" },
} as const;

/** A code of {@link PROBLEMS}. */
export type ProblemCode = keyof typeof PROBLEMS;

/** One thing that is wrong in a body or a file. Never quotes values. */
export const problemEntry = component(
  "ProblemEntry",
  z.strictObject({
    path: z.string().describe("Where it stands: `agents.triage-bot.owner`, or a query parameter's name."),
    line: z.int().min(1).optional().describe("Line in the file, where there is one."),
    detail: z.string(),
    mend: z.string().optional().describe("What to write instead."),
  }),
);

/** An error by RFC 9457. */
export const problemShape = component(
  "Problem",
  z.strictObject({
    type: z.string().describe("`urn:ephor:problem:<code>`"),
    title: z.string(),
    status: z.int(),
    code: z.string().describe("One word that programs may compare; an OAuth error code where there is one."),
    detail: z.string().optional(),
    request_id: z.string().optional().describe("Find the request in log and ledger by it."),
    errors: z.array(problemEntry).optional(),
  }),
);

/** An error by RFC 9457, as it goes over the wire. */
export type Problem = z.output<typeof problemShape>;

/** One thing that is wrong in a body or a file. */
export type ProblemEntry = z.output<typeof problemEntry>;

/**
 * A request to `/v1` that cannot be done, for a reason its sender may know. Refusals of authentication and authorization
 * are `OAuthError`s instead.
 *
 * @see RFC 9457
 */
export class ProblemError extends Error {
  readonly code: ProblemCode;
  readonly status: number;
  /** One of our own sentences; quotes nothing from the request. */
  readonly detail: string | undefined;
  readonly entries: readonly ProblemEntry[];

  constructor(code: ProblemCode, more: { detail?: string; entries?: readonly ProblemEntry[]; cause?: unknown } = {}) {
    super(code, { cause: more.cause });
    this.name = "ProblemError";
    this.code = code;
    this.status = PROBLEMS[code].status;
    this.detail = more.detail;
    this.entries = more.entries ?? [];
  }
}
