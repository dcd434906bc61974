import { bigint, boolean, index, integer, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { sql } from "drizzle-orm";
import { ephor } from "./schema.ts";

/** What is told of an approval at a channel. Made in the step that makes the approval, so that no question is lost. */
export const approvalMessages = ephor.table(
  "approval_messages",
  {
    approval: text().notNull(),
    /** Name of the trust object. */
    channel: text().notNull(),
    /** How the approval stood when it was last told; null: not yet. */
    told: text(),
    /** Where the message lies at the channel: a click must come from there. */
    place: jsonb(),
    /** Nothing more will be told. */
    isOver: boolean().notNull().default(false),
    /** When it is looked at again. */
    dueAtMs: bigint({ mode: "number" }).notNull().default(0),
    problem: text(),
    /** How often somebody said that the approval changed: what was sent meanwhile may be old. */
    changes: integer().notNull().default(0),
  },
  (t) => [
    primaryKey({ columns: [t.approval, t.channel] }),
    index("approval_messages_due")
      .on(t.channel, t.dueAtMs)
      .where(sql`not ${t.isOver}`),
  ],
);

/** Who sends to a channel now, and how the last try ended. */
export const channelSenders = ephor.table("channel_senders", {
  channel: text().primaryKey(),
  claim: text(),
  /** Until when nobody else sends. */
  claimedUntilMs: bigint({ mode: "number" }).notNull().default(0),
  retryAtMs: bigint({ mode: "number" }).notNull().default(0),
  attempts: integer().notNull().default(0),
  failingSinceMs: bigint({ mode: "number" }),
  problem: text(),
});
