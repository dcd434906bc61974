import { z } from "zod";
import { component } from "./components.ts";
import { lease, type Lease } from "./leases.ts";
import { epochSeconds, scopeShape, ulidShape } from "./scalars.ts";

const status = z.enum(["open", "ended", "expired", "killed"]);

/** A token of a chain. */
const chainToken = component(
  "ChainToken",
  z.strictObject({
    jti: ulidShape,
    kind: z.enum(["access", "hand_over", "txn_token"]),
    aud: z.string(),
    scopes: z.array(scopeShape),
    iat: epochSeconds,
    exp: epochSeconds,
    status: z.enum(["live", "expired", "killed"]),
  }),
);

/** Something that was asked for in a task and refused. */
const chainRefusal = component(
  "ChainRefusal",
  z.strictObject({
    at: epochSeconds,
    agent: z.string().optional(),
    type: z.string(),
    reason: z.string(),
    resource: z.string().optional(),
    scopes: z.array(z.string()).optional(),
    event_id: z.string(),
  }),
);

/** Something that was asked for in a task and refused. */
export type ChainRefusal = z.output<typeof chainRefusal>;

/** One agent's place in a task, with what it was given and what lies below it. */
export interface ChainNode {
  node: string;
  agent: string;
  status: "open" | "ended" | "expired" | "killed";
  scopes: string[] | null;
  made_at: number;
  ended_at?: number | undefined;
  tokens: z.output<typeof chainToken>[];
  /** Downstream credentials, oldest first. */
  leases: Lease[];
  refusals: ChainRefusal[];
  children: ChainNode[];
}

/** One agent's place in a task. */
export const chainNode: z.ZodType<ChainNode> = component(
  "ChainNode",
  z.strictObject({
    node: ulidShape,
    agent: z.string(),
    status,
    scopes: z.array(scopeShape).nullable().describe("Its ceiling; null for whatever is granted."),
    made_at: epochSeconds,
    ended_at: epochSeconds.optional(),
    tokens: z.array(chainToken),
    leases: z.array(lease).describe("Downstream credentials that were made there, oldest first."),
    refusals: z.array(chainRefusal),
    get children() {
      return z.array(chainNode);
    },
  }),
);

/** A task as a tree (CONTRACT §1, chain). */
export const chain = component(
  "Chain",
  z.strictObject({
    txn: ulidShape,
    sub: z.string().describe("On whose behalf."),
    subject: z.enum(["human", "agent"]),
    opener: z.string(),
    purpose: z.string().optional(),
    status,
    opened_at: epochSeconds,
    deadline: epochSeconds,
    ended_at: epochSeconds.optional(),
    trace_id: z.string().optional(),
    kill_ids: z.array(z.string()).describe("The kills that cover it."),
    email: z.string().optional().describe("The human's address, where their issuer told one. No other claim leaves."),
    refusals: z.array(chainRefusal).describe("Refusals of agents that have no place in the task."),
    truncated: z.boolean().optional().describe("True where older events or some nodes were left out."),
    root: chainNode,
  }),
);

/** A task as a tree. */
export type Chain = z.output<typeof chain>;
