import type { RotatedSecret } from "./provider.ts";

/** What went wrong at an upstream, in our own words; its text is never repeated, for it may quote secrets. */
export type ProviderProblem =
  /** It cannot be reached, or does not answer in time. Another try may help. */
  | "unreachable"
  /** It answers that it is busy or broken. Another try may help. */
  | "unavailable"
  /** Our own credentials there are refused. */
  | "credentials_refused"
  /** What was asked for is more than our credentials may give, or does not exist there. */
  | "order_refused"
  /** Its answer is not what its documentation says. */
  | "answer_malformed"
  /** The vault's secret is not of the form that this provider needs. */
  | "secret_malformed"
  /** It cannot make a credential as narrow or as short as the order. */
  | "cannot_bound";

/** A provider failed. */
export class ProviderError extends Error {
  readonly problem: ProviderProblem;
  /** The upstream's own short code (`AccessDenied`, SQLSTATE), where it has one. */
  readonly code: string | undefined;
  /** What the upstream gave in place of one of our secrets before the mint failed: to be stored all the same. */
  readonly rotated: RotatedSecret | undefined;

  constructor(
    problem: ProviderProblem,
    detail: { code?: string | undefined; cause?: unknown; rotated?: RotatedSecret | undefined } = {},
  ) {
    super(problem, { cause: detail.cause });
    this.name = "ProviderError";
    this.problem = problem;
    this.code = detail.code;
    this.rotated = detail.rotated;
  }

  /** Whether trying again may help. */
  get isTransient(): boolean {
    return this.problem === "unreachable" || this.problem === "unavailable";
  }
}
