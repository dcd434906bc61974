import { bigint, boolean, index, integer, jsonb, text, uniqueIndex } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Streams of security events to other products (OpenID SSF 1.0): whose, how they are delivered, and how far they are. */
export const ssfStreams = ephor.table(
  "ssf_streams",
  {
    id: text().primaryKey(),
    /** `resource:<name>` or `operator:<id>`. */
    receiver: text().notNull(),
    /** Name of the resource whose kills it carries; null: all kills. */
    resource: text(),
    aud: text().notNull(),
    /** `push` or `poll`. */
    method: text().notNull(),
    endpointUrl: text(),
    /** Private and loopback addresses are allowed for it. */
    internal: boolean().notNull().default(false),
    /** The `Authorization` header of pushes, sealed. */
    header: jsonb(),
    headerVersion: integer().notNull().default(0),
    eventsRequested: text().array(),
    description: text(),
    /** `enabled`, `paused` or `disabled`. */
    status: text().notNull(),
    statusReason: text(),
    /** The kill position up to which kills were taken in. */
    taken: bigint({ mode: "number" }).notNull(),
    createdAtMs: bigint({ mode: "number" }).notNull(),
    /** When it was last asked to verify itself. */
    verifiedAtMs: bigint({ mode: "number" }).notNull().default(0),
    /** Who pushes now, and until when nobody else does. */
    claim: text(),
    claimedUntilMs: bigint({ mode: "number" }).notNull().default(0),
    retryAtMs: bigint({ mode: "number" }).notNull().default(0),
    attempts: integer().notNull().default(0),
    failingSinceMs: bigint({ mode: "number" }),
    problem: text(),
    delivered: bigint({ mode: "number" }).notNull().default(0),
    refused: bigint({ mode: "number" }).notNull().default(0),
  },
  (t) => [uniqueIndex("ssf_streams_receiver").on(t.receiver)],
);

/** What a stream has not delivered, in its order. A row goes when the receiver has acknowledged or refused it. */
export const ssfEvents = ephor.table(
  "ssf_events",
  {
    id: bigint({ mode: "number" }).primaryKey().generatedAlwaysAsIdentity(),
    stream: text().notNull(),
    jti: text().notNull(),
    /** `session-revoked`, `verification` or `stream-updated`. */
    kind: text().notNull(),
    subject: jsonb().notNull(),
    event: jsonb().notNull(),
    txn: text(),
    /** Epoch seconds; `iat`. */
    at: bigint({ mode: "number" }).notNull(),
  },
  (t) => [uniqueIndex("ssf_events_jti").on(t.stream, t.jti), index("ssf_events_order").on(t.stream, t.id)],
);
