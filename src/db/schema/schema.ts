import { customType, pgSchema } from "drizzle-orm/pg-core";

/**
 * Everything of ours lies in this schema (CONTRACT §3). The files beside this one hold the tables, one file a room;
 * the room's `store.ts` (or the gate) reads and writes them, nobody else.
 */
export const ephor = pgSchema("ephor");

/** Raw bytes, as `Buffer`. */
export const bytea = customType<{ data: Buffer }>({ dataType: () => "bytea" });
