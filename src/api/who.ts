import { z } from "zod";
import { component } from "./components.ts";
import { lease, MARK_KINDS } from "./leases.ts";
import { epochSeconds, scopeShape, ulidShape } from "./scalars.ts";

/** One thing that the id names, and who is behind it. */
const whoMatch = component(
  "WhoMatch",
  z.strictObject({
    kind: z.enum(["jti", "txn", "node", "trace", "event", "kill", "lease", ...MARK_KINDS]).describe("What the id is."),
    txn: ulidShape.optional(),
    jti: ulidShape.optional(),
    sub: z.string().optional().describe("On whose behalf."),
    path: z.array(z.string()).optional().describe("Agents, oldest first; the last one acted."),
    owner: z.string().optional().describe("The person who answers for the acting agent."),
    purpose: z.string().optional(),
    resource: z.string().optional(),
    scopes: z.array(scopeShape).optional(),
    at: epochSeconds.optional(),
    exp: epochSeconds.optional(),
    status: z.enum(["live", "open", "ended", "expired", "killed"]).optional(),
    grants: z.array(z.string()).optional().describe("Names of the grants that allowed it."),
    owners: z
      .record(z.string(), z.string())
      .optional()
      .describe("Who answers for each agent of the path, as recorded then."),
    event_id: z.string().optional(),
    lease: lease.optional().describe("The downstream credential that bears the name."),
  }),
);

/** Who is behind an id (CONTRACT §5). */
export const whoAnswer = component("Who", z.strictObject({ id: z.string(), matches: z.array(whoMatch) }));

/** Who is behind an id. */
export type Who = z.output<typeof whoAnswer>;
