import { JsonError, readJson } from "../core/token/json.ts";
import { EgressError } from "../system/egress-error.ts";
import type { EgressFailure } from "../system/egress-error.ts";
import type { Egress, EgressOrder, EgressResponse } from "../system/egress.ts";
import { ProviderError } from "./provider-error.ts";
import type { ProviderProblem } from "./provider-error.ts";

/** Bounds of one request that a provider makes. */
export const UPSTREAM_LIMITS = {
  /** A mint is one request, an end at most two: all within what a worker has for one lease. */
  timeoutMs: 8_000,
  /** A token answer has 1–4 KB; a JWT with many groups some more. */
  answerBytes: 64 * 1024,
  /** Characters of a token: what fits into a header of common servers. */
  tokenCharacters: 16 * 1024,
  /** Tries to take back what was made for a mint that failed. */
  undoAttempts: 2,
} as const;

/** An access or refresh token: visible ASCII, since it travels in headers and forms (RFC 6749 appendix A, RFC 6750 §2.1). */
export const TOKEN_PATTERN = /^[\x21-\x7e]+$/;

/** An answer of any status but 3xx. */
export interface UpstreamAnswer {
  readonly status: number;
  readonly headers: EgressResponse["headers"];
  /** The body, where it is one strictly read JSON object and says so. */
  readonly json: Readonly<Record<string, unknown>> | undefined;
}

const PROBLEM_OF_EGRESS: Readonly<Record<EgressFailure, ProviderProblem>> = {
  url: "order_refused",
  address: "unreachable",
  redirect: "answer_malformed",
  too_large: "answer_malformed",
  timeout: "unreachable",
  aborted: "unreachable",
  encoding: "answer_malformed",
  network: "unreachable",
};

type UpstreamOrder = Omit<EgressOrder, "timeoutMs" | "maxBytes"> & { readonly maxBytes?: number };

/**
 * One request to an upstream, never repeated here.
 *
 * @throws {ProviderError} `unreachable`, `answer_malformed`, `order_refused`, with the egress's own word as code
 */
export async function askUpstream(egress: Egress, order: UpstreamOrder): Promise<UpstreamAnswer> {
  const response = await sendUpstream(egress, { ...order, headers: { accept: "application/json", ...order.headers } });
  return { status: response.status, headers: response.headers, json: jsonOf(response) };
}

/** As {@link askUpstream}, for an answer that is no JSON. */
export async function sendUpstream(egress: Egress, order: UpstreamOrder): Promise<EgressResponse> {
  try {
    return await egress.send({
      maxBytes: UPSTREAM_LIMITS.answerBytes,
      ...order,
      timeoutMs: UPSTREAM_LIMITS.timeoutMs,
    });
  } catch (error) {
    if (!(error instanceof EgressError)) throw error;
    // No cause: it may hold what a server said instead of HTTP.
    throw new ProviderError(PROBLEM_OF_EGRESS[error.kind], { code: `egress_${error.kind}` });
  }
}

/** What a status means for an order, where the upstream's documentation says nothing else. */
export function problemOfStatus(status: number): ProviderError {
  const code = `http_${status}`;
  if (status >= 500 || status === 429 || status === 408) return new ProviderError("unavailable", { code });
  if (status === 401) return new ProviderError("credentials_refused", { code });
  return new ProviderError(status >= 400 ? "order_refused" : "answer_malformed", { code });
}

/**
 * The rest of a mint, after the upstream has made something. Where it throws, or the caller no longer waits, what was made
 * is taken back first (INV-12).
 *
 * @throws {ProviderError} as `rest`; `unreachable` (`aborted`); its code is `left_behind` where taking back failed too
 */
export async function orUndo<T>(signal: AbortSignal, undo: () => Promise<void>, rest: () => T): Promise<T> {
  try {
    const result = rest();
    if (signal.aborted) throw new ProviderError("unreachable", { code: "aborted" });
    return result;
  } catch (error) {
    if ((await isUndone(undo)) || !(error instanceof ProviderError)) throw error;
    throw new ProviderError(error.problem, { code: "left_behind", rotated: error.rotated });
  }
}

async function isUndone(undo: () => Promise<void>): Promise<boolean> {
  for (let attempt = 0; attempt < UPSTREAM_LIMITS.undoAttempts; attempt++) {
    try {
      await undo();
      return true;
    } catch (error) {
      if (!(error instanceof ProviderError)) throw error;
    }
  }
  return false;
}

function jsonOf({ contentType, body }: EgressResponse): Readonly<Record<string, unknown>> | undefined {
  if (contentType !== "application/json" && !/^application\/[\w.+-]+\+json$/.test(contentType)) return undefined;
  let value: unknown;
  try {
    // Large numbers in members that nobody reads must not lose a token that is already made.
    value = readJson(body, { allowUnsafeIntegers: true });
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    return undefined;
  }
  const isObject = typeof value === "object" && value !== null && !Array.isArray(value);
  return isObject ? (value as Readonly<Record<string, unknown>>) : undefined;
}
