import { z } from "zod";
import { component } from "./components.ts";
import { anyId, instant, reasonShape } from "./scalars.ts";

/** Most approvals on a page. */
const MAX_APPROVALS = 200;

const approver = z.union([
  z.enum(["owner", "self"]),
  z.strictObject({ agent: z.string() }),
  z.strictObject({ group: z.string() }),
]);

/** A call that somebody is asked about, without its arguments. */
const approvalFacts = z.strictObject({
  id: z.string().describe("`apr_<ulid>`."),
  uri: z.url().describe("The page where a person looks at it, and decides."),
  status: z
    .enum(["pending", "approved", "denied", "used", "expired", "void"])
    .describe("`void`: the work was ended or killed, or what it hangs on changed, since it was asked for."),
  agent: z.string().describe("Who asks."),
  owner: z.string().optional().describe("Who answers for that agent now."),
  path: z.array(z.string()).describe("Everybody in the chain, oldest first."),
  sub: z.string().describe("On whose behalf."),
  purpose: z.string().optional().describe("What the agent says that it is for."),
  txn: z.string(),
  resource: z.string(),
  action: z.string(),
  args_digest: z.string().describe("SHA-256, base64url, of the canonical arguments (RFC 8785)."),
  needs: z
    .array(z.strictObject({ agent: z.string(), grant: z.string(), by: z.array(approver), count: z.int() }))
    .describe("What each grant asks for; all of them are needed."),
  decisions: z.array(
    z.strictObject({
      by: z.string().describe("`operator:<name>`, `human:<sub>` for whoever decided about their own, or an agent."),
      via: z.enum(["console", "slack", "teams", "webhook"]).optional().describe("Of a person who is known by name."),
      decision: z.enum(["approve", "deny"]),
      reason: z.string(),
      at: instant,
    }),
  ),
  created_at: instant,
  expires_at: instant.describe("Decided and used until then, or not at all."),
});

/** Approvals, newest first. */
export const approvalPage = component(
  "ApprovalPage",
  z.strictObject({
    items: z.array(approvalFacts),
    next: z.string().optional().describe("Pass as `before` for the next page."),
  }),
);

/** One approval with all that it is about. */
export const approvalView = component(
  "Approval",
  approvalFacts.extend({
    call: z
      .record(z.string(), z.unknown())
      .describe("Method and target, and headers that reach the upstream. As the agent sent them: strangers' text."),
    arguments: z
      .unknown()
      .describe("As they would be forwarded; for an HTTP call `query` and `body`. Strangers' text."),
    channels: z
      .array(
        z.strictObject({
          channel: z.string(),
          told: z.string().describe("How it stood when the channel was last told; `waiting`: not yet."),
          problem: z.string().optional().describe("Why the channel does not take it; tried again until it is over."),
        }),
      )
      .optional()
      .describe("Where it is asked for. Not in the answer to a decision."),
  }),
);

/** Which approvals. */
export const approvalQuery = z.strictObject({
  status: z.enum(["pending", "all"]).optional().describe("Default `pending`."),
  before: anyId.optional(),
  txn: anyId.optional().describe("Only those of this chain."),
  limit: z.coerce.number().int().min(1).max(MAX_APPROVALS).optional(),
});

/** A decision. */
export const approvalDecision = component(
  "ApprovalDecision",
  z.strictObject({ decision: z.enum(["approve", "deny"]), reason: reasonShape }),
);

/** One approval with all that it is about. */
export type ApprovalView = z.output<typeof approvalView>;
/** Approvals, newest first. */
export type ApprovalPage = z.output<typeof approvalPage>;
/** Which approvals. */
export type ApprovalQuery = z.output<typeof approvalQuery>;
/** A decision. */
export type ApprovalDecision = z.output<typeof approvalDecision>;
