import { constants } from "node:fs";
import { link, mkdir, open, unlink } from "node:fs/promises";
import { dirname } from "node:path";
import { randomToken } from "./random.ts";

/** Keys and key texts are far shorter; a larger file is the wrong file. */
const MAX_BYTES = 4096;
/** Mode bits of accounts that are not the file's owner: of its group and of all others. */
const GROUP = 0o070;
const WORLD = 0o007;

/** What is wrong with a file that should hold a secret for this process alone. */
export type PrivateFileFault = "missing" | "not_a_file" | "readable_by_others" | "too_large";

/** A private file cannot be used. Names the path and the mend, never the content (A-SEC-05). */
export class PrivateFileError extends Error {
  readonly code: PrivateFileFault;

  constructor(code: PrivateFileFault, path: string) {
    const mend: Record<PrivateFileFault, string> = {
      missing: "does not exist",
      not_a_file: "is not a regular file",
      readable_by_others: `can be used by other accounts; run: chmod 600 ${path}`,
      too_large: `is larger than ${MAX_BYTES} bytes, so it is not a key file`,
    };
    super(`${path} ${mend[code]}`);
    this.name = "PrivateFileError";
    this.code = code;
  }
}

/**
 * Reads a file that nobody else may use.
 *
 * @param options.groupMay the file's group may, too: orchestrators mount secrets that way for accounts other than root
 * @throws {PrivateFileError} `missing`, `not_a_file`, `readable_by_others`, `too_large`
 */
export async function readPrivateFile(
  path: string,
  { groupMay = false }: { groupMay?: boolean } = {},
): Promise<Uint8Array> {
  // Non-blocking, so that a pipe put in the file's place is refused below instead of waited for.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: NodeJS.ErrnoException) => {
    throw error.code === "ENOENT" ? new PrivateFileError("missing", path) : error;
  });
  try {
    // Of the opened file, not of the path: the path could be changed in between.
    const { mode, size } = await file.stat().then((stat) => {
      if (!stat.isFile()) throw new PrivateFileError("not_a_file", path);
      return stat;
    });
    // Windows has no such bits and reports made-up ones.
    const refused = groupMay ? WORLD : WORLD | GROUP;
    if (process.platform !== "win32" && (mode & refused) !== 0) throw new PrivateFileError("readable_by_others", path);
    if (size > MAX_BYTES) throw new PrivateFileError("too_large", path);
    return new Uint8Array(await file.readFile());
  } finally {
    await file.close();
  }
}

/**
 * Writes a file that only this account may use (0600), complete at the moment it appears: of several processes that do
 * this at once, one wins, and the others read what it wrote.
 *
 * @returns false when the path was there before; nothing was changed then
 */
export async function createPrivateFile(path: string, content: Uint8Array): Promise<boolean> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 });
  const draft = `${path}.${randomToken(8)}`;
  const file = await open(draft, "wx", 0o600);
  try {
    await file.writeFile(content);
    await file.sync();
    await file.close();
    await link(draft, path);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  } finally {
    await file.close();
    await unlink(draft);
  }
}
