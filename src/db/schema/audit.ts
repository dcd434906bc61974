import { sql } from "drizzle-orm";
import { bigint, index, primaryKey, text } from "drizzle-orm/pg-core";
import { bytea, ephor } from "./schema.ts";

/** The ledger. `body` is the exact text that was hashed; the other columns repeat parts of it for queries. */
export const events = ephor.table(
  "events",
  {
    stream: text().notNull(),
    seq: bigint({ mode: "number" }).notNull(),
    id: text().notNull(),
    atMs: bigint({ mode: "number" }).notNull(),
    type: text().notNull(),
    decision: text().notNull(),
    reason: text(),
    agent: text(),
    sub: text(),
    resource: text(),
    txn: text(),
    jti: text(),
    traceId: text(),
    body: text().notNull(),
  },
  (t) => [
    primaryKey({ columns: [t.stream, t.seq] }),
    index("events_id").on(t.id),
    index("events_txn")
      .on(t.txn)
      .where(sql`${t.txn} is not null`),
    index("events_jti")
      .on(t.jti)
      .where(sql`${t.jti} is not null`),
    index("events_trace")
      .on(t.traceId)
      .where(sql`${t.traceId} is not null`),
    index("events_agent").on(t.agent, t.id),
  ],
);

/** Each append: events `firstSeq` to `lastSeq`, and `hash = sha256(prev ‖ leaves)`. */
export const batches = ephor.table(
  "batches",
  {
    stream: text().notNull(),
    firstSeq: bigint({ mode: "number" }).notNull(),
    lastSeq: bigint({ mode: "number" }).notNull(),
    prev: bytea().notNull(),
    hash: bytea().notNull(),
    atMs: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.stream, t.firstSeq] })],
);

/** Where each stream stands. An append names the position it continues, so a stream cannot fork. */
export const streams = ephor.table("streams", {
  id: text().primaryKey(),
  replica: text().notNull(),
  seq: bigint({ mode: "number" }).notNull(),
  hash: bytea().notNull(),
  startedAtMs: bigint({ mode: "number" }).notNull(),
});

/** Signed heads: each names every stream that moved, and the head before it. */
export const heads = ephor.table("heads", {
  seq: bigint({ mode: "number" }).primaryKey(),
  atMs: bigint({ mode: "number" }).notNull(),
  jws: text().notNull(),
});
