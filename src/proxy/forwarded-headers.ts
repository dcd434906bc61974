import { mayForward } from "../core/trust/resource-schema.ts";

/** Header lines, in order: names as they were written, and values. */
export type HeaderLines = readonly (readonly [name: string, value: string])[];

/** What a request's headers may say to an upstream: what it accepts, on which condition, and what the body is. */
const FORWARDED = new Set([
  "accept",
  "accept-language",
  "content-language",
  "content-type",
  "idempotency-key",
  "if-match",
  "if-modified-since",
  "if-none-match",
  "if-range",
  "if-unmodified-since",
  "last-event-id",
  "prefer",
  "range",
  "tracestate",
  "baggage",
]);

/** Servers that read headers as CGI variables take `X_Api_Key` for `X-Api-Key` (A-PRX-04). */
function spelled(name: string): string {
  return name.toLowerCase().replaceAll("_", "-");
}

/**
 * The headers of a caller's request that go to the upstream: those of a closed list and those that the resource names, save
 * what `Connection` names (RFC 9110 §7.6.1) and every spelling of the header that is injected (A-PRX-02 to A-PRX-05).
 *
 * @param lines as they came
 * @param by.forward lower-case names that the resource adds
 * @param by.injected the header that we put in
 * @returns undefined where one of them stands there twice: two readers could take different ones
 */
export function forwardedHeaders(
  lines: HeaderLines,
  by: { readonly forward: ReadonlySet<string>; readonly injected: readonly string[] },
): Record<string, string> | undefined {
  const named = new Set(
    lines
      .filter(([name]) => name.toLowerCase() === "connection")
      .flatMap(([, value]) =>
        value
          .toLowerCase()
          .split(",")
          .map((token) => token.trim()),
      ),
  );
  const injected = new Set(by.injected.map(spelled));
  const kept: Record<string, string> = Object.create(null) as Record<string, string>;
  for (const [written, value] of lines) {
    const name = written.toLowerCase();
    const isWanted = FORWARDED.has(name) || (by.forward.has(name) && mayForward(spelled(name)));
    if (!isWanted || named.has(name) || injected.has(spelled(name))) continue;
    if (kept[name] !== undefined) return undefined;
    kept[name] = value;
  }
  return kept;
}

/** Of an answer: how it was framed, who the upstream thinks is asking, and what would act on Ephor's own origin. */
const KEPT_BACK =
  /^(?:connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|content-length|content-encoding|set-cookie2?|www-authenticate|authorization|authentication-info|alt-svc|strict-transport-security|public-key-pins.*|clear-site-data|access-control-.*|content-security-policy.*|x-content-type-options|referrer-policy|dpop-nonce|cross-origin-.*|permissions-policy|refresh|service-worker-allowed|sourcemap|x-sourcemap|report-to|nel|reporting-endpoints|via|server-timing|cache-control|pragma|expires|age|vary|date|x-request-id|x-accel-.*|mcp-session-id)$/;

/** On every relayed answer: it is one agent's alone (INV-19), and a page in it must not run under our name. */
export const RELAYED: HeaderLines = [
  ["Cache-Control", "no-store"],
  ["Content-Security-Policy", "default-src 'none'; sandbox"],
  ["X-Content-Type-Options", "nosniff"],
  ["Referrer-Policy", "no-referrer"],
];

const FIELD_NAME = /^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}$/;
// oxlint-disable-next-line no-control-regex -- what may not stand in a field value is looked for (RFC 9110 §5.5)
const BAD_VALUE = /[\u0000-\u0008\u000a-\u001f\u007f]/;

/**
 * The headers of an upstream's answer that go to the caller.
 *
 * @param raw names and values, alternately, as the upstream sent them
 * @param hides whether a name or a value holds a secret of ours (A-PRX-09)
 */
export function relayedHeaders(
  raw: readonly string[],
  hides: (text: string) => boolean,
): (readonly [string, string])[] {
  const named = new Set<string>();
  for (let i = 0; i < raw.length; i += 2)
    if (raw[i]?.toLowerCase() === "connection")
      for (const token of (raw[i + 1] ?? "").toLowerCase().split(",")) named.add(token.trim());
  const kept: (readonly [string, string])[] = [];
  for (let i = 0; i < raw.length; i += 2) {
    const name = raw[i] as string;
    const value = raw[i + 1] as string;
    const lower = name.toLowerCase();
    if (KEPT_BACK.test(lower) || named.has(lower) || !FIELD_NAME.test(name) || BAD_VALUE.test(value)) continue;
    if (hides(name) || hides(value)) continue;
    kept.push([name, value]);
  }
  return kept;
}

/** A header of an upstream's answer. @param wanted lower case */
export function rawHeader(raw: readonly string[], wanted: string): string | undefined {
  for (let i = 0; i < raw.length; i += 2) if (raw[i]?.toLowerCase() === wanted) return raw[i + 1];
  return undefined;
}

/** Whether a body is not in the bytes that it stands for, by any of the lines that may say so: it cannot be looked through. */
export function isEncoded(raw: readonly string[]): boolean {
  return raw.some((name, at) => {
    const plain = at % 2 === 0 ? PLAIN_CODINGS.get(name.toLowerCase()) : undefined;
    return plain !== undefined && !plain.test(raw[at + 1] ?? "");
  });
}

/** What a body may say of its coding; which chunks it came in, we have put together. */
const PLAIN_CODINGS: ReadonlyMap<string, RegExp> = new Map([
  ["content-encoding", /^identity$/i],
  ["transfer-encoding", /^\s*(?:(?:chunked|identity)\s*(?:,\s*|$))*$/i],
]);
