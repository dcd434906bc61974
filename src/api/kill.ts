import { z } from "zod";
import type { KillKind } from "../core/kill/keys.ts";
import { durationValue } from "../core/trust/values.ts";
import { component } from "./components.ts";
import { anyId, instant, objectName, reasonShape, ulidShape } from "./scalars.ts";

/** Most targets of one sort in one kill. */
const MAX_TARGETS = 100;
/** Most kills on a page. */
const MAX_KILLS = 200;

/** Names that others gave: subjects and owners. One line, as the trust file takes them. */
const foreignName = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[^\p{Cc}\p{Zl}\p{Zp}]+$/u);

const oneOrMore = <T extends z.ZodType>(shape: T): z.ZodUnion<[T, z.ZodArray<T>]> =>
  z.union([shape, z.array(shape).min(1).max(MAX_TARGETS)]);

const agent = oneOrMore(objectName);
const subject = oneOrMore(foreignName.includes("|")).describe("`<issuer name>|<sub>`, or `agent|<name>`.");
const issuer = oneOrMore(objectName);
const resource = oneOrMore(objectName);
const owner = oneOrMore(foreignName);
const all = z.literal(true);

/** What a kill can name beside `all`; the first five end with a restore or by themselves. */
export const RESTORABLE = ["agent", "subject", "issuer", "resource", "owner"] as const;
const FOR_EVER = ["txn", "jti", "lease", "trace"] as const;
const KILLABLE = [...RESTORABLE, ...FOR_EVER] as const;

/** Whether anything is named. */
const namesAny = (body: object): boolean =>
  [...KILLABLE, "all"].some((name) => (body as Record<string, unknown>)[name] !== undefined);

/** What a kill names: the union dies together (CONTRACT §6). */
export const killRequest = component(
  "KillRequest",
  z
    .strictObject({
      agent: agent.optional().describe("Everything these agents hold, and every chain below them."),
      txn: oneOrMore(ulidShape).optional().describe("Whole chains."),
      jti: oneOrMore(ulidShape).optional().describe("Single tokens with all that was derived from them."),
      lease: oneOrMore(z.string().regex(/^lease_[0-7][0-9A-HJKMNP-TV-Z]{25}$/))
        .optional()
        .describe("Single vended credentials."),
      subject: subject.optional().describe("All that agents do for these parties: `<issuer name>|<sub>`."),
      issuer: issuer.optional().describe("All agents and people that these issuers vouch for."),
      resource: resource.optional().describe("Every token and credential for these resources; never `ephor`."),
      owner: owner.optional().describe("All agents of these owners."),
      trace: oneOrMore(z.string().regex(/^(?!0{32})[0-9a-f]{32}$/))
        .optional()
        .describe("The chains that carried these trace ids until now, each listed."),
      all: all.optional().describe("Everything but operators, kill and restore."),
      reason: reasonShape,
      for: durationValue
        .optional()
        .describe("Ends by itself after so long, such as `10m`. Not for chains, tokens, leases and traces."),
      dry_run: z.boolean().optional().describe("Previews; nothing dies."),
    })
    .refine(namesAny, { message: "name at least one thing to kill" })
    .refine((kill) => kill.for === undefined || FOR_EVER.every((name) => kill[name] === undefined), {
      path: ["for"],
      message: "chains, tokens, leases and traces stay dead for ever",
    }),
);

/** What is to live again; chains, tokens and leases stay dead for ever. */
export const restoreRequest = component(
  "RestoreRequest",
  z
    .strictObject({
      agent: agent.optional(),
      subject: subject.optional(),
      issuer: issuer.optional(),
      resource: resource.optional(),
      owner: owner.optional(),
      all: all.optional().describe("Lifts a kill of `all`; what was killed by its own name stays dead."),
      reason: reasonShape,
    })
    .refine(namesAny, { message: "name at least one thing to restore" }),
);

const TARGET_KINDS = [...KILLABLE, "all"] as const;

