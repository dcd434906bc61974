import { sql } from "drizzle-orm";
import { bigint, index, jsonb, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/**
 * What resources that record keep of calls: arguments beside the decision, answers beside the outcome, each sealed under a
 * data key of its own. Erasing one takes that key with it; the ledger's event stays.
 */
export const recordings = ephor.table(
  "recordings",
  {
    event: text().primaryKey(),
    /** The call's decision; the event itself for arguments. */
    of: text().notNull(),
    /** `arguments` or `answer`. */
    part: text().notNull(),
    txn: text().notNull(),
    resource: text().notNull(),
    /** Null once erased. */
    sealed: jsonb(),
    /** Of `sealed`, so that what is under which key is found without reading what is sealed. */
    kek: text().generatedAlwaysAs(sql`sealed->>'kek'`),
    /** Epoch seconds. */
    keptAt: bigint({ mode: "number" }).notNull(),
    until: bigint({ mode: "number" }).notNull(),
    erasedAt: bigint({ mode: "number" }),
    erasedBy: text(),
    erasedBecause: text(),
  },
  (t) => [index("recordings_of").on(t.of), index("recordings_until").on(t.until), index("recordings_kek").on(t.kek)],
);
