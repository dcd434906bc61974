import { z } from "zod";
import { component } from "./components.ts";
import { problemEntry } from "./problem.ts";

/** Longest trust file that is taken, in characters; the body limit of the route is a little above. */
const MAX_FILE_CHARACTERS = 1_000_000;

/** A trust file to be planned or applied (CONTRACT §4). */
export const applyRequest = component(
  "ApplyRequest",
  z.strictObject({
    source: z
      .string()
      .min(1)
      .max(200)
      .regex(/^[\x20-\x7e]+$/)
      .describe("Whose objects these are; the command line sends the file's name."),
    file: z
      .string()
      .max(MAX_FILE_CHARACTERS)
      .describe("The trust file's text, YAML or JSON, so that problems name its lines."),
    dry_run: z.boolean().optional().describe("Plans only; nothing changes."),
    refuse_superseded: z
      .boolean()
      .optional()
      .describe("Refuses a file that was applied before and has been superseded."),
  }),
);

/** One object that an apply makes, changes or removes. */
const change = component(
  "TrustChange",
  z.strictObject({
    action: z.enum(["create", "update", "delete"]),
    kind: z.enum(["issuers", "agents", "resources", "grants", "operators", "channels"]),
    name: z.string(),
    members: z.array(z.string()).optional().describe("Which members differ."),
    kills: z.boolean().optional().describe("True where removing it is a kill of it."),
  }),
);

/** A plan, or what was done. */
export const applyAnswer = component(
  "ApplyResult",
  z.strictObject({
    source: z.string(),
    applied: z.boolean().describe("False for a dry run, and where nothing differs."),
    version: z.int().describe("Trust version after it."),
    changes: z.array(change),
    warnings: z.array(problemEntry),
    event_id: z.string().optional(),
  }),
);

/** A trust file to be planned or applied. */
export type ApplyRequest = z.output<typeof applyRequest>;
/** A plan, or what was done. */
export type ApplyResult = z.output<typeof applyAnswer>;
