import { createCipheriv, createDecipheriv, randomBytes } from "node:crypto";
import { OAuthError } from "../core/oauth/errors.ts";
import { decodeBase64url } from "../core/token/base64url.ts";
import { DecryptError } from "./decrypt-error.ts";
import { type Place, placeBytes } from "./place.ts";
import { SecretBytes } from "./secret-bytes.ts";

const CIPHER = "aes-256-gcm";
/** AES-256. */
const KEY_BYTES = 32;
/** 96 bits, the length GCM is specified for (NIST SP 800-38D §5.2.1.1). */
const IV_BYTES = 12;
/** 128 bits. Without this option Node accepts a tag of 4 bytes, which can be guessed. */
const TAG_BYTES = 16;

/** A sealed value as it lies in a `jsonb` column. Binary members are base64url without padding. */
export interface Sealed {
  /** The format. */
  readonly v: 1;
  /** Id of the key-encryption key that wrapped the data key. */
  readonly kek: string;
  /** The data key, wrapped. */
  readonly wrapped: string;
  readonly iv: string;
  readonly ct: string;
  readonly tag: string;
}

/**
 * A key that wraps data keys and nothing else. The contract of a new kind: `wrap` binds `aad` to what it returns,
 * `unwrap` throws whenever key, bytes or `aad` differ from those of `wrap`, and throws `TemporarilyUnavailableError`
 * when it cannot be asked; neither logs nor keeps a data key.
 */
export interface KeyEncryptionKey {
  /** The same for the same key wherever it is kept; tells nothing about it. */
  readonly id: string;
  wrap(dataKey: Uint8Array, aad: Uint8Array): Promise<Uint8Array>;
  unwrap(wrapped: Uint8Array, aad: Uint8Array): Promise<Uint8Array>;
}

/** Seals and opens values. It decides nothing: whoever holds it can open what it sealed. */
export interface Envelope {
  /** Id of the key under which new values are sealed. */
  readonly kekId: string;
  /** A new data key for this value alone. The caller still owns, and wipes, `value`. */
  seal(value: SecretBytes, place: Place): Promise<Sealed>;
  /**
   * @param sealed what the column held; nothing about it is trusted
   * @throws {DecryptError} `decrypt_failed`: changed, cut, moved, or sealed under a key we do not hold
   */
  open(sealed: unknown, place: Place): Promise<SecretBytes>;
  /**
   * The same value with its data key wrapped under the present key, without the value being opened.
   *
   * @throws {DecryptError} `decrypt_failed`
   */
  rewrap(sealed: unknown, place: Place): Promise<Sealed>;
}

/**
 * @param kek seals, and opens what it sealed
 * @param previous open only: keys that were replaced, until every row is rewrapped
 */
export function createEnvelope({
  kek,
  previous = [],
}: {
  kek: KeyEncryptionKey;
  previous?: readonly KeyEncryptionKey[];
}): Envelope {
  const byId = new Map([...previous, kek].map((key) => [key.id, key]));

  async function unwrap(sealed: Parts, place: Place): Promise<Uint8Array> {
    const holder = byId.get(sealed.kek);
    if (holder === undefined) throw new DecryptError(place, "kek_unknown");
    let dataKey: Uint8Array;
    try {
      dataKey = await holder.unwrap(sealed.wrapped, placeBytes("wrap", place));
    } catch (cause) {
      if (cause instanceof OAuthError) throw cause;
      throw new DecryptError(place, "not_authentic", { cause });
    }
    if (dataKey.length !== KEY_BYTES) throw new DecryptError(place, "not_authentic");
    return dataKey;
  }

  return {
    kekId: kek.id,

    async seal(value, place) {
      const dataKey = randomBytes(KEY_BYTES);
      try {
        const parts = value.use((plain) => encrypt(dataKey, plain, placeBytes("seal", place)));
        return written(kek.id, await kek.wrap(dataKey, placeBytes("wrap", place)), parts);
      } finally {
        dataKey.fill(0);
      }
    },

    async open(column, place) {
      const sealed = readSealed(column, place);
      const dataKey = await unwrap(sealed, place);
      try {
        return new SecretBytes(decrypt(dataKey, sealed, placeBytes("seal", place)));
      } catch (cause) {
        throw new DecryptError(place, "not_authentic", { cause });
      } finally {
        dataKey.fill(0);
      }
    },

    async rewrap(column, place) {
      const sealed = readSealed(column, place);
      const dataKey = await unwrap(sealed, place);
      try {
        return written(kek.id, await kek.wrap(dataKey, placeBytes("wrap", place)), sealed);
      } finally {
        dataKey.fill(0);
      }
    },
  };
}

