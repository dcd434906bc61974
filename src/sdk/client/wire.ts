/**
 * `sdk/client` owns how a program talks to Ephor over HTTP: the admin API, `/token`, and where platforms put a workload's
 * token. It keeps nothing, decides nothing, and reads no environment variable: what it needs is handed in. `cli` calls it;
 * it imports nothing of the server.
 *
 * This file: one request and its answer.
 */
import { ApiError, ConnectionError, type ApiErrorEntry, type ApprovalFacts } from "./errors.ts";

/** Bounds of a client. */
const LIMITS = {
  /** Milliseconds for a whole answer: a kill may wait 3 s for a replica, an apply of a large file some seconds. */
  timeoutMs: 30_000,
  /** Largest answer that is read into memory, in bytes: a page of 1,000 audit events. */
  answerBytes: 32 * 1024 * 1024,
  /** Longest line of a stream, in characters. */
  lineCharacters: 1024 * 1024,
  /** Longest text of an error that is kept, in characters. */
  detailCharacters: 1_000,
  /** Most entries of a problem that are kept. */
  entries: 200,
} as const;

/** A request. */
export interface WireRequest {
  readonly method: "GET" | "PUT" | "POST" | "DELETE";
  /** Below the server's URL, already encoded. */
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | undefined>>;
  readonly headers?: Readonly<Record<string, string>>;
  readonly json?: unknown;
  readonly form?: URLSearchParams;
  readonly timeoutMs?: number;
}

/** An answer that is no error. */
export interface WireAnswer {
  readonly status: number;
  readonly headers: Headers;
  readonly json: unknown;
}

/**
 * Sends one request and reads a JSON answer. No redirect is followed: the request may carry a key.
 *
 * @param base the server's URL without trailing slash
 * @throws {ApiError} for every status of 400 and above
 * @throws {ConnectionError}
 */
export async function callJson(base: string, request: WireRequest): Promise<WireAnswer> {
  const response = await send(base, request, AbortSignal.timeout(request.timeoutMs ?? LIMITS.timeoutMs));
  const text = await readText(response);
  const json = parse(text);
  if (response.status >= 400) throw apiError(response, json);
  const isEmpty = response.status === 204 && text === "";
  if ((json === undefined && !isEmpty) || response.status >= 300) throw new ConnectionError("not_ephor");
  return { status: response.status, headers: response.headers, json };
}

/** The same for an answer that may also be an error status with a body worth reading, such as `/readyz`. */
export async function callAnyStatus(base: string, request: WireRequest): Promise<WireAnswer> {
  const response = await send(base, request, AbortSignal.timeout(request.timeoutMs ?? LIMITS.timeoutMs));
  const json = parse(await readText(response));
  // A server that starts, or a proxy in front of one that is away, has no body for us.
  if (json === undefined && response.status >= 500) throw apiError(response, json);
  if (json === undefined) throw new ConnectionError("not_ephor");
  return { status: response.status, headers: response.headers, json };
}

/**
 * Sends one request and reads the answer line by line, each without its line end.
 *
 * @throws {ApiError}, {ConnectionError} `interrupted` also when the last line is not whole
 */
