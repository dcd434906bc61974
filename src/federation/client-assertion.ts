import {
  checkAudience,
  checkTimes,
  checkTyp,
  OUTSIDE_SKEW_SECONDS,
  ownClaim,
  requireString,
} from "../core/token/check.ts";
import { readJws, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Agent } from "../core/trust/model.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Base64url } from "../system/hash.ts";
import { verifyJwsSignature } from "../system/jws-signature.ts";
import { makeKeyPair } from "../system/key-pair.ts";
import { findKey, readKeys, type SignerKey } from "./key-set.ts";
import { LIMITS } from "./limits.ts";
import { checkStanding } from "./match.ts";

/** An agent that proved itself with a key of its own. */
export interface VerifiedClientAssertion {
  readonly agent: Agent;
  readonly jti: string;
  /** Name of this assertion for the replay table; it works once until `exp` and the skew are over. */
  readonly key: string;
  readonly exp: EpochSeconds;
}

/** What the check of `private_key_jwt` needs. */
export interface ClientAssertionDeps {
  readonly trust: () => TrustIndex;
  readonly clock: Pick<DatabaseClock, "now">;
  /** Our issuer identifier: the only audience (draft-ietf-oauth-rfc7523bis §4). */
  readonly issuerUrl: string;
}

/** Verifies a `private_key_jwt` assertion. */
export type ClientAssertionCheck = (token: string, o?: { clientId?: string | undefined }) => VerifiedClientAssertion;

/** A signature by nobody's key, of the length that ES256 has. */
const NOBODYS_SIGNATURE = new Uint8Array(64).fill(1);

/**
 * Makes the check of `private_key_jwt`: `iss` = `sub` = the agent's name, `aud` exactly our issuer, `jti` there, `exp` at most
 * five minutes ahead, signed by one of the agent's keys.
 *
 * @returns a function that throws {RefusedToken} with the reason of the check that failed
 * @see RFC 7523 §3, OpenID Connect Core 1.0 §9, standards.md 6.1, A-CLI-04
 */
export function createClientAssertionCheck(deps: ClientAssertionDeps): ClientAssertionCheck {
  const imported = new WeakMap<Agent, readonly SignerKey[]>();
  const nobodysKey = makeKeyPair("P-256").publicKey;

  function keysOf(agent: Agent): readonly SignerKey[] {
    let keys = imported.get(agent);
    if (keys === undefined) {
      keys = readKeys(agent.keys, "sig");
      imported.set(agent, keys);
    }
    return keys;
  }

  function checkSignature(agent: Agent | undefined, jws: StrictJws): Agent {
    const key = agent === undefined ? undefined : findKey(keysOf(agent), jws.header);
    if (agent !== undefined && key !== undefined && verifyJwsSignature(jws.header.alg, key.key, jws)) return agent;
    // An agent that does not exist, or has no such key, must not be told by the time it takes (INV-26).
    if (key === undefined)
      verifyJwsSignature("ES256", nobodysKey, { signingInput: jws.signingInput, signature: NOBODYS_SIGNATURE });
    throw new RefusedToken({ reason: agent === undefined ? "client_unknown" : "token_signature" });
  }

  return (token, { clientId } = {}) => {
    const jws = readJws(token, { maxBytes: LIMITS.workloadTokenBytes });
    checkTyp(jws.header.typ, [undefined, "jwt", "client-authentication+jwt"]);
    const name = requireString(jws.payload, "iss");
    if (requireString(jws.payload, "sub") !== name) throw new RefusedToken({ reason: "client_mismatch" });
    if (clientId !== undefined && clientId !== name) throw new RefusedToken({ reason: "client_mismatch" });
    const agent = checkSignature(deps.trust().agent(name), jws);
    const now = deps.clock.now();
    const { exp, jti } = checkAssertionClaims(jws, { issuerUrl: deps.issuerUrl, now });
    checkStanding(agent, now);
    return { agent, jti, exp, key: sha256Base64url(`assertion ${JSON.stringify([name, jti])}`) };
  };
}

function checkAssertionClaims(
  { payload }: StrictJws,
  o: { issuerUrl: string; now: EpochSeconds },
): { exp: EpochSeconds; jti: string } {
  const aud = ownClaim(payload, "aud");
  // Narrower than RFC 7523bis, which lets an array of one pass: new clients send a string, and there are no old ones.
  if (Array.isArray(aud)) throw new RefusedToken({ reason: "token_audience" });
  checkAudience(aud, [o.issuerUrl]);
  const jti = requireString(payload, "jti");
  const { exp, iat } = checkTimes(payload, {
    now: o.now,
    skewSeconds: OUTSIDE_SKEW_SECONDS,
    aheadSeconds: OUTSIDE_SKEW_SECONDS,
  });
  // Five minutes is what MCP clients ask for; from their own `iat`, for their clock may be ahead of ours by the skew.
  if (exp > Math.max(o.now, iat ?? 0) + LIMITS.clientAssertionAheadSeconds)
    throw new RefusedToken({ reason: "token_lifetime" });
  return { exp, jti };
}
