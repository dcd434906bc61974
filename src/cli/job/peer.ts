import { readdir, readFile, readlink } from "node:fs/promises";

/** The process at the other end of a connection over loopback is not who may ask. */
export class StrangerError extends Error {
  override readonly name = "StrangerError";
}

/** The two ends of a TCP connection over 127.0.0.1. */
export interface Connection {
  readonly peerPort: number;
  readonly ownPort: number;
}

/** 127.0.0.1 in the kernel's tables, of sockets of IPv4 and of those of IPv6 that speak it (Java's). */
const TABLES = [
  { path: "/proc/net/tcp", loopback: "0100007F" },
  { path: "/proc/net/tcp6", loopback: "0000000000000000FFFF00000100007F" },
] as const;
const ESTABLISHED = "01";

/**
 * Refuses a peer that is not a process of this user, or not the command or a descendant of it. Only Linux tells; elsewhere
 * the token alone decides.
 *
 * @param commandPid the process that `run` started
 * @throws {StrangerError}
 */
export async function refuseStranger(connection: Connection, commandPid: number): Promise<void> {
  if (process.platform !== "linux") return;
  const { uid, inode } = await socketOf(connection);
  if (uid !== process.getuid?.()) throw new StrangerError("another user");
  for (const pid of await descendantsOf(commandPid)) if (await holds(pid, inode)) return;
  throw new StrangerError("not a process of the command");
}

/** The peer's own entry in the kernel's tables: who opened it. */
async function socketOf({ peerPort, ownPort }: Connection): Promise<{ uid: number; inode: string }> {
  for (const { path, loopback } of TABLES) {
    const peer = `${loopback}:${hex(peerPort)}`;
    const own = `${loopback}:${hex(ownPort)}`;
    const table = await readFile(path, "latin1").catch(() => "");
    for (const line of table.split("\n")) {
      const [, local, remote, state, , , , uid, , inode] = line.trim().split(/\s+/);
      if (local === peer && remote === own && state === ESTABLISHED && uid !== undefined && inode !== undefined)
        return { uid: Number(uid), inode };
    }
  }
  throw new StrangerError("no such connection");
}

function hex(port: number): string {
  return port.toString(16).toUpperCase().padStart(4, "0");
}

/** The process and everything below it, as it is now. */
async function descendantsOf(root: number): Promise<readonly number[]> {
  const children = new Map<number, number[]>();
  for (const name of await readdir("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    const stat = await readFile(`/proc/${name}/stat`, "latin1").catch(() => "");
    // The command's name is in parentheses and may hold anything; its parent is the second field after it.
    const parent = Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]);
    if (!Number.isSafeInteger(parent)) continue;
    const siblings = children.get(parent);
    if (siblings) siblings.push(Number(name));
    else children.set(parent, [Number(name)]);
  }
  const all = [root];
  for (let at = 0; at < all.length; at++) all.push(...(children.get(all[at] as number) ?? []));
  return all;
}

async function holds(pid: number, inode: string): Promise<boolean> {
  const folder = `/proc/${pid}/fd`;
  const names = await readdir(folder).catch(() => []);
  const wanted = `socket:[${inode}]`;
  const targets = await Promise.all(names.map((name) => readlink(`${folder}/${name}`).catch(() => "")));
  return targets.includes(wanted);
}
