import { ProblemError } from "../api/problem.ts";
import type { Recorder } from "../audit/recorder.ts";
import type { Db } from "../db/database.ts";
import type { Rooms } from "../http/rooms.ts";
import type { Keys } from "../keys/keys.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Envelope } from "../vault/envelope.ts";
import { rewrapAll } from "../vault/rewrap.ts";
import { SEALED_COLUMNS } from "./key-encryption.ts";
import { actorOf, instantOf } from "./wire.ts";

/** Real milliseconds that one request rewraps for; well below what clients and load balancers wait for an answer. */
const REWRAP_MS = 5_000;

/** Keys, as the routes call them. */
export function keyRooms(deps: {
  keys: Keys;
  envelope: Envelope;
  recorder: Recorder;
  clock: DatabaseClock;
  db: Db;
}): Rooms["keys"] {
  const { keys, envelope, recorder, clock, db } = deps;
  return {
    async rewrap({ reason }, call) {
      const draft = { type: "keys.rewrap", agent: actorOf(call.caller), requestId: call.request.requestId } as const;
      const { kekId: kek } = envelope;
      const event = recorder.draft({ ...draft, facts: { kek, why: reason } }, "granted");
      await db.query("select ephor.record_control($1, $2::jsonb)", [Math.floor(clock.nowMs()), JSON.stringify(event)]);
      const done = await rewrapAll({ db, envelope }, SEALED_COLUMNS, REWRAP_MS);
      const { rewrapped, remaining, failed } = done;
      await recorder.noted({
        ...draft,
        facts: { kek, rewrapped, remaining, failed: failed.map(({ sort, name }) => `${sort} ${name}`) },
      });
      return { kek, ...done, failed: [...failed], event_id: event.id };
    },
    async jwks() {
      // A cloud keeps what it finds: the key that will sign for it must be there. Without the database the others are, and
      // `tick` tries again and tells.
      await keys.ensureIdentityKeys().catch(() => {});
      return keys.jwks();
    },
    recordJwks: () => keys.recordJwks(),
    async rotate({ reason }, call) {
      const outcome = await keys.rotate({ use: "token" });
      if (!outcome.rotated && outcome.because === "too_soon") {
        const ready = instantOf(outcome.readyAt * 1_000);
        throw new ProblemError("conflict", {
          detail: `the next key has not been published long enough for every verifier to have it; try again after ${ready}`,
        });
      }
      // Those of web-identity tokens as well, where they are ready; else their schedule does it.
      const identity = await keys.rotate({ use: "identity" });
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
            ...(identity.rotated ? { identity_retired: identity.retired, identity_active: identity.active } : {}),
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
