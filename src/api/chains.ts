import { z } from "zod";
import { component } from "./components.ts";
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

/** One agent's place in a task, with what it was given and what lies below it. */
export interface ChainNode {
  node: string;
  agent: string;
  status: "open" | "ended" | "expired" | "killed";
  scopes: string[] | null;
  made_at: number;
  ended_at?: number | undefined;
  tokens: z.output<typeof chainToken>[];
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
    root: chainNode,
  }),
);

/** A task as a tree. */
export type Chain = z.output<typeof chain>;
