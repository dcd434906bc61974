import { createRecent } from "../system/recent.ts";

/** Remembers that a signature is good, and nothing else: time, audience, rules and replay are judged every time. */
export interface SignatureMemo {
  /** Whether this token was found good under this key; a hit keeps it longer. */
  has(entry: string): boolean;
  add(entry: string): void;
  readonly size: number;
}

/**
 * A bounded set that forgets what was not used for long. Entries name the generation of the issuer's keys, so dropping those
 * of an issuer is making a new generation: the old ones are never asked for again and age out.
 *
 * @param maxEntries how many are kept at most
 */
export function createSignatureMemo(maxEntries: number): SignatureMemo {
  const entries = createRecent<true>(maxEntries);
  return {
    has: (entry) => entries.get(entry) === true,
    add: (entry) => entries.set(entry, true),
    get size() {
      return entries.size;
    },
  };
}
