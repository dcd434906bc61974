/**
 * Whole seconds since the Unix epoch, as in the JWT claims `iat` and `exp`.
 *
 * @see RFC 7519 §2 (NumericDate)
 */
export type EpochSeconds = number;
