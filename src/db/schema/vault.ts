import { sql } from "drizzle-orm";
import { bigint, index, integer, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Secrets by name. Which version counts is `version`; values lie in `secret_versions`, sealed. */
export const secrets = ephor.table("secrets", {
  name: text().primaryKey(),
  owner: text().notNull(),
  version: integer().notNull(),
  createdAt: bigint({ mode: "number" }).notNull(),
  updatedAt: bigint({ mode: "number" }).notNull(),
  updatedBy: text().notNull(),
});

/**
 * Each value that a secret ever had, sealed to its place (name and version). One that is later than the version that counts and
 * not retired waits: its upstream may know it already.
 */
export const secretVersions = ephor.table(
  "secret_versions",
  {
    name: text().notNull(),
    version: integer().notNull(),
    sealed: jsonb().notNull(),
    /** Keyed hash of the value: tells whether two are the same, and nothing else. */
    fingerprint: text().notNull(),
    createdAt: bigint({ mode: "number" }).notNull(),
    createdBy: text().notNull(),
    /** When it was taken out of use; its ciphertext is kept until it is swept. */
    retiredAt: bigint({ mode: "number" }),
  },
  (t) => [
    primaryKey({ columns: [t.name, t.version] }),
    // One for each secret, and the few that wait.
    index("secret_versions_in_use")
      .on(t.name)
      .where(sql`${t.retiredAt} is null`),
  ],
);
