import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { PROGRAM_PATH } from "./programs.ts";

/** Bytes that may wait for a child that does not read. */
const MAX_BACKLOG_BYTES = 16 * 1024 * 1024;
/** How long a child may take to end after SIGTERM, in milliseconds. */
const GRACE_MS = 1_000;
/** How long its pipes may stay open after it ended, in milliseconds: somebody it started could hold them. */
const PIPES_MS = 500;
/** Longest line of standard error that is kept, in characters. */
const STDERR_CHARACTERS = 500;

/** A program that is started, and who hears of it. */
export interface ChildOrder {
  /** Absolute. */
  readonly program: string;
  readonly args: readonly string[];
  /** Beside PATH, HOME, TMPDIR and LANG: all that it gets. */
  readonly env: Readonly<Record<string, string>>;
  readonly maxLineBytes: number;
  /** A line of standard output without its end. */
  readonly onLine: (line: Buffer) => void;
  readonly onStderr: (line: string) => void;
  /** Called once; nothing comes afterwards, and every process of its group is gone. */
  readonly onEnd: (end: ChildEnd) => void;
}

/** How a child ended: by itself, because we said so, because a line had no end, or because it never began. */
export interface ChildEnd {
  readonly how: "exited" | "stopped" | "line_too_long" | "not_started";
  readonly code: number | null;
}

/** A running child. */
export interface Child {
  readonly pid: number | undefined;
  /** Writes a line. @returns false where it does not read any more */
  write(line: string): boolean;
  /**
   * Ends it and all that it started in its process group.
   *
   * @param how `end`: it may tidy up for a second; `kill`: at once
   */
  stop(how: "end" | "kill"): Promise<void>;
}

/** Process groups that run: none may outlive us. */
const groups = new Set<number>();
let watchesExit = false;

/**
 * Starts a program without a shell, in an empty private folder, with nothing of our environment (standards 17.6). It leads a
 * process group of its own, so that what it starts ends with it.
 */
export async function startChild(order: ChildOrder): Promise<Child> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-local-"));
  const [home, temporary, work] = ["home", "tmp", "work"].map((name) => join(folder, name)) as [string, string, string];
  await Promise.all([home, temporary, work].map((path) => mkdir(path, { mode: 0o700 })));
  const child = spawn(order.program, order.args, {
    cwd: work,
    env: { ...order.env, PATH: PROGRAM_PATH.join(":"), HOME: home, TMPDIR: temporary, LANG: "C.UTF-8" },
    stdio: ["pipe", "pipe", "pipe"],
    detached: true,
    shell: false,
    windowsHide: true,
  });
  return watched(child, order, () => rm(folder, { recursive: true, force: true, maxRetries: 3 }).catch(() => {}));
}

function watched(child: ChildProcessWithoutNullStreams, order: ChildOrder, tidy: () => Promise<void>): Child {
  const { pid } = child;
  let how: ChildEnd["how"] = pid === undefined ? "not_started" : "exited";
  let isOver = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  let left = (): void => {};
  const gone = new Promise<void>((resolve) => (left = resolve));
  if (pid !== undefined) keep(pid);

  function ended(code: number | null): void {
    if (isOver) return;
    isOver = true;
    clearTimeout(timer);
    for (const stream of [child.stdin, child.stdout, child.stderr]) stream.destroy();
    if (pid !== undefined) groups.delete(pid);
    order.onEnd({ how, code });
    void tidy().then(left);
  }
  function signalGroup(signal: "SIGTERM" | "SIGKILL"): void {
    if (pid === undefined) return;
    try {
      process.kill(-pid, signal);
    } catch {
      // Nobody of the group is left.
    }
  }
  function strike(as: ChildEnd["how"]): void {
    if (how === "exited") how = as;
    clearTimeout(timer);
    signalGroup("SIGKILL");
  }

  for (const stream of [child.stdin, child.stdout, child.stderr]) stream.on("error", () => {});
  child.on("error", () => ended(null));
  child.on("exit", (code) => {
    // What it left behind in its group; only then do the pipes close.
    signalGroup("SIGKILL");
    clearTimeout(timer);
    timer = setTimeout(() => ended(code), PIPES_MS);
  });
  child.on("close", (code) => ended(code));
  child.stdout.on(
    "data",
    splitLines(
      order.maxLineBytes,
      (line) => {
        if (!isOver && how === "exited") order.onLine(line);
      },
      () => strike("line_too_long"),
    ),
  );
  child.stderr.on("data", (chunk: Buffer) => {
    for (const line of chunk.toString("utf8").split("\n"))
      if (line.trim() !== "") order.onStderr(line.slice(0, STDERR_CHARACTERS));
  });

  return {
    pid,
    write(line) {
      const { stdin } = child;
      if (isOver || how !== "exited" || stdin.destroyed || stdin.writableLength > MAX_BACKLOG_BYTES) return false;
      stdin.write(`${line}\n`);
      return true;
    },
    stop(as) {
      if (isOver) return gone;
      if (as === "kill") strike("stopped");
      else if (how === "exited") {
        how = "stopped";
        child.stdin.end();
        signalGroup("SIGTERM");
        timer = setTimeout(() => signalGroup("SIGKILL"), GRACE_MS);
      }
      return gone;
    },
  };
}

/** Remembers a process group, which ends with us however we end by ourselves. */
function keep(pid: number): void {
  groups.add(pid);
  if (watchesExit) return;
  watchesExit = true;
  process.on("exit", () => {
    for (const group of groups) {
      try {
        process.kill(-group, "SIGKILL");
      } catch {
        // It went by itself.
      }
    }
  });
}

/** Cuts chunks into lines. @param tooLong called once; nothing is read afterwards */
function splitLines(maxBytes: number, line: (line: Buffer) => void, tooLong: () => void): (chunk: Buffer) => void {
  let parts: Buffer[] = [];
  let size = 0;
  let isDone = false;
  /** @returns false for what is too long */
  function take(part: Buffer): boolean {
    size += part.length;
    if (part.length > 0) parts.push(part);
    if (size <= maxBytes) return true;
    isDone = true;
    parts = [];
    tooLong();
    return false;
  }
  return (chunk) => {
    let from = 0;
    for (let at = chunk.indexOf(0x0a); at >= 0 && !isDone; at = chunk.indexOf(0x0a, from)) {
      if (!take(chunk.subarray(from, at))) return;
      from = at + 1;
      const whole = parts.length === 1 ? (parts[0] as Buffer) : Buffer.concat(parts);
      parts = [];
      size = 0;
      if (whole.length > 0) line(whole);
    }
    if (!isDone) take(chunk.subarray(from));
  };
}
