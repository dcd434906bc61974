import type { EpochSeconds } from "../time.ts";

/** The actor chain: the outermost `sub` is the current actor (RFC 8693 §4.1). */
export interface ActClaim {
  readonly sub: string;
  readonly act?: ActClaim;
}

/**
 * The claims of an access token of ours.
 *
 * @see CONTRACT §5 "The token", RFC 9068 §2.2, RFC 8693 §4
 */
export interface AccessTokenClaims {
  readonly iss: string;
  readonly aud: string;
  /** `<issuer name>|<sub>` of a human, or `agent|<name>`. */
  readonly sub: string;
  /** Name of the agent it was issued to. */
  readonly client_id: string;
  /** Absent when an agent acts for itself. */
  readonly act?: ActClaim;
  /** Space-delimited, each `<resource>:<action>` in full. */
  readonly scope: string;
  readonly txn: string;
  readonly purpose?: string;
  readonly jti: string;
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
  readonly cnf?: { readonly jkt: string };
  readonly once?: true;
}
