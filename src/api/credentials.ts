import { z } from "zod";
import { component } from "./components.ts";
import { instant } from "./scalars.ts";

/** A credential that was vended (CONTRACT §7). */
export const vended = component(
  "VendedCredential",
  z.strictObject({
    lease: z.string().describe("`ephor who` and the audit know it by this."),
    kind: z.string(),
    expires_at: instant.describe("The end of the lease; where the provider can, it is dead then."),
    residual_seconds: z
      .number()
      .nullable()
      .describe("How long it lives on at its upstream after that; null where nobody can take it back."),
    credential: z.record(z.string(), z.unknown()).describe("In the form that its native tools read."),
  }),
);

/** A credential that was vended. */
export type VendedCredential = z.output<typeof vended>;
