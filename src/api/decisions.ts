import { z } from "zod";
import { auditEvent } from "./audit.ts";
import { component } from "./components.ts";

/** A grant as a trust file has it. */
export const proposedGrant = component(
  "ProposedGrant",
  z.strictObject({
    agent: z.string(),
    resource: z.string(),
    actions: z.array(z.string()),
    on_behalf_of: z
      .union([z.strictObject({ issuer: z.string() }), z.strictObject({ agent: z.string() })])
      .optional()
      .describe("Absent: for itself only."),
  }),
);

/** Why a call was decided as it was. */
export const explanation = component(
  "Explanation",
  z.strictObject({
    event: auditEvent,
    considered: z
      .array(
        z.strictObject({
          agent: z.string(),
          grant: z.string().optional().describe("Absent: the agent has no grant at the resource."),
          verdict: z.string().describe("`fits`, or the reason why it does not."),
        }),
      )
      .describe(
        "Grant by grant, for each agent on the path, as it was at the decision; empty where nothing was refused.",
      ),
    difference: z.string().describe("The first thing that stood between the call and a yes, in a sentence."),
    smallest: z
      .array(proposedGrant)
      .describe("The smallest grants that would have allowed it; empty where none would."),
    changed: z.boolean().describe("The trust was changed since."),
  }),
);

/** Why a call was decided as it was. */
export type Explanation = z.output<typeof explanation>;
/** A grant as a trust file has it. */
export type ProposedGrantShape = z.output<typeof proposedGrant>;
