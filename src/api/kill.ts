import { z } from "zod";
import { component } from "./components.ts";
import { instant, objectName, reasonShape, ulidShape } from "./scalars.ts";

/** Most targets of one sort in one kill. */
const MAX_TARGETS = 100;

const oneOrMore = <T extends z.ZodType>(shape: T): z.ZodUnion<[T, z.ZodArray<T>]> =>
  z.union([shape, z.array(shape).min(1).max(MAX_TARGETS)]);

/** What a kill names: the union dies together (CONTRACT §6). */
export const killRequest = component(
  "KillRequest",
  z
    .strictObject({
      agent: oneOrMore(objectName).optional().describe("Everything these agents hold, and every chain below them."),
      txn: oneOrMore(ulidShape).optional().describe("Whole chains."),
      jti: oneOrMore(ulidShape).optional().describe("Single tokens with all that was derived from them."),
      reason: reasonShape,
      dry_run: z.boolean().optional().describe("Previews; nothing dies."),
    })
    .refine((kill) => kill.agent !== undefined || kill.txn !== undefined || kill.jti !== undefined, {
      message: "name at least one of agent, txn, jti",
    }),
);

/** What is to live again: only kills of agents end this way; chains and tokens stay dead for ever. */
export const restoreRequest = component(
  "RestoreRequest",
  z.strictObject({ agent: oneOrMore(objectName), reason: reasonShape }),
);

/** One thing that a kill hit. */
const receiptLine = component(
  "KillReceiptLine",
  z.strictObject({
    kind: z.enum(["agent", "txn", "node", "jti"]),
    id: z.string(),
    agent: z.string().optional(),
    outcome: z.enum(["dead", "would_die", "dies_at", "retrying", "upstream_cannot"]),
    at: instant,
  }),
);

/** The receipt of a kill. */
export const killReceipt = component(
  "KillReceipt",
  z.strictObject({
    id: z.string().optional().describe("Absent for a preview."),
    at: instant,
    by: z.string(),
    reason: z.string(),
    dry_run: z.boolean(),
    restored_at: instant.optional(),
    lines: z.array(receiptLine),
    truncated: z.boolean().optional().describe("True where more lines exist than a receipt lists."),
    replicas: z.array(
      z.strictObject({
        replica: z.string(),
        outcome: z.enum(["acknowledged", "fenced", "gone"]),
        at: instant.optional(),
      }),
    ),
    event_id: z.string().optional(),
  }),
);

/** What a restore did. */
export const restoreAnswer = component(
  "Restored",
  z.strictObject({ restored: z.array(objectName), at: instant, event_id: z.string().optional() }),
);

/** What a kill names, always as lists. */
export interface KillOrder {
  readonly agents: readonly string[];
  readonly txns: readonly string[];
  readonly jtis: readonly string[];
  readonly reason: string;
  readonly dryRun: boolean;
}

/** What is to live again. */
export interface RestoreOrder {
  readonly agents: readonly string[];
  readonly reason: string;
}

/** The receipt of a kill. */
export type KillReceipt = z.output<typeof killReceipt>;
/** What a restore did. */
export type Restored = z.output<typeof restoreAnswer>;
