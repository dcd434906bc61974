import { randomBytes } from "node:crypto";
import type { KeyEncryptionKey } from "./envelope.ts";
import { KekRefusedError, kekOfBytes, KEK_BYTES } from "./kek-text.ts";

/** A service that wraps one key and never shows its own: AWS KMS, Vault's transit engine. */
export interface RootWrapper {
  /** As the configuration names it, for messages and for the row that it is kept in. */
  readonly source: string;
  /** @throws {KekRefusedError} `unreachable`, `refused` */
  wrap(root: Uint8Array): Promise<string>;
  /** @throws {KekRefusedError} `unreachable`, `refused` */
  unwrap(wrapped: string): Promise<Uint8Array>;
}

/** Where the wrapped key is kept: a row that every replica reads. */
export interface RootShelf {
  read(source: string): Promise<string | undefined>;
  /** Keeps it unless another replica was faster. @returns what is kept */
  keep(source: string, wrapped: string): Promise<string>;
}

/**
 * The key-encryption key that a service wraps: made once, kept wrapped in the database, opened at each start. So a vend does
 * not wait for the service, and an hour in which it is away is no outage of ours; taking the service's key away works from the
 * next start on (docs/adr/0007-wrapped-root-key.md).
 *
 * It is made as `kek_previous` too: so replicas learn it one after the other before the first of them seals with it.
 *
 * @throws {KekRefusedError} `unreachable`, `refused`
 */
export async function openRootKey(wrapper: RootWrapper, shelf: RootShelf): Promise<KeyEncryptionKey> {
  const { source } = wrapper;
  let wrapped = await shelf.read(source);
  if (wrapped === undefined) {
    const root = randomBytes(KEK_BYTES);
    try {
      wrapped = await shelf.keep(source, await wrapper.wrap(root));
    } finally {
      root.fill(0);
    }
  }
  const bytes = await wrapper.unwrap(wrapped);
  if (bytes.length !== KEK_BYTES)
    throw new KekRefusedError("refused", `kek: ${source} opened something that is no key of ours`);
  return kekOfBytes(bytes);
}
