import { integer, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/**
 * Calls of one agent at one resource that limits them, in one minute. Unlogged: a count is worth a minute and no write to a
 * disk, and a database that crashed counts from nothing.
 */
export const callCounts = ephor.table(
  "call_counts",
  {
    agent: text().notNull(),
    resource: text().notNull(),
    /** Since the epoch. */
    minute: integer().notNull(),
    calls: integer().notNull(),
  },
  (t) => [primaryKey({ columns: [t.agent, t.resource] })],
);
