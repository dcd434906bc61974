import { readTraceparent } from "../core/oauth/traceparent.ts";
import type { HeaderLines } from "./forwarded-headers.ts";

/** The caller's trace: for the record, and to go on through us (W3C Trace Context §3.2; MCP 2026-07-28, `_meta`). */
export interface CallTrace {
  readonly id: string | undefined;
  /** What the upstream is sent. */
  readonly headers: Readonly<Record<string, string>>;
}

/** @param meta of an MCP message; the header, which infrastructure writes, counts before it */
export function traceOf(headers: HeaderLines, meta?: Readonly<Record<string, unknown>>): CallTrace {
  const given = headers.filter(([name]) => name.toLowerCase() === "traceparent");
  const text = given.length === 1 ? given[0]?.[1] : meta?.["traceparent"];
  const parent = typeof text === "string" ? readTraceparent(text) : undefined;
  return parent === undefined
    ? { id: undefined, headers: {} }
    : { id: parent.traceId, headers: { traceparent: text as string } };
}
