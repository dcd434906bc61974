/**
 * Names of OpenID Shared Signals 1.0, CAEP 1.0 and RFC 8935/8936, spelled once.
 *
 * @see https://openid.net/specs/openid-sharedsignals-framework-1_0.html
 */
export const SSF_EVENT = {
  sessionRevoked: "https://schemas.openid.net/secevent/caep/event-type/session-revoked",
  verification: "https://schemas.openid.net/secevent/ssf/event-type/verification",
  streamUpdated: "https://schemas.openid.net/secevent/ssf/event-type/stream-updated",
} as const;

/** How events are delivered: RFC 8935 and RFC 8936. */
export const SSF_DELIVERY = { push: "urn:ietf:rfc:8935", poll: "urn:ietf:rfc:8936" } as const;

/** Errors that a receiver may answer to an event (RFC 8935 §2.4). */
export const SSF_ERRORS = [
  "invalid_request",
  "invalid_key",
  "invalid_issuer",
  "invalid_audience",
  "authentication_failed",
  "access_denied",
] as const;

/** One of {@link SSF_ERRORS}, or whatever else a receiver wrote. */
export type SsfError = (typeof SSF_ERRORS)[number] | "other";

/** Seconds that a receiver waits between two verifications. */
export const MIN_VERIFICATION_SECONDS = 30;

/** @returns the error if it is on the list; a receiver's own words go nowhere */
export function ssfError(text: unknown): SsfError {
  return SSF_ERRORS.find((known) => known === text) ?? "other";
}
