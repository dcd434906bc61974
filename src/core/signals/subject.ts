import { MAX_CLAIM_CHARACTERS, ownClaim } from "../token/check.ts";
import { RefusedToken } from "../token/refused.ts";
import type { VerifiedClaims } from "../trust/subject.ts";

/**
 * The `sub`, at its issuer, of the person of whom an event speaks: `iss_sub`, alone or as the `user` of a `complex` subject,
 * whose further members only narrow what ends here as a whole.
 *
 * @param issuers the values of `iss` that are this transmitter's to speak of, byte for byte
 * @throws {RefusedToken} `signal_subject_foreign` for a person of somebody else; `signal_subject_unsupported` for another format
 * @see RFC 9493 §3.2.3, SSF 1.0 §3.4, standards.md 20.7
 */
export function signalSubject(subId: VerifiedClaims, issuers: readonly string[]): string {
  const user = ownClaim(subId, "format") === "complex" ? ownClaim(subId, "user") : subId;
  if (!isObject(user) || ownClaim(user, "format") !== "iss_sub")
    throw new RefusedToken({ reason: "signal_subject_unsupported" });
  const [iss, sub] = [ownClaim(user, "iss"), ownClaim(user, "sub")];
  if (typeof iss !== "string" || typeof sub !== "string" || sub === "" || sub.length > MAX_CLAIM_CHARACTERS)
    throw new RefusedToken({ reason: "signal_subject_unsupported" });
  if (!issuers.includes(iss)) throw new RefusedToken({ reason: "signal_subject_foreign" });
  return sub;
}

/** Whether it is a JSON object. */
export function isObject(value: unknown): value is VerifiedClaims {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
