/*
 * core/delegation owns the shape of a chain: the path of actors, what a child may inherit, and who a subject's token allows
 * to act. It stores nothing; the chain that counts is the stored one (CONTRACT §2 rule 5).
 */
import { InvalidRequestError } from "../oauth/errors.ts";
import type { ActClaim } from "../token/claims.ts";
import { RefusedToken } from "../token/refused.ts";

/** Most actors on one path (A-CHN-09). Longer ones are accidents, and tokens grow with each. */
export const MAX_DEPTH = 8;

const AGENT_PREFIX = "agent|";
const AGENT_SUB = /^agent\|[a-z0-9][a-z0-9-]{0,62}$/;

/** The `sub` of an agent: `agent|<name>`. */
export function agentSub(name: string): string {
  return AGENT_PREFIX + name;
}

/** The agent's name in `agent|<name>`; undefined for a human's `sub` and for anything else. */
export function agentNameOf(sub: string): string | undefined {
  return AGENT_SUB.test(sub) ? sub.slice(AGENT_PREFIX.length) : undefined;
}

/**
 * The path with the authenticated caller at its end. The only way in which a path changes (INV-03).
 *
 * @param path agent names, oldest first
 * @throws {InvalidRequestError} `chain_loop` when the agent is on the path already; `chain_depth` when it is full
 */
export function appendActor(path: readonly string[], agent: string): readonly string[] {
  // A → B → A would let B's narrower work come back to A as if it were A's own; A can ask for itself.
  if (path.includes(agent)) throw new InvalidRequestError({ reason: "chain_loop", depth: path.length });
  if (path.length >= MAX_DEPTH) throw new InvalidRequestError({ reason: "chain_depth", depth: path.length });
  return [...path, agent];
}

/**
 * The `act` claim of a path: newest outermost. An agent that is itself the subject is no actor: it stands in `sub` only.
 *
 * @param subject the token's `sub`
 * @param path agent names, oldest first
 * @see RFC 8693 §4.1
 */
export function actClaim(subject: string, path: readonly string[]): ActClaim | undefined {
  let act: ActClaim | undefined;
  for (const [index, name] of path.entries()) {
    const sub = agentSub(name);
    if (index === 0 && sub === subject) continue;
    act = act === undefined ? { sub } : { sub, act };
  }
  return act;
}

/**
 * The path of a token: the reverse of {@link actClaim}.
 *
 * @returns agent names, oldest first
 */
export function pathOf(claims: { readonly sub: string; readonly act?: ActClaim }): readonly string[] {
  const path: string[] = [];
  for (let act = claims.act; act !== undefined; act = act.act) path.push(act.sub.slice(AGENT_PREFIX.length));
  const self = agentNameOf(claims.sub);
  if (self !== undefined) path.push(self);
  return path.reverse();
}

/**
 * An `act` claim of ours: objects of `sub` (an agent) and `act` only.
 *
 * @throws {RefusedToken} `token_claim_type`, `chain_depth`
 */
export function readActClaim(value: unknown, maxDepth: number = MAX_DEPTH): ActClaim {
  const subs: string[] = [];
  for (let act = value; act !== undefined;) {
    // A loop, not recursion: outside JSON is bounded to 32 levels, but nothing here should depend on it.
    if (subs.length >= maxDepth) throw new RefusedToken({ reason: "chain_depth", depth: subs.length });
    if (typeof act !== "object" || act === null || Array.isArray(act)) throw notAnActor();
    const { sub, act: previous, ...rest } = act as { sub?: unknown; act?: unknown };
    if (typeof sub !== "string" || agentNameOf(sub) === undefined || Object.keys(rest).length > 0) throw notAnActor();
    subs.push(sub);
    act = previous;
  }
  const read = subs.reduceRight<ActClaim | undefined>(
    (act, sub) => (act === undefined ? { sub } : { sub, act }),
    undefined,
  );
  if (read === undefined) throw notAnActor();
  return read;
}

function notAnActor(): RefusedToken {
  return new RefusedToken({ reason: "token_claim_type", claim: "act" });
}
