import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import type { Db, DedicatedConnection } from "../db/database.ts";
import { DatabaseError } from "../db/errors.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Log } from "../system/log.ts";
import { createUlids, type Ulids } from "../system/random.ts";
import { eventRow, type EventDraft, type EventRow } from "./event.ts";
import { factsUnkept, type Keeping, type KeptRow, type Unkept } from "./keeping.ts";
import { createStream } from "./stream.ts";

/** SQLSTATE of our own: the stream does not stand where we thought (an append of unknown outcome went through). */
const STREAM_MOVED = "EP001";

const RECORD = "select ephor.record($1, $2, decode($3, 'hex'), $4, $5::jsonb) as r";
const RECORD_KEEPING = "select ephor.record_keeping($1, $2, decode($3, 'hex'), $4, $5::jsonb, $6::jsonb) as r";

interface Answer {
  readonly r: { readonly seq: number; readonly hash: string };
}

/** An event with its id and its time. */
interface Stamped {
  readonly draft: EventDraft;
  readonly id: string;
  readonly atMs: number;
}

interface Verdict {
  readonly decision: EventRow["decision"];
  readonly reason?: Reason | undefined;
}

interface How {
  readonly keeping?: Keeping | undefined;
  readonly by?: "now" | "soon";
}

interface NotedRow {
  readonly row: EventRow;
  readonly kept?: KeptRow;
}

/**
 * Records what needs no decision of the gate. It has happened already, so that it is recorded also where nothing can be kept
 * beside it; what must be kept is the gate's.
 */
export interface Recorder {
  /** A refusal. Resolves with the event's id once it is durable, and what is kept beside it. */
  refused(draft: EventDraft, reason: Reason, keeping?: Keeping): Promise<string>;
  /** Something that happened and was not a decision of its own; likewise. */
  noted(draft: EventDraft, reason?: Reason): Promise<string>;
  /** The same of what nobody waits for: it is durable some milliseconds later, with whatever else was told meanwhile. */
  later(draft: EventDraft, keeping?: Keeping): Promise<string>;
  /** An event for one of the database functions that append it themselves (kill, apply, end of a task). */
  draft(draft: EventDraft, decision: EventRow["decision"], reason?: Reason): EventRow;
  /** Resolves when all that was handed in is durable or has failed. */
  idle(): Promise<void>;
}

/**
 * Refusals travel in batches of their own, on a connection and a stream of their own.
 *
 * @param deps.ids makes the ids of events; shared with the gate, so that they sort as they happened
 * @param deps.trustVersion the trust that was in force; in every event, so that a refusal can be explained later (INV-29)
 */
export function createRecorder(deps: {
  db: Db;
  clock: DatabaseClock;
  log: Pick<Log, "error">;
  replica: string;
  ids?: Ulids;
  trustVersion?: () => number;
}): Recorder {
  const { db, clock, log, replica, ids = createUlids(), trustVersion } = deps;
  const lane = createLane(createAppend({ connection: db.dedicated("recorder"), clock, replica }));
  const stamp = (draft: EventDraft): Stamped => {
    const atMs = Math.floor(clock.nowMs());
    const facts = trustVersion === undefined ? draft.facts : { trust_version: trustVersion(), ...draft.facts };
    return { draft: { ...draft, facts }, id: `evt_${ids(atMs)}`, atMs };
  };
  const make = ({ draft, id, atMs }: Stamped, verdict: Verdict): EventRow =>
    eventRow(draft, { id, atMs, replica }, verdict);
  /** What is not handed to the lane yet, since something beside it is being sealed. */
  const sealing = new Set<Promise<unknown>>();
  async function submitKeeping(stamped: Stamped, verdict: Verdict, { keeping, by }: How & { keeping: Keeping }) {
    const row = make(stamped, verdict);
    const unkept = (why: Unkept, err: unknown): Promise<string> => {
      const { id, draft } = stamped;
      log.error(`recording_${why.replace(" ", "_")}`, { eventId: id, requestId: draft.requestId, err });
      return lane.submit(
        { row: make({ ...stamped, draft: { ...draft, facts: factsUnkept(draft.facts, why) } }, verdict) },
        by,
      );
    };
    const sealed = keeping(row.id);
    sealing.add(sealed);
    let recorded: Promise<string>;
    try {
      recorded = lane.submit({ row, kept: await sealed }, by);
    } catch (err) {
      recorded = unkept("not sealed", err);
    } finally {
      sealing.delete(sealed);
    }
    // The lane tried it alone, so that it is this recording that the database refused.
    return recorded.catch((err: unknown) => {
      if (err instanceof DatabaseError) return unkept("not stored", err);
      throw err;
    });
  }
  const submit = (stamped: Stamped, verdict: Verdict, { keeping, by = "now" }: How = {}): Promise<string> =>
    keeping === undefined
      ? lane.submit({ row: make(stamped, verdict) }, by)
      : submitKeeping(stamped, verdict, { keeping, by });
  return {
    refused: (draft, reason, keeping) => submit(stamp(draft), { decision: "refused", reason }, { keeping }),
    noted: (draft, reason) => submit(stamp(draft), { decision: "noted", reason }),
    later: (draft, keeping) => submit(stamp(draft), { decision: "noted" }, { keeping, by: "soon" }),
    draft: (draft, decision, reason) => make(stamp(draft), { decision, reason }),
    async idle() {
      while (sealing.size > 0) await Promise.allSettled(sealing);
      await lane.idle();
    },
  };
}

/** Appends a batch to a stream of its own, with what is kept beside it. */
function createAppend({
  connection,
  clock,
  replica,
}: {
  connection: DedicatedConnection;
  clock: DatabaseClock;
  replica: string;
}) {
  const stream = createStream(connection, { replica, name: "notes", clock });
  return async function append(members: readonly NotedRow[]): Promise<readonly string[]> {
    const rows = members.map(({ row }) => row);
    const kept = members.flatMap((member) => member.kept ?? []);
    for (let attempt = 0; attempt < 2; attempt++) {
      const at = await stream.position();
      try {
        const params = [at.id, at.seq, at.hash, Math.floor(clock.nowMs()), JSON.stringify(rows)];
        const [answer] =
          kept.length === 0
            ? await connection.call<Answer>("record", RECORD, params)
            : await connection.call<Answer>("record_keeping", RECORD_KEEPING, [...params, JSON.stringify(kept)]);
        if (!answer) throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
        stream.advanced(answer.r.seq, answer.r.hash);
        return rows.map((row) => row.id);
      } catch (error) {
        const moved = error instanceof DatabaseError && error.sqlState === STREAM_MOVED;
        if (moved || !(error instanceof DatabaseError)) stream.abandon();
        if (!moved) throw error;
      }
    }
    throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
  };
}
