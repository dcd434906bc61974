import { ProviderError } from "../provider-error.ts";
import type { ProviderProblem } from "../provider-error.ts";

/** What the codes of STS and IAM mean for an order (their API references, "Common errors" and those of our calls). */
const PROBLEM_OF_CODE: Readonly<Record<string, ProviderProblem>> = {
  // The role's trust policy or our own permissions do not let us take it up, or there is no such role.
  AccessDenied: "order_refused",
  MalformedPolicyDocument: "order_refused",
  RegionDisabled: "order_refused",
  ValidationError: "order_refused",
  InvalidParameterValue: "order_refused",
  InvalidParameterCombination: "order_refused",
  LimitExceeded: "order_refused",
  NoSuchEntity: "order_refused",
  // Policy and tags together are packed by AWS; whether they fit is known only there.
  PackedPolicyTooLarge: "cannot_bound",
  ExpiredToken: "credentials_refused",
  IDPRejectedClaim: "credentials_refused",
  IncompleteSignature: "credentials_refused",
  InvalidClientTokenId: "credentials_refused",
  InvalidIdentityToken: "credentials_refused",
  InvalidSignature: "credentials_refused",
  MissingAuthenticationToken: "credentials_refused",
  NotAuthorized: "credentials_refused",
  OptInRequired: "credentials_refused",
  RequestExpired: "credentials_refused",
  SignatureDoesNotMatch: "credentials_refused",
  UnrecognizedClient: "credentials_refused",
  // AWS could not fetch our discovery document or keys.
  IDPCommunicationError: "unavailable",
  ConcurrentModification: "unavailable",
  EntityTemporarilyUnmodifiable: "unavailable",
  InternalFailure: "unavailable",
  RequestLimitExceeded: "unavailable",
  ServiceFailure: "unavailable",
  ServiceUnavailable: "unavailable",
  Throttled: "unavailable",
  Throttling: "unavailable",
};

/** What the SDK may throw; read one by one, since its message and its `$response` quote the answer. */
interface SdkError {
  readonly name?: unknown;
  readonly code?: unknown;
  readonly $fault?: unknown;
  readonly $metadata?: { readonly httpStatusCode?: unknown };
}

/**
 * An error of the SDK in our own words. Nothing of AWS's text is kept, and of its codes only those known here; so there is
 * no `cause` either.
 *
 * @returns the error itself where no answer and no network was involved: a bug
 */
export function toProviderError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { name, code, $fault, $metadata } = error as SdkError;
  const status = typeof $metadata?.httpStatusCode === "number" ? $metadata.httpStatusCode : undefined;
  const awsCode = String(name).replace(/Exception$/, "");
  const known = status === undefined ? undefined : errorOfCode(awsCode);
  if (known !== undefined) return known;
  // `HPE_…`: what answered does not speak HTTP.
  if (typeof code === "string") return new ProviderError(code.startsWith("HPE_") ? "answer_malformed" : "unreachable");
  if (name === "AbortError" || name === "TimeoutError") return new ProviderError("unreachable");
  if (status === undefined) return error;
  if (status >= 500 || status === 429) return new ProviderError("unavailable");
  const isAwsError = $fault === "client" && awsCode !== "Unknown" && awsCode !== "UnknownError";
  return new ProviderError(isAwsError ? "order_refused" : "answer_malformed");
}

/** @param code as AWS writes it, without `Exception` @returns undefined for one that is not known here */
export function errorOfCode(code: string): ProviderError | undefined {
  const problem = Object.hasOwn(PROBLEM_OF_CODE, code) ? PROBLEM_OF_CODE[code] : undefined;
  return problem && new ProviderError(problem, { code });
}
