import type { AccessTokenClaims } from "../../core/token/claims.ts";
import { RefusedToken } from "../../core/token/refused.ts";
import { createFeed, type Feed } from "./feed.ts";
import { createIntrospection, type Introspection } from "./introspect.ts";
import type { VerifierSettings } from "./options.ts";

/** The feed was not heard within its bound: nothing is known against the token, and nothing for it. */
export class FeedSilentError extends Error {
  override readonly name = "FeedSilentError";
}

/** A once-only token, and no credential by which to consume it. */
export class OnceUnsupportedError extends Error {
  override readonly name = "OnceUnsupportedError";
}

/** Whether a token, good in itself, was killed. */
export interface Revocation {
  /**
   * @throws {RefusedToken} `token_revoked`
   * @throws {FeedSilentError}, {IntrospectionUnavailableError}
   */
  check(token: string, claims: AccessTokenClaims): Promise<void>;
  /** Whether kills are known now; waits for the feed's first frame. */
  ready(timeoutMs?: number): Promise<boolean>;
  close(): void;
}

/** By the mode that was chosen; once-only tokens are consumed at the server whatever it is. */
export function createRevocation(settings: VerifierSettings): Revocation {
  const { issuer, credential, revocation: mode, stale } = settings;
  const introspection = credential === undefined ? undefined : createIntrospection(issuer, credential);
  const feed = mode === "feed" && credential !== undefined ? createFeed({ ...settings, credential }) : undefined;
  const boundMs = settings.boundSeconds * 1000;
  /** A request that comes while the server starts waits for the first frame instead of being refused. */
  let hasBegun = feed === undefined;
  const begun = async (one: Feed): Promise<void> => {
    if (hasBegun) return;
    await one.settled(boundMs);
    hasBegun = true;
  };
  return {
    async check(token, claims) {
      if (claims.once === true) return await consume(introspection, token, claims);
      if (feed !== undefined) {
        await begun(feed);
        if (feed.isFresh()) {
          if (feed.isDead(claims)) throw new RefusedToken({ reason: "token_revoked" });
          return;
        }
        if (stale === "refuse") throw new FeedSilentError();
      }
      if (mode === "none") return;
      const isActive = await introspection?.isActive(token, { jti: claims.jti, consume: false });
      if (isActive !== true) throw new RefusedToken({ reason: "token_revoked" });
    },
    async ready(timeoutMs = boundMs) {
      await feed?.settled(timeoutMs);
      return feed?.isFresh() ?? true;
    },
    close: () => feed?.close(),
  };
}

/** Active for one caller only, over all replicas (CONTRACT §5 "Once"). */
async function consume(
  introspection: Introspection | undefined,
  token: string,
  claims: AccessTokenClaims,
): Promise<void> {
  if (introspection === undefined) throw new OnceUnsupportedError();
  if (!(await introspection.isActive(token, { jti: claims.jti, consume: true }))) {
    throw new RefusedToken({ reason: "token_revoked" });
  }
}