/**
 * A key-encryption key in this process's memory. Random 96-bit IVs under one key are good for 2^32 wraps
 * (NIST SP 800-38D §8.3); each sealed value costs one.
 *
 * @param id see `KeyEncryptionKey.id`
 * @param key 32 bytes; held for the life of the process
 * @throws {RangeError} when the key is of another length
 */
export function localKeyEncryptionKey(id: string, key: SecretBytes): KeyEncryptionKey {
  if (key.length !== KEY_BYTES) throw new RangeError("a key-encryption key has 32 bytes");
  return {
    id,
    async wrap(dataKey, aad) {
      const { iv, ct, tag } = key.use((own) => encrypt(own, dataKey, aad));
      return Buffer.concat([iv, ct, tag]);
    },
    async unwrap(wrapped, aad) {
      if (wrapped.length !== IV_BYTES + KEY_BYTES + TAG_BYTES) throw new RangeError("wrapped key of another length");
      const iv = wrapped.subarray(0, IV_BYTES);
      const ct = wrapped.subarray(IV_BYTES, IV_BYTES + KEY_BYTES);
      return key.use((own) => decrypt(own, { iv, ct, tag: wrapped.subarray(IV_BYTES + KEY_BYTES) }, aad));
    },
  };
}

interface Ciphertext {
  iv: Uint8Array;
  ct: Uint8Array;
  tag: Uint8Array;
}

/** Only for a key of this file; a fresh IV each time. */
function encrypt(key: Uint8Array, plain: Uint8Array, aad: Uint8Array): Ciphertext {
  const iv = randomBytes(IV_BYTES);
  const cipher = createCipheriv(CIPHER, key, iv, { authTagLength: TAG_BYTES }).setAAD(aad);
  const ct = Buffer.concat([cipher.update(plain), cipher.final()]);
  return { iv, ct, tag: cipher.getAuthTag() };
}

/** @throws whatever OpenSSL throws when tag, key, IV, text or associated data do not belong together */
function decrypt(key: Uint8Array, { iv, ct, tag }: Ciphertext, aad: Uint8Array): Uint8Array {
  const decipher = createDecipheriv(CIPHER, key, iv, { authTagLength: TAG_BYTES }).setAAD(aad);
  decipher.setAuthTag(tag);
  // Own memory, not the shared pool's: the holder overwrites it.
  const plain = new Uint8Array(ct.length);
  const head = decipher.update(ct);
  // INVARIANT: nothing deciphered leaves before `final` has checked the tag.
  try {
    decipher.final();
    plain.set(head);
    return plain;
  } finally {
    head.fill(0);
  }
}

/** A column's members, decoded. */
interface Parts extends Ciphertext {
  kek: string;
  wrapped: Uint8Array;
}

/** Reads a column strictly: exactly the members of `Sealed`, each in its one spelling, so that no changed byte goes unnoticed. */
function readSealed(column: unknown, place: Place): Parts {
  if (typeof column !== "object" || column === null) throw new DecryptError(place, "malformed");
  const { v, kek, wrapped, iv, ct, tag, ...rest } = column as Record<string, unknown>;
  const parts = { wrapped: bytes(wrapped), iv: bytes(iv), ct: bytes(ct), tag: bytes(tag) };
  const isWhole = v === 1 && typeof kek === "string" && Object.keys(rest).length === 0;
  if (!isWhole || !parts.wrapped || !parts.ct || parts.iv?.length !== IV_BYTES || parts.tag?.length !== TAG_BYTES) {
    throw new DecryptError(place, "malformed");
  }
  return { kek, wrapped: parts.wrapped, iv: parts.iv, ct: parts.ct, tag: parts.tag };
}

function written(kek: string, wrapped: Uint8Array, { iv, ct, tag }: Ciphertext): Sealed {
  return { v: 1, kek, wrapped: text(wrapped), iv: text(iv), ct: text(ct), tag: text(tag) };
}

function text(value: Uint8Array): string {
  return Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64url");
}

function bytes(value: unknown): Uint8Array | undefined {
  return typeof value === "string" ? decodeBase64url(value) : undefined;
}
