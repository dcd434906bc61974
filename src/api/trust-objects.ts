import { z } from "zod";
import { agentWire } from "../core/trust/agent-schema.ts";
import { channelWire } from "../core/trust/channel-schema.ts";
import { accessGrantWire, delegationGrantWire } from "../core/trust/grant-schema.ts";
import { issuerWire } from "../core/trust/issuer-schema.ts";
import { operatorWire } from "../core/trust/operator-schema.ts";
import { resourceWire } from "../core/trust/resource-schema.ts";
import { component } from "./components.ts";
import { objectName, reasonShape } from "./scalars.ts";

/** Most objects on one page. */
export const MAX_PAGE = 500;

/** The kinds of trust objects, as paths and trust files spell them. */
export const trustKinds = ["issuers", "agents", "resources", "grants", "operators", "channels"] as const;

/** What PUT takes, by kind; the same shapes as in the trust file. Names in the document; `core/trust` does the checking. */
export const trustSpecs = {
  issuers: component("Issuer", issuerWire),
  agents: component("Agent", agentWire),
  resources: component(
    "Resource",
    z.union([resourceWire("verify"), resourceWire("mcp"), resourceWire("http"), resourceWire("credential")]),
  ),
  operators: component("Operator", operatorWire),
  channels: component("Channel", channelWire),
  grants: component("Grant", z.union([accessGrantWire, delegationGrantWire])),
} as const;

/** An object as it was given, with where it came from. `spec` is what PUT takes and what the trust file holds. */
export const trustObject = component(
  "TrustObject",
  z.strictObject({
    kind: z.enum(trustKinds),
    name: objectName,
    source: z.string().nullable().describe("The apply that owns it; null for one that was put."),
    version: z.int().describe("Trust version of its last change."),
    status: z
      .enum(["active", "suspended"])
      .optional()
      .describe("Agents only; set by an operator, survives every apply."),
    identifier: z.string().optional().describe("Resources only: the `aud` of tokens for it."),
    spec: z.record(z.string(), z.unknown()),
  }),
);

/** A page of objects, in the order of their names. */
export const trustPage = component(
  "TrustPage",
  z.strictObject({
    items: z.array(trustObject),
    next: z.string().optional().describe("Pass as `after` for the next page."),
  }),
);

/** Which page. */
export const trustPageQuery = z.strictObject({
  after: objectName.optional().describe("The name that the page starts behind."),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).optional(),
});

/** Suspends an agent, or ends that. Not a kill: what the agent holds lives on until it expires. */
export const agentStatusRequest = component(
  "AgentStatusRequest",
  z.strictObject({ status: z.enum(["active", "suspended"]), reason: reasonShape }),
);

/** An object was taken away. */
export const trustDeleted = component(
  "TrustDeleted",
  z.strictObject({
    kind: z.enum(trustKinds),
    name: objectName,
    version: z.int(),
    killed: z.boolean().describe("True where the removal was a kill: of issuers, agents and resources."),
    event_id: z.string().optional(),
  }),
);

/** An object as it was given. */
export type TrustObject = z.output<typeof trustObject>;
/** A page of objects. */
export type TrustPage = z.output<typeof trustPage>;
/** What a removal did. */
export type TrustDeleted = z.output<typeof trustDeleted>;
/** Suspends an agent, or ends that. */
export type AgentStatusRequest = z.output<typeof agentStatusRequest>;
