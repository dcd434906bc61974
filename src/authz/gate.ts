import { eventRow } from "../audit/event.ts";
import type { KeptRow } from "../audit/keeping.ts";
import { createStream } from "../audit/stream.ts";
import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import type { SealedSecret } from "../core/permit.ts";
import type { Db } from "../db/database.ts";
import { DatabaseError } from "../db/errors.ts";
import { createLane } from "../db/lane.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { createUlids, type Ulids } from "../system/random.ts";
import type { Ask } from "./ask.ts";

/** What the gate says about one ask. `stale`, `pin_moved` and `continue` recorded nothing: the asker decides once more. */
export type GateOutcome =
  | "granted"
  | "stale"
  | "pin_moved"
  | "continue"
  | "killed"
  | "task_unknown"
  | "task_ended"
  | "task_expired"
  | "node_ended"
  | "replayed"
  | "subject_bound_elsewhere"
  | "single_use_spent"
  | "lease_taken";

/** What it refuses by, recorded. */
export type GateRefusal = Exclude<GateOutcome, "granted" | "stale" | "pin_moved" | "continue">;

/** One ask's verdict. */
export interface Verdict {
  readonly outcome: GateOutcome;
  readonly eventId: string;
  /** The kill epoch at which it was decided. */
  readonly epoch: number;
  readonly trustVersion: number;
  /** For `continue`: the task and node that the subject token already opened. */
  readonly txn: string | undefined;
  readonly node: string | undefined;
  /** Values that were to be brought, by name; a batch's, of which an ask sees its own. */
  readonly sealed: Readonly<Record<string, SealedSecret>>;
  /** Monotonic milliseconds at which the database was asked: a permit's life is counted from here. */
  readonly sentAtMs: number;
}

interface GateAnswer {
  readonly seq: number;
  readonly hash: string;
  readonly epoch: number;
  readonly trust_version: number;
  readonly outcomes: readonly GateOutcome[];
  readonly txns: readonly (string | null)[];
  readonly nodes: readonly (string | null)[];
  readonly sealed: Readonly<Record<string, SealedSecret>> | null;
}

interface GateRow {
  readonly id: string;
  readonly row: Record<string, unknown> & { i: number };
  /** What is kept beside its event. */
  readonly kept?: KeptRow;
}

/** One call in flight, group commit, one stream of the ledger. */
export interface Gate {
  submit(ask: Ask): Promise<Verdict>;
  idle(): Promise<void>;
}

/** SQLSTATE of our own: the stream does not stand where we thought. */
const STREAM_MOVED = "EP001";

/** @param deps.observe told each batch's size and milliseconds */
export function createGate(deps: {
  db: Db;
  clock: DatabaseClock;
  replica: string;
  observe?: (rows: number, ms: number) => void;
  ids?: Ulids;
}): Gate {
  const { db, clock, replica, ids = createUlids() } = deps;
  const connection = db.dedicated("gate");
  const stream = createStream(connection, { replica, name: "gate", clock });

  async function send(rows: readonly GateRow[]): Promise<readonly Verdict[]> {
    for (let attempt = 0; attempt < 2; attempt++) {
      const at = await stream.position();
      const sentAtMs = clock.monotonicMs();
      try {
        const params = [at.id, at.seq, at.hash, Math.floor(clock.nowMs()), rowsAsJson(rows)];
        const kept = keptOf(rows);
        const [answer] =
          kept.length === 0
            ? await connection.call<{ r: GateAnswer }>("gate", GATE, params)
            : await connection.call<{ r: GateAnswer }>("gate_keeping", GATE_KEEPING, [...params, JSON.stringify(kept)]);
        if (!answer) throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
        stream.advanced(answer.r.seq, answer.r.hash);
        return rows.map((row, index) => verdict(row, answer.r, index, sentAtMs));
      } catch (error) {
        // After an unknown outcome nothing is released, and the next append begins a new stream.
        const moved = error instanceof DatabaseError && error.sqlState === STREAM_MOVED;
        if (moved || !(error instanceof DatabaseError)) stream.abandon();
        if (!moved) throw error;
      }
    }
    throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
  }

  const lane = createLane(send, deps.observe);
  return {
    submit(ask) {
      const row = gateRow(ask, { ids, replica, atMs: Math.floor(clock.nowMs()) });
      return ask.keeping === undefined
        ? lane.submit(row)
        : ask.keeping(row.id).then((kept) => lane.submit({ ...row, kept }));
    },
    idle: () => lane.idle(),
  };
}

