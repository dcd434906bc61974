import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { HeldKeys } from "./held-keys.ts";
import type { KeyUse } from "./key-ring.ts";
import { signWith } from "./signer.ts";

/**
 * Everything that is signed without a permit, and the keys it is signed with. Closed: an access token's `typ` is not
 * here, and no reader of tokens accepts one of these (CONTRACT §5 "The token", RFC 8725 §3.11).
 */
const USE_OF_TYP = {
  [JWT_TYP.introspection]: "token",
  [JWT_TYP.securityEvent]: "token",
  [JWT_TYP.feed]: "record",
  [JWT_TYP.receipt]: "record",
  [JWT_TYP.approval]: "record",
  [JWT_TYP.head]: "record",
} as const satisfies Record<string, KeyUse>;

/** The `typ` of a statement that Ephor makes about itself. */
export type AttestationTyp = keyof typeof USE_OF_TYP;

/** Signs statements: no permit, because none of them opens anything. */
export interface Attestor {
  /**
   * A compact JWS over the claims, by the active token key (introspection answers, security events) or record key (feed
   * frames, receipts, approvals, ledger heads).
   *
   * @throws {TemporarilyUnavailableError} `keys_stale` for those by token keys
   */
  sign(typ: AttestationTyp, claims: object): string;
}

/** @see RFC 9701 §5 for introspection answers */
export function createAttestor({ held }: { held: HeldKeys }): Attestor {
  return {
    sign(typ, claims) {
      const use = Object.hasOwn(USE_OF_TYP, typ) ? USE_OF_TYP[typ] : undefined;
      if (use === undefined) throw new TypeError("attestor: not on the list");
      // A record counts for ever, by a retired key too, so the last head at a shutdown without a database is still signed.
      const set = use === "token" ? held.usable() : held.latest();
      return signWith(held.pair(set, use).active, typ, claims);
    },
  };
}
