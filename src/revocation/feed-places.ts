import { TemporarilyUnavailableError } from "../core/oauth/errors.ts";

/** Streams that one replica serves, and how many of them are one resource's: its credential keeps nobody else from the feed. */
const PLACES = { all: 2_000, each: 1_000 };

/** The places of those who follow the feed. */
export interface FeedPlaces {
  /**
   * Takes one.
   *
   * @returns what gives it back
   * @throws {TemporarilyUnavailableError} `overloaded` where none is left, or none for this resource
   */
  take(resource: string): () => void;
}

/** Makes them. */
export function createFeedPlaces(): FeedPlaces {
  const taken = new Map<string, number>();
  let all = 0;
  const add = (resource: string, by: 1 | -1): void => {
    const now = (taken.get(resource) ?? 0) + by;
    if (now === 0) taken.delete(resource);
    else taken.set(resource, now);
    all += by;
  };
  return {
    take(resource) {
      if (all >= PLACES.all || (taken.get(resource) ?? 0) >= PLACES.each)
        throw new TemporarilyUnavailableError({ reason: "overloaded" });
      add(resource, 1);
      return () => add(resource, -1);
    },
  };
}
