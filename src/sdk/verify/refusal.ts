/**
 * `sdk/verify` owns what a tool server needs to judge our access tokens: signature, claims, chain, proof of possession, and
 * whether something was killed since. It runs in the tool server's process, keeps nothing on disk, reads no environment, and
 * imports nothing of the server. When it does not know, it refuses.
 *
 * This file: what a refusal looks like.
 */
import type { Reason } from "../../core/oauth/reasons.ts";

/** Why a request was refused: for the tool server's own log, never for the caller. */
export type RefusalReason =
  | Reason
  /** The feed was not heard within its bound. */
  | "feed_silent"
  /** The server could not be asked, or did not answer as one. */
  | "introspection_unavailable"
  /** The published keys could not be had. */
  | "keys_unavailable"
  /** A once-only token, and no credential to consume it with. */
  | "once_unsupported";

/** The codes of RFC 6750 §3.1 and RFC 9449 §7.1; `temporarily_unavailable` where nothing is known against the token. */
export type RefusalCode =
  | "unauthorized"
  | "invalid_token"
  | "insufficient_scope"
  | "invalid_dpop_proof"
  | "temporarily_unavailable";

const STATUS = {
  unauthorized: 401,
  invalid_token: 401,
  insufficient_scope: 403,
  invalid_dpop_proof: 401,
  temporarily_unavailable: 503,
} as const satisfies Record<RefusalCode, number>;

/** The same for every cause, so that a stranger learns nothing by trying. */
const DESCRIPTION = {
  unauthorized: "An access token is needed.",
  invalid_token: "The access token is invalid, expired or revoked.",
  insufficient_scope: "The access token does not carry the scope that this request needs.",
  invalid_dpop_proof: "The DPoP proof is missing or invalid.",
  temporarily_unavailable: "The token cannot be judged right now; try again.",
} as const satisfies Record<RefusalCode, string>;

/** Seconds after which a caller may come again when nothing could be decided. */
const RETRY_AFTER_SECONDS = 1;

/** A request that must not be served. Its message is the reason; no part of a token is in it. */
export class RefusedError extends Error {
  override readonly name = "RefusedError";
  readonly code: RefusalCode;
  /** 401, 403 or 503. */
  readonly status: number;
  readonly reason: RefusalReason;
  /** `WWW-Authenticate` (RFC 6750 §3, RFC 9449 §7.1, RFC 9728 §5.1) or `Retry-After`, and `Cache-Control`. */
  readonly headers: Readonly<Record<string, string>>;
  /** What the caller may read. */
  readonly body: { readonly error: RefusalCode; readonly error_description: string };

  constructor(
    facts: { code: RefusalCode; reason: RefusalReason; challenge: Challenge },
    options?: { cause?: unknown },
  ) {
    super(facts.reason, options);
    this.code = facts.code;
    this.status = STATUS[facts.code];
    this.reason = facts.reason;
    this.body = { error: facts.code, error_description: DESCRIPTION[facts.code] };
    this.headers = {
      "cache-control": "no-store",
      ...(facts.code === "temporarily_unavailable"
        ? { "retry-after": String(RETRY_AFTER_SECONDS) }
        : { "www-authenticate": challengeOf(facts.code, facts.challenge) }),
    };
  }
}

/** What a challenge tells the caller. */
export interface Challenge {
  readonly scheme: "Bearer" | "DPoP";
  /** Where the metadata of this resource is (RFC 9728). */
  readonly resourceMetadataUrl: string;
  readonly scopes: readonly string[];
  /** Algorithms for proofs. */
  readonly algorithms: readonly string[];
}

function challengeOf(code: RefusalCode, challenge: Challenge): string {
  const { scheme, resourceMetadataUrl, scopes, algorithms } = challenge;
  const isDpop = scheme === "DPoP" || code === "invalid_dpop_proof";
  return `${isDpop ? "DPoP" : "Bearer"} ${[
    // Without credentials no error code (RFC 6750 §3.1).
    ...(code === "unauthorized" ? [] : [`error="${code}"`]),
    ...(scopes.length > 0 ? [`scope="${scopes.join(" ")}"`] : []),
    `resource_metadata="${resourceMetadataUrl}"`,
    ...(isDpop ? [`algs="${algorithms.join(" ")}"`] : []),
  ].join(", ")}`;
}
