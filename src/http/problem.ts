import { PROBLEMS, ProblemError } from "../api/problem.ts";
import type { Problem, ProblemEntry } from "../api/problem.ts";
import {
  InsufficientScopeError,
  InvalidClientError,
  InvalidDpopProofError,
  InvalidTokenError,
  OAuthError,
  SignInTooOldError,
  TemporarilyUnavailableError,
  UseDpopNonceError,
} from "../core/oauth/errors.ts";
import type { Reason } from "../core/oauth/reasons.ts";
import { RefusedToken } from "../core/token/refused.ts";
import { LIMITS } from "./limits.ts";
import type { Answer } from "./route.ts";

/** What a problem's challenge depends on. */
export interface ProblemContext {
  readonly requestId: string;
  /** Metadata of our own API (RFC 9728). */
  readonly resourceMetadataUrl: string;
  /** `ephor:<action>` that the route needs, where it needs one. */
  readonly scope: string | undefined;
  readonly authorization: string | undefined;
  readonly dpopNonce: () => string;
}

const TITLES: Readonly<Record<number, string>> = {
  400: "The request is malformed or cannot be accepted",
  401: "Authentication is needed",
  403: "Not allowed",
  404: PROBLEMS.not_found.title,
  405: PROBLEMS.method_not_allowed.title,
  413: PROBLEMS.too_large.title,
  415: PROBLEMS.unsupported_media_type.title,
  503: "The service cannot decide right now",
};

/** What an OAuth refusal says to a form is said to a resource by its own status: there is no such thing as this caller sees it. */
const NOT_FOUND: ReadonlySet<Reason> = new Set(["task_unknown", "task_not_member", "node_unknown"]);
const CONFLICT: ReadonlySet<Reason> = new Set(["task_ended", "task_expired", "node_ended"]);

/**
 * The face of an error under `/v1` (RFC 9457). Refusals keep their OAuth code as `code`. Anything unknown is a bug of ours:
 * 500 and no word about it.
 */
export function problemAnswer(thrown: unknown, context: ProblemContext): Answer {
  if (thrown instanceof ProblemError) {
    return answer({
      status: thrown.status,
      code: thrown.code,
      title: PROBLEMS[thrown.code].title,
      detail: thrown.detail,
      entries: thrown.entries,
      requestId: context.requestId,
    });
  }
  if (thrown instanceof RefusedToken) {
    return answer({
      status: 400,
      code: "invalid_request",
      detail: "A token in the request is invalid or unacceptable.",
      requestId: context.requestId,
    });
  }
  if (!(thrown instanceof OAuthError)) {
    return answer({ status: 500, code: "internal", title: PROBLEMS.internal.title, requestId: context.requestId });
  }
  const status = statusOf(thrown);
  return answer({
    status,
    code: thrown.code,
    detail: thrown.description,
    requestId: context.requestId,
    headers: {
      ...(status === 401 || status === 403 ? challenges(thrown, context) : {}),
      ...(thrown instanceof TemporarilyUnavailableError && { "Retry-After": String(LIMITS.retryAfterSeconds) }),
    },
  });
}

function statusOf(error: OAuthError): number {
  if (NOT_FOUND.has(error.reason)) return 404;
  if (CONFLICT.has(error.reason)) return 409;
  // At a resource a bad proof is a failed authentication (RFC 9449 §7.1).
  if (error instanceof InvalidDpopProofError || error instanceof UseDpopNonceError) return 401;
  return error.status;
}

/** RFC 6750 §3, RFC 9449 §7.1, RFC 9470 §3, RFC 9728 §5.1. Without credentials no error code (RFC 6750 §3.1). */
function challenges(error: OAuthError, context: ProblemContext): Record<string, string> {
  const needsProof = error instanceof InvalidDpopProofError || error instanceof UseDpopNonceError;
  const hasTried = context.authorization !== undefined;
  const isDpop = needsProof || /^dpop /i.test(context.authorization ?? "");
  const parts = [`resource_metadata="${context.resourceMetadataUrl}"`];
  if (context.scope !== undefined) parts.push(`scope="${context.scope}"`);
  const isTokenError = error instanceof InvalidTokenError || error instanceof InsufficientScopeError || needsProof;
  if (hasTried && (isTokenError || error instanceof InvalidClientError)) {
    parts.push(`error="${error instanceof InvalidClientError ? "invalid_token" : error.code}"`);
  }
  if (error instanceof SignInTooOldError) parts.push(`error="${error.code}"`, `max_age="${error.maxAgeSeconds}"`);
  return {
    "WWW-Authenticate": `${isDpop ? "DPoP" : "Bearer"} ${parts.join(", ")}`,
    ...(error instanceof UseDpopNonceError && { "DPoP-Nonce": context.dpopNonce() }),
  };
}

function answer(facts: {
  status: number;
  code: string;
  title?: string;
  detail?: string | undefined;
  entries?: readonly ProblemEntry[];
  requestId: string;
  headers?: Record<string, string>;
}): Answer {
  const { status, code, detail, entries = [], requestId } = facts;
  const json: Problem = {
    type: `urn:ephor:problem:${code}`,
    title: facts.title ?? TITLES[status] ?? "The request was refused",
    status,
    code,
    ...(detail !== undefined && { detail }),
    request_id: requestId,
    ...(entries.length > 0 && { errors: [...entries] }),
  };
  return { status, json, headers: { "Content-Type": "application/problem+json", ...facts.headers } };
}
