import type { EpochSeconds } from "../time.ts";
import type { VerifiedClaims } from "./subject.ts";

/** Somebody who signed in at an issuer that identifies humans. */
export interface Person {
  /** The issuer's name in the trust file. */
  readonly issuer: string;
  /** As in our tokens, `<issuer name>|<its sub>`: the same text that the subject of this human's tasks has. */
  readonly sub: string;
  /** When the human proved at the issuer who they are; undefined where the issuer does not say. */
  readonly authTime: EpochSeconds | undefined;
  /** Only where the issuer says that it is verified. */
  readonly email: string | undefined;
  /** Of the ID token, bounded; `email` is among them only where it is verified. */
  readonly claims: VerifiedClaims;
}

/** `sub` of a human in our tokens. */
export function humanSub(issuer: string, sub: string): string {
  return `${issuer}|${sub}`;
}
