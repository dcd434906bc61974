/** What the data directory says about a server that runs on it, and how such a server is ended. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, readlinkSync } from "node:fs";
import { setTimeout as pause } from "node:timers/promises";
import { join } from "node:path";
import { EmbeddedDatabaseError, spawnAs, type Account } from "./embedded-account.ts";
import { isAlive, type Place } from "./embedded-cluster.ts";

/** The server process of a data directory, from its `postmaster.pid`. */
export interface Postmaster {
  readonly pid: number;
  readonly socketDirectory: string;
  readonly status: "starting" | "ready" | "stopping" | "unknown";
}

/** How often files and processes are looked at while waiting, in ms. A start takes about 100 ms. */
export const POLL_MS = 20;

/** How long a fast shutdown (it ends sessions and writes a checkpoint) may take before an immediate one, in ms. */
const FAST_STOP_MS = 20_000;

/** How long an immediate shutdown may take, in ms. */
const IMMEDIATE_STOP_MS = 10_000;

/** Where the list of lines of `postmaster.pid` holds what; its format is stable since PostgreSQL 10. */
const LINE = { pid: 0, socketDirectory: 4, status: 7 } as const;

/** The server that runs on the cluster now, or undefined. A `postmaster.pid` left by a crash is not a server. */
export function readPostmaster(place: Place): Postmaster | undefined {
  const lines = readLines(place);
  const pid = Number(lines[LINE.pid]);
  if (!Number.isSafeInteger(pid) || pid <= 0 || !isPostmaster(pid, place)) return undefined;
  const status = lines[LINE.status]?.trim() ?? "";
  const known = ["starting", "ready", "stopping"] as const;
  return {
    pid,
    socketDirectory: lines[LINE.socketDirectory] ?? "",
    status: known.find((word) => word === status) ?? "unknown",
  };
}

/** The id that `postmaster.pid` names though no server of ours has it any more; another process may have it now. */
export function stalePid(place: Place): number | undefined {
  const pid = Number(readLines(place)[LINE.pid]);
  return Number.isSafeInteger(pid) && pid > 0 && !isPostmaster(pid, place) ? pid : undefined;
}

function readLines(place: Place): string[] {
  const file = join(place.cluster, "postmaster.pid");
  try {
    return existsSync(file) ? readFileSync(file, "utf8").split("\n") : [];
  } catch {
    return []; // removed between the two calls
  }
}

/** A process with the id exists and, where the system tells, works in the cluster's folder, as a postmaster does. */
function isPostmaster(pid: number, place: Place): boolean {
  if (!isAlive(pid)) return false;
  if (process.platform !== "linux") return true;
  try {
    // Linux marks a folder that was removed under a running server; that server must still be found and ended.
    return readlinkSync(`/proc/${pid}/cwd`).replace(/ \(deleted\)$/, "") === place.cluster;
  } catch {
    return false;
  }
}

/** Resolves when the server has gone, or after the time: true when it has gone. */
async function hasGone(pid: number, place: Place, timeoutMs: number): Promise<boolean> {
  for (let waited = 0; waited <= timeoutMs; waited += POLL_MS) {
    if (!isPostmaster(pid, place)) return true;
    await pause(POLL_MS);
  }
  return false;
}

/**
 * Ends a server: fast (SIGINT: sessions are ended, a checkpoint is written), then immediate (SIGQUIT: as after a crash).
 *
 * @throws {EmbeddedDatabaseError} when it outlives both
 */
export async function endPostmaster(pid: number, place: Place): Promise<void> {
  for (const [signal, timeoutMs] of [
    ["SIGINT", FAST_STOP_MS],
    ["SIGQUIT", IMMEDIATE_STOP_MS],
  ] as const) {
    if (!isPostmaster(pid, place)) return;
    try {
      process.kill(pid, signal);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
    }
    if (await hasGone(pid, place, timeoutMs)) return;
  }
  throw new EmbeddedDatabaseError(`The bundled PostgreSQL (process ${pid}) does not stop.`);
}

/**
 * Starts a watcher that ends the server when this process dies without ending it: its standard input is a pipe that
 * only we hold. Where there is no /bin/sh the server outlives us; the next start on the folder then takes it over.
 *
 * @returns a function that sends the watcher home
 */
export function watchOver(pid: number, account: Account): () => void {
  const watcher = spawn("/bin/sh", ["-c", 'read -r word && exit 0; kill -INT "$1"', "ephor-watcher", String(pid)], {
    ...spawnAs(account),
    cwd: "/",
    env: {},
    // Its own session: Ctrl-C in our terminal must reach neither the watcher nor the server before us.
    detached: true,
    stdio: ["pipe", "ignore", "ignore"],
  });
  watcher.on("error", () => undefined);
  watcher.stdin.on("error", () => undefined);
  watcher.unref();
  // A pipe of Node is a socket, which keeps the event loop alive unless told otherwise.
  (watcher.stdin as unknown as { unref?: () => void }).unref?.();
  return () => watcher.stdin.end("done\n");
}
