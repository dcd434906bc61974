import { MIN_VERIFICATION_SECONDS, SSF_DELIVERY, SSF_EVENT } from "../core/kill/ssf-vocabulary.ts";
import type { EventRow } from "../audit/event.ts";
import type { Db } from "../db/database.ts";
import type { Sealed } from "../vault/envelope.ts";
import type { Place } from "../vault/place.ts";
import type { SealedColumn } from "../vault/rewrap.ts";
import type { SsfEvent } from "./ssf-events.ts";

/** Whether a stream runs. */
export type SsfStatus = "enabled" | "paused" | "disabled";

/** A stream as it is stored. */
export interface SsfStream {
  readonly id: string;
  readonly receiver: string;
  readonly resource: string | null;
  readonly aud: string;
  readonly method: "push" | "poll";
  readonly endpoint_url: string | null;
  readonly internal: boolean;
  readonly header: unknown;
  readonly header_version: number;
  readonly events_requested: readonly string[] | null;
  readonly description: string | null;
  readonly status: SsfStatus;
  readonly status_reason: string | null;
  readonly taken: number;
  readonly attempts: number;
  readonly failing_since_ms: number | null;
}

/** What its receiver decides. */
export interface SsfSettings {
  readonly method: "push" | "poll";
  readonly endpointUrl: string | null;
  readonly internal: boolean;
  readonly header: Sealed | null;
  readonly headerVersion: number;
  readonly eventsRequested: readonly string[] | null;
  readonly description: string | null;
}

/** Events that a stream may leave undelivered. A receiver that is behind by more has no use for them: the stream is disabled. */
export const MAX_BACKLOG = 10_000;

/** Where a push's `Authorization` header belongs: it opens for its own stream and version and nowhere else. */
export function headerPlace(id: string, version: number): Place {
  return { table: "ssf_streams", row: id, version, purpose: "authorization-header" };
}

/** Every header of every stream. */
export const SSF_HEADER_COLUMN: SealedColumn = {
  sort: "stream",
  table: "ephor.ssf_streams",
  column: "header",
  id: "id",
  facts: { version: "header_version" },
  place: ({ id, facts }) => headerPlace(id, Number(facts["version"])),
  label: ({ id }) => id,
};

/** The kinds of events that a stream carries beside its own. */
export function delivers(stream: Pick<SsfStream, "events_requested">): boolean {
  return stream.events_requested === null || stream.events_requested.includes(SSF_EVENT.sessionRevoked);
}

/** The registered name of a way to deliver. */
export function deliveryMethod(stream: Pick<SsfStream, "method">): (typeof SSF_DELIVERY)["push" | "poll"] {
  return SSF_DELIVERY[stream.method];
}

const COLUMNS = `s.id, s.receiver, s.resource, s.aud, s.method, s.endpoint_url, s.internal, s.header, s.header_version,
  s.events_requested, s.description, s.status, s.status_reason, s.taken, s.attempts, s.failing_since_ms`;
/** What a stream that does not run still says: that it does not. */
const DUE = "(s.status = 'enabled' or e.kind = 'stream-updated')";
/** Appends the row of the ledger in the same step, where something was changed. */
const RECORD = (params: string): string => `select changed.id, ephor.record_control(${params}) from changed`;

/** Streams and what they have not delivered. */
export interface SsfStore {
  /** @returns false where the receiver has one */
  create(
    stream: { id: string; receiver: string; resource: string | null; aud: string } & SsfSettings,
    at: { nowMs: number; event: EventRow },
  ): Promise<boolean>;
  byId(id: string): Promise<SsfStream | undefined>;
  list(receiver: string | undefined): Promise<readonly SsfStream[]>;
  /** @returns false where it is gone, or was changed meanwhile */
  change(
    id: string,
    settings: SsfSettings,
    at: { wasVersion: number; nowMs: number; event: EventRow },
  ): Promise<boolean>;
  remove(id: string, at: { nowMs: number; event: EventRow }): Promise<boolean>;
  /** Sets the status, tells the receiver, and drops what a disabled stream held. @returns false where it was so */
  setStatus(
    id: string,
    to: { status: SsfStatus; reason: string | null; told: SsfEvent },
    at: { nowMs: number; event: EventRow },
  ): Promise<boolean>;
  /** @returns false where it was asked too lately, or the stream is disabled */
  verify(id: string, told: SsfEvent, nowMs: number): Promise<boolean>;
  /** Events in order, as far as the stream's status lets them go. */
  next(id: string, limit: number): Promise<readonly SsfEvent[]>;
  /** They need not be sent again. @returns how many there were */
  settle(id: string, jtis: readonly string[], outcome: "delivered" | "refused"): Promise<number>;
}

