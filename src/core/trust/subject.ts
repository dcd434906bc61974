import type { EpochSeconds } from "../time.ts";

/** Claims of a verified token: strings, numbers, booleans, and nested arrays and objects of them. */
export type VerifiedClaims = Readonly<Record<string, unknown>>;

/** The party on whose behalf a task runs. Its claims are those of the opening (CONTRACT §5). */
export type Subject =
  | {
      readonly type: "human";
      /** Issuer name. */
      readonly issuer: string;
      /** `<issuer name>|<its sub>`. */
      readonly sub: string;
      readonly claims: VerifiedClaims;
      /** From the human's token, where it has one. */
      readonly authTime?: EpochSeconds;
    }
  | {
      readonly type: "agent";
      /** Agent name. */
      readonly agent: string;
      /** `agent|<name>`. */
      readonly sub: string;
    };
