import { sha256Hex } from "../system/hash.ts";
import { type KeyEncryptionKey, localKeyEncryptionKey } from "./envelope.ts";
import { SecretBytes } from "./secret-bytes.ts";

/** A key-encryption key as text: 32 bytes in base64url without padding. */
export const KEK_CHARACTERS = 43;
/** Bytes of a key-encryption key. */
export const KEK_BYTES = 32;
/** Of the SHA-256 hex digest: 64 bits tell keys apart, and say nothing about 256 random ones. */
const ID_CHARACTERS = 16;
/** A random key has 30 or so different bytes; fewer than this is somebody's example. */
const FEWEST_DIFFERENT_BYTES = 8;

/** Why a key-encryption key is refused at the start. */
export type KekFault =
  | "empty"
  | "line_break"
  | "length"
  | "characters"
  | "example"
  | "missing"
  | "unreachable"
  | "refused"
  | "malformed";

/** The start stops: `kek` is not usable. Says where and how to mend it, never the key (A-SEC-05). */
export class KekRefusedError extends Error {
  readonly code: KekFault;

  constructor(code: KekFault, message: string) {
    super(message);
    this.name = "KekRefusedError";
    this.code = code;
  }
}

/**
 * The key that a file or a variable holds.
 *
 * @param source how the configuration names it, for messages
 * @throws {KekRefusedError} `empty`, `line_break`, `length`, `characters`, `example`
 */
export function readKek(text: string, source: string): KeyEncryptionKey {
  const refuse = (code: KekFault, what: string): never => {
    throw new KekRefusedError(
      code,
      `kek: ${source} ${what}; it must be exactly ${KEK_CHARACTERS} base64url characters (32 random bytes), ` +
        `for example from: openssl rand -base64 32 | tr '+/' '-_' | tr -d '=\\n'`,
    );
  };
  if (text.length === 0) return refuse("empty", "is empty");
  if (/^[A-Za-z0-9_-]{43}\r?\n$/.test(text)) return refuse("line_break", "ends with a line break");
  if (text.length !== KEK_CHARACTERS) return refuse("length", "has another length");
  const bytes = new Uint8Array(KEK_BYTES);
  Buffer.from(text, "base64url").copy(bytes);
  if (Buffer.from(bytes).toString("base64url") !== text) return refuse("characters", "has other characters");
  if (new Set(bytes).size < FEWEST_DIFFERENT_BYTES) return refuse("example", "is not random");
  return kekOfBytes(bytes);
}

/** The key of these bytes, which from now on belong to it. */
export function kekOfBytes(bytes: Uint8Array): KeyEncryptionKey {
  return localKeyEncryptionKey(kekId(bytes), new SecretBytes(bytes));
}

/** Labelled, so that the id is not the digest of the key that some other program may print. */
function kekId(bytes: Uint8Array): string {
  const labelled = Buffer.concat([Buffer.from("ephor kek id\0"), bytes]);
  const id = sha256Hex(labelled).slice(0, ID_CHARACTERS);
  labelled.fill(0);
  return id;
}
