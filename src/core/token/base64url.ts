const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/** Marks a character outside the alphabet: a bit that no six-bit value has. */
const OUTSIDE = 0x40;
/** Small results are cut from one buffer after the other, as Node's own are: making a buffer costs more than filling it. */
const POOL_BYTES = 16 * 1024;
let pool = new ArrayBuffer(POOL_BYTES);
let used = 0;

const VALUES = new Uint8Array(128).fill(OUTSIDE);
for (let value = 0; value < ALPHABET.length; value++) VALUES[ALPHABET.charCodeAt(value)] = value;

/**
 * Bytes of canonical base64url text, or undefined: no padding, no character outside the alphabet, no stray trailing bits.
 * So each byte string has exactly one accepted spelling, and a token's text can stand for the token.
 *
 * @see RFC 7515 §2, RFC 4648 §3.5 and §5
 */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const rest = text.length & 3;
  if (rest === 1) return undefined;
  const whole = text.length - rest;
  const bytes = room((whole >> 2) * 3 + (rest === 0 ? 0 : rest - 1));
  let seen = 0;
  let at = 0;
  for (let i = 0; i < whole; i += 4) {
    const a = valueAt(text, i);
    const b = valueAt(text, i + 1);
    const c = valueAt(text, i + 2);
    const d = valueAt(text, i + 3);
    seen |= a | b | c | d;
    bytes[at++] = (a << 2) | (b >> 4);
    bytes[at++] = (b << 4) | (c >> 2);
    bytes[at++] = (c << 6) | d;
  }
  if (rest > 0) {
    const a = valueAt(text, whole);
    const b = valueAt(text, whole + 1);
    const c = rest === 3 ? valueAt(text, whole + 2) : 0;
    seen |= a | b | c;
    bytes[at++] = (a << 2) | (b >> 4);
    if (rest === 3) bytes[at++] = (b << 4) | (c >> 2);
    // INVARIANT: the bits that no byte uses are zero; else one signature would have several spellings.
    if ((rest === 2 ? b & 0x0f : c & 0x03) !== 0) return undefined;
  }
  return (seen & OUTSIDE) === 0 ? bytes : undefined;
}

/** Base64url text of bytes, without padding (RFC 7515 §2). */
export function encodeBase64url(bytes: Uint8Array): string {
  let text = "";
  for (let i = 0; i < bytes.length; i += 3) {
    const left = bytes.length - i;
    const word = ((bytes[i] as number) << 16) | ((bytes[i + 1] ?? 0) << 8) | (bytes[i + 2] ?? 0);
    text += ALPHABET.charAt(word >> 18) + ALPHABET.charAt((word >> 12) & 63);
    if (left > 1) text += ALPHABET.charAt((word >> 6) & 63);
    if (left > 2) text += ALPHABET.charAt(word & 63);
  }
  return text;
}

/** New bytes that nothing else writes to. */
function room(length: number): Uint8Array {
  if (length > POOL_BYTES / 4) return new Uint8Array(length);
  if (used + length > POOL_BYTES) {
    pool = new ArrayBuffer(POOL_BYTES);
    used = 0;
  }
  const bytes = new Uint8Array(pool, used, length);
  used += length;
  return bytes;
}

function valueAt(text: string, index: number): number {
  const code = text.charCodeAt(index);
  return code < 128 ? (VALUES[code] as number) : OUTSIDE;
}
