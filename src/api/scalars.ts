import { z } from "zod";

/** Longest id of any sort that a path, a query or a body may name, in characters; a SHA-256 in hex has 64. */
const MAX_ID = 256;

/** Name of a trust object (CONTRACT §1). */
export const objectName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9-]{0,62}$/)
  .describe("Lower-case letters, digits and dashes; at most 63.");

/** A ULID, as `txn` and `jti` are. */
export const ulidShape = z.string().regex(/^[0-7][0-9A-HJKMNP-TV-Z]{25}$/);

/** Any id that was seen anywhere: printable, without blanks. */
export const anyId = z
  .string()
  .min(1)
  .max(MAX_ID)
  .regex(/^[\x21-\x7e]+$/);

/** A scope in full, `<resource>:<action>`; the action may be percent-encoded (CONTRACT §8). */
export const scopeShape = z
  .string()
  .max(MAX_ID)
  .regex(/^[a-z0-9][a-z0-9-]{0,62}:[A-Za-z0-9_./%*-]+$/);

/** Whole seconds since the epoch, as in the claims of a token. */
export const epochSeconds = z.int().min(0).describe("Whole seconds since the epoch, as in the claims of a token.");

/** An instant in RFC 3339, UTC. */
export const instant = z.iso.datetime().describe("An instant by RFC 3339, in UTC.");

/** Why an operator does what cannot be undone quietly. Recorded as it stands. */
export const reasonShape = z
  .string()
  .trim()
  .min(1)
  .max(500)
  .describe("Why. Recorded in the audit ledger; name no secret.");
