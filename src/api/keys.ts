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

/** The token keys after a rotation. */
export type KeyRotation = z.output<typeof rotateAnswer>;
