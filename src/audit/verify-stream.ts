import { createHash, type Hash } from "node:crypto";
import type { Db } from "../db/database.ts";
import type { LedgerProblem } from "./ledger-problem.ts";

/** Bounds of what is read at a time. */
const LIMITS = {
  streamPage: 200,
  eventPage: 500,
  /** An event that is older than the last head by more than this must be tied by a head, in seconds; a batch waits less. */
  untiedSeconds: 60,
};

/** A stream as it stands, with the edges of its rows, all read in one statement. */
export interface StreamEdges {
  readonly id: string;
  /** Null where `streams` has no such row. */
  readonly replica: string | null;
  readonly seq: number | null;
  readonly hash: Buffer | null;
  readonly last_event: number | null;
  readonly first_batch: number | null;
  readonly last_batch: number | null;
}

/** What checking one stream found. */
export interface StreamFound {
  readonly events: number;
  readonly lastSeq: number;
  readonly problem?: LedgerProblem;
}

interface EventWithBatch {
  seq: number;
  id: string;
  at_ms: number;
  type: string;
  decision: string;
  reason: string | null;
  agent: string | null;
  sub: string | null;
  resource: string | null;
  txn: string | null;
  jti: string | null;
  trace_id: string | null;
  body: string;
  last_seq: number | null;
  prev: Buffer | null;
  hash: Buffer | null;
  batch_at_ms: number | null;
}

/** The next streams by name, from whichever of the three tables has them: no row may hide under a name of its own. */
const NEXT_STREAMS = `
  with recursive names(id, n) as (
    select least((select min(stream) from ephor.events where stream > $1), (select min(stream) from ephor.batches where stream > $1),
      (select min(id) from ephor.streams where id > $1)), 1
    union all
    select least((select min(stream) from ephor.events where stream > names.id), (select min(stream) from ephor.batches where stream > names.id),
      (select min(id) from ephor.streams where id > names.id)), n + 1
    from names where id is not null and n < ${LIMITS.streamPage}
  )
  select names.id, s.replica, s.seq, s.hash,
    (select max(seq) from ephor.events where stream = names.id) as last_event,
    (select min(first_seq) from ephor.batches where stream = names.id) as first_batch,
    (select max(first_seq) from ephor.batches where stream = names.id) as last_batch
  from names left join ephor.streams s on s.id = names.id
  where names.id is not null order by names.n`;

const EVENTS = `
  select e.seq, e.id, e.at_ms, e.type, e.decision, e.reason, e.agent, e.sub, e.resource, e.txn, e.jti, e.trace_id, e.body,
    b.last_seq, b.prev, b.hash, b.at_ms as batch_at_ms
  from ephor.events e left join ephor.batches b on b.stream = e.stream and b.first_seq = e.seq
  where e.stream = $1 and e.seq <= $2 order by e.seq`;

/** All streams of the ledger by name, a page at a time. */
export async function* streamsOfLedger(db: Db): AsyncGenerator<StreamEdges> {
  let after = "";
  for (;;) {
    const page = await db.query<StreamEdges>(NEXT_STREAMS, [after]);
    yield* page;
    const last = page.at(-1);
    if (!last || page.length < LIMITS.streamPage) return;
    after = last.id;
  }
}

/**
 * Recomputes one stream from its first event.
 *
 * @param tied up to where heads name it, and when the last head was signed; undefined where there is no good head
 */
export async function checkStream(db: Db, stream: StreamEdges, tied: Tied | undefined): Promise<StreamFound> {
  const start = createHash("sha256").update(stream.id).digest();
  const edge = edgeProblem(stream, start);
  if (edge) return { events: 0, lastSeq: stream.seq ?? 0, problem: edge };
  const walk = walkOf(stream.id, start, tied);
  const lastSeq = stream.seq ?? 0;
  if (lastSeq === 0) return { events: 0, lastSeq };
  for await (const rows of db.stream<EventWithBatch>(EVENTS, [stream.id, lastSeq], LIMITS.eventPage)) {
    for (const row of rows) {
      const problem = walk.step(row);
      if (problem) return { events: walk.seq(), lastSeq, problem };
    }
  }
  const problem = walk.end(lastSeq, stream.hash);
  return { events: walk.seq(), lastSeq, ...(problem && { problem }) };
}

/** What can be said without reading the stream. */
function edgeProblem(stream: StreamEdges, start: Buffer): LedgerProblem | undefined {
  const { id, seq, last_event: lastEvent, first_batch: firstBatch, last_batch: lastBatch } = stream;
  const bad = (kind: LedgerProblem["kind"], at: number, detail: string): LedgerProblem => ({
    stream: id,
    seq: at,
    kind,
    detail,
  });
  if (seq === null || stream.hash === null) {
    return bad(
      "fork",
      Math.min(firstBatch ?? 1, 1),
      "rows of a stream that was never begun, or whose position is gone",
    );
  }
  if (!isOfReplica(id, stream.replica ?? "")) return bad("fork", 0, "the stream is said to be another replica's");
  if ((lastEvent ?? 0) > seq) return bad("fork", seq + 1, "an event beyond the end of the stream");
  if ((lastEvent ?? 0) < seq) return bad("truncated", (lastEvent ?? 0) + 1, "the stream's last events are gone");
  if ((lastBatch ?? 0) > seq) return bad("fork", lastBatch ?? 0, "a batch beyond the end of the stream");
  if (firstBatch !== null && firstBatch !== 1) return bad("gap", 1, "the stream's first batch is gone or moved");
  if (seq === 0 && !stream.hash.equals(start))
    return bad("hash", 0, "an empty stream has another hash than its name's");
  return undefined;
}

