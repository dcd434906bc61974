/** Chance that can be had again by its seed. */
export interface Chance {
  /** A whole number from 0 below this. */
  below(end: number): number;
  of<T>(things: readonly T[]): T;
}

/** @see https://en.wikipedia.org/wiki/Xorshift, 32 bits */
export function createChance(seed: number): Chance {
  let state = (seed | 0) === 0 ? 1 : seed | 0;
  const below = (end: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % end;
  };
  return { below, of: (things) => things[below(things.length)] as (typeof things)[number] };
}
