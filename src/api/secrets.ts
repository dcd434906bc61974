import { z } from "zod";
import { component } from "./components.ts";
import { instant, objectName } from "./scalars.ts";

/** Longest value in a body, in characters. */
const MAX_VALUE = 65_536;

/** A new value of a secret. */
export const secretRequest = component(
  "SecretRequest",
  z.strictObject({
    value: z.string().min(1).max(MAX_VALUE).describe("Sealed at once; no request ever answers it."),
    owner: z.string().min(1).max(200).optional().describe("The person who answers for it; default: who set it first."),
  }),
);

/** What may be known of a secret. */
export const secretFacts = component(
  "Secret",
  z.strictObject({
    name: objectName,
    owner: z.string(),
    version: z.int(),
    fingerprint: z.string().describe("Keyed hash: the same for the same value, and tells nothing else."),
    created_at: instant,
    updated_at: instant,
    updated_by: z.string(),
  }),
);

/** Secrets by name. */
export const secretPage = component(
  "SecretPage",
  z.strictObject({ items: z.array(secretFacts), next: z.string().optional() }),
);

/** A secret that was replaced at its upstream. */
export const secretRotated = component(
  "SecretRotated",
  z.strictObject({
    secret: secretFacts,
    resource: objectName.describe("The credential resource that it was done through."),
  }),
);

/** A secret that was replaced at its upstream. */
export type SecretRotated = z.output<typeof secretRotated>;
/** What may be known of a secret. */
export type SecretView = z.output<typeof secretFacts>;
/** Secrets by name. */
export type SecretPage = z.output<typeof secretPage>;
