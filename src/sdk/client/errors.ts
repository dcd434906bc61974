/** One thing that the server found wrong in a body or a file. */
export interface ApiErrorEntry {
  readonly path: string;
  readonly line?: number;
  readonly detail: string;
  readonly mend?: string;
}

/** An approval that is waited for (CONTRACT §5 "Exchange"). */
export interface ApprovalFacts {
  readonly id: string;
  /** Where it is read and decided, if the answer says so. */
  readonly uri: string | undefined;
  /** Seconds between two questions. */
  readonly intervalSeconds: number | undefined;
}

/**
 * The server answered, and refused. Carries what the protocols say about an error (`error` and `error_description`, or a
 * problem's code, title and detail) and nothing else of the body, so that a message never shows a token.
 *
 * @see RFC 6749 §5.2, RFC 9457
 */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: number;
  /** An OAuth error code or a problem's code; `http_<status>` where the answer was neither. */
  readonly code: string;
  readonly detail: string | undefined;
  readonly entries: readonly ApiErrorEntry[];
  /** By which the server's operator finds the request in log and ledger. */
  readonly requestId: string | undefined;
  /** Seconds after which it may be asked again, where the answer says so (RFC 9110 §10.2.3). */
  readonly retryAfterSeconds: number | undefined;
  /** The nonce that a proof must carry (RFC 9449 §8). */
  readonly dpopNonce: string | undefined;
  /** Where somebody has to approve it first. */
  readonly approval: ApprovalFacts | undefined;

  constructor(facts: {
    status: number;
    code: string;
    detail?: string | undefined;
    entries?: readonly ApiErrorEntry[];
    requestId?: string | undefined;
    retryAfterSeconds?: number | undefined;
    dpopNonce?: string | undefined;
    approval?: ApprovalFacts | undefined;
  }) {
    super(facts.detail === undefined ? facts.code : `${facts.code}: ${facts.detail}`);
    this.status = facts.status;
    this.code = facts.code;
    this.detail = facts.detail;
    this.entries = facts.entries ?? [];
    this.requestId = facts.requestId;
    this.retryAfterSeconds = facts.retryAfterSeconds;
    this.dpopNonce = facts.dpopNonce;
    this.approval = facts.approval;
  }
}

/** Why there is no answer. */
export type ConnectionFault =
  /** Nobody listens there, or the name is unknown: the request was not sent. */
  | "unreachable"
  /** The connection broke, or the answer did: whatever was asked for may have happened. */
  | "interrupted"
  /** The same, by our own patience. */
  | "timeout"
  /** A whole answer came, and it is not one of Ephor's. */
  | "not_ephor";

/** There is no answer that can be used. */
export class ConnectionError extends Error {
  override readonly name = "ConnectionError";
  readonly fault: ConnectionFault;
  /** False only where the request certainly did not reach the server. */
  readonly isOutcomeUnknown: boolean;

  constructor(fault: ConnectionFault, options?: { cause?: unknown }) {
    super(fault, options);
    this.fault = fault;
    this.isOutcomeUnknown = fault !== "unreachable";
  }
}
