import { z } from "zod";
import { ProviderError } from "../provider-error.ts";
import type { ProviderProblem } from "../provider-error.ts";
import { problemOfStatus, TOKEN_PATTERN, UPSTREAM_LIMITS } from "../upstream-request.ts";
import type { UpstreamAnswer } from "../upstream-request.ts";
import { isScopeWithin } from "./oauth-settings.ts";
import type { OAuthSettings } from "./oauth-settings.ts";

/** Error codes of authorization servers that we know; no other text of theirs is repeated. */
const PROBLEM_OF_ERROR: Readonly<Record<string, ProviderProblem>> = {
  // RFC 6749 §5.2
  invalid_client: "credentials_refused",
  unauthorized_client: "credentials_refused",
  // Of a refresh token: it is spent, taken back or too old. Another try helps nobody.
  invalid_grant: "credentials_refused",
  invalid_request: "order_refused",
  invalid_scope: "order_refused",
  unsupported_grant_type: "order_refused",
  // RFC 8707 §2, RFC 8693 §2.2.2
  invalid_target: "order_refused",
  // RFC 7009 §2.2.1
  unsupported_token_type: "order_refused",
  access_denied: "order_refused",
  // OpenID Connect Core §3.1.2.6; Microsoft Entra answers a refresh token with these
  consent_required: "credentials_refused",
  interaction_required: "credentials_refused",
  login_required: "credentials_refused",
  server_error: "unavailable",
  slow_down: "unavailable",
  temporarily_unavailable: "unavailable",
};

const tokenValue = z.string().regex(TOKEN_PATTERN).max(UPSTREAM_LIMITS.tokenCharacters);

/** RFC 6749 §5.1. A number in quotes, a fraction or a negative life is none. */
const answerValue = z.object({
  access_token: tokenValue,
  token_type: z.string(),
  expires_in: z.int().positive().max(2_147_483_647).optional(),
  scope: z.string().optional(),
  refresh_token: tokenValue.optional(),
  issued_token_type: z.string().optional(),
});

/** RFC 8693 §3: of these, what can be sent as a Bearer token. */
const ISSUED_TYPES: ReadonlySet<string | undefined> = new Set([
  "urn:ietf:params:oauth:token-type:access_token",
  "urn:ietf:params:oauth:token-type:jwt",
]);

/** Tokens in an answer, whatever else is wrong with it. */
export interface AnsweredTokens {
  readonly access: string | undefined;
  readonly refresh: string | undefined;
}

/** An answer that is what was asked for. */
export interface TokenAnswer {
  readonly accessToken: string;
  /** Seconds from the upstream's making it. */
  readonly expiresIn: number | undefined;
  /** What it is good for, where anybody said. */
  readonly scope: string | undefined;
}

/** The tokens that a success brought, as far as they can be read: so that they can be taken back, or kept, whatever follows. */
export function tokensOf({ status, json }: UpstreamAnswer): AnsweredTokens {
  if (status !== 200) return { access: undefined, refresh: undefined };
  const [access, refresh] = [json?.["access_token"], json?.["refresh_token"]].map((value) =>
    tokenValue.safeParse(value),
  );
  return { access: access?.data, refresh: refresh?.data };
}

/**
 * Judges all of it.
 *
 * @param asked what the token was to be
 * @throws {ProviderError} by the error code or the status; `answer_malformed` (`token_type`: a token that is not Bearer; we gave no key to bind one to),
 * `order_refused` (`answer_wider`), `cannot_bound` (`expires_in_missing`, `expires_in_too_long`)
 * @see RFC 6749 §5.1, RFC 6750 §4, RFC 8693 §2.2.1
 */
export function checkAnswer(
  answer: UpstreamAnswer,
  asked: {
    readonly scope: string | undefined;
    readonly grant: OAuthSettings["grant"];
    readonly maxExpiresIn: number | undefined;
  },
): TokenAnswer {
  // Some servers send their errors with 200.
  if (answer.status !== 200 || answer.json?.["access_token"] === undefined) throw problemOfAnswer(answer);
  const parsed = answerValue.safeParse(answer.json);
  if (!parsed.success) throw new ProviderError("answer_malformed");
  const { token_type: type, expires_in: expiresIn, scope = "", issued_token_type: issuedType } = parsed.data;
  if (type.toLowerCase() !== "bearer") throw new ProviderError("answer_malformed", { code: "token_type" });
  if (asked.grant === "token_exchange" && !ISSUED_TYPES.has(issuedType))
    throw new ProviderError("answer_malformed", { code: "issued_token_type" });
  // An absent scope is the one that was asked for.
  if (scope !== "" && asked.scope !== undefined && !isScopeWithin(scope, asked.scope))
    throw new ProviderError("order_refused", { code: "answer_wider" });
  if (asked.maxExpiresIn !== undefined) {
    if (expiresIn === undefined) throw new ProviderError("cannot_bound", { code: "expires_in_missing" });
    if (expiresIn > asked.maxExpiresIn) throw new ProviderError("cannot_bound", { code: "expires_in_too_long" });
  }
  return { accessToken: parsed.data.access_token, expiresIn, scope: scope === "" ? asked.scope : scope };
}

/** What an answer that is not a success means. */
export function problemOfAnswer({ status, json }: UpstreamAnswer): ProviderError {
  const error = json?.["error"];
  const problem =
    typeof error === "string" && Object.hasOwn(PROBLEM_OF_ERROR, error) ? PROBLEM_OF_ERROR[error] : undefined;
  const byStatus = problemOfStatus(status);
  // A server that is broken or busy is that, whatever it says about us.
  if (problem === undefined || byStatus.isTransient) return byStatus;
  return new ProviderError(problem, { code: String(error) });
}
