/**
 * `vault` owns how secret values lie in the database: sealed, each bound to its place, under a key-encryption key that
 * the database never sees. It does not decide who may open one: that is `authz`, and the rooms that keep a sealed
 * column ask it first. `keys` and the secrets of resources are its callers; nobody else ciphers.
 *
 * This file: the holder of a value in the clear.
 */
import { inspect } from "node:util";

const SHOWN_AS = "[secret]";

/** Text of a key that was wiped is a bug of the caller, never an empty value. */
class WipedSecretError extends Error {
  constructor() {
    super("secret used after wipe");
    this.name = "WipedSecretError";
  }
}

/**
 * Bytes that print as `[secret]` wherever they are printed by mistake: as text, in JSON, in an inspected object
 * (INV-15). The holder owns its bytes and overwrites them in `wipe`.
 */
export class SecretBytes {
  #bytes: Uint8Array | undefined;

  /** @param bytes become this object's own: the caller keeps no other use of them */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  /** A copy of the text in UTF-8. The string itself cannot be overwritten: prefer bytes where there is a choice. */
  static fromText(text: string): SecretBytes {
    // Not `Buffer.from(text)`: its memory belongs to a pool that other buffers share.
    const bytes = new Uint8Array(Buffer.byteLength(text));
    new TextEncoder().encodeInto(text, bytes);
    return new SecretBytes(bytes);
  }

  /** Bytes held. */
  get length(): number {
    return this.#held().length;
  }

  /**
   * Lends the bytes for one use. They are not copied: what `read` keeps is zeroes after `wipe`.
   *
   * @throws {Error} after `wipe`
   */
  use<T>(read: (bytes: Uint8Array) => T): T {
    return read(this.#held());
  }

  /** Overwrites the bytes. Further use throws; a second `wipe` does nothing. */
  wipe(): void {
    this.#bytes?.fill(0);
    this.#bytes = undefined;
  }

  toString(): string {
    return SHOWN_AS;
  }

  toJSON(): string {
    return SHOWN_AS;
  }

  [inspect.custom](): string {
    return SHOWN_AS;
  }

  #held(): Uint8Array {
    if (this.#bytes === undefined) throw new WipedSecretError();
    return this.#bytes;
  }
}
