import { randomBytes, timingSafeEqual } from "node:crypto";
import { mkdtemp, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** How often the token of the local doors changes, in milliseconds (CONTRACT §9). */
const REWRITE_MS = 30_000;
const TOKEN_BYTES = 32;

/** What the command finds on disk: files that only this user may read, in a folder that goes with the command. */
export interface Handles {
  readonly folder: string;
  /** Path of the file that holds the token of the local doors; nothing else is in it. */
  readonly tokenFile: string;
  /** Writes a file, 0600, whole or not at all. @returns its path */
  write(name: string, text: string): Promise<string>;
  /** Whether this is the token, or the one before it: a reader may have read just before the change. */
  isToken(text: string): boolean;
  remove(): Promise<void>;
}

/** @param runtimeFolder `XDG_RUNTIME_DIR`: in memory and this user's own, where there is one */
export async function createHandles(runtimeFolder: string | undefined): Promise<Handles> {
  const folder = await mkdtemp(join(runtimeFolder ?? tmpdir(), "ephor-"));
  const tokenFile = join(folder, "token");
  let current = newToken();
  let previous = current;
  const write = async (name: string, text: string): Promise<string> => {
    const path = join(folder, name);
    const draft = `${path}.${randomBytes(4).toString("hex")}`;
    await writeFile(draft, text, { mode: 0o600, flag: "wx" });
    await rename(draft, path);
    return path;
  };
  await write("token", current);
  const timer = setInterval(() => {
    const next = newToken();
    write("token", next).then(
      () => {
        previous = current;
        current = next;
      },
      // A full disk: the token that is there goes on working.
      () => {},
    );
  }, REWRITE_MS);
  timer.unref();
  return {
    folder,
    tokenFile,
    write,
    isToken: (text) => isEqual(text, current) || isEqual(text, previous),
    async remove() {
      clearInterval(timer);
      await rm(folder, { recursive: true, force: true });
    },
  };
}

function newToken(): string {
  return randomBytes(TOKEN_BYTES).toString("base64url");
}

function isEqual(a: string, b: string): boolean {
  const [left, right] = [Buffer.from(a), Buffer.from(b)];
  return left.length === right.length && timingSafeEqual(left, right);
}
