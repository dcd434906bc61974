import { ProblemError } from "../../api/problem.ts";
import { eraseQuery, recordingParams, recordingsErased, recordingView } from "../../api/recordings.ts";
import { ok, route } from "../route.ts";
import type { Route } from "../route.ts";

/** What resources that record keep of their calls (CONTRACT §8). */
export const recordingRoutes: readonly Route[] = [
  route({
    method: "GET",
    path: "/v1/audit/{event}/recording",
    operationId: "getRecording",
    summary: "What was kept of a call beside an event: its arguments, or its answer",
    description:
      "An event beside which something was kept has `kept` in its body. Reading is recorded before it is answered.",
    tag: "Ledger",
    auth: { scope: "audit" },
    params: recordingParams,
    responses: {
      200: { description: "As it was kept, or that it was erased.", body: recordingView },
      404: { description: "Nothing is kept beside this event, or not any more." },
    },
    async handle({ rooms, params: { event }, caller, request }) {
      const found = await rooms.recordings.read(event, { caller, request });
      if (found === undefined) throw new ProblemError("not_found");
      return ok(found);
    },
  }),
  route({
    method: "DELETE",
    path: "/v1/audit/recordings/{event}",
    operationId: "eraseRecording",
    summary: "Erase what was kept of a call",
    description:
      "Of a decision its answer too. The value goes with the key that sealed it alone; the ledger's events stay, and verify as before.",
    tag: "Ledger",
    auth: "operator",
    params: recordingParams,
    query: eraseQuery,
    responses: {
      200: { description: "It is gone.", body: recordingsErased },
      404: { description: "Nothing is kept beside this event, or not any more." },
    },
    async handle({ rooms, params: { event }, query: { reason }, caller, request }) {
      const erased = await rooms.recordings.erase({ event, reason }, { caller, request });
      if (erased === undefined) throw new ProblemError("not_found");
      return ok(erased);
    },
  }),
];
