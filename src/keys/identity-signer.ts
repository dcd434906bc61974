import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Permit } from "../core/permit.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { HeldKeys } from "./held-keys.ts";
import { signWith } from "./signer.ts";

/** Longest life of a web-identity token, in seconds: it is spent at once, and the rest is for clocks that differ. */
export const MAX_IDENTITY_SECONDS = 60;

/** What every web-identity token says; the rest is its builder's. */
export interface IdentityClaims {
  readonly iss: string;
  /** `resource|<name>`. */
  readonly sub: string;
  /** One, as a string: AWS would take none of several. */
  readonly aud: string;
  readonly iat: EpochSeconds;
  readonly exp: EpochSeconds;
  readonly jti: string;
}

/** Signs web-identity tokens: what a cloud takes as proof that one credential resource of ours is asking. */
export interface IdentitySigner {
  /** Makes the keys where there are none yet, and reads them again where that is due. Await it before asking for a permit. */
  ready(): Promise<void>;
  /**
   * Signs one with the active identity key and uses the permit up. What the permit does not cover is a bug, and throws a
   * plain error.
   *
   * @throws {TemporarilyUnavailableError} `permit_lapsed` (also when spent), `keys_stale`
   */
  sign(permit: Permit, claims: IdentityClaims): string;
}

/** @param deps.ensureKeys makes the identity keys where there are none */
export function createIdentitySigner(deps: {
  held: HeldKeys;
  clock: DatabaseClock;
  ensureKeys: () => Promise<void>;
}): IdentitySigner {
  const { held, clock } = deps;
  return {
    async ready() {
      await held.fresh();
      await deps.ensureKeys();
    },
    sign(permit, claims) {
      if (permit.action !== "identity.sign" || permit.target !== claims.sub) {
        throw new TypeError("identity signer: the permit is for something else");
      }
      const life = claims.exp - claims.iat;
      if (!(life > 0 && life <= MAX_IDENTITY_SECONDS)) {
        throw new RangeError("identity signer: the token's life is out of range");
      }
      // AWS would take it in place of `aud` for the condition of the role's trust policy.
      if ("azp" in claims) throw new TypeError("identity signer: no azp");
      // Before the permit is spent: a stale replica must not use up what a retry could still release.
      const key = held.pair(held.usable(), "identity").active;
      if (!permit.spend(clock.monotonicMs())) throw new TemporarilyUnavailableError({ reason: "permit_lapsed" });
      // Never remembered by the verifier: nothing of ours verifies one.
      return signWith(key, JWT_TYP.webIdentity, claims);
    },
  };
}