/** One thing that a kill hit. */
const receiptLine = component(
  "KillReceiptLine",
  z.strictObject({
    kind: z.enum([...TARGET_KINDS, "node"]),
    id: z.string(),
    agent: z.string().optional(),
    resource: z.string().optional(),
    outcome: z
      .enum(["dead", "would_die", "dies_at", "retrying", "upstream_cannot"])
      .describe(
        "`dies_at`: its upstream ends it at `at`, not earlier; `retrying`: being ended there, again and again; `upstream_cannot`: nothing ends it.",
      ),
    at: instant,
    expires_at: instant
      .optional()
      .describe("Of a token: until then it fools whoever checks nothing but its signature."),
    problem: z.string().optional().describe("Why the last try failed."),
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
    ends_at: instant.optional().describe("When it ends by itself."),
    restored_at: instant.optional(),
    lines: z.array(receiptLine),
    truncated: z.boolean().optional().describe("True where more lines exist than a receipt lists."),
    left_off: z.int().min(1).optional().describe("How many lines more there are, counted to 100000 of each sort."),
    replicas: z.array(
      z.strictObject({
        replica: z.string(),
        outcome: z
          .enum(["acknowledged", "fenced", "gone"])
          .describe("`fenced`: it was silent until its lease was over; `gone`: it was before the kill."),
        ms: z.int().min(0).describe("Milliseconds after the kill stood."),
      }),
    ),
    event_id: z.string().optional(),
  }),
);

/** A kill in a list. */
const killSummary = component(
  "Kill",
  z.strictObject({
    id: z.string(),
    at: instant,
    by: z.string(),
    reason: z.string(),
    targets: z.array(z.string()).describe("As keys: `agent:NAME`, `txn:ID`, …; `all`."),
    ends_at: instant.optional(),
    restored_at: instant.optional(),
  }),
);

/** Which kills. */
export const killsQuery = z.strictObject({
  before: anyId.optional().describe("The id that the page starts below."),
  limit: z.coerce.number().int().min(1).max(MAX_KILLS).default(50),
});

/** A page of kills, newest first. */
export const killPage = component(
  "KillPage",
  z.strictObject({
    items: z.array(killSummary),
    next: z.string().optional().describe("Pass as `before` for the next page."),
  }),
);

/** What a restore did. */
export const restoreAnswer = component(
  "Restored",
  z.strictObject({
    restored: z.array(z.strictObject({ kind: z.enum([...RESTORABLE, "all"]), id: z.string() })),
    at: instant,
    event_id: z.string().optional(),
  }),
);

/** Something that a kill or a restore names. A trace is expanded to the chains that carried it. */
export type Named =
  | { readonly kind: KillKind | "trace"; readonly value: string }
  | { readonly kind: "all"; readonly value?: undefined };

/** What a kill names, as one list. */
export interface KillOrder {
  readonly targets: readonly Named[];
  readonly reason: string;
  readonly forSeconds: number | undefined;
  readonly dryRun: boolean;
}

/** What is to live again. */
export interface RestoreOrder {
  readonly targets: readonly Named[];
  readonly reason: string;
}

/** The receipt of a kill. */
export type KillReceipt = z.output<typeof killReceipt>;
/** A page of kills. */
export type KillPage = z.output<typeof killPage>;
/** Which kills. */
export type KillsQuery = z.output<typeof killsQuery>;
/** What a restore did. */
export type Restored = z.output<typeof restoreAnswer>;

/** The targets of a body, each once. */
export function namedIn(body: z.output<typeof killRequest> | z.output<typeof restoreRequest>): readonly Named[] {
  const values = body as Partial<Record<(typeof KILLABLE)[number], string | string[]>>;
  const named = KILLABLE.flatMap((kind) =>
    [...new Set([values[kind] ?? []].flat())].map((value): Named => ({ kind, value })),
  );
  return body.all === true ? [...named, { kind: "all" }] : named;
}
