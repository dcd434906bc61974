import { ProblemError } from "../api/problem.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Db } from "../db/database.ts";
import type { Rooms } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { actorOf, instantOf } from "./wire.ts";

/** Keys, as the routes call them. */
export function keyRooms(deps: { keys: Keys; recorder: Recorder; clock: DatabaseClock; db: Db }): Rooms["keys"] {
  const { keys, recorder, clock, db } = deps;
  return {
    jwks: () => keys.jwks(),
    recordJwks: () => keys.recordJwks(),
    async rotate({ reason }, call) {
      const outcome = await keys.rotate({ use: "token" });
      if (!outcome.rotated && outcome.because === "too_soon") {
        const ready = instantOf(outcome.readyAt * 1_000);
        throw new ProblemError("conflict", {
          detail: `the next key has not been published long enough for every verifier to have it; try again after ${ready}`,
        });
      }
      const event = recorder.draft(
        {
          type: "keys.rotate",
          agent: actorOf(call.caller),
          requestId: call.request.requestId,
          facts: {
            why: reason,
            ...(outcome.rotated
              ? { retired: outcome.retired, active: outcome.active, next: outcome.next }
              : { rotated: "elsewhere" }),
          },
        },
        "granted",
      );
      await db.query("select ephor.record_control($1, $2::jsonb)", [Math.floor(clock.nowMs()), JSON.stringify(event)]);
      const rows = await db.query<{ kid: string; algorithm: string; status: "next" | "active" | "retired" }>(
        "select kid, algorithm, status from ephor.keys where use = 'token' order by created_at desc limit 10",
      );
      return { keys: rows, event_id: event.id };
    },
  };
}
