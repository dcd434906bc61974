import type { PresentedToken } from "../../core/oauth/bearer.ts";
import { JWT_TYP } from "../../core/oauth/vocabulary.ts";
import { checkAccessToken } from "../../core/token/access-token.ts";
import { checkTyp } from "../../core/token/check.ts";
import type { AccessTokenClaims } from "../../core/token/claims.ts";
import { DPOP_ALGORITHMS } from "../../core/token/dpop.ts";
import { OWN_TOKEN_MAX_BYTES, readJws } from "../../core/token/jws.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import { asVerifiedToken, type VerifiedToken } from "./actors.ts";
import { createKeySet, KeysUnavailableError } from "./key-set.ts";
import { IntrospectionUnavailableError } from "./introspect.ts";
import { readSettings, type VerifierOptions } from "./options.ts";
import { isUnreadable, readPresented, type Presented, type PresentedRequest } from "./presented.ts";
import { checkProof, createProofMemory } from "./proof.ts";
import { RefusedError, type RefusalCode, type RefusalReason } from "./refusal.ts";
import { resourceMetadata, resourceMetadataUrl, type ResourceMetadata } from "./resource-metadata.ts";
import { createRevocation, FeedSilentError, OnceUnsupportedError } from "./revocation.ts";

/** What one request needs. */
export interface Needs {
  /** Scopes in full, all of them needed; an empty list for none. */
  readonly scope: string | readonly string[];
}

/** Judges the tokens of one resource. */
export interface Verifier {
  /**
   * The token of a request, if the request may be served. A token given as text counts as Bearer: one that is bound to a key is
   * refused then, for there is no proof.
   *
   * @throws {RefusedError} whatever is wrong, with status, headers and body for the caller
   */
  verify(presented: Presented, needs: Needs): Promise<VerifiedToken>;
  /** Resolves when kills are known (with the feed: when it was first heard), or after so many milliseconds; default the bound. */
  ready(timeoutMs?: number): Promise<boolean>;
  /** This resource's metadata, to be served at {@link Verifier.metadataUrl} (RFC 9728). */
  metadata(scopes?: readonly string[]): ResourceMetadata;
  readonly metadataUrl: string;
  /** Ends the feed. Nothing is verified afterwards with a feed. */
  close(): void;
}

/**
 * Makes a verifier for one resource. With the feed it begins to listen at once.
 *
 * @throws {TypeError} for options that cannot be meant: the message names the option and the mend
 * @see RFC 9068 §4, RFC 9449 §7, CONTRACT §5 "The token"
 */
export function createVerifier(options: VerifierOptions): Verifier {
  const settings = readSettings(options);
  const { issuer, resource, clock, origin } = settings;
  const now = (): number => Math.floor(clock.nowMs() / 1000);
  const keys = createKeySet(`${issuer}/.well-known/jwks.json`, settings.algorithms);
  const memory = options.proofs ?? createProofMemory(now);
  const revocation = createRevocation(settings);

  const read = async (token: string): Promise<AccessTokenClaims> => {
    const jws = readJws(token, { maxBytes: OWN_TOKEN_MAX_BYTES, ownHeader: true });
    checkTyp(jws.header.typ, [JWT_TYP.accessToken]);
    await keys.prove(token, jws);
    return checkAccessToken(jws.payload, { issuer, audience: resource, now: now() });
  };

  const checkPossession = async (
    { scheme, token }: PresentedToken,
    claims: AccessTokenClaims,
    request: PresentedRequest | undefined,
  ): Promise<void> => {
    const jkt = claims.cnf?.jkt;
    if (jkt === undefined) {
      // A proof proves nothing about a token that is bound to no key (RFC 9449 §7.1).
      if (scheme === "DPoP") throw new RefusedToken({ reason: "dpop_key_mismatch" });
      return;
    }
    // Used as Bearer, a bound token would be worth as much to a thief as any other (RFC 9449 §7.2).
    if (scheme !== "DPoP" || request === undefined) throw new RefusedToken({ reason: "dpop_missing" });
    const path = request.path.replace(/[?#].*$/s, "");
    await checkProof(
      { method: request.method, url: origin + path, proof: request.dpop },
      { token, jkt, now: now(), memory },
    );
  };

  const judge = async (presented: Presented, scopes: readonly string[]): Promise<VerifiedToken> => {
    const { token, request } = readPresented(presented);
    if (token === undefined) throw new RefusedToken({ reason: "client_missing" });
    const claims = await read(token.token);
    await checkPossession(token, claims, request);
    const held = new Set(claims.scope.split(" "));
    if (!scopes.every((scope) => held.has(scope))) throw new RefusedToken({ reason: "insufficient_scope" });
    // Last, because everything before it may have waited: what is told here is true when the answer is given.
    await revocation.check(token.token, claims);
    if (now() >= claims.exp) throw new RefusedToken({ reason: "token_expired" });
    return asVerifiedToken(claims);
  };

  const metadataUrl = options.resourceMetadataUrl ?? resourceMetadataUrl(resource);
  return {
    metadataUrl,
    metadata: (scopes) => resourceMetadata(issuer, resource, scopes),
    ready: (timeoutMs) => revocation.ready(timeoutMs),
    close: () => revocation.close(),
    async verify(presented, needs) {
      const scopes = typeof needs.scope === "string" ? needs.scope.split(" ") : needs.scope;
      try {
        return await judge(presented, scopes);
      } catch (error) {
        const { code, reason } = faceOf(error);
        const algorithms = DPOP_ALGORITHMS;
        const scheme = schemeOf(presented) === "DPoP" || reason === "dpop_missing" ? "DPoP" : "Bearer";
        const challenge = { scheme, resourceMetadataUrl: metadataUrl, scopes, algorithms } as const;
        throw new RefusedError({ code, reason, challenge }, { cause: error });
      }
    },
  };
}

/** What the caller reads of a refusal. Anything unknown is a bug and refuses too. */
function faceOf(error: unknown): { code: RefusalCode; reason: RefusalReason } {
  if (error instanceof RefusedToken) return { code: codeOf(error.reason), reason: error.reason };
  if (isUnreadable(error)) return { code: "invalid_token", reason: error.reason };
  if (error instanceof OnceUnsupportedError) return { code: "invalid_token", reason: "once_unsupported" };
  const code = "temporarily_unavailable";
  if (error instanceof KeysUnavailableError) return { code, reason: "keys_unavailable" };
  if (error instanceof IntrospectionUnavailableError) return { code, reason: "introspection_unavailable" };
  if (error instanceof FeedSilentError) return { code, reason: "feed_silent" };
  return { code, reason: "internal" };
}

function codeOf(reason: RefusalReason): RefusalCode {
  if (reason === "client_missing") return "unauthorized";
  if (reason === "insufficient_scope") return "insufficient_scope";
  // The token is good, but not as Bearer: RFC 9449 §7.2 has `invalid_token` for it.
  if (reason === "dpop_missing" || reason === "dpop_key_mismatch") return "invalid_token";
  return reason.startsWith("dpop_") ? "invalid_dpop_proof" : "invalid_token";
}

function schemeOf(presented: Presented): "Bearer" | "DPoP" {
  if (typeof presented === "string") return "Bearer";
  const value =
    presented instanceof Request ? (presented.headers.get("authorization") ?? "") : (presented.authorization ?? "");
  return /^dpop /i.test(value) ? "DPoP" : "Bearer";
}
