import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { JWT_TYP, type JwtTyp } from "../core/oauth/vocabulary.ts";
import type { Permit } from "../core/permit.ts";
import { MAX_LIFETIME_SECONDS } from "../core/token/lifetime.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { encodeJwsHeader, signJws } from "../system/jws-signature.ts";
import type { HeldKeys } from "./held-keys.ts";
import type { HeldKey } from "./key-material.ts";
import type { SignatureMemo } from "./signature-memo.ts";

/** What every token says; the rest is its builder's. */
export interface SignableClaims {
  readonly aud: string;
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
}

/** Signs tokens. */
export interface Signer {
  /**
   * Signs one token with the active token key and uses the permit up. What the permit does not cover is a bug, and
   * throws a plain error.
   *
   * @throws {TemporarilyUnavailableError} `permit_lapsed` (also when spent), `keys_stale`
   */
  sign(permit: Permit, token: { typ: "at+jwt" | "txntoken+jwt"; claims: SignableClaims }): string;
}

/** @param memo is told of each signature, so that our own token is not verified when it comes back */
export function createSigner(deps: { held: HeldKeys; clock: DatabaseClock; memo: SignatureMemo }): Signer {
  const { held, clock, memo } = deps;
  return {
    sign(permit, { typ, claims }) {
      if (typ !== JWT_TYP.accessToken && typ !== JWT_TYP.txnToken) throw new TypeError("signer: not a token's typ");
      if (permit.action !== "token.issue" || permit.target !== claims.aud) {
        throw new TypeError("signer: the permit is for something else");
      }
      // INVARIANT: whatever built the claims, no longer life than this is ever signed (INV-01).
      const life = claims.exp - claims.iat;
      if (!(life > 0 && life <= MAX_LIFETIME_SECONDS)) throw new RangeError("signer: the token's life is out of range");
      // Before the permit is spent: a stale replica must not use up what a retry could still release.
      const key = held.pair(held.usable(), "token").active;
      if (!permit.spend(clock.monotonicMs())) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
      const token = signWith(key, typ, claims);
      memo.add(key.kid, token);
      return token;
    },
  };
}

/** For `signer`, `identity-signer` and `attestor` only, which see to it that the key may sign this type. */
export function signWith(key: HeldKey, typ: JwtTyp, claims: object): string {
  if (key.privateKey === null) throw new TypeError("a retired key signs nothing");
  let encodedHeader = key.headers.get(typ);
  if (encodedHeader === undefined) {
    encodedHeader = encodeJwsHeader({ typ, alg: key.algorithm, kid: key.kid });
    key.headers.set(typ, encodedHeader);
  }
  return signJws(key.algorithm, key.privateKey, { encodedHeader, claims });
}
