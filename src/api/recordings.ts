import { z } from "zod";
import { component } from "./components.ts";
import { anyId, instant, reasonShape } from "./scalars.ts";

/** Which event's recording. */
export const recordingParams = z.strictObject({ event: anyId.describe("`evt_<ulid>`.") });

/** Why one is erased. */
export const eraseQuery = z.strictObject({ reason: reasonShape });

/** What a resource kept of a call beside one event of the ledger. */
export const recordingView = component(
  "Recording",
  z.strictObject({
    event: z.string(),
    of: z.string().describe("The decision of the call; the event itself for arguments."),
    part: z.enum(["arguments", "answer"]),
    state: z.enum(["kept", "erased"]),
    txn: z.string(),
    resource: z.string(),
    kept_at: instant,
    until: instant.describe("When it goes by itself."),
    text: z
      .string()
      .optional()
      .describe(
        'JSON as it was kept, redacted: `{"arguments": …}` or `{"answer": …}`. Where the event says `cut`, the beginning of it.',
      ),
    salt: z.string().optional().describe("base64url; the key of the commitment."),
    commitment: z
      .string()
      .optional()
      .describe(
        "HMAC-SHA256 of `text` under `salt`, base64url: what the event's `kept.commitment` is, and was checked to be.",
      ),
    erased_at: instant.optional(),
    erased_by: z.string().optional(),
    reason: z.string().optional(),
  }),
);

/** What was erased. */
export const recordingsErased = component(
  "RecordingsErased",
  z.strictObject({ erased: z.array(z.string()).describe("The events; none where it was done before.") }),
);

/** What a resource kept of a call beside one event of the ledger. */
export type RecordingView = z.output<typeof recordingView>;
/** What was erased. */
export type RecordingsErased = z.output<typeof recordingsErased>;
