import type { EventDraft } from "../audit/event.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Asker } from "../core/kill/asker.ts";
import { InvalidTokenError } from "../core/oauth/errors.ts";
import type { Call, Caller } from "../http/rooms.ts";
import { actorOf } from "./wire.ts";

/** What would kill whoever asks; undefined where no kill covers them: operators and their sessions (CONTRACT §6). */
export function askerOf(caller: Caller): Asker | undefined {
  return caller.kind === "agent" ? caller.token?.kill : undefined;
}

/** Makes a change that somebody asked for; where they were killed before it was made, the ledger says that it was not. */
export async function unlessKilled<T>(
  recorder: Pick<Recorder, "refused">,
  { caller, request }: Call,
  draft: Pick<EventDraft, "type" | "facts">,
  change: () => Promise<T>,
): Promise<T> {
  try {
    return await change();
  } catch (error) {
    if (error instanceof InvalidTokenError && error.reason === "killed")
      await recorder.refused({ ...draft, agent: actorOf(caller), requestId: request.requestId }, "killed");
    throw error;
  }
}