/** The parameter of `jsonb_to_recordset` for {@link INSERT}. */
export function eventRows(events: readonly SsfEvent[]): string {
  return JSON.stringify(events);
}

/** Inserts the events of one JSON parameter for the streams in `moved`; an event that is there stays as it is. */
export function insertEvents(param: string): string {
  return `insert into ephor.ssf_events (stream, jti, kind, subject, event, txn, at)
    select moved.id, e.jti, e.kind, e.subject, e.event, e.txn, e.at
    from moved, jsonb_to_recordset(${param}::jsonb) as e(jti text, kind text, subject jsonb, event jsonb, txn text, at bigint)
    on conflict (stream, jti) do nothing`;
}

/** @param db the table's only users are here and in `ssf-intake` and `ssf-push` */
export function createSsfStore(db: Pick<Db, "query">): SsfStore {
  const settingsOf = (s: SsfSettings): unknown[] => [
    s.method,
    s.endpointUrl,
    s.internal,
    s.header === null ? null : JSON.stringify(s.header),
    s.headerVersion,
    s.eventsRequested,
    s.description,
  ];
  return {
    create: (stream, { nowMs, event }) =>
      hasRows(
        db,
        `with changed as (insert into ephor.ssf_streams (method, endpoint_url, internal, header, header_version,
           events_requested, description, id, receiver, resource, aud, status, taken, created_at_ms)
         select $1, $2, $3, $4::jsonb, $5, $6, $7, $8, $9, $10, $11, 'enabled', g.epoch, $12 from ephor.gate g where g.id = 1
         on conflict (receiver) do nothing returning id) ${RECORD("$12::bigint, $13::jsonb")}`,
        [...settingsOf(stream), stream.id, stream.receiver, stream.resource, stream.aud, nowMs, JSON.stringify(event)],
      ),
    byId: async (id) =>
      (await db.query<SsfStream>(`select ${COLUMNS} from ephor.ssf_streams s where s.id = $1`, [id]))[0],
    list: (receiver) =>
      db.query<SsfStream>(
        `select ${COLUMNS} from ephor.ssf_streams s where $1::text is null or s.receiver = $1 order by s.id limit 1000`,
        [receiver ?? null],
      ),
    // Whoever pushes now finds that his claim is gone.
    change: (id, settings, { wasVersion, nowMs, event }) =>
      hasRows(
        db,
        `with changed as (update ephor.ssf_streams set method = $1, endpoint_url = $2, internal = $3, header = $4::jsonb,
           header_version = $5, events_requested = $6, description = $7, claim = null, claimed_until_ms = 0, retry_at_ms = 0,
           attempts = 0, failing_since_ms = null, problem = null
         where id = $8 and header_version = $9 returning id) ${RECORD("$10::bigint, $11::jsonb")}`,
        [...settingsOf(settings), id, wasVersion, nowMs, JSON.stringify(event)],
      ),
    remove: (id, { nowMs, event }) =>
      hasRows(
        db,
        `with changed as (delete from ephor.ssf_streams where id = $1 returning id),
         gone as (delete from ephor.ssf_events where stream = $1)
         ${RECORD("$2::bigint, $3::jsonb")}`,
        [id, nowMs, JSON.stringify(event)],
      ),
    setStatus: (id, { status, reason, told }, { nowMs, event }) =>
      hasRows(
        db,
        // A stream that was disabled begins anew: what was killed meanwhile was dropped.
        `with changed as (update ephor.ssf_streams s set status = $2, status_reason = $3, claim = null, claimed_until_ms = 0,
           retry_at_ms = 0, attempts = 0, failing_since_ms = null,
           taken = case when s.status = 'disabled' then g.epoch else s.taken end
         from ephor.gate g where g.id = 1 and s.id = $1 and s.status <> $2 returning s.id),
         gone as (delete from ephor.ssf_events e using changed where $2 = 'disabled' and e.stream = changed.id),
         moved as (select id from changed), told as (${insertEvents("$4")})
         ${RECORD("$5::bigint, $6::jsonb")}`,
        [id, status, reason, eventRows([told]), nowMs, JSON.stringify(event)],
      ),
    ...createSsfQueue(db),
  };
}

async function hasRows(db: Pick<Db, "query">, sql: string, params: readonly unknown[]): Promise<boolean> {
  return (await db.query(sql, params)).length > 0;
}

