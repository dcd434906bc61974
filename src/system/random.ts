import { randomBytes as nodeRandomBytes, randomFillSync } from "node:crypto";

/** Crockford's base 32: no I, L, O, U. */
const CROCKFORD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const ULID_TIME_CHARACTERS = 10;
const ULID_RANDOM_CHARACTERS = 16;
/** 48 bits of milliseconds: the year 10889. */
const ULID_MAX_MS = 2 ** 48 - 1;
/** Random bytes of ids are drawn this many at a time: asking the system costs more than what it gives. */
const POOL_BYTES = 4_096;
/** Two characters for ten random bits: a ULID is made of few pieces. */
const CROCKFORD_PAIRS = Array.from(CROCKFORD, (a) => Array.from(CROCKFORD, (b) => a + b)).flat();

const pool = new Uint8Array(POOL_BYTES);
let poolAt = POOL_BYTES;
let timeMs = -1;
let timeText = "";

/** @returns `count` bytes of the operating system's randomness */
export function randomBytes(count: number): Uint8Array {
  return nodeRandomBytes(count);
}

/** @returns `bytes` random bytes in base64url without padding */
export function randomToken(bytes: number): string {
  return nodeRandomBytes(bytes).toString("base64url");
}

/**
 * A ULID: 48 bits of time and 80 random bits, 26 characters that sort by time. Ids made within one millisecond are in no order.
 *
 * @param nowMs milliseconds since the epoch
 * @throws {RangeError} when `nowMs` is not a time that fits 48 bits
 */
export function ulid(nowMs: number): string {
  const ms = Math.floor(nowMs);
  if (ms !== timeMs) {
    timeText = timeOf(ms);
    timeMs = ms;
  }
  if (poolAt + ULID_RANDOM_CHARACTERS > POOL_BYTES) {
    randomFillSync(pool);
    poolAt = 0;
  }
  // One byte a character, of which five bits are used: 256 is a multiple of 32, so the characters are uniform.
  let random = "";
  for (const end = poolAt + ULID_RANDOM_CHARACTERS; poolAt < end; poolAt += 2) {
    random += CROCKFORD_PAIRS[(((pool[poolAt] as number) & 31) << 5) | ((pool[poolAt + 1] as number) & 31)];
  }
  return timeText + random;
}

function timeOf(ms: number): string {
  let rest = ms;
  if (!(rest >= 0 && rest <= ULID_MAX_MS)) throw new RangeError("ulid: time out of range");
  let time = "";
  for (let i = 0; i < ULID_TIME_CHARACTERS; i++) {
    time = CROCKFORD.charAt(rest % 32) + time;
    rest = Math.floor(rest / 32);
  }
  return time;
}

/** Makes ULIDs that also sort in the order in which they were made, by one maker, within one millisecond. */
export type Ulids = (nowMs: number) => string;

/** @returns a maker; after a clock that was set back it goes on from the latest time it saw */
export function createUlids(): Ulids {
  let lastMs = -1;
  let last = "";
  return (nowMs) => {
    const ms = Math.floor(nowMs);
    if (ms > lastMs) {
      lastMs = ms;
      last = ulid(ms);
      return last;
    }
    last = incremented(last) ?? ulid(lastMs + 1);
    return last;
  };
}

/** The next ULID of the same millisecond; undefined when the random part is at its end. */
function incremented(text: string): string | undefined {
  for (let at = text.length - 1; at >= ULID_TIME_CHARACTERS; at--) {
    const digit = CROCKFORD.indexOf(text.charAt(at));
    if (digit < 31) {
      return text.slice(0, at) + CROCKFORD.charAt(digit + 1) + "0".repeat(text.length - at - 1);
    }
  }
  return undefined;
}
