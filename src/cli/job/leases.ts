/**
 * `cli/job` is one command that runs under a task: what it holds, through which local doors it asks for it, and the end of all
 * of it when the command ends (CONTRACT §9, `ephor run`).
 *
 * This file: leases are shared by everybody who asks in time.
 */
import type { Vended } from "../../sdk/client/vend.ts";

/** A lease is served until this long before its end, in milliseconds: whoever gets it has time to use it. */
const RESERVE_MS = 15_000;

/** Leases of one task, by resource. */
export interface Leases {
  /** One that lives for a while yet: the current one, or a new one. @throws whatever the vend throws */
  get(resource: string): Promise<Vended>;
}

/** @param vend asks the server for a new one */
export function createLeases(vend: (resource: string) => Promise<Vended>, nowMs: () => number): Leases {
  const held = new Map<string, { readonly coming: Promise<Vended>; vended?: Vended }>();
  const isGood = (vended: Vended | undefined): boolean =>
    // Still coming: whoever asks meanwhile waits for the same one.
    vended === undefined || Date.parse(vended.expires_at) - nowMs() > RESERVE_MS;
  return {
    get(resource) {
      const current = held.get(resource);
      if (current !== undefined && isGood(current.vended)) return current.coming;
      const entry: { coming: Promise<Vended>; vended?: Vended } = { coming: vend(resource) };
      held.set(resource, entry);
      entry.coming.then(
        (vended) => (entry.vended = vended),
        () => held.get(resource) === entry && held.delete(resource),
      );
      return entry.coming;
    },
  };
}
