import type { ExportQuery } from "../api/audit.ts";
import type { Db } from "../db/database.ts";
import { conditionOf, type Condition } from "./filter.ts";
import { ocsfEvent } from "./ocsf.ts";
import { auditEventOf, EVENT_COLUMNS, type StoredEvent } from "./query.ts";

/** Rows read at a time: an export of any length takes the same memory. */
const PAGE_ROWS = 500;

/**
 * Events, oldest first, one line each with its line end. In the default format `body` is a string, the exact text that was
 * hashed together with `decision` and `reason`; by `ocsf` each line is an event of the Open Cybersecurity Schema Framework.
 *
 * @throws {InvalidRequestError} `parameter_invalid` for a bad time, before the first line
 */
export function exportEvents(db: Db, query: ExportQuery): AsyncGenerator<string> {
  const condition = conditionOf(query);
  const lineOf = query.format === "ocsf" ? ocsfLine : nativeLine;
  return lines(db, condition, lineOf);
}

/**
 * Page by page, up to the last event there was at the start. No connection is held between pages: a slow reader of a long
 * export must not keep one from the requests that need it.
 */
async function* lines(db: Db, condition: Condition, lineOf: (row: StoredEvent) => string): AsyncGenerator<string> {
  const [end] = await db.query<{ id: string | null }>("select max(id) as id from ephor.events");
  if (typeof end?.id !== "string") return;
  const n = condition.params.length;
  // An id is given once; should one be there twice, `verify` says so and the export shows both.
  const sql = `select ${EVENT_COLUMNS} from ephor.events
    where ${condition.sql} and id <= $${n + 1} and id >= $${n + 2} and (id, stream, seq) > ($${n + 2}, $${n + 3}, $${n + 4}::bigint)
    order by id, stream, seq limit ${PAGE_ROWS}`;
  let after: readonly [string, string, number] = ["", "", 0];
  for (;;) {
    const rows = await db.query<StoredEvent>(sql, [...condition.params, end.id, ...after]);
    for (const row of rows) yield lineOf(row);
    const last = rows.at(-1);
    if (!last || rows.length < PAGE_ROWS) return;
    after = [last.id, last.stream, last.seq];
  }
}

function nativeLine(row: StoredEvent): string {
  return line({ ...auditEventOf(row), body: row.body });
}

function ocsfLine(row: StoredEvent): string {
  return line(ocsfEvent(auditEventOf(row)));
}

/**
 * JSON on one line. What JSON leaves as it is and a terminal or a line reader would act on is escaped too: DEL, the C1
 * controls, line and paragraph separators, and marks that turn the direction of text or have no width (A-AUD-05).
 */
function line(value: object): string {
  const escaped = JSON.stringify(value).replace(
    /[\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
  return `${escaped}\n`;
}
