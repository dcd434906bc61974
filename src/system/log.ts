import { pino } from "pino";
import type { DestinationStream, Logger } from "pino";
import { createLineSink, type LineSink } from "./line-sink.ts";

/** How much is logged. `silent` is for tests. */
export type LogLevel = "debug" | "info" | "warn" | "error" | "silent";

/**
 * What a log line may say beside its event. The list is closed, in the types and at run time: a member that is not here is
 * dropped, so that no token, secret, header or body can slip into a line (INV-15). Names, ids, counts and our own words only.
 */
export interface LogFields {
  readonly requestId?: string | undefined;
  readonly eventId?: string | undefined;
  readonly killId?: string | undefined;
  readonly agent?: string | undefined;
  readonly issuer?: string | undefined;
  readonly resource?: string | undefined;
  readonly txn?: string | undefined;
  readonly jti?: string | undefined;
  readonly kid?: string | undefined;
  readonly reason?: string | undefined;
  /** OAuth error code, SQLSTATE or Node's `code`. */
  readonly code?: string | undefined;
  readonly status?: number | undefined;
  readonly method?: string | undefined;
  /** The pattern of the route, never the path as it was asked for. */
  readonly route?: string | undefined;
  /** A file or folder of ours, or the issuer's document that was fetched; never with a query. */
  readonly path?: string | undefined;
  readonly address?: string | undefined;
  readonly port?: number | undefined;
  readonly ms?: number | undefined;
  readonly count?: number | undefined;
  readonly bytes?: number | undefined;
  readonly version?: number | string | undefined;
  readonly replica?: string | undefined;
  readonly stream?: string | undefined;
  readonly lane?: number | undefined;
  readonly phase?: string | undefined;
  readonly step?: string | undefined;
  readonly name?: string | undefined;
  readonly kind?: string | undefined;
  readonly source?: string | undefined;
  readonly outcome?: string | undefined;
  readonly signal?: string | undefined;
  readonly pid?: number | undefined;
  readonly attempt?: number | undefined;
  readonly skewMs?: number | undefined;
  /** One of our own fixed sentences: what it means for the operator, and the mend. */
  readonly note?: string | undefined;
  /** What a local server wrote to its standard error, one line, without its secrets. */
  readonly stderr?: string | undefined;
  /** Whatever was thrown. Its class, code and stack frames are logged; its message is not, for it may quote data. */
  readonly err?: unknown;
}

/** Structured logging, one JSON object a line. */
export interface Log {
  debug(event: string, fields?: LogFields): void;
  info(event: string, fields?: LogFields): void;
  warn(event: string, fields?: LogFields): void;
  error(event: string, fields?: LogFields): void;
  /** A log whose every line also carries these fields. */
  child(fields: LogFields): Log;
}

/** Longest string a field may carry, in characters: ids and names are shorter, and nobody can fill the disk by one line. */
const MAX_FIELD_CHARACTERS = 500;
/** Frames of a stack that are worth their bytes. */
const MAX_FRAMES = 12;
/** How deep `cause` is followed. */
const MAX_CAUSES = 4;

const ALLOWED: Record<Exclude<keyof LogFields, "err">, true> = {
  requestId: true,
  eventId: true,
  killId: true,
  agent: true,
  issuer: true,
  resource: true,
  txn: true,
  jti: true,
  kid: true,
  reason: true,
  code: true,
  status: true,
  method: true,
  route: true,
  path: true,
  address: true,
  port: true,
  ms: true,
  count: true,
  bytes: true,
  version: true,
  replica: true,
  stream: true,
  lane: true,
  phase: true,
  step: true,
  name: true,
  kind: true,
  source: true,
  outcome: true,
  signal: true,
  pid: true,
  attempt: true,
  skewMs: true,
  note: true,
  stderr: true,
};

/**
 * @param options `destination` takes the lines; default: standard error, so that standard output stays for data
 * @returns a log that writes allow-listed fields only
 */
export function createLog(options: { level: LogLevel; destination?: DestinationStream }): Log {
  const logger: Logger = pino(
    {
      level: options.level,
      base: null,
      messageKey: "event",
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    options.destination ?? standardError(),
  );
  return logOver(logger, {});
}

let shared: LineSink | undefined;

/** Standard error, written behind the event loop's back and flushed at the end. One for the process, for there is one descriptor. */
function standardError(): DestinationStream {
  if (shared === undefined) {
    // Looking at the stream is what makes a pipe one that does not block.
    const sink = createLineSink((process.stderr as { fd?: number }).fd ?? 2);
    process.on("exit", sink.flushSync);
    shared = sink;
  }
  return shared;
}

/** Lines of this process that nobody will read: the disk was full, the pipe closed, or its reader too slow (A-OPS-05). */
export function droppedLogLines(): number {
  return shared?.dropped() ?? 0;
}

function logOver(logger: Logger, always: LogFields): Log {
  const write = (level: "debug" | "info" | "warn" | "error", event: string, fields: LogFields | undefined): void => {
    if (!logger.isLevelEnabled(level)) return;
    logger[level](presentable({ ...always, ...fields }), event);
  };
  return {
    debug: (event, fields) => write("debug", event, fields),
    info: (event, fields) => write("info", event, fields),
    warn: (event, fields) => write("warn", event, fields),
    error: (event, fields) => write("error", event, fields),
    child: (fields) => logOver(logger, { ...always, ...fields }),
  };
}

function presentable(fields: LogFields): Record<string, unknown> {
  const line: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(fields)) {
    if (name === "err") {
      if (value !== undefined) line["err"] = describeError(value);
    } else if (Object.hasOwn(ALLOWED, name)) {
      // Anything but a scalar could hide members that nobody listed.
      if (typeof value === "string") line[name] = value.slice(0, MAX_FIELD_CHARACTERS);
      else if (typeof value === "number" || typeof value === "boolean") line[name] = value;
    }
  }
  return line;
}

/** What may be said of a thrown value: its class, its code, where it was thrown, and the same of its causes. Never its message. */
export interface ErrorDescription {
  readonly name: string;
  readonly code?: string;
  readonly reason?: string;
  readonly at?: readonly string[];
  readonly cause?: ErrorDescription;
}

/**
 * Describes a thrown value without quoting it: messages of parsers, databases and upstreams carry the data they choked on.
 *
 * @param thrown anything
 */
export function describeError(thrown: unknown, depth = 0): ErrorDescription {
  if (!(thrown instanceof Error)) return { name: typeof thrown };
  const { code, reason } = thrown as { code?: unknown; reason?: unknown };
  const frames = (thrown.stack ?? "").split("\n").filter((line) => /^\s+at /.test(line));
  return {
    name: thrown.name.slice(0, MAX_FIELD_CHARACTERS),
    ...(typeof code === "string" && { code: code.slice(0, MAX_FIELD_CHARACTERS) }),
    ...(typeof reason === "string" && { reason: reason.slice(0, MAX_FIELD_CHARACTERS) }),
    ...(frames.length > 0 && {
      at: frames.slice(0, MAX_FRAMES).map((line) => line.trim().slice(0, MAX_FIELD_CHARACTERS)),
    }),
    ...(thrown.cause !== undefined && depth < MAX_CAUSES && { cause: describeError(thrown.cause, depth + 1) }),
  };
}
