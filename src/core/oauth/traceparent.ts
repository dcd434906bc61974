/** The caller's place in a distributed trace. */
export interface TraceParent {
  /** 32 lower-case hexadecimal digits. */
  readonly traceId: string;
  /** 16 lower-case hexadecimal digits. */
  readonly parentId: string;
  readonly isSampled: boolean;
}

/** Version 00 has exactly these fields; later ones may add more behind a dash. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/;

/** Longest header that is looked at: 55 characters of version 00, and room for later ones. */
const MAX_CHARACTERS = 256;

/**
 * The trace context of a `traceparent` header; undefined when there is none or it is invalid, for a bad one is ignored.
 *
 * @see W3C Trace Context §3.2 (traceparent header), §4.3
 */
export function readTraceparent(value: string | undefined): TraceParent | undefined {
  if (value === undefined || value.length > MAX_CHARACTERS) return undefined;
  const [, version = "ff", traceId = "", parentId = "", flags = "", more] = TRACEPARENT.exec(value) ?? [];
  if (version === "ff" || (version === "00" && more !== undefined)) return undefined;
  if (/^0+$/.test(traceId) || /^0+$/.test(parentId)) return undefined;
  return { traceId, parentId, isSampled: (Number.parseInt(flags, 16) & 1) === 1 };
}
