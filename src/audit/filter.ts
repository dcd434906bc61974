import type { AuditQuery } from "../api/audit.ts";
import { InvalidRequestError } from "../core/oauth/errors.ts";
import { ulid } from "../system/random.ts";

/** Which events: what a query and an export have in common. */
export type EventFilter = Pick<
  AuditQuery,
  | "since"
  | "until"
  | "type"
  | "decision"
  | "reason"
  | "agent"
  | "sub"
  | "resource"
  | "txn"
  | "jti"
  | "trace"
  | "would_refuse"
>;

/** A condition of SQL with its bound parameters. */
export interface Condition {
  readonly sql: string;
  readonly params: unknown[];
}

/** The only columns that a query may name. */
const COLUMNS = {
  type: "type",
  decision: "decision",
  reason: "reason",
  agent: "agent",
  sub: "sub",
  resource: "resource",
  txn: "txn",
  jti: "jti",
  trace: "trace_id",
} as const satisfies Partial<Record<keyof EventFilter, string>>;

const EVENT_ID = /^evt_[0-7][0-9A-HJKMNP-TV-Z]{25}$/;
const ULID_TIME_CHARACTERS = 10;
/** The first second that a ULID cannot name. */
const END_OF_TIME = Math.floor(2 ** 48 / 1000);

/**
 * The condition for a filter. Time is that of the event's id, which is part of the hashed text: `since` is the first second
 * that counts, `until` the first one that does not.
 *
 * @param after an event's id: only older events
 * @throws {InvalidRequestError} `parameter_invalid` when a time or the cursor is none
 */
export function conditionOf(filter: EventFilter, after?: string): Condition {
  const parts: string[] = [];
  const params: unknown[] = [];
  const add = (sql: (placeholder: string) => string, value: unknown): void => {
    params.push(value);
    parts.push(sql(`$${params.length}`));
  };
  for (const [name, column] of Object.entries(COLUMNS)) {
    const value = filter[name as keyof typeof COLUMNS];
    if (value !== undefined) add((placeholder) => `${column} = ${placeholder}`, value);
  }
  // JSON escapes the quotes of a text, so no text can hold this.
  if (filter.would_refuse !== undefined) parts.push(`type = 'call.forward' and strpos(body, ',"would_refuse":"') > 0`);
  if (filter.since !== undefined) add((placeholder) => `id >= ${placeholder}`, firstIdAt(filter.since));
  if (filter.until !== undefined) add((placeholder) => `id < ${placeholder}`, firstIdAt(filter.until));
  if (after !== undefined) {
    if (!EVENT_ID.test(after))
      throw new InvalidRequestError({ reason: "parameter_invalid", help: "after must be `next` of a page." });
    add((placeholder) => `id < ${placeholder}`, after);
  }
  return { sql: parts.length === 0 ? "true" : parts.join(" and "), params };
}

/**
 * The smallest id that an event of this second can have.
 *
 * @throws {InvalidRequestError} `parameter_invalid` for what is no time
 */
export function firstIdAt(seconds: number): string {
  if (!Number.isSafeInteger(seconds) || seconds < 0 || seconds >= END_OF_TIME) {
    throw new InvalidRequestError({
      reason: "parameter_invalid",
      help: "since and until are whole seconds since the epoch.",
    });
  }
  return `evt_${ulid(seconds * 1000).slice(0, ULID_TIME_CHARACTERS)}${"0".repeat(16)}`;
}
