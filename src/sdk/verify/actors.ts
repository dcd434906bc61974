import { agentNameOf, pathOf } from "../../core/delegation/chain.ts";
import type { AccessTokenClaims, ActClaim } from "../../core/token/claims.ts";

/** On whose behalf a request is made. */
export type Subject =
  | {
      readonly kind: "human";
      /** `<issuer>|<id>`, as in the token. */
      readonly sub: string;
      /** The issuer's name in Ephor's trust file. */
      readonly issuer: string;
      /** The human's `sub` at that issuer. */
      readonly id: string;
    }
  | { readonly kind: "agent"; readonly sub: string; readonly name: string };

/** A token that was judged and may be served. */
export interface VerifiedToken {
  readonly claims: AccessTokenClaims;
  /** On whose behalf. */
  readonly subject: Subject;
  /** Names of the agents that the request came through, oldest first; the last is the one that calls. */
  readonly actors: readonly string[];
  /** In full, each `<resource>:<action>`. */
  readonly scopes: readonly string[];
}

/**
 * The chain of a verified token: names of agents, oldest first; the last is the one that calls. An agent that acts for itself
 * is its own chain.
 *
 * @see RFC 8693 §4.1
 */
export function actors(token: VerifiedToken | { readonly sub: string; readonly act?: ActClaim }): readonly string[] {
  return pathOf("claims" in token ? token.claims : token);
}

/** Gives verified claims the shape that tool servers work with. */
export function asVerifiedToken(claims: AccessTokenClaims): VerifiedToken {
  return { claims, subject: subjectOf(claims.sub), actors: actors(claims), scopes: claims.scope.split(" ") };
}

/** `sub` is split at the first `|` (CONTRACT §1). */
function subjectOf(sub: string): Subject {
  const name = agentNameOf(sub);
  if (name !== undefined) return { kind: "agent", sub, name };
  const bar = sub.indexOf("|");
  return { kind: "human", sub, issuer: sub.slice(0, Math.max(bar, 0)), id: sub.slice(bar + 1) };
}
