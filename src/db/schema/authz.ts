import { sql } from "drizzle-orm";
import { bigint, boolean, check, index, jsonb, primaryKey, smallint, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** One row: the kill epoch and the trust version. Changed only under the exclusive gate lock. */
export const gate = ephor.table(
  "gate",
  {
    id: smallint().primaryKey(),
    epoch: bigint({ mode: "number" }).notNull(),
    trustVersion: bigint({ mode: "number" }).notNull(),
  },
  (t) => [check("gate_one_row", sql`${t.id} = 1`)],
);

/** What is dead, by key (`agent:NAME`, `txn:ID`, `jti:ID`, …): the position of the latest kill, and whether it still refuses new things. */
export const deadKeys = ephor.table(
  "dead_keys",
  {
    key: text().primaryKey(),
    position: bigint({ mode: "number" }).notNull(),
    active: boolean().notNull(),
    /** Epoch seconds after which an active kill ends by itself. */
    endsAt: bigint({ mode: "number" }),
    killId: text().notNull(),
  },
  // Replicas read what came after the position that they know.
  (t) => [index("dead_keys_position").on(t.position)],
);

/** The kills as they were asked for. */
export const kills = ephor.table(
  "kills",
  {
    id: text().primaryKey(),
    position: bigint({ mode: "number" }).notNull(),
    atMs: bigint({ mode: "number" }).notNull(),
    actor: text().notNull(),
    reason: text().notNull(),
    keys: text().array().notNull(),
    receipt: jsonb().notNull(),
    restoredAtMs: bigint({ mode: "number" }),
    /** Epoch seconds after which it ends by itself. */
    endsAt: bigint({ mode: "number" }),
  },
  (t) => [index("kills_keys").using("gin", t.keys), index("kills_position").on(t.position)],
);

/** One originating request and all that is done for it. Subject and ceiling never change after the opening. */
export const tasks = ephor.table(
  "tasks",
  {
    txn: text().primaryKey(),
    opener: text().notNull(),
    subject: jsonb().notNull(),
    sub: text().notNull(),
    purpose: text(),
    /** Scopes, or null for whatever is granted. */
    ceiling: text().array(),
    openedAt: bigint({ mode: "number" }).notNull(),
    deadline: bigint({ mode: "number" }).notNull(),
    endedAt: bigint({ mode: "number" }),
    endedBy: text(),
    traceId: text(),
  },
  (t) => [index("tasks_deadline").on(t.deadline), index("tasks_sub").on(t.sub)],
);

/** One agent's place in a task. The root node's id is the task's `txn`, every other's the `jti` of the hand-over it redeemed. */
export const nodes = ephor.table(
  "nodes",
  {
    id: text().primaryKey(),
    txn: text().notNull(),
    parent: text(),
    agent: text().notNull(),
    /** Agents, oldest first, this one last. */
    path: text().array().notNull(),
    ceiling: text().array(),
    madeAt: bigint({ mode: "number" }).notNull(),
    endedAt: bigint({ mode: "number" }),
    /** What kills this node, and the kill epoch each was taken on at. */
    killKeys: text().array().notNull(),
    killEpochs: bigint({ mode: "number" }).array().notNull(),
  },
  (t) => [
    index("nodes_txn_agent").on(t.txn, t.agent),
    // For the receipt of a kill: what it hits among the open ones.
    index("nodes_open_kill_keys")
      .using("gin", t.killKeys)
      .where(sql`${t.endedAt} is null`),
  ],
);

/** A token we issued, until it expires. */
export const hops = ephor.table(
  "hops",
  {
    jti: text().primaryKey(),
    txn: text().notNull(),
    node: text().notNull(),
    kind: text().notNull(),
    actor: text().notNull(),
    aud: text().notNull(),
    scopes: text().array().notNull(),
    iat: bigint({ mode: "number" }).notNull(),
    exp: bigint({ mode: "number" }).notNull(),
    jkt: text(),
    killKeys: text().array().notNull(),
    killEpochs: bigint({ mode: "number" }).array().notNull(),
  },
  (t) => [index("hops_exp").on(t.exp)],
);

/** A subject token belongs to the first agent that exchanged it, and names the task it opened (CONTRACT §2.5). */
export const bindings = ephor.table(
  "bindings",
  {
    key: text().primaryKey(),
    agent: text().notNull(),
    txn: text().notNull(),
    node: text().notNull(),
    singleUse: boolean().notNull(),
    jkt: text(),
    exp: bigint({ mode: "number" }).notNull(),
  },
  (t) => [index("bindings_exp").on(t.exp)],
);

/** What works once: `jti` of assertions, proofs and grants. `holder` is the event that used it. */
export const replay = ephor.table(
  "replay",
  {
    key: text().primaryKey(),
    holder: text().notNull(),
    exp: bigint({ mode: "number" }).notNull(),
  },
  (t) => [index("replay_exp").on(t.exp)],
);

/** The running servers: who beats, and until when each may release. */
export const replicas = ephor.table("replicas", {
  id: text().primaryKey(),
  startedAtMs: bigint({ mode: "number" }).notNull(),
  beatAtMs: bigint({ mode: "number" }).notNull(),
  version: text().notNull(),
  /** Counts up, whatever any clock does. */
  beats: bigint({ mode: "number" }).notNull().default(0),
  /** The kill epoch that it has acknowledged: it releases nothing that an earlier kill covers. */
  heard: bigint({ mode: "number" }).notNull().default(0),
});

/** Refusals before anybody was authenticated, counted per minute, reason and source prefix. */
export const noise = ephor.table(
  "noise",
  {
    minute: bigint({ mode: "number" }).notNull(),
    reason: text().notNull(),
    source: text().notNull(),
    count: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.minute, t.reason, t.source] })],
);
