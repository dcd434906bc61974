import { z } from "zod";
import { TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { component } from "./components.ts";
import { epochSeconds, scopeShape, ulidShape } from "./scalars.ts";

/** Most scopes that a ceiling may list. */
const MAX_SCOPES = 500;
/** Longest token that a body may carry, in characters: what `/token` takes. */
const MAX_TOKEN = 16_384;

/** Opens a task (CONTRACT §5). */
export const taskRequest = component(
  "TaskRequest",
  z
    .strictObject({
      purpose: z
        .string()
        .min(1)
        .max(200)
        .refine((text) => !/\p{Cc}/u.test(text), { message: "must be one line of printable text" })
        .describe("Why; recorded, and carried by the task's tokens."),
      deadline: epochSeconds.optional().describe("Until when; default and longest as configured."),
      scopes: z
        .array(scopeShape)
        .min(1)
        .max(MAX_SCOPES)
        .optional()
        .describe("The task's ceiling; without it, whatever is granted."),
      subject_token: z
        .string()
        .min(1)
        .max(MAX_TOKEN)
        .optional()
        .describe("On whose behalf; without it the agent acts for itself."),
      subject_token_type: z.enum([TOKEN_TYPE.idToken, TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt]).optional(),
    })
    .refine((task) => (task.subject_token === undefined) === (task.subject_token_type === undefined), {
      path: ["subject_token_type"],
      message: "subject_token and subject_token_type belong together",
    }),
);

/** A task that was opened. */
export const taskOpened = component(
  "TaskOpened",
  z.strictObject({
    txn: ulidShape,
    deadline: epochSeconds,
    scopes: z.array(scopeShape).nullable().describe("The ceiling; null for whatever is granted."),
  }),
);

/** A task as one of its agents sees it. */
export const taskView = component(
  "Task",
  z.strictObject({
    txn: ulidShape,
    purpose: z.string().optional(),
    sub: z.string(),
    opener: z.string(),
    status: z.enum(["open", "ended", "expired", "killed"]),
    deadline: epochSeconds,
    ended_at: epochSeconds.optional(),
    scopes: z.array(scopeShape).nullable(),
    nodes: z
      .array(
        z.strictObject({
          node: ulidShape,
          path: z.array(z.string()).describe("Agents, oldest first."),
          scopes: z.array(scopeShape).nullable(),
          status: z.enum(["open", "ended", "killed"]),
        }),
      )
      .describe("The asking agent's own places in it."),
  }),
);

/** A task, or an agent's own part of it, that was ended. */
export const taskCompleted = component(
  "TaskCompleted",
  z.strictObject({
    txn: ulidShape,
    ended: z.enum(["task", "nodes"]).describe("The opener ends all of it, another member its own subtree."),
    nodes: z.array(ulidShape).optional(),
  }),
);

/** What opens a task. */
export type TaskRequest = z.output<typeof taskRequest>;
/** A task that was opened. */
export type TaskOpened = z.output<typeof taskOpened>;
/** A task as one of its agents sees it. */
export type TaskView = z.output<typeof taskView>;
/** What completing did. */
export type TaskCompleted = z.output<typeof taskCompleted>;
