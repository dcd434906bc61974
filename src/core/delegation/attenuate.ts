import { InvalidScopeError } from "../oauth/errors.ts";
import type { EpochSeconds } from "../time.ts";

/** The most that a task or a node can do. */
export interface Bounds {
  /** Full scopes; null where nothing but the grants bounds it. */
  readonly scopes: readonly string[] | null;
  readonly deadline: EpochSeconds;
}

/**
 * The bounds of a child: exactly the scopes asked for, all of which the parent must hold, and no later deadline. Nothing is
 * narrowed silently: one scope too many refuses all.
 *
 * @throws {InvalidScopeError} `scope_above_ceiling`
 * @see CONTRACT §2 rule 3, INV-02
 */
export function attenuate(
  parent: Bounds,
  asked: { readonly scopes: readonly string[] | null; readonly deadline?: EpochSeconds },
): Bounds {
  const scopes = asked.scopes ?? parent.scopes;
  if (scopes !== null) requireWithin(scopes, [parent.scopes]);
  return { scopes, deadline: Math.min(parent.deadline, asked.deadline ?? parent.deadline) };
}

/**
 * Refuses scopes outside any of the ceilings.
 *
 * @param ceilings null: no bound
 * @throws {InvalidScopeError} `scope_above_ceiling`
 */
export function requireWithin(scopes: readonly string[], ceilings: readonly (readonly string[] | null)[]): void {
  for (const ceiling of ceilings) {
    if (ceiling === null) continue;
    const held = new Set(ceiling);
    if (!scopes.every((scope) => held.has(scope))) throw new InvalidScopeError({ reason: "scope_above_ceiling" });
  }
}