/** `<replica>.<writer>.<count>`, and `control`, which all replicas share. */
function isOfReplica(id: string, replica: string): boolean {
  if (id === "control") return replica === "all";
  return id.startsWith(`${replica}.`) && /^[a-z]+\.\d+$/.test(id.slice(replica.length + 1));
}

/** Up to where heads name a stream, and when the last head was signed. */
interface Tied {
  readonly namedSeq: number;
  readonly headAt: number;
}

/** The batch that the walk is in. */
interface OpenBatch {
  readonly first: EventWithBatch;
  readonly last: number;
  readonly hash: Buffer;
  readonly atMs: number;
  readonly digest: Hash;
}

/** Goes through a stream in order. */
interface Walk {
  /** Events that fit so far. */
  seq(): number;
  /** One more event; the first thing that is wrong with it. */
  step(row: EventWithBatch): LedgerProblem | undefined;
  /** After the last event. */
  end(lastSeq: number, hash: Buffer | null): LedgerProblem | undefined;
}

function walkOf(stream: string, start: Buffer, tied: Tied | undefined): Walk {
  const isGate = /\.gate\.\d+$/.test(stream);
  let before = start;
  let seq = 0;
  let batch: OpenBatch | undefined;
  const at = (where: number, kind: LedgerProblem["kind"], detail: string): LedgerProblem => ({
    stream,
    seq: where,
    kind,
    detail,
  });
  const bad = (row: EventWithBatch, detail: string, kind: LedgerProblem["kind"] = "hash"): LedgerProblem => ({
    stream,
    seq: row.seq,
    id: row.id,
    kind,
    detail,
  });

  function begin(row: EventWithBatch): LedgerProblem | undefined {
    const { last_seq: last, prev, hash, batch_at_ms: atMs } = row;
    if (last === null || prev === null || hash === null || atMs === null) {
      return batch ? undefined : at(row.seq, "gap", "the batch that begins here is gone");
    }
    if (batch) return at(row.seq, "fork", "a batch begins inside of another");
    if (!prev.equals(before)) return at(row.seq, "hash", "the batch does not follow the one before it");
    if (last < row.seq) return at(row.seq, "gap", "the batch ends before it begins");
    batch = { first: row, last, hash, atMs, digest: createHash("sha256").update(prev) };
    return undefined;
  }

  function finish({ first, hash, digest }: OpenBatch, row: EventWithBatch): LedgerProblem | undefined {
    const computed = digest.digest();
    if (!computed.equals(hash)) {
      return first.seq === row.seq
        ? bad(row, "the event was changed")
        : bad(first, `one of the events ${first.seq} to ${row.seq} was changed, or they changed places`);
    }
    before = computed;
    batch = undefined;
    return undefined;
  }

  function step(row: EventWithBatch): LedgerProblem | undefined {
    if (row.seq !== seq + 1) return at(seq + 1, "gap", "an event is missing here");
    const problem = begin(row);
    if (problem || !batch) return problem;
    if (row.at_ms !== batch.atMs) return bad(row, "its time is not that of its batch");
    const difference = differenceToBody(row, isGate);
    if (difference) return bad(row, difference);
    if (isUntied(row, tied)) return bad(row, "older than the last head, and no head names it", "head_mismatch");
    batch.digest.update(leafOf(row));
    seq = row.seq;
    return row.seq === batch.last ? finish(batch, row) : undefined;
  }

  return {
    seq: () => seq,
    step,
    end(lastSeq, hash) {
      if (batch || seq !== lastSeq) return at(seq + 1, "truncated", "the stream's last events are gone");
      return hash?.equals(before)
        ? undefined
        : at(lastSeq, "hash", "the stream's stored hash is not that of its events");
    },
  };
}

function isUntied(row: EventWithBatch, tied: Tied | undefined): boolean {
  if (!tied || row.seq <= tied.namedSeq) return false;
  return row.at_ms / 1000 < tied.headAt - LIMITS.untiedSeconds;
}

/** As `ephor.leaf` has it. */
function leafOf(row: EventWithBatch): Buffer {
  return createHash("sha256")
    .update(`${row.body}\n${row.decision}\n${row.reason ?? ""}`)
    .digest();
}

/** The columns that queries use must say what the hashed text says; and no two rows may hash alike. */
function differenceToBody(row: EventWithBatch, isGate: boolean): string | undefined {
  if (!/^(?:granted|refused|noted)$/.test(row.decision)) return "its decision is no decision";
  if (row.reason === "" || row.reason?.includes("\n") || row.body.includes("\n")) return "its text is not one line";
  const body = bodyOf(row.body);
  if (!body) return "its text is not an event";
  const told = (name: string): string | null => (typeof body[name] === "string" ? body[name] : null);
  // The gate gives no `jti` to what it refused: that token never was.
  const jti = isGate && row.decision === "refused" ? null : told("jti");
  const isSame =
    row.id === body["id"] &&
    row.type === body["type"] &&
    row.agent === told("agent") &&
    row.sub === told("sub") &&
    row.resource === told("resource") &&
    row.txn === told("txn") &&
    row.jti === jti &&
    row.trace_id === told("traceId");
  return isSame ? undefined : "a column differs from the text that was hashed";
}

function bodyOf(text: string): Record<string, unknown> | undefined {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null && !Array.isArray(body)
      ? (body as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}
