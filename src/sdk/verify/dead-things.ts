import { pathOf } from "../../core/delegation/chain.ts";
import { REPLICA_SKEW_SECONDS } from "../../core/token/check.ts";
import type { AccessTokenClaims } from "../../core/token/claims.ts";
import { MAX_LIFETIME_SECONDS } from "../../core/token/lifetime.ts";
import type { Dead } from "./feed-frame.ts";

/** Seconds after which a token that was live at a kill has ended by itself, whichever replica's clock it was issued by. */
const REMEMBERED_SECONDS = MAX_LIFETIME_SECONDS + 2 * REPLICA_SKEW_SECONDS;
/** Most dead things that are remembered; all of them died within the last minute. */
const MAX_REMEMBERED = 500_000;

/** The dead are more than can be remembered: nothing can be told of any token. */
export class TooManyDeadError extends Error {
  override readonly name = "TooManyDeadError";
}

/** What died lately. */
export interface DeadThings {
  /**
   * Remembers what a frame names, for as long as a token that it covers can live.
   *
   * @param asOf the frame's, epoch seconds
   * @throws {TooManyDeadError}
   */
  add(dead: readonly Dead[], asOf: number): void;
  /** Whether any of it covers the token. */
  covers(claims: AccessTokenClaims): boolean;
}

interface Entry {
  iatLte: number;
  forgetAt: number;
}

/** Bounded: an entry is forgotten as soon as no living token can be covered by it. */
export function createDeadThings(maxRemembered = MAX_REMEMBERED): DeadThings {
  const entries = new Map<string, Entry>();
  const forget = (now: number): void => {
    for (const [key, entry] of entries) if (entry.forgetAt <= now) entries.delete(key);
  };
  return {
    add(dead, asOf) {
      if (entries.size + dead.length > maxRemembered) forget(asOf);
      if (entries.size + dead.length > maxRemembered) throw new TooManyDeadError();
      for (const { kind, value, iatLte } of dead) {
        const key = `${kind}:${value}`;
        const before = entries.get(key);
        // Kept by the frame's time, not by `iat_lte`: a bound in the future covers tokens that are still to come.
        const forgetAt = Math.max(iatLte ?? asOf, asOf) + REMEMBERED_SECONDS;
        entries.set(key, {
          iatLte: Math.max(before?.iatLte ?? 0, iatLte ?? Number.POSITIVE_INFINITY),
          forgetAt: Math.max(before?.forgetAt ?? 0, forgetAt),
        });
      }
      // A read map never grows for lack of kills; this keeps a long quiet process small.
      if (dead.length > 0) forget(asOf);
    },
    covers(claims) {
      return keysOf(claims).some((key) => {
        const entry = entries.get(key);
        return entry !== undefined && claims.iat <= entry.iatLte;
      });
    },
  };
}

/** `agent` covers any level of the chain (CONTRACT §6). */
function keysOf(claims: AccessTokenClaims): string[] {
  const agents = new Set([...pathOf(claims), claims.client_id]);
  return [
    `jti:${claims.jti}`,
    `txn:${claims.txn}`,
    `sub:${claims.sub}`,
    `aud:${claims.aud}`,
    ...[...agents].map((name) => `agent:${name}`),
  ];
}
