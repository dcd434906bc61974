import { z } from "zod";
import { NAME_PATTERN } from "../core/trust/values.ts";
import { component } from "./components.ts";
import { reasonShape } from "./scalars.ts";

/** Bytes of what a channel sends; Slack repeats the whole message with its blocks. */
export const HOOK_MAX_BYTES = 256 * 1024;

/** The address of one channel. */
export const hookParams = z.strictObject({
  channel: z.string().max(512).describe(`Name of the channel in the trust file, \`${NAME_PATTERN.source}\`.`),
});

/** A decision as a webhook brings it, for the document: it is read after its signature was checked. */
export const hookDecision = component(
  "HookDecision",
  z.strictObject({
    approval: z.string().describe("`apr_<ulid>`."),
    decision: z.enum(["approve", "deny"]),
    reason: reasonShape,
    operator: z.string().describe("In whose name; one of the channel's `operators`."),
  }),
);

/** What came of it. */
export const hookDecided = component(
  "HookDecided",
  z.strictObject({
    approval: z.string(),
    status: z.string().describe("As it stands now; `pending` where another decision is needed."),
  }),
);

/** What Teams shows below what was written. */
export const teamsAnswer = component("TeamsAnswer", z.strictObject({ type: z.literal("message"), text: z.string() }));
