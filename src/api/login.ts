import { z } from "zod";
import { component } from "./components.ts";
import { objectName } from "./scalars.ts";

/** Where humans sign in whom this server knows, for `ephor login`. */
export const loginView = component(
  "Login",
  z.strictObject({
    issuers: z.array(
      z.strictObject({
        name: objectName.describe("In the trust file."),
        url: z.url().describe("Issuer identifier of the identity provider; its discovery says the rest."),
        client_id: z.string().describe("Of a public native client there (RFC 8252)."),
        audience: z.array(z.string()).describe("What the token must be for, to be taken here as a human's."),
        subject_max_age: z.int().optional().describe("Seconds that a sign-in counts for; sent as `max_age`."),
      }),
    ),
  }),
);

/** Where humans sign in. */
export type LoginView = z.output<typeof loginView>;
