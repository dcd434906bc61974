import type { Approver } from "../core/trust/model.ts";
import type { Presented } from "../sts/agent-identity.ts";
import type { HeaderLines } from "./forwarded-headers.ts";

/** A request to be proxied, as the edge read its head. */
export interface ProxiedRequest {
  readonly presented: Presented;
  /** Name in the path; may be anybody's text. */
  readonly resource: string;
  readonly method: string;
  /** Below the resource, percent-encoded as it came; begins with `/`, or is empty. */
  readonly path: string;
  readonly query: string | undefined;
  readonly headers: HeaderLines;
  /**
   * The whole body.
   *
   * @throws {InvalidRequestError} `body_too_large`; {ClientGoneError}
   */
  readonly read: (maxBytes: number) => Promise<Uint8Array>;
  /**
   * The body as it comes, or undefined where there is none.
   *
   * @throws {InvalidRequestError} `body_too_large`, at once or from the iterator; {ClientGoneError} likewise
   */
  readonly flow: (maxBytes: number) => AsyncIterable<Uint8Array> | undefined;
  /** Bytes of the body that its head names; undefined where it names none. */
  readonly length: number | undefined;
  /** Calls back when the exchange is over, whatever became of it, once the last byte has left or never will. */
  readonly whenOver: (call: () => void) => void;
  /** Calls back when the caller is gone before his answer was written; at once where he is. */
  readonly whenGone: (call: () => void) => void;
}

/** An answer. A body that flows ends when its stream is cut. */
export interface ProxiedAnswer {
  readonly status: number;
  readonly headers: HeaderLines;
  readonly body: Uint8Array | WholeBody | RelayedBody;
}

/** A body from an upstream that is there whole, and may leave for as long as its call may. */
export interface WholeBody extends Flowing {
  readonly text: string;
  /** Of its UTF-8. */
  readonly bytes: number;
}

/** A body that flows from an upstream. */
export interface RelayedBody extends Flowing {
  /** Chunks that may leave now; ends early, by throwing {@link CutError}, where it was cut. */
  readonly chunks: AsyncIterable<Uint8Array>;
}

/** What may leave for as long as its call may. */
export interface Flowing {
  /** Asked right before each write. */
  readonly mayFlow: () => boolean;
  /** Calls back when nothing may leave any more, until {@link ended}: what was written and still lies here is to be dropped. */
  readonly whenCut: (call: () => void) => void;
  /** To be called once, whatever happened, and not before the last byte has left; the outcome is recorded. */
  readonly ended: (how: "whole" | "client_gone") => void;
}

/** A relayed answer was cut: nothing more may leave, and the connection must show that it is not whole. */
export class CutError extends Error {
  override readonly name = "CutError";
}

/** A call that grants do not allow, with the id of its decision for `ephor explain`. */
export class DeniedError extends Error {
  override readonly name = "DeniedError";
  readonly decision: string;
  readonly detail: string;

  constructor(decision: string, detail: string) {
    super("denied");
    this.decision = decision;
    this.detail = detail;
  }
}

/** Why a call that grants allow is not made now. */
export type LimitReason = "rate_limited" | "too_many_streams" | "upstream_unavailable";

/** A call that grants allow, and that is not made now: a limit of its agent at the resource, or an upstream that is away. */
export class LimitedError extends Error {
  override readonly name = "LimitedError";
  readonly reason: LimitReason;
  readonly retryAfterSeconds: number;
  /** Id of its decision, once it is recorded. */
  readonly decision: string | undefined;

  constructor(reason: LimitReason, retryAfterSeconds: number, decision?: string) {
    super(reason);
    this.reason = reason;
    this.retryAfterSeconds = retryAfterSeconds;
    this.decision = decision;
  }

  /** Of the answer: the caller asked too often, or the upstream is away. */
  get status(): 429 | 503 {
    return this.reason === "upstream_unavailable" ? 503 : 429;
  }

  /** One of our own sentences. */
  get detail(): string {
    return DETAILS[this.reason];
  }
}

const DETAILS: Readonly<Record<LimitReason, string>> = {
  rate_limited: "This agent has made as many calls at this resource as it may in this minute.",
  too_many_streams: "This agent has as many calls in progress at this resource as it may.",
  upstream_unavailable: "The upstream cannot be reached; it is tried again shortly.",
};

/** An upstream that is not reached over HTTP brought no answer. */
export class UpstreamFailure extends Error {
  override readonly name: string = "UpstreamFailure";
  /** For the record: one of our own words. */
  readonly problem: string;

  constructor(problem: string, options?: { cause?: unknown }) {
    super(`upstream: ${problem}`, options);
    this.problem = problem;
  }
}

/** What the caller is told of an approval that its call waits for. */
export interface ApprovalNotice {
  readonly id: string;
  /** `expired`: nobody decided in time; the same call asks anew. */
  readonly status: "pending" | "denied" | "expired";
  /** Where it is read and decided. */
  readonly uri: string;
  /** RFC 3339. */
  readonly expires_at: string;
  readonly by: readonly Approver[];
}

const APPROVAL_DETAILS: Readonly<Record<ApprovalNotice["status"], string>> = {
  pending: "The call needs an approval.",
  denied: "The call was denied.",
  expired: "Nobody approved the call in time.",
};

/** A call that somebody has to approve first, or that somebody denied. Once approved, the same call works once. */
export class ApprovalRequiredError extends DeniedError {
  readonly approval: ApprovalNotice;

  constructor(decision: string, approval: ApprovalNotice) {
    super(decision, APPROVAL_DETAILS[approval.status]);
    this.approval = approval;
  }
}

/** Where an account at an upstream is connected: whose, at which credential resource, and the secret that it is. */
export interface AccountNotice {
  readonly resource: string;
  readonly subject: string;
  readonly secret: string;
  /** For whoever runs Ephor. */
  readonly command: string;
}

/** A call that needs its human's account at the upstream, and there is none, or it is let in no more. */
export class AccountRequiredError extends DeniedError {
  readonly code: "account_not_connected" | "human_missing";
  /** Absent where no human is behind the task. */
  readonly connect: AccountNotice | undefined;

  constructor(decision: string, of: { resource: string; sub: string; secret: string | undefined }) {
    const { resource, sub, secret } = of;
    const isHuman = secret !== undefined;
    super(
      decision,
      isHuman
        ? `${sub} has no account connected at ${resource}, or it is let in no more: connect it, and call again.`
        : `This resource is used with a person's own account at ${resource}, and the task is for nobody but its agent.`,
    );
    this.code = isHuman ? "account_not_connected" : "human_missing";
    this.connect = isHuman ? { resource, subject: sub, secret, command: `ephor secret set ${secret}` } : undefined;
  }
}

/** What a JSON-RPC error says of a refusal beside its sentence. */
export function deniedData(error: DeniedError): Readonly<Record<string, unknown>> {
  const { decision } = error;
  if (error instanceof ApprovalRequiredError) return { decision, approval: error.approval };
  if (!(error instanceof AccountRequiredError)) return { decision };
  const { code, connect } = error;
  return { decision, code, ...(connect && { connect }) };
}

/** The upstream could not be reached, or answered what must not be relayed. */
export class BadGatewayError extends Error {
  override readonly name = "BadGatewayError";
  readonly status: 502 | 504;

  constructor(status: 502 | 504, options?: { cause?: unknown }) {
    super("bad gateway", options);
    this.status = status;
  }
}
