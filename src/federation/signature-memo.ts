/** Remembers that a signature is good, and nothing else: time, audience, rules and replay are judged every time. */
export interface SignatureMemo {
  /** Whether this token was found good under this key; a hit moves it to the young end. */
  has(entry: string): boolean;
  add(entry: string): void;
  readonly size: number;
}

/**
 * A bounded set that forgets the entry that was not used for longest. Entries name the generation of the issuer's keys, so
 * dropping those of an issuer is making a new generation: the old ones are never asked for again and age out.
 *
 * @param maxEntries how many are kept
 */
export function createSignatureMemo(maxEntries: number): SignatureMemo {
  // A Set iterates in the order of insertion.
  const entries = new Set<string>();
  return {
    has(entry) {
      if (!entries.delete(entry)) return false;
      entries.add(entry);
      return true;
    },
    add(entry) {
      entries.delete(entry);
      entries.add(entry);
      if (entries.size > maxEntries) {
        const oldest = entries.values().next();
        if (oldest.done !== true) entries.delete(oldest.value);
      }
    },
    get size() {
      return entries.size;
    },
  };
}
