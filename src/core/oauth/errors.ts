import type { Reason } from "./reasons.ts";

/** Facts for the audit event: names, counts and ids. Never a token, a secret or text that a stranger chose freely. */
export type Facts = Readonly<Record<string, string | number | boolean>>;

/** What every refusal carries: the inner reason, and facts for the audit event. */
export type RefusalDetail = { reason: Reason } & Facts;

/**
 * A refusal. It has two faces: `reason` and `facts` go to the audit event, `code` and `description` to the wire.
 * The description belongs to the class, so that causes which a stranger could probe look alike (INV-26).
 *
 * @see RFC 6749 §5.2
 */
export abstract class OAuthError extends Error {
  abstract readonly code: string;
  abstract readonly status: number;
  abstract readonly description: string;
  readonly reason: Reason;
  readonly facts: Facts;

  constructor(detail: RefusalDetail, options?: { cause?: unknown }) {
    const { reason, ...facts } = detail;
    super(reason, options);
    this.reason = reason;
    this.facts = facts;
    this.name = new.target.name;
  }
}

/** A malformed request, or (RFC 8693 §2.2.2) a subject or actor token that is bad for whatever reason. */
export class InvalidRequestError extends OAuthError {
  readonly code = "invalid_request";
  readonly status: number;
  readonly description: string;

  /** @param detail `help` may be one of our own fixed sentences about the request's form; never about a token */
  constructor(
    detail: RefusalDetail & { help?: string; status?: 400 | 405 | 413 | 415 },
    options?: { cause?: unknown },
  ) {
    const { help, status, ...rest } = detail;
    super(rest as RefusalDetail, options);
    this.status = status ?? 400;
    this.description = help ?? "The request is malformed, or a token in it is invalid or unacceptable.";
  }
}

/** Client authentication failed. The same for an unknown client, a wrong secret and a killed agent (INV-26). */
export class InvalidClientError extends OAuthError {
  readonly code = "invalid_client";
  readonly status = 401;
  readonly description = "Client authentication failed.";
}

/** A bad `assertion` of the jwt-bearer grant (RFC 7523 §3.1). Never used for subject tokens. */
export class InvalidGrantError extends OAuthError {
  readonly code = "invalid_grant";
  readonly status = 400;
  readonly description = "The assertion is invalid or unacceptable.";
}

/** RFC 6749 §5.2. */
export class UnsupportedGrantTypeError extends OAuthError {
  readonly code = "unsupported_grant_type";
  readonly status = 400;
  readonly description = "This grant type is not served.";
}

/** RFC 6749 §5.2: a scope is malformed, unknown, not granted, above the ceiling, or none was named. */
export class InvalidScopeError extends OAuthError {
  readonly code = "invalid_scope";
  readonly status = 400;
  readonly description: string;

  constructor(detail: RefusalDetail & { help?: string }, options?: { cause?: unknown }) {
    const { help, ...rest } = detail;
    super(rest as RefusalDetail, options);
    this.description = help ?? "A requested scope is malformed, unknown or not granted; name the scopes needed.";
  }
}

/** RFC 8693 §2.2.2, RFC 8707 §2. */
export class InvalidTargetError extends OAuthError {
  readonly code = "invalid_target";
  readonly status = 400;
  readonly description = "Name exactly one target that is served to this client.";
}

/** RFC 6750 §3.1, at our own resources. */
export class InvalidTokenError extends OAuthError {
  readonly code = "invalid_token";
  readonly status = 401;
  readonly description = "The access token is missing, invalid or expired.";
}

/** RFC 6750 §3.1, at our own resources. `scope` names what the request needs. */
export class InsufficientScopeError extends OAuthError {
  readonly code = "insufficient_scope";
  readonly status = 403;
  readonly description = "The access token does not carry the scope that this request needs.";
}

/** A proof of possession is bad (RFC 9449 §5). */
export class InvalidDpopProofError extends OAuthError {
  readonly code = "invalid_dpop_proof";
  readonly status = 400;
  readonly description = "The DPoP proof is invalid.";
}

/** The proof must carry the nonce that this answer brings in its `DPoP-Nonce` header (RFC 9449 §8). */
export class UseDpopNonceError extends OAuthError {
  readonly code = "use_dpop_nonce";
  readonly status = 400;
  readonly description = "Use the nonce of the DPoP-Nonce header.";
}

/** The person must prove once more who they are, more recently than they did (RFC 9470 §3). */
export class SignInTooOldError extends OAuthError {
  readonly code = "insufficient_user_authentication";
  readonly status = 401;
  readonly description = "Sign in again: this needs a fresh sign-in.";
  /** Seconds that the sign-in may be old. */
  readonly maxAgeSeconds: number;

  constructor(detail: RefusalDetail & { maxAgeSeconds: number }, options?: { cause?: unknown }) {
    super(detail, options);
    this.maxAgeSeconds = detail.maxAgeSeconds;
  }
}

/** A decision by a person or a policy that no other request would change. */
export class AccessDeniedError extends OAuthError {
  readonly code = "access_denied";
  readonly status: number = 403;
  readonly description = "Access is denied.";
}

/** Something we need is away: nothing is guessed from memory (CONTRACT §2 rule 8). HTTP 503 with `Retry-After`. */
export class TemporarilyUnavailableError extends OAuthError {
  readonly code = "temporarily_unavailable";
  readonly status = 503;
  readonly description = "The service cannot decide right now; try again.";
}