export async function* callLines(base: string, request: WireRequest): AsyncGenerator<string> {
  // No timeout for the whole: a ledger of years takes its time. The first byte has one.
  const patience = new AbortController();
  const timer = setTimeout(() => patience.abort(), request.timeoutMs ?? LIMITS.timeoutMs);
  const response = await send(base, request, patience.signal).finally(() => clearTimeout(timer));
  if (response.status >= 400) throw apiError(response, parse(await readText(response)));
  const decoder = new TextDecoder("utf-8", { fatal: true });
  let rest = "";
  try {
    for await (const chunk of response.body ?? []) {
      rest += decoder.decode(chunk as Uint8Array, { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LIMITS.lineCharacters) throw new ConnectionError("not_ephor");
      yield* lines;
    }
  } catch (error) {
    throw error instanceof ConnectionError ? error : new ConnectionError("interrupted", { cause: error });
  }
  if (rest !== "") throw new ConnectionError("interrupted");
}

/**
 * Sends one request and hands out the answer as it is, whatever its status; its body is read by the caller as it comes.
 *
 * @param signal ends request and answer; nothing else does
 * @throws {ConnectionError}
 */
export function callOpen(base: string, request: WireRequest, signal: AbortSignal): Promise<Response> {
  return send(base, request, signal);
}

async function send(base: string, request: WireRequest, signal: AbortSignal): Promise<Response> {
  const url = new URL(base + request.path);
  for (const [name, value] of Object.entries(request.query ?? {})) {
    if (value !== undefined) url.searchParams.set(name, String(value));
  }
  const body = request.form ?? (request.json === undefined ? undefined : JSON.stringify(request.json));
  try {
    return await fetch(url, {
      method: request.method,
      headers: {
        accept: "application/json",
        ...(request.json !== undefined && { "content-type": "application/json" }),
        ...request.headers,
      },
      redirect: "manual",
      signal,
      ...(body === undefined ? {} : { body }),
    });
  } catch (error) {
    throw new ConnectionError(faultOf(error), { cause: error });
  }
}

/** No connection came about. */
const NEVER_SENT = new Set([
  "ECONNREFUSED",
  "ENOTFOUND",
  "EAI_AGAIN",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Whether a request that failed was sent at all: only where no connection came about it certainly was not. */
function faultOf(error: unknown): "unreachable" | "timeout" | "interrupted" {
  if (error instanceof Error && (error.name === "TimeoutError" || error.name === "AbortError")) return "timeout";
  const cause = (error as { cause?: { code?: unknown; errors?: { code?: unknown }[] } }).cause;
  const codes = [cause?.code, ...(cause?.errors ?? []).map((inner) => inner.code)];
  const isTls = codes.some(
    (code) => typeof code === "string" && /^(?:ERR_TLS|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_)/.test(code),
  );
  return isTls || codes.some((code) => typeof code === "string" && NEVER_SENT.has(code))
    ? "unreachable"
    : "interrupted";
}

async function readText(response: Response): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  try {
    for await (const chunk of response.body ?? []) {
      const bytes = chunk as Uint8Array;
      size += bytes.byteLength;
      if (size > LIMITS.answerBytes) throw new ConnectionError("not_ephor");
      chunks.push(bytes);
    }
  } catch (error) {
    if (error instanceof ConnectionError) throw error;
    throw new ConnectionError(faultOf(error), { cause: error });
  }
  return Buffer.concat(chunks).toString("utf8");
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

function apiError({ status, headers }: Response, json: unknown): ApiError {
  const body = isRecord(json) ? json : {};
  // Seconds; the form with a date is for proxies that nobody puts in front of a token service.
  const retryAfter = headers.get("retry-after") ?? "";
  const code = word(body["error"]) ?? word(body["code"]) ?? `http_${status}`;
  return new ApiError({
    status,
    code,
    detail: words(body["error_description"]) ?? words(body["detail"]) ?? words(body["title"]),
    entries: entriesOf(body["errors"]),
    requestId: words(body["request_id"]),
    ...(/^\d{1,6}$/.test(retryAfter) && { retryAfterSeconds: Number(retryAfter) }),
    dpopNonce: headers.get("dpop-nonce") ?? undefined,
    approval: approvalOf(body),
  });
}

function approvalOf(body: Record<string, unknown>): ApprovalFacts | undefined {
  const { approval_id: id, approval_uri: uri, interval } = body;
  if (typeof id !== "string") return undefined;
  return { id, uri: words(uri), intervalSeconds: typeof interval === "number" ? interval : undefined };
}

function entriesOf(value: unknown): ApiErrorEntry[] {
  if (!Array.isArray(value)) return [];
  return value
    .slice(0, LIMITS.entries)
    .filter(isRecord)
    .map((entry) => {
      const line = entry["line"];
      const mend = words(entry["mend"]);
      return {
        path: words(entry["path"]) ?? "",
        detail: words(entry["detail"]) ?? "",
        ...(typeof line === "number" && { line }),
        ...(mend !== undefined && { mend }),
      };
    });
}

function word(value: unknown): string | undefined {
  return typeof value === "string" && /^[a-z0-9_.-]{1,64}$/i.test(value) ? value : undefined;
}

function words(value: unknown): string | undefined {
  return typeof value === "string" ? value.slice(0, LIMITS.detailCharacters) : undefined;
}

/** Whether a JSON value is an object. */
export function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
