import { z } from "zod";
import { component } from "./components.ts";
import { reasonShape } from "./scalars.ts";

/** Asks for a rotation now; without a body it is the same. */
export const rotateRequest = component("KeyRotationRequest", z.strictObject({ reason: reasonShape.optional() }));

/** The token keys after a rotation. */
export const rotateAnswer = component(
  "KeyRotation",
  z.strictObject({
    keys: z.array(
      z.strictObject({ kid: z.string(), algorithm: z.string(), status: z.enum(["next", "active", "retired"]) }),
    ),
    event_id: z.string().optional(),
  }),
);

/** Asks for a rewrap; without a body it is the same. */
export const rewrapRequest = component("RewrapRequest", z.strictObject({ reason: reasonShape.optional() }));

/** How far one request came; another goes on where it stopped. */
export const rewrapAnswer = component(
  "Rewrap",
  z.strictObject({
    kek: z.string().describe("Id of the key that wraps everything new; tells nothing about it."),
    rewrapped: z.int().describe("Values that this request put under it."),
    already: z.int().describe("Values that were under it before."),
    remaining: z.int().describe("Values that are under another key still, failed ones included."),
    failed: z
      .array(z.strictObject({ sort: z.string(), name: z.string() }))
      .describe("Values that open under no key that this server has."),
    event_id: z.string().optional(),
  }),
);

/** How far one request came. */
export type Rewrap = z.output<typeof rewrapAnswer>;

/** The token keys after a rotation. */
export type KeyRotation = z.output<typeof rotateAnswer>;
