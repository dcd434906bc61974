import { ApiError, ConnectionError, type ApprovalFacts } from "./errors.ts";
import { PlatformTokenError } from "./platform-token.ts";

/** What an agent is told of its request besides its class. */
interface OutcomeFacts {
  /** An OAuth error code or a problem's code; for {@link UnavailableError} also a word for the fault. */
  readonly code: string;
  readonly status?: number | undefined;
  /** By which the server's operator finds the request. */
  readonly requestId?: string | undefined;
}

/** Anything that keeps an agent from what it asked for. No message of it holds a token or a secret. */
export abstract class EphorError extends Error {
  readonly code: string;
  readonly status: number | undefined;
  readonly requestId: string | undefined;

  constructor(message: string, facts: OutcomeFacts, options?: { cause?: unknown }) {
    super(message, options);
    this.name = new.target.name;
    this.code = facts.code;
    this.status = facts.status;
    this.requestId = facts.requestId;
  }
}

/** The work was stopped: its task, or the agent itself. Nothing that was asked for will be given any more. */
export class KilledError extends EphorError {
  /**
   * What was stopped. `agent`: the server no longer takes proofs of an agent that it took before; it does not tell a stranger
   * whether that agent was killed, suspended, or no longer trusted.
   */
  readonly what: "task" | "agent";

  constructor(what: "task" | "agent", facts: OutcomeFacts, options?: { cause?: unknown }) {
    super(what === "task" ? "the task was killed" : "the agent was killed or is no longer trusted", facts, options);
    this.what = what;
  }
}

/** The task was completed, or its deadline has passed. */
export class EndedError extends EphorError {}

/** Not granted: another request may be, this one will not. */
export class DeniedError extends EphorError {}

/**
 * An exchange that somebody has to approve first; the same request, once approved, succeeds once. A call through the proxy that
 * needs an approval is no exchange: its 403 comes to whoever sent it.
 */
export class ApprovalNeededError extends EphorError {
  readonly approval: ApprovalFacts;

  constructor(approval: ApprovalFacts, facts: OutcomeFacts, options?: { cause?: unknown }) {
    super("an approval is needed", facts, options);
    this.approval = approval;
  }
}

/** This workload could not prove who it is: no token of its platform, an expired one, or one that fits no agent. */
export class NotAuthenticatedError extends EphorError {}

/** No answer, or none that decides. */
export class UnavailableError extends EphorError {
  /** Whether what was asked for may have been done all the same. */
  readonly isOutcomeUnknown: boolean;
  readonly retryAfterSeconds: number | undefined;

  constructor(
    facts: OutcomeFacts & { isOutcomeUnknown: boolean; retryAfterSeconds?: number | undefined },
    options?: { cause?: unknown },
  ) {
    super(`Ephor is not available: ${facts.code}`, facts, options);
    this.isOutcomeUnknown = facts.isOutcomeUnknown;
    this.retryAfterSeconds = facts.retryAfterSeconds;
  }
}

/** Statuses by which a server or a proxy in front of it says "not now". */
const NOT_NOW: ReadonlySet<number> = new Set([408, 425, 429, 502, 503, 504]);

/**
 * What an error of the wire means to an agent, as far as the answer alone tells. What killed and ended work is told by
 * the task's own state, which `work` asks for.
 */
export function outcomeOf(error: unknown): EphorError | undefined {
  const because = { cause: error };
  if (error instanceof EphorError) return error;
  if (error instanceof ConnectionError)
    return new UnavailableError({ code: error.fault, isOutcomeUnknown: error.isOutcomeUnknown }, because);
  if (error instanceof PlatformTokenError)
    return new NotAuthenticatedError(error.message, { code: "no_platform_token" }, because);
  if (!(error instanceof ApiError)) return undefined;
  const { status, code, requestId, retryAfterSeconds, approval } = error;
  const facts = { code, status, requestId };
  if (approval !== undefined) return new ApprovalNeededError(approval, facts, because);
  if (NOT_NOW.has(status) || status >= 500) {
    // 429 is said before anything is done; a 5xx may be said after.
    return new UnavailableError({ ...facts, retryAfterSeconds, isOutcomeUnknown: status !== 429 }, because);
  }
  if (status === 401) return new NotAuthenticatedError(error.message, facts, because);
  if (status === 409) return new EndedError(error.message, facts, because);
  return new DeniedError(error.message, facts, because);
}
