import { MAX_EVENTS, type AuditEvent, type AuditPage, type AuditQuery } from "../api/audit.ts";
import { CANARY } from "../core/trust/canary.ts";
import { InvalidRequestError } from "../core/oauth/errors.ts";
import type { Db } from "../db/database.ts";
import { conditionOf } from "./filter.ts";

/** Events on a page when the query names no number. */
const DEFAULT_EVENTS = 100;

/** An event as it is stored. `body` is the exact text that was hashed. */
export interface StoredEvent {
  readonly stream: string;
  readonly seq: number;
  readonly id: string;
  readonly at_ms: number;
  readonly type: string;
  readonly decision: string;
  readonly reason: string | null;
  readonly agent: string | null;
  readonly sub: string | null;
  readonly resource: string | null;
  readonly txn: string | null;
  readonly jti: string | null;
  readonly trace_id: string | null;
  readonly body: string;
}

/** The columns of {@link StoredEvent}. */
export const EVENT_COLUMNS =
  "stream, seq, id, at_ms, type, decision, reason, agent, sub, resource, txn, jti, trace_id, body";

/**
 * A page of events, newest first. The cursor is an event's id, so a page neither shifts nor repeats while events are added.
 *
 * @throws {InvalidRequestError} `parameter_invalid` for a bad time, cursor or limit
 */
export async function queryEvents(db: Db, query: AuditQuery): Promise<AuditPage> {
  const limit = query.limit ?? DEFAULT_EVENTS;
  if (!Number.isSafeInteger(limit) || limit < 1 || limit > MAX_EVENTS) {
    throw new InvalidRequestError({ reason: "parameter_invalid", help: `limit must be 1 to ${MAX_EVENTS}.` });
  }
  const condition = conditionOf(query, query.after);
  // Its routine would crowd out everything on a quiet installation; whoever asks for it, or for one chain, sees it.
  const isRoutineShown = query.agent !== undefined || query.txn !== undefined || query.jti !== undefined;
  const routine = isRoutineShown ? "" : ` and (agent is distinct from '${CANARY}' or type = 'canary.failed')`;
  const rows = await db.query<StoredEvent>(
    `select ${EVENT_COLUMNS} from ephor.events where ${condition.sql}${routine} order by id desc limit ${limit + 1}`,
    condition.params,
  );
  const page = rows.slice(0, limit);
  const last = page.at(-1);
  return {
    events: page.map(auditEventOf),
    ...(rows.length > limit && last !== undefined && { next: last.id }),
  };
}

/** One event by its id, in the ledger's own words. */
export async function queryEventById(db: Db, id: string): Promise<AuditEvent | undefined> {
  const [row] = await db.query<StoredEvent>(`select ${EVENT_COLUMNS} from ephor.events where id = $1`, [id]);
  return row && auditEventOf(row);
}

/** The event in its wire shape. Its time is the one in the hashed text. */
export function auditEventOf(row: StoredEvent): AuditEvent {
  const body = bodyOf(row.body);
  const optional = (name: "reason" | "agent" | "sub" | "resource" | "txn" | "jti" | "trace_id"): object => {
    const value = row[name];
    return value === null ? {} : { [name]: value };
  };
  return {
    stream: row.stream,
    seq: row.seq,
    id: row.id,
    at: typeof body["at"] === "string" ? body["at"] : new Date(row.at_ms).toISOString(),
    type: row.type,
    decision: row.decision as AuditEvent["decision"],
    ...optional("reason"),
    ...optional("agent"),
    ...optional("sub"),
    ...optional("resource"),
    ...optional("txn"),
    ...optional("jti"),
    ...optional("trace_id"),
    body,
  };
}

/** The body's members; none when the text is not what we wrote, which is for `verify` to say. */
export function bodyOf(text: string): Record<string, unknown> {
  try {
    const body: unknown = JSON.parse(text);
    return typeof body === "object" && body !== null && !Array.isArray(body) ? (body as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}
