import { UnavailableError } from "./outcome.ts";

/** Seconds before its end at which a thing is renewed; earlier for those that live less than three times that. */
const RESERVE_SECONDS = 15;
/** Milliseconds that whoever gets a thing needs to use it. */
const USABLE_MS = 2_000;
/** Milliseconds that whoever holds a living thing waits for its renewal. */
const PATIENCE_MS = 1_000;
/** Most different things that are kept for one task; the oldest goes first. */
const MAX_KEPT = 100;

/** A thing that ends, by the monotonic clock in milliseconds. */
export interface Perishable<T> {
  readonly value: T;
  readonly bornMs: number;
  readonly endMs: number;
  /** It serves once: it is given to the caller that had it made, and never kept. */
  readonly isOnce?: boolean;
}

/** Keeps things that end, and renews them before they do. */
export interface Renewal<T> {
  /**
   * The thing under this key: the one that is kept while it is young, else a new one; callers who come together share it.
   * What serves once each caller gets for itself.
   * While the server is away the old one is handed out as long as it lives.
   */
  get(key: string, make: () => Promise<Perishable<T>>): Promise<T>;
  clear(): void;
}

interface Entry<T> {
  current?: Perishable<T>;
  /** A renewal that is under way; it keeps what it brings. */
  coming?: Promise<Perishable<T>>;
}

/** @param monotonicMs milliseconds that only grow */
export function createRenewal<T>(monotonicMs: () => number): Renewal<T> {
  const kept = new Map<string, Entry<T>>();
  const renew = async (entry: Entry<T>, make: () => Promise<Perishable<T>>): Promise<Perishable<T>> => {
    try {
      const made = await make();
      if (made.isOnce === true) delete entry.current;
      else entry.current = made;
      return made;
    } catch (error) {
      // INVARIANT: after a refusal the old one is not handed out either: it may be what was stopped.
      if (!(error instanceof UnavailableError)) delete entry.current;
      throw error;
    } finally {
      delete entry.coming;
    }
  };
  return {
    clear: () => kept.clear(),
    async get(key, make) {
      const entry = kept.get(key) ?? {};
      const { current } = entry;
      if (current !== undefined && monotonicMs() < renewAtMs(current)) return current.value;
      kept.delete(key);
      kept.set(key, entry);
      for (const oldest of kept.keys()) if (kept.size > MAX_KEPT) kept.delete(oldest);
      const shared = entry.coming;
      const renewed = (entry.coming ??= renew(entry, make));
      // Whoever finds that what it waited for serves another has one made for itself.
      const own = (made: Perishable<T>): T | Promise<T> =>
        made.isOnce === true && shared !== undefined ? make().then(({ value }) => value) : made.value;
      const coming = renewed.then(own);
      const isUsable = current !== undefined && monotonicMs() + USABLE_MS < current.endMs;
      if (!isUsable) return await coming;
      try {
        return await withinPatience(coming, current.value);
      } catch (error) {
        if (error instanceof UnavailableError) return current.value;
        throw error;
      }
    },
  };
}

/** What comes, or the old thing when that takes long: nobody who holds a living one waits for a server that hangs. */
async function withinPatience<T>(coming: Promise<T>, old: T): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<T>((resolve) => (timer = setTimeout(resolve, PATIENCE_MS, old)));
  // Whoever asks next is told how it ended.
  coming.catch(() => {});
  return await Promise.race([coming, patience]).finally(() => clearTimeout(timer));
}

/** Two thirds of a short life, fifteen seconds before the end of a longer one. */
function renewAtMs({ bornMs, endMs }: Perishable<unknown>): number {
  return endMs - Math.min((endMs - bornMs) / 3, RESERVE_SECONDS * 1000);
}
