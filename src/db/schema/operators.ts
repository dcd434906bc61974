import { bigint, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Operator keys, as SHA-256: they are random, at least 256 bits. */
export const operators = ephor.table("operators", {
  id: text().primaryKey(),
  kind: text().notNull(),
  keyHash: text().notNull(),
  createdAt: bigint({ mode: "number" }).notNull(),
  disabledAt: bigint({ mode: "number" }),
});
