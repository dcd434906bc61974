/** A bounded map that keeps what was used lately. */
export interface Recent<V> {
  /** A hit counts as a use. */
  get(key: string): V | undefined;
  set(key: string, value: V): void;
  /** Entries held. */
  readonly size: number;
}

/**
 * Two generations, of which the older one is dropped whole. Deleting single entries of a Map leaves gaps at its beginning,
 * and looking for its oldest entry walks over all of them: 10 µs at 10,000 entries.
 *
 * @param maxEntries most that are held; what was used within the last half as many additions is never forgotten
 */
export function createRecent<V>(maxEntries: number): Recent<V> {
  const half = Math.max(1, Math.floor(maxEntries / 2));
  let young = new Map<string, V>();
  let old = new Map<string, V>();
  const set = (key: string, value: V): void => {
    if (young.size >= half && !young.has(key)) {
      old = young;
      young = new Map();
    }
    young.set(key, value);
  };
  return {
    get(key) {
      const value = young.get(key);
      if (value !== undefined) return value;
      const older = old.get(key);
      if (older !== undefined) set(key, older);
      return older;
    },
    set,
    get size() {
      return young.size + old.size;
    },
  };
}
