import { bigint, jsonb, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Token keys, record keys and the nonce secret; private parts sealed by the vault. */
export const keys = ephor.table("keys", {
  kid: text().primaryKey(),
  use: text().notNull(),
  algorithm: text().notNull(),
  status: text().notNull(),
  publicJwk: jsonb(),
  sealed: jsonb().notNull(),
  createdAt: bigint({ mode: "number" }).notNull(),
  activatedAt: bigint({ mode: "number" }),
  retiredAt: bigint({ mode: "number" }),
});
