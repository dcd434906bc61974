import { z } from "zod";
import { component } from "./components.ts";
import { anyId, epochSeconds, instant } from "./scalars.ts";

/** Most events on one page. */
export const MAX_EVENTS = 1_000;

const filters = {
  since: z.coerce.number().pipe(epochSeconds).optional(),
  until: z.coerce.number().pipe(epochSeconds).optional(),
  type: anyId.optional(),
  decision: z.enum(["granted", "refused", "noted"]).optional(),
  reason: anyId.optional(),
  agent: anyId.optional(),
  sub: anyId.optional(),
  resource: anyId.optional(),
  txn: anyId.optional(),
  jti: anyId.optional(),
  trace: anyId.optional(),
  would_refuse: z
    .literal("true")
    .optional()
    .describe("Calls that flowed only because their resource observes (CONTRACT §4)."),
};

/** Which events, newest first. */
export const auditQuery = z.strictObject({
  ...filters,
  after: anyId.optional().describe("The id that the page continues from: `next` of the page before."),
  limit: z.coerce.number().int().min(1).max(MAX_EVENTS).optional(),
});

/** Which events, oldest first. */
export const exportQuery = z.strictObject({
  ...filters,
  format: z
    .enum(["ephor", "ocsf"])
    .optional()
    .describe("Default ephor: each line with the exact text that was hashed."),
});

/** One event of the ledger. */
export const auditEvent = component(
  "AuditEvent",
  z.strictObject({
    stream: z.string(),
    seq: z.int(),
    id: z.string(),
    at: instant,
    type: z.string(),
    decision: z.enum(["granted", "refused", "noted"]),
    reason: z.string().optional(),
    agent: z.string().optional(),
    sub: z.string().optional(),
    resource: z.string().optional(),
    txn: z.string().optional(),
    jti: z.string().optional(),
    trace_id: z.string().optional(),
    body: z.record(z.string(), z.unknown()).describe("The whole event."),
  }),
);

/** A page of events, newest first. */
export const auditPage = component(
  "AuditPage",
  z.strictObject({
    events: z.array(auditEvent),
    next: z.string().optional().describe("Pass as `after` for older ones."),
  }),
);

/** Something that does not fit. */
const auditProblem = component(
  "AuditProblem",
  z.strictObject({
    stream: z.string().optional(),
    seq: z.int().optional().describe("The first bad row."),
    head: z.int().optional(),
    kind: z.enum(["hash", "gap", "fork", "truncated", "head_signature", "head_order", "head_mismatch", "anchor"]),
    detail: z.string(),
  }),
);

/** What checking the hash chain found. */
export const auditVerdict = component(
  "AuditVerdict",
  z.strictObject({
    ok: z.boolean(),
    events: z.int(),
    streams: z.array(z.strictObject({ stream: z.string(), last_seq: z.int(), ok: z.boolean() })),
    heads: z.int(),
    last_head_at: instant.optional(),
    problems: z.array(auditProblem),
  }),
);

/** Which events. */
export type AuditQuery = z.output<typeof auditQuery>;
/** Which events to export. */
export type ExportQuery = z.output<typeof exportQuery>;
/** One event of the ledger. */
export type AuditEvent = z.output<typeof auditEvent>;
/** A page of events. */
export type AuditPage = z.output<typeof auditPage>;
/** What checking the hash chain found. */
export type AuditVerdict = z.output<typeof auditVerdict>;
