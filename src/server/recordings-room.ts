import type { RecordingView } from "../api/recordings.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Rooms } from "../http/rooms.ts";
import type { Recording, Recordings } from "../proxy/recordings.ts";
import { actorOf, instantOf } from "./wire.ts";

/** What is kept of calls, as the routes call it. */
export function recordingsRoom(recordings: Recordings, recorder: Recorder): Rooms["recordings"] {
  return {
    async read(event, { caller, request }) {
      // First the trace, then the look.
      await recorder.noted({
        type: "audit.read",
        agent: actorOf(caller),
        requestId: request.requestId,
        facts: { route: "GET /v1/audit/{event}/recording", of: event },
      });
      const found = await recordings.read(event);
      return found && viewOf(found);
    },
    async erase({ event, reason }, { caller, request }) {
      const by = actorOf(caller);
      const row = recorder.draft(
        { type: "recording.erase", agent: by, requestId: request.requestId, facts: { of: event, why: reason } },
        "granted",
      );
      const erased = await recordings.erase({ of: event, by, because: reason, event: row });
      return erased && { erased: [...erased] };
    },
  };
}

function viewOf({ keptAt, until, content, erased, ...rest }: Recording): RecordingView {
  return {
    ...rest,
    state: content === undefined ? "erased" : "kept",
    kept_at: instantOf(keptAt * 1_000),
    until: instantOf(until * 1_000),
    ...content,
    ...(erased && { erased_at: instantOf(erased.at * 1_000), erased_by: erased.by, reason: erased.because }),
  };
}
