import { bigint, index, jsonb, primaryKey, text } from "drizzle-orm/pg-core";
import { ephor } from "./schema.ts";

/** Calls that somebody was asked about. What one is bound to is in `content`; equal content has an equal `digest`. */
export const approvals = ephor.table(
  "approvals",
  {
    id: text().primaryKey(),
    /** SHA-256 of the canonical text of `content`. */
    digest: text().notNull(),
    txn: text().notNull(),
    node: text().notNull(),
    agent: text().notNull(),
    sub: text().notNull(),
    resource: text().notNull(),
    action: text().notNull(),
    path: text().array().notNull(),
    purpose: text(),
    content: jsonb().notNull(),
    /** The call of one that was asked for before calls were sealed, JSON. Goes with the row, soon after its end. */
    shown: text(),
    /** One for each grant that asks: whose, who may decide, and how many of them. */
    needs: jsonb().notNull(),
    /** `pending`, `approved` or `denied`; what ended it otherwise is found by `ephor.approval_state`. */
    status: text().notNull(),
    /** What kills it, and the kill epoch at which it was asked for. */
    killKeys: text().array().notNull(),
    killEpoch: bigint({ mode: "number" }).notNull(),
    /** Epoch seconds. */
    createdAt: bigint({ mode: "number" }).notNull(),
    expiresAt: bigint({ mode: "number" }).notNull(),
    usedAt: bigint({ mode: "number" }),
    /** The call as it is shown to whoever decides, sealed; likewise. */
    sealed: jsonb(),
  },
  (t) => [
    index("approvals_digest").on(t.digest),
    index("approvals_txn").on(t.txn),
    index("approvals_expires_at").on(t.expiresAt),
  ],
);

/** Who said what to one of them. */
export const approvalDecisions = ephor.table(
  "approval_decisions",
  {
    approval: text().notNull(),
    /** `operator:<name>`, `human:<sub>`, or an agent's name. */
    decider: text().notNull(),
    /** The way in of a person: `console`, `slack` or `teams`; none for a key and a token. */
    via: text(),
    /** `approve` or `deny`. */
    decision: text().notNull(),
    reason: text().notNull(),
    /** Epoch seconds. */
    at: bigint({ mode: "number" }).notNull(),
    /** What kills the decider, and the kill epoch at which it decided; none for an operator key. */
    killKeys: text().array().notNull(),
    killEpoch: bigint({ mode: "number" }).notNull(),
  },
  (t) => [primaryKey({ columns: [t.approval, t.decider] })],
);
