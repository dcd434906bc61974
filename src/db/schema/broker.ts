import { sql } from "drizzle-orm";
import { bigint, index, integer, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/**
 * One downstream credential each: recorded as `intent` before it is made, `live` when it was released, `ending` while it is
 * being destroyed, `ended` afterwards. No lease is ever deleted before it has ended.
 */
export const leases = ephor.table(
  "leases",
  {
    id: text().primaryKey(),
    resource: text().notNull(),
    provider: text().notNull(),
    status: text().notNull(),
    /** Who has it, for whom and why (`LeaseFacts`). */
    facts: jsonb().notNull(),
    /** The settings it was made with: the resource may change or go before it is destroyed. */
    settings: jsonb().notNull(),
    txn: text().notNull(),
    node: text().notNull(),
    agent: text().notNull(),
    /** What `destroy` needs, sealed. */
    handle: jsonb(),
    createdAt: bigint({ mode: "number" }).notNull(),
    endsAt: bigint({ mode: "number" }).notNull(),
    upstreamExpiresAt: bigint({ mode: "number" }),
    endedAt: bigint({ mode: "number" }),
    /** Why it ended: `expired`, `task_ended`, `killed`, `withheld`, `orphan`. */
    endedBecause: text(),
    killKeys: text().array().notNull(),
    killEpochs: bigint({ mode: "number" }).array().notNull(),
    attempts: integer().notNull().default(0),
    /** When the next try is due, milliseconds. */
    nextTryAtMs: bigint({ mode: "number" }).notNull(),
    /** A worker has it until then, milliseconds. */
    claimedUntilMs: bigint({ mode: "number" }).notNull().default(0),
    lastProblem: text(),
    /** When it was found that its upstream does not let it end, in epoch seconds; kept afterwards. */
    stuckSince: bigint({ mode: "number" }),
  },
  (t) => [
    index("leases_open")
      .on(t.nextTryAtMs)
      .where(sql`${t.status} <> 'ended'`),
    index("leases_txn").on(t.txn),
  ],
);

/** Names under which a credential is seen at its upstream: `who` leads from each back to the chain. */
export const leaseMarks = ephor.table(
  "lease_marks",
  {
    value: text().notNull(),
    kind: text().notNull(),
    lease: text().notNull(),
    createdAt: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.value, t.kind, t.lease] })],
);
