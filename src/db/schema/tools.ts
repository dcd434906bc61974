import { bigint, index, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Which MCP servers were listed for the first time: from then on their tools are compared. */
export const toolServers = ephor.table(
  "tool_servers",
  {
    resource: text().notNull(),
    /** Digest of what of the resource's entry says which server it is. */
    entry: text().notNull(),
    pinnedAtMs: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.resource, t.entry] })],
);

/** One tool each: the definition that was accepted, and the one last seen where that is another. */
export const toolPins = ephor.table(
  "tool_pins",
  {
    resource: text().notNull(),
    entry: text().notNull(),
    tool: text().notNull(),
    /** `pinned`; `changed` or `new` until somebody accepts what was seen. */
    status: text().notNull(),
    hash: text(),
    /** Canonical JSON. */
    definition: text(),
    /** Of the accepted definition, with MCP's defaults. */
    annotations: jsonb(),
    seenHash: text(),
    seenDefinition: text(),
    /** When it was last found to be another. */
    changedAtMs: bigint({ mode: "number" }),
    acceptedAtMs: bigint({ mode: "number" }),
    /** Null for what the first list pinned. */
    acceptedBy: text(),
  },
  (t) => [
    primaryKey({ columns: [t.resource, t.entry, t.tool] }),
    // How many new ones wait is counted before another is kept.
    index("tool_pins_status").on(t.resource, t.entry, t.status),
  ],
);
