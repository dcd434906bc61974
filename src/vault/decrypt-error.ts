import { OAuthError } from "../core/oauth/errors.ts";
import type { Place } from "./place.ts";

/** What was wrong: not readable as a sealed value, sealed under a key we do not hold, or changed, cut, swapped. */
export type DecryptFault = "malformed" | "kek_unknown" | "not_authentic";

/**
 * A sealed value does not open in its place. It names the place, never the value; to the caller it is a fault of the
 * server, because nobody outside can cause or mend it (A-SEC-01).
 */
export class DecryptError extends OAuthError {
  readonly code = "server_error";
  readonly status = 500;
  readonly description = "The server met an unexpected condition.";
  readonly fault: DecryptFault;

  constructor(place: Place, fault: DecryptFault, options?: { cause?: unknown }) {
    const { table, row, version, purpose } = place;
    super({ reason: "decrypt_failed", table, row, version, purpose, fault }, options);
    this.fault = fault;
  }
}