const GATE = "select ephor.gate($1, $2, decode($3, 'hex'), $4, $5::jsonb) as r";
const GATE_KEEPING = "select ephor.gate_keeping($1, $2, decode($3, 'hex'), $4, $5::jsonb, $6::jsonb) as r";

function keptOf(rows: readonly GateRow[]): readonly (KeptRow & { readonly i: number })[] {
  return rows.flatMap(({ kept }, index) => (kept === undefined ? [] : [{ ...kept, i: index + 1 }]));
}

/** Numbers the rows of the batch; rows tried once more, alone, are numbered anew. */
function rowsAsJson(rows: readonly GateRow[]): string {
  rows.forEach((member, index) => {
    member.row.i = index + 1;
  });
  return JSON.stringify(rows.map((member) => member.row));
}

function verdict(row: GateRow, answer: GateAnswer, index: number, sentAtMs: number): Verdict {
  const outcome = answer.outcomes[index];
  if (outcome === undefined) throw new TemporarilyUnavailableError({ reason: "gate_unknown_outcome" });
  return {
    outcome,
    eventId: row.id,
    epoch: answer.epoch,
    trustVersion: answer.trust_version,
    txn: answer.txns[index] ?? undefined,
    node: answer.nodes[index] ?? undefined,
    sealed: answer.sealed ?? {},
    sentAtMs,
  };
}

/** The ask as `ephor.gate_row`. Members that are absent are null there. */
function gateRow(ask: Ask, at: { ids: Ulids; replica: string; atMs: number }): GateRow {
  const { ids, replica, atMs } = at;
  const id = `evt_${ids(atMs)}`;
  const event = eventRow(ask.event, { id, atMs, replica }, { decision: "granted" });
  const { binding } = ask;
  const replay = ask.replay?.length ? ask.replay : undefined;
  return {
    id,
    row: {
      i: 0,
      trust_version: ask.trustVersion,
      id,
      type: event.type,
      agent: event.agent,
      sub: event.sub,
      resource: event.resource,
      txn: event.txn,
      jti: event.jti,
      trace_id: event.trace_id,
      body: event.body,
      kill_keys: ask.kill.keys,
      kill_epochs: takenOn(ask.kill.epochs),
      check_txn: ask.task?.txn,
      check_nodes: ask.task?.nodes,
      new_task: ask.newTask,
      new_node: ask.newNode && { ...ask.newNode, kill_epochs: takenOn(ask.newNode.kill_epochs) },
      new_hop: ask.newHop,
      new_lease: ask.newLease,
      release_lease: ask.leaseRelease?.id,
      lease_upstream_expires_at: ask.leaseRelease?.upstream_expires_at,
      lease_marks: ask.leaseRelease?.marks,
      replay_keys: replay?.map((entry) => entry.key),
      replay_holders: replay?.map((entry) => entry.holder ?? null),
      replay_exps: replay?.map((entry) => entry.exp),
      bind_key: binding?.key,
      bind_open: binding?.opens,
      bind_node: binding?.node,
      bind_single: binding?.singleUse,
      bind_jkt: binding?.jkt,
      bind_exp: binding?.exp,
      pin_entry: ask.pin?.entry,
      pin_tool: ask.pin?.tool,
      pin_hash: ask.pin?.hash,
      opens: ask.brings?.length ? ask.brings : undefined,
    },
  };
}

/** Absent where all are taken on now, as in most rows: a null for each would be read in vain. */
function takenOn(epochs: readonly (number | null)[]): readonly (number | null)[] | undefined {
  return epochs.every((epoch) => epoch === null) ? undefined : epochs;
}
