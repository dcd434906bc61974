import { mkdir, open, readFile, rename, rmdir, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { systemClock } from "../system/clock.ts";
import { randomToken } from "../system/random.ts";

/** What is kept outside of the database: how far it had come. */
export interface Mark {
  /** The kill position (`ephor.gate.epoch`). */
  readonly position: number;
  /** The last signed head of the ledger, whole. */
  readonly head?: { readonly seq: number; readonly jws: string };
}

/** A file on another disk than the database: whoever restores an old copy of the database cannot restore it too by accident. */
export interface Anchor {
  /** What it says; undefined when it is not there. @throws {AnchorError} it is there and cannot be read */
  read(): Promise<Mark | undefined>;
  /** Never goes back: what is higher there already stays. Resolves when it is on the disk. @throws {AnchorError} */
  raise(mark: Partial<Mark>): Promise<void>;
  /** Begins anew: what it says now is what it is told. */
  reset(mark: Mark): Promise<void>;
}

/** The anchor cannot be read or written; the message names the path and the mend. */
export class AnchorError extends Error {
  override readonly name = "AnchorError";
}

/** Another process of ours on this machine that held it longer was killed in the middle, milliseconds. */
const STALE_LOCK_MS = 5_000;
const LOCK_TRIES = 400;
const LOCK_PAUSE_MS = 10;
const MAX_BYTES = 1024 * 1024;
/** File times are the machine's. */
const wall = systemClock();

/** @param path absolute; its folder must be there */
export function openAnchor(path: string): Anchor {
  let turn: Promise<unknown> = Promise.resolve();

  /** One writer at a time, in this process and among those of this machine. */
  function alone<T>(work: () => Promise<T>): Promise<T> {
    const next = turn.then(
      () => locked(path, work),
      () => locked(path, work),
    );
    turn = next.catch(() => {});
    return next;
  }

  const read = async (): Promise<Mark | undefined> => {
    let text: string;
    try {
      if ((await stat(path)).size > MAX_BYTES) throw new AnchorError(`anchor: ${path} is no anchor of ours: too large`);
      text = await readFile(path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
      throw error instanceof AnchorError ? error : failed(path, "read", error);
    }
    return parse(text, path);
  };
  return {
    read,
    raise: (mark) =>
      alone(async () => {
        const known = await read();
        const position = Math.max(known?.position ?? 0, mark.position ?? 0);
        const head = (mark.head?.seq ?? -1) > (known?.head?.seq ?? -1) ? mark.head : known?.head;
        if (known !== undefined && position === known.position && head === known.head) return;
        await write(path, { position, ...(head && { head }) });
      }),
    reset: (mark) => alone(() => write(path, mark)),
  };
}

function parse(text: string, path: string): Mark {
  try {
    const value = JSON.parse(text) as { v?: unknown; position?: unknown; head?: { seq?: unknown; jws?: unknown } };
    const { position, head } = value;
    if (value.v === 1 && Number.isSafeInteger(position)) {
      if (head === undefined) return { position: position as number };
      if (Number.isSafeInteger(head.seq) && typeof head.jws === "string")
        return { position: position as number, head: { seq: head.seq as number, jws: head.jws } };
    }
  } catch {
    // Told below, like JSON that says something else.
  }
  throw new AnchorError(`anchor: ${path} is no anchor of ours, or was cut; see "Anchor" in docs/operations.md`);
}

/** Whole or not at all, and on the disk before it is answered. */
async function write(path: string, mark: Mark): Promise<void> {
  const draft = `${path}.${randomToken(6)}`;
  try {
    const file = await open(draft, "wx", 0o600);
    try {
      await file.writeFile(`${JSON.stringify({ v: 1, ...mark })}\n`);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(draft, path);
    // The new name too; where folders cannot be opened (Windows) the system sees to it.
    await open(dirname(path), "r").then(
      (folder) => folder.sync().finally(() => folder.close()),
      () => {},
    );
  } catch (error) {
    throw failed(path, "written", error);
  }
}

async function locked<T>(path: string, work: () => Promise<T>): Promise<T> {
  const lock = `${path}.lock`;
  for (let tries = 0; ; tries++) {
    try {
      await mkdir(lock);
      break;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EEXIST" || tries >= LOCK_TRIES)
        throw failed(path, "written", error);
      const age = await stat(lock).then(
        ({ mtimeMs }) => wall.nowMs() - mtimeMs,
        () => 0,
      );
      if (age > STALE_LOCK_MS) await rmdir(lock).catch(() => {});
      await new Promise((resolve) => setTimeout(resolve, LOCK_PAUSE_MS));
    }
  }
  try {
    return await work();
  } finally {
    await rmdir(lock).catch(() => {});
  }
}

function failed(path: string, what: "read" | "written", cause: unknown): AnchorError {
  const { code } = cause as { code?: unknown };
  const why = typeof code === "string" ? ` (${code})` : "";
  return new AnchorError(`anchor: ${path} cannot be ${what}${why}; its folder must be there and be this user's`, {
    cause,
  });
}
