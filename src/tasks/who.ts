import type { Who } from "../api/who.ts";
import { firstIdAt } from "../audit/filter.ts";
import { bodyOf } from "../audit/query.ts";
import type { Db } from "../db/database.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { issuedColumns, readIssued, tokenStatus, type IssuedRow } from "./issued.ts";
import { deadSql, placeStatus } from "./state.ts";
import { leaseMatches } from "./who-lease.ts";

/** Chains that one trace id may lead to in an answer. */
const MAX_MATCHES = 100;
/** The two are made one after the other by the same process; the slack is for a busy one. */
const KILL_EVENT_WITHIN_SECONDS = 10;

/** One thing that an id names, and who is behind it. */
type WhoMatch = Who["matches"][number];

const ULID = /^[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const TRACE_ID = /^[0-9a-f]{32}$/;
const EVENT_ID = /^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const KILL_ID = /^kill_[0-7][0-9A-HJKMNP-TV-Z]{25}$/;

const ISSUED = `
  select ${issuedColumns(deadSql("h", "$2"))}, n.ended_at as node_ended_at, ${deadSql("n", "$2")} as node_dead, t.ended_at as task_ended_at, t.deadline
  from ephor.events e left join ephor.hops h on h.jti = e.jti
  left join ephor.nodes n on n.id = h.node left join ephor.tasks t on t.txn = h.txn`;

interface WhoRow extends IssuedRow {
  readonly node_ended_at: number | null;
  readonly node_dead: boolean | null;
  readonly task_ended_at: number | null;
  readonly deadline: number | null;
}

interface PlaceRow {
  id: string;
  txn: string;
  opener: string;
  sub: string;
  purpose: string | null;
  path: string[];
  ceiling: string[] | null;
  at: number;
  deadline: number;
  ended_at: number | null;
  dead: boolean;
}

/**
 * Who is behind an id: a `jti`, a `txn`, a node, a trace id, an event, a kill, a lease, or a name under which an upstream shows
 * what was vended. Reads the ledger, so that it answers after everything has expired too. An id that is several things leads
 * to all of them. No claim of a human leaves but the `sub`.
 *
 * @returns no match for an id that names nothing; so does the SHA-256 of a token of Ephor's own, because none is recorded
 */
export async function whoIs(deps: { db: Db; clock: DatabaseClock }, id: string): Promise<Who> {
  const now = deps.clock.now();
  const vended = await withOwners(deps.db, await leaseMatches(deps.db, id));
  return { id, matches: [...(await matchesOf(deps.db, id, now)), ...vended] };
}

async function matchesOf(db: Db, id: string, now: number): Promise<WhoMatch[]> {
  if (EVENT_ID.test(id)) {
    const rows = await db.query<WhoRow>(`${ISSUED} where e.id = $1 limit 1`, [id, now]);
    return withOwners(
      db,
      rows.map((row) => ({ kind: "event", ...matchOf(row, now) })),
    );
  }
  if (KILL_ID.test(id)) return await killMatches(db, id);
  if (TRACE_ID.test(id)) return await traceMatches(db, id, now);
  if (!ULID.test(id)) return [];
  const tokens = await db.query<WhoRow>(`${ISSUED} where e.jti = $1 and e.type = 'token.issue' limit 2`, [id, now]);
  const places = await placeMatches(db, "n.id = $1", id, now);
  const known = places.some((place) => place.kind === "txn") ? [] : await sweptTask(db, id, now);
  const jtis = tokens.map((row): WhoMatch => ({ kind: "jti", ...matchOf(row, now) }));
  return await withOwners(db, [...jtis, ...places, ...known]);
}

function matchOf(row: WhoRow, now: number): Omit<WhoMatch, "kind"> {
  const issued = readIssued(row);
  const isToken = row.type === "token.issue" && row.decision === "granted";
  const place =
    row.deadline === null
      ? undefined
      : placeStatus(
          { dead: row.node_dead === true, endedAt: row.node_ended_at ?? row.task_ended_at, deadline: row.deadline },
          now,
        );
  return {
    event_id: row.id,
    at: issued.iat,
    ...(row.txn !== null && { txn: row.txn }),
    ...(row.jti !== null && { jti: row.jti }),
    ...(row.sub !== null && { sub: row.sub }),
    ...(row.resource !== null && { resource: row.resource }),
    ...pathOf(issued.path, row.agent),
    ...(issued.owner !== undefined && { owner: issued.owner }),
    ...(issued.purpose !== undefined && { purpose: issued.purpose }),
    ...(issued.scopes.length > 0 && { scopes: issued.scopes }),
    ...(issued.grants.length > 0 && { grants: issued.grants }),
    ...(isToken && { exp: issued.exp, status: tokenStatus({ dead: row.dead, exp: issued.exp }, place, now) }),
  };
}

function pathOf(path: string[], agent: string | null): { path?: string[] } {
  if (path.length > 0) return { path };
  return agent === null ? {} : { path: [agent] };
}

/** Tasks and nodes that are still kept. */
async function placeMatches(db: Db, where: string, id: string, now: number): Promise<WhoMatch[]> {
  const rows = await db.query<PlaceRow>(
    `select n.id, n.txn, t.opener, t.sub, t.purpose, n.path, coalesce(n.ceiling, t.ceiling) as ceiling, n.made_at as at, t.deadline,
       coalesce(n.ended_at, t.ended_at) as ended_at, ${deadSql("n", "$2")} as dead
     from ephor.nodes n join ephor.tasks t on t.txn = n.txn where ${where} order by n.made_at, n.id limit ${MAX_MATCHES}`,
    [id, now],
  );
  return rows.map((row) => ({
    kind: row.id === row.txn ? "txn" : "node",
    txn: row.txn,
    sub: row.sub,
    path: row.path,
    at: row.at,
    exp: row.deadline,
    status: placeStatus({ dead: row.dead, endedAt: row.ended_at, deadline: row.deadline }, now),
    ...(row.purpose !== null && { purpose: row.purpose }),
    ...(row.ceiling !== null && { scopes: row.ceiling }),
  }));
}

/** A task whose row is gone: its first event still tells who opened it. */
async function sweptTask(db: Db, txn: string, now: number): Promise<WhoMatch[]> {
  const rows = await db.query<WhoRow>(
    `${ISSUED} where e.txn = $1 and e.decision = 'granted' and not exists (select 1 from ephor.tasks where txn = $1) order by e.id limit 1`,
    [txn, now],
  );
  return rows.map((row) => {
    const {
      jti: _jti,
      exp: _exp,
      status: _status,
      resource: _resource,
      scopes: _scopes,
      grants: _grants,
      ...match
    } = matchOf(row, now);
    return { kind: "txn", ...match, status: "expired" };
  });
}

/** Every chain that carried the trace. */
async function traceMatches(db: Db, traceId: string, now: number): Promise<WhoMatch[]> {
  const rows = await db.query<WhoRow>(
    `select distinct on (q.txn) q.* from (${ISSUED} where e.trace_id = $1 and e.txn is not null order by e.id limit 10000) q
     order by q.txn, q.id limit ${MAX_MATCHES}`,
    [traceId, now],
  );
  return await withOwners(
    db,
    rows.map((row) => ({ kind: "trace", ...matchOf(row, now) })),
  );
}

/** A kill names who struck and why; its event lies within seconds of it. */
async function killMatches(db: Db, id: string): Promise<WhoMatch[]> {
  const [kill] = await db.query<{ at_ms: number; actor: string; reason: string; restored_at_ms: number | null }>(
    "select at_ms, actor, reason, restored_at_ms from ephor.kills where id = $1",
    [id],
  );
  if (!kill) return [];
  const at = Math.floor(kill.at_ms / 1000);
  const [event] = await db.query<{ id: string }>(
    `select id from ephor.events where id >= $1 and id < $2 and type in ('kill', 'token.revoke') and strpos(body, $3) > 0
     order by id limit 1`,
    [firstIdAt(at - 1), firstIdAt(at + KILL_EVENT_WITHIN_SECONDS), id],
  );
  return [
    {
      kind: "kill",
      path: [kill.actor],
      purpose: kill.reason,
      at,
      ...(event && { event_id: event.id }),
      ...(kill.restored_at_ms !== null && { status: "ended" as const }),
    },
  ];
}

/** Adds who answered for each agent at the time: the events of the same task say so. */
async function withOwners(db: Db, matches: WhoMatch[]): Promise<WhoMatch[]> {
  const txns = [...new Set(matches.map((match) => match.txn).filter((txn) => txn !== undefined))];
  if (txns.length === 0) return matches;
  const rows = await db.query<{ txn: string; agent: string; body: string }>(
    `select distinct on (e.txn, e.agent) e.txn, e.agent, e.body from ephor.events e
     where e.txn = any($1) and e.agent is not null and e.decision = 'granted' and e.type in ('token.issue', 'task.open')
     order by e.txn, e.agent, e.id`,
    [txns],
  );
  const told = rows.flatMap(({ txn, agent, body }) => {
    const { owner } = bodyOf(body);
    return typeof owner === "string" ? [{ txn, agent, owner }] : [];
  });
  return matches.map((match) => {
    const own = told.filter((row) => row.txn === match.txn && match.path?.includes(row.agent));
    const owners = Object.fromEntries(own.map((row) => [row.agent, row.owner]));
    const owner = match.owner ?? owners[match.path?.at(-1) ?? ""];
    return { ...match, ...(owner !== undefined && { owner }), ...(own.length > 0 && { owners }) };
  });
}
