import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import { isObject } from "../core/signals/subject.ts";
import { checkTyp, OUTSIDE_SKEW_SECONDS, ownClaim, requireString } from "../core/token/check.ts";
import { OUTSIDE_TOKEN_MAX_BYTES, readJws, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Issuer, SharedSignals } from "../core/trust/model.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import type { EpochSeconds } from "../core/time.ts";
import type { DatabaseClock } from "../system/clock.ts";
import { sha256Base64url } from "../system/hash.ts";
import { verifyJwsSignature } from "../system/jws-signature.ts";
import { makeKeyPair } from "../system/key-pair.ts";
import { LIMITS } from "./limits.ts";
import type { SignatureCheck } from "./signature.ts";

/** An issuer whose people others speak of. */
export type SignallingIssuer = Issuer & { readonly sharedSignals: SharedSignals };

/** A security event of a trusted transmitter, for us. Whom it speaks of, and whether it came before, is not judged yet. */
export interface VerifiedSecurityEvent {
  readonly issuer: SignallingIssuer;
  readonly jti: string;
  /** Its name for the replay table. */
  readonly key: string;
  readonly iat: EpochSeconds;
  /** From then on it is too old to be accepted. */
  readonly staleAt: EpochSeconds;
  /** The event's URI. */
  readonly type: string;
  readonly event: VerifiedClaims;
  readonly subId: VerifiedClaims;
  /** Seconds from now after which no token that the issuer made until now can be presented any more. */
  readonly presentableSeconds: number;
}

/** What the verification needs. */
export interface SecurityEventDeps {
  readonly trust: () => TrustIndex;
  readonly clock: Pick<DatabaseClock, "now">;
  /** By keys of transmitters, which are not those of issuers. */
  readonly checkSignature: SignatureCheck;
}

/** Verifies a security event. @param name the issuer that it was addressed under */
export type SecurityEventCheck = (token: string, name: string) => Promise<VerifiedSecurityEvent>;

/** How often an event is judged whose issuer's entry is edited under it. */
const JUDGEMENTS = 3;

/** A signature by nobody's key, of the length that ES256 has. */
const NOBODYS_SIGNATURE = new Uint8Array(64).fill(1);

/**
 * Makes the check. Nothing about an entry is told to whoever cannot sign as its transmitter: the signature is judged before
 * `iss`, `aud` and the rest, and an unknown name takes the time of a wrong key.
 *
 * @returns a function that throws {RefusedToken}: what `readJws` says, `token_typ`, `transmitter_unknown`, `token_alg`,
 * `token_key_unknown`, `token_signature`, `token_issuer_unreachable`, `token_issuer_unknown` (its `iss`), `token_audience`,
 * `signal_is_token` (`sub` or `exp`), `signal_events`, `token_claim_missing`, `token_claim_type`, `token_not_yet_valid`,
 * `token_expired` (its `iat` is too old)
 * @see RFC 8417 §2.2 and §4, SSF 1.0 §4.1, standards.md 20.1 and 20.7
 */
export function createSecurityEventCheck(deps: SecurityEventDeps): SecurityEventCheck {
  const transmitters = new WeakMap<Issuer, Issuer>();
  const nobodysKey = makeKeyPair("P-256").publicKey;

  /** The cache of keys goes by the entry itself, so it must be the same object each time. */
  function transmitterOf(issuer: SignallingIssuer): Issuer {
    let transmitter = transmitters.get(issuer);
    if (transmitter === undefined) {
      const { transmitter: url, audience, jwks, jwksUri } = issuer.sharedSignals;
      const { name, identifies, internal, singleUse } = issuer;
      const keys = { ...(jwks !== undefined && { jwks }), ...(jwksUri !== undefined && { jwksUri }) };
      transmitter = { name, url, audience, identifies, internal, singleUse, ...keys };
      transmitters.set(issuer, transmitter);
    }
    return transmitter;
  }

  function find(name: string, jws: StrictJws): SignallingIssuer {
    const issuer = deps.trust().issuerByName(name);
    if (issuer !== undefined && isSignalling(issuer)) return issuer;
    verifyJwsSignature("ES256", nobodysKey, { signingInput: jws.signingInput, signature: NOBODYS_SIGNATURE });
    throw new RefusedToken({ reason: "transmitter_unknown" });
  }

  /** The entry that the signature was checked by, and that stands. */
  async function signedFor(token: string, jws: StrictJws, name: string): Promise<SignallingIssuer> {
    for (let left = JUDGEMENTS; left > 0; left--) {
      const issuer = find(name, jws);
      const stands = (): boolean => deps.trust().issuerByName(name) === issuer;
      try {
        if (issuer.sharedSignals.algorithms?.includes(jws.header.alg) === false)
          throw new RefusedToken({ reason: "token_alg", issuer: name });
        await deps.checkSignature(token, jws, transmitterOf(issuer));
      } catch (error) {
        if (stands()) throw error;
      }
      if (stands()) return issuer;
    }
    // Later is better than never: the transmitter sends it again.
    throw new RefusedToken({ reason: "token_issuer_unreachable", issuer: name, problem: "edited" });
  }

  return async (token, name) => {
    const jws = readJws(token, { maxBytes: OUTSIDE_TOKEN_MAX_BYTES });
    checkTyp(jws.header.typ, [JWT_TYP.securityEvent]);
    const issuer = await signedFor(token, jws, name);
    return judge(jws.payload, issuer, deps.clock.now());
  };
}

