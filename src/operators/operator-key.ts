/**
 * `operators` owns who runs Ephor: the operator key today; sign-in, sessions and roles of people later. It says who is
 * asking, never what they may do: that is the route's scope and `authz`. `http` calls it, and the start of the server.
 *
 * This file: what an operator key looks like.
 */
import { sha256Hex } from "../system/hash.ts";
import { randomToken } from "../system/random.ts";
import { SecretBytes } from "../vault/secret-bytes.ts";

/** Says what it is to people, and to scanners of leaked secrets. */
export const OPERATOR_KEY_PREFIX = "ephor_op_";

/** 256 bits: enough that a plain SHA-256 protects it at rest (security.md, A-CLI-02 as the contract reads it). */
const RANDOM_BYTES = 32;
/** 43 characters carry 256 bits; a seeded key may be longer, up to what fits a header comfortably. */
const SHAPE = /^ephor_op_[A-Za-z0-9_-]{43,256}$/;

/** A new random key. */
export function makeOperatorKey(): SecretBytes {
  return SecretBytes.fromText(`${OPERATOR_KEY_PREFIX}${randomToken(RANDOM_BYTES)}`);
}

/** Whether the text has the form of an operator key; says nothing about whether it is one. */
export function isOperatorKeyShaped(text: string): boolean {
  return SHAPE.test(text);
}

/** What the database knows of a key: lower-case hexadecimal SHA-256 of its text. */
export function operatorKeyHash(key: string | Uint8Array): string {
  return sha256Hex(key);
}
