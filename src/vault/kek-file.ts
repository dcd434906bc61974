import { createPrivateFile, PrivateFileError, readPrivateFile } from "../system/private-file.ts";
import { randomToken } from "../system/random.ts";
import type { KeyEncryptionKey } from "./envelope.ts";
import { KekRefusedError, readKek } from "./kek-text.ts";

const KEK_BYTES = 32;

/**
 * The key in a file, which is made (0600) where it is missing and nothing has been sealed yet.
 *
 * @param mayCreate asked only when the file is missing: whether the database holds nothing sealed
 * @throws {KekRefusedError} `missing` when values are sealed already; `empty`, `line_break`, `length`, `characters`, `example`
 * @throws {PrivateFileError} `readable_by_others`, `not_a_file`, `too_large`
 */
export async function openKekFile(path: string, mayCreate: () => Promise<boolean>): Promise<KeyEncryptionKey> {
  const found = await readIfThere(path);
  if (found !== undefined) return read(found, path);
  if (!(await mayCreate())) {
    throw new KekRefusedError(
      "missing",
      `kek: ${path} does not exist, and the database holds values sealed under a key; put that key back there. ` +
        "A new one could not open them",
    );
  }
  const made = Buffer.from(randomToken(KEK_BYTES));
  await createPrivateFile(path, made);
  made.fill(0);
  // Also when another process was first: the file is what counts.
  return read(await readPrivateFile(path), path);
}

function read(content: Uint8Array, path: string): KeyEncryptionKey {
  try {
    return readKek(
      Buffer.from(content.buffer, content.byteOffset, content.byteLength).toString("latin1"),
      `file ${path}`,
    );
  } finally {
    content.fill(0);
  }
}

async function readIfThere(path: string): Promise<Uint8Array | undefined> {
  try {
    return await readPrivateFile(path);
  } catch (error) {
    if (error instanceof PrivateFileError && error.code === "missing") return undefined;
    throw error;
  }
}