/** What a stream has not delivered. */
function createSsfQueue(db: Pick<Db, "query">): Pick<SsfStore, "verify" | "next" | "settle"> {
  return {
    verify: (id, told, nowMs) =>
      hasRows(
        db,
        `with moved as (update ephor.ssf_streams set verified_at_ms = $2::bigint
           where id = $1 and status <> 'disabled' and verified_at_ms <= $2::bigint - ${MIN_VERIFICATION_SECONDS * 1_000} returning id),
         told as (${insertEvents("$3")}) select id from moved`,
        [id, nowMs, eventRows([told])],
      ),
    next: (id, limit) =>
      db.query<SsfEvent>(
        `select e.jti, e.kind, e.subject, e.event, e.txn, e.at from ephor.ssf_events e join ephor.ssf_streams s on s.id = e.stream
         where e.stream = $1 and ${DUE} order by e.id limit $2`,
        [id, limit],
      ),
    async settle(id, jtis, outcome) {
      if (jtis.length === 0) return 0;
      const [row] = await db.query<{ count: number }>(
        `with gone as (delete from ephor.ssf_events where stream = $1 and jti = any($2) returning 1),
         counted as (update ephor.ssf_streams set ${outcome} = ${outcome} + (select count(*) from gone) where id = $1)
         select count(*) as count from gone`,
        [id, jtis],
      );
      return row?.count ?? 0;
    },
  };
}

/** A stream that one replica may push for now. */
export interface ClaimedStream extends SsfStream {
  readonly claim: string;
}

/** Claims push streams that have something to say; nobody else pushes for them until then. */
export function claimStreams(
  db: Pick<Db, "query">,
  o: { claim: string; nowMs: number; untilMs: number; limit: number },
): Promise<readonly ClaimedStream[]> {
  return db.query<ClaimedStream>(
    `update ephor.ssf_streams s set claim = $1, claimed_until_ms = $3 where s.id in (
       select s.id from ephor.ssf_streams s where s.method = 'push' and s.claimed_until_ms <= $2 and s.retry_at_ms <= $2
         and exists (select 1 from ephor.ssf_events e where e.stream = s.id and ${DUE})
       order by s.retry_at_ms limit $4 for update skip locked)
     returning ${COLUMNS}, s.claim`,
    [o.claim, o.nowMs, o.untilMs, o.limit],
  );
}

/**
 * Keeps the claim, or gives it back with the time of the next try.
 *
 * @returns false where the stream was changed or taken meanwhile: whoever pushed for it stops
 */
export async function keepClaim(
  db: Pick<Db, "query">,
  stream: Pick<ClaimedStream, "id" | "claim">,
  to: { untilMs: number } | { retryAtMs: number; problem: string | null; nowMs: number },
): Promise<boolean> {
  const rows =
    "untilMs" in to
      ? await db.query(
          `update ephor.ssf_streams set claimed_until_ms = $3, attempts = 0, failing_since_ms = null, problem = null
           where id = $1 and claim = $2 returning id`,
          [stream.id, stream.claim, to.untilMs],
        )
      : await db.query(
          `update ephor.ssf_streams set claim = null, claimed_until_ms = 0, retry_at_ms = $3, problem = $4,
             attempts = case when $4::text is null then 0 else attempts + 1 end,
             failing_since_ms = case when $4::text is null then null else coalesce(failing_since_ms, $5) end
           where id = $1 and claim = $2 returning id`,
          [stream.id, stream.claim, to.retryAtMs, to.problem, to.nowMs],
        );
  return rows.length > 0;
}

/** How streams stand, for gauges: events that wait, the age of the oldest in seconds, and streams whose pushes fail. */
export async function countStreams(
  db: Pick<Db, "query">,
  nowMs: number,
): Promise<{ waiting: number; oldestSeconds: number; stuck: number }> {
  const [row] = await db.query<{ waiting: number; oldest: number | null; stuck: number }>(
    `select (select count(*) from ephor.ssf_events) as waiting,
       (select min(at) from ephor.ssf_events e join ephor.ssf_streams s on s.id = e.stream where ${DUE}) as oldest,
       (select count(*) from ephor.ssf_streams where failing_since_ms < $1) as stuck`,
    [nowMs - STUCK_MS],
  );
  const oldest = row?.oldest ?? undefined;
  return {
    waiting: row?.waiting ?? 0,
    oldestSeconds: oldest === undefined ? 0 : Math.max(0, Math.floor(nowMs / 1_000) - oldest),
    stuck: row?.stuck ?? 0,
  };
}

/** A stream whose pushes failed for so long is stuck, in milliseconds. */
const STUCK_MS = 60_000;
