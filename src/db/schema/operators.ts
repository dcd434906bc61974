import { bigint, index, jsonb, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Operator keys, as SHA-256: they are random, at least 256 bits. */
export const operators = ephor.table("operators", {
  id: text().primaryKey(),
  kind: text().notNull(),
  keyHash: text().notNull(),
  createdAt: bigint({ mode: "number" }).notNull(),
  disabledAt: bigint({ mode: "number" }),
});

/** People who are signed in at the console. What the cookie holds is not here: `id` is its SHA-256. */
export const sessions = ephor.table(
  "sessions",
  {
    id: text().primaryKey(),
    /** `key` or `person`. */
    kind: text().notNull(),
    /** `operator:<id>` or `human:<sub>`: whose sessions end together. */
    who: text().notNull(),
    /** Of a key's session: the key that opened it, as `operators.key_hash`. */
    keyHash: text(),
    /** Of a person's session: what the issuer said of him, JSON. */
    person: jsonb(),
    /** What kills a person, and the kill epoch at the sign-in; none for a key. */
    killKeys: text().array().notNull(),
    killEpoch: bigint({ mode: "number" }).notNull(),
    /** Epoch seconds. */
    createdAt: bigint({ mode: "number" }).notNull(),
    usedAt: bigint({ mode: "number" }).notNull(),
    expiresAt: bigint({ mode: "number" }).notNull(),
  },
  (t) => [index("sessions_who").on(t.who), index("sessions_expires_at").on(t.expiresAt)],
);