function isSignalling(issuer: Issuer): issuer is SignallingIssuer {
  return issuer.sharedSignals !== undefined;
}

function judge(payload: VerifiedClaims, issuer: SignallingIssuer, now: EpochSeconds): VerifiedSecurityEvent {
  const { transmitter, audience } = issuer.sharedSignals;
  const iss = requireString(payload, "iss");
  if (iss !== transmitter) throw new RefusedToken({ reason: "token_issuer_unknown", issuer: issuer.name });
  checkStreamAudience(ownClaim(payload, "aud"), audience);
  // Nobody shall be able to use it as a token, so what could be one is none of these (SSF 1.0 §4.1.2, §4.1.6).
  for (const claim of ["sub", "exp"])
    if (Object.hasOwn(payload, claim)) throw new RefusedToken({ reason: "signal_is_token", claim });
  const jti = requireString(payload, "jti");
  const iat = issuedAt(payload, now);
  const events = ownClaim(payload, "events");
  const [only, ...others] = isObject(events) ? Object.entries(events) : [];
  if (only === undefined || others.length > 0 || !isObject(only[1]))
    throw new RefusedToken({ reason: "signal_events" });
  const subId = ownClaim(payload, "sub_id");
  if (!isObject(subId))
    throw new RefusedToken({
      reason: subId === undefined ? "token_claim_missing" : "token_claim_type",
      claim: "sub_id",
    });
  return {
    issuer,
    jti,
    key: sha256Base64url(`secevent ${JSON.stringify([issuer.name, iss, jti])}`),
    iat,
    staleAt: iat + LIMITS.securityEventAgeSeconds,
    type: only[0],
    event: only[1],
    subId,
    // Its clock may be ahead of ours by the skew, and its tokens are taken for the skew past their end.
    presentableSeconds: (issuer.maxTokenAgeSeconds ?? LIMITS.tokenLifetimeSeconds) + 2 * OUTSIDE_SKEW_SECONDS + 1,
  };
}

/** A stream may have several audiences, all of which its events name: unlike a token, an event is of no use to the others. */
function checkStreamAudience(aud: unknown, accepted: readonly string[]): void {
  if (aud === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: "aud" });
  const named: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  if (!named.some((one) => typeof one === "string" && accepted.includes(one)))
    throw new RefusedToken({ reason: "token_audience" });
}

function issuedAt(payload: VerifiedClaims, now: EpochSeconds): EpochSeconds {
  const iat = ownClaim(payload, "iat");
  if (iat === undefined) throw new RefusedToken({ reason: "token_claim_missing", claim: "iat" });
  if (typeof iat !== "number" || !Number.isSafeInteger(iat) || iat < 0)
    throw new RefusedToken({ reason: "token_claim_type", claim: "iat" });
  if (iat > now + OUTSIDE_SKEW_SECONDS) throw new RefusedToken({ reason: "token_not_yet_valid", claim: "iat" });
  if (iat + LIMITS.securityEventAgeSeconds <= now) throw new RefusedToken({ reason: "token_expired", iat });
  return iat;
}
