import { z } from "zod";
import { component } from "./components.ts";
import { objectName } from "./scalars.ts";

/** Where a receiver stands. */
export const feedQuery = z.strictObject({
  after: z.coerce
    .number()
    .int()
    .min(0)
    .optional()
    .describe("`seq` of the last frame that was taken; without it everything that still matters."),
  resource: objectName.optional().describe("Which one, where an agent introspects for several."),
});

/** A frame of the feed. */
export const feedFrame = component(
  "FeedFrame",
  z.strictObject({
    seq: z.int().describe("The kill position; `after` of the next request."),
    frame: z
      .string()
      .describe(
        "A JWS of `typ` `ephor-feed+jwt` by a record key: `{iss, aud, iat, seq, after, as_of, next_by, dead}`; `dead` lists `agent` (at any `act` level), `sub`, `txn`, `jti` or `aud`, some with `iat_lte`.",
      ),
  }),
);

/** A frame of the feed. */
export type FeedFrameView = z.output<typeof feedFrame>;
