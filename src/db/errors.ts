import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";

/** The database cannot be reached, refuses writes, or did not answer in time: 503, nothing is guessed (CONTRACT §2 rule 8). */
export class DatabaseUnreachableError extends TemporarilyUnavailableError {
  /** True when the statement may have been executed all the same. */
  readonly outcomeUnknown: boolean;

  constructor(detail: { outcomeUnknown: boolean; sqlState?: string }) {
    super({ reason: "database_unreachable", ...(detail.sqlState ? { sqlState: detail.sqlState } : {}) });
    this.outcomeUnknown = detail.outcomeUnknown;
  }
}

/** A statement failed. Carries the SQLSTATE and the name of the statement; never its parameters. */
export class DatabaseError extends Error {
  readonly sqlState: string;
  /** The same, under the name that logs look for. */
  readonly code: string;
  readonly constraint: string | undefined;

  constructor(detail: { sqlState: string; constraint?: string | undefined; message: string }) {
    super(detail.message);
    this.name = "DatabaseError";
    this.sqlState = detail.sqlState;
    this.code = detail.sqlState;
    this.constraint = detail.constraint;
  }
}

/** The database is not one we may use. The message says what to do. */
export class UnsuitableDatabaseError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "UnsuitableDatabaseError";
  }
}

/** SQLSTATE classes and codes after which another try, later, may succeed: connection, resources, shutdown, read-only. */
const UNREACHABLE = /^(08...|53...|57P0.|57014|25006|55P03|40...)$/;

/**
 * Turns what pg throws into one of ours. pg's own messages can quote values, so only the SQLSTATE's fixed text is kept.
 *
 * @param sent whether the statement had been handed to the socket
 */
export function toDatabaseError(error: unknown, sent: boolean): DatabaseUnreachableError | DatabaseError {
  if (error instanceof DatabaseUnreachableError || error instanceof DatabaseError) return error;
  const code = sqlStateOf(error);
  if (code === undefined) return new DatabaseUnreachableError({ outcomeUnknown: sent });
  if (UNREACHABLE.test(code)) {
    return new DatabaseUnreachableError({ outcomeUnknown: sent && code.startsWith("57P"), sqlState: code });
  }
  const constraint = (error as { constraint?: string }).constraint;
  return new DatabaseError({
    sqlState: code,
    constraint,
    message: `the database refused a statement (SQLSTATE ${code})`,
  });
}

/** A five-character SQLSTATE, or undefined for errors of the socket. */
function sqlStateOf(error: unknown): string | undefined {
  const code = (error as { code?: unknown } | null)?.code;
  const severity = (error as { severity?: unknown } | null)?.severity;
  return typeof code === "string" && typeof severity === "string" && /^[0-9A-Z]{5}$/.test(code) ? code : undefined;
}
