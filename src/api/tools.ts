import { z } from "zod";
import { component } from "./components.ts";
import { instant, objectName } from "./scalars.ts";

const digest = z
  .string()
  .regex(/^[0-9a-f]{64}$/)
  .describe("SHA-256 of the definition's canonical JSON (RFC 8785), in lower-case hexadecimal.");

/** A tool's name as its server says it; may be anybody's text. */
const toolName = z.string().min(1).max(128);

const hints = z.strictObject({
  readOnlyHint: z.boolean(),
  destructiveHint: z.boolean(),
  idempotentHint: z.boolean(),
  openWorldHint: z.boolean(),
});

const toolDifference = z.strictObject({
  path: z.string().describe("Member of the definition, dotted."),
  before: z.string().optional().describe("JSON, as it is pinned; absent where it was not there."),
  after: z.string().optional().describe("JSON, as it was last seen; absent where it is not there any more."),
});

/** One tool of an MCP server. What the server says of it is the server's text. */
export const toolView = component(
  "Tool",
  z.strictObject({
    name: z.string(),
    status: z
      .enum(["pinned", "changed", "new"])
      .describe("`changed` is quarantined and `new` is hidden, until what was seen is accepted."),
    hash: digest.optional().describe("Of the accepted definition."),
    seen_hash: digest.optional().describe("Of the definition that waits to be accepted."),
    problem: z.string().optional().describe("Why what was seen cannot be accepted."),
    annotations: hints.optional().describe("Of the accepted definition, with MCP's defaults: what conditions see."),
    accepted_at: instant.optional(),
    accepted_by: z.string().optional().describe("Absent for what the first list pinned."),
    changed_at: instant.optional().describe("When it was last seen to be another."),
    definition: z.string().optional().describe("Canonical JSON; where one tool is asked for."),
    seen_definition: z.string().optional().describe("Likewise."),
    differences: z.array(toolDifference).optional().describe("Likewise: member by member."),
  }),
);

/** Tools of an MCP resource, by name. */
export const toolPage = component(
  "ToolPage",
  z.strictObject({
    resource: objectName,
    pinned_at: instant.optional().describe("When its server was listed first; absent: not yet."),
    tools: z.array(toolView),
  }),
);

/** One tool, with its definitions. */
export const toolQuery = z.strictObject({ tool: toolName.optional().describe("Only this one, with its definitions.") });

/** Accepts what was last seen. */
export const toolsAcceptRequest = component(
  "ToolsAcceptRequest",
  z
    .strictObject({
      tool: toolName.optional().describe("Without it, everything that waits and can be accepted."),
      hash: digest.optional().describe("`seen_hash` as you saw it; refused where it was changed since."),
    })
    .refine(({ tool, hash }) => tool !== undefined || hash === undefined, {
      path: ["tool"],
      message: "hash is the hash of one tool",
    }),
);

/** What was accepted. */
export const toolsAccepted = component(
  "ToolsAccepted",
  z.strictObject({ accepted: z.array(z.strictObject({ tool: z.string(), hash: digest })) }),
);

/** One tool of an MCP server. */
export type ToolView = z.output<typeof toolView>;
/** Tools of an MCP resource. */
export type ToolPage = z.output<typeof toolPage>;
/** Accepts what was last seen. */
export type ToolsAcceptRequest = z.output<typeof toolsAcceptRequest>;
/** What was accepted. */
export type ToolsAccepted = z.output<typeof toolsAccepted>;
