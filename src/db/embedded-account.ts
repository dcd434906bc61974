/**
 * Under which account the bundled PostgreSQL runs. It refuses to run as root, so root drops to `postgres` or `nobody`;
 * everybody else runs it as themselves.
 */
import { existsSync, readFileSync, statSync, type Stats } from "node:fs";
import { dirname, join } from "node:path";

/** The account a child process gets. `undefined` fields of the spawn options mean: as we are. */
export interface Account {
  readonly uid: number;
  readonly gid: number;
  /** true when we are root and drop to this account */
  readonly dropped: boolean;
}

/**
 * The bundled database cannot run here, or could not be started. The message tells the operator what to do; it names
 * files and settings, never a password.
 */
export class EmbeddedDatabaseError extends Error {
  constructor(message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "EmbeddedDatabaseError";
  }
}

/** Preferred accounts when we are root, best first. */
const ACCOUNTS = ["postgres", "nobody"] as const;

/**
 * The account for a data directory: its present owner when it is somebody's, so that installing a package that brings
 * a `postgres` user does not lock us out of our own files; else the first of `postgres`, `nobody`.
 *
 * @param versionFile `PG_VERSION` of the cluster, present once it was made
 * @throws {EmbeddedDatabaseError} when we are root and there is no account to drop to
 */
export function chooseAccount(versionFile: string): Account {
  const uid = process.getuid?.() ?? -1;
  const gid = process.getgid?.() ?? -1;
  if (uid !== 0) return { uid, gid, dropped: false };
  const owner = existsSync(versionFile) ? statSync(versionFile) : undefined;
  if (owner && owner.uid !== 0) return { uid: owner.uid, gid: owner.gid, dropped: true };
  const users = readUsers();
  for (const name of ACCOUNTS) {
    const user = users.get(name);
    if (user && user.uid !== 0) return { ...user, dropped: true };
  }
  throw new EmbeddedDatabaseError(
    "PostgreSQL refuses to run as root, and this system has neither a `postgres` nor a `nobody` account. " +
      "Start Ephor as an ordinary user, or set DATABASE_URL.",
  );
}

/** Spawn options that make a child run as the account. */
export function spawnAs(account: Account): { uid?: number; gid?: number } {
  return account.dropped ? { uid: account.uid, gid: account.gid } : {};
}

/** The first folder above `path` that the account may not enter, or undefined. Access lists are not looked at. */
export function closedParent(path: string, account: Account): string | undefined {
  if (!account.dropped) return undefined;
  const parents: string[] = [];
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    parents.push(folder);
    if (folder === dirname(folder)) break;
  }
  return parents.reverse().find((folder) => existsSync(folder) && !may(statSync(folder), account, 1));
}

/** Whether the account may read (4), write (2) or enter (1) what these stats describe. */
export function may(stats: Stats, account: Account, bit: 1 | 4 | 5): boolean {
  const shift = stats.uid === account.uid ? 6 : stats.gid === account.gid ? 3 : 0;
  return ((stats.mode >> shift) & bit) === bit;
}

function readUsers(): Map<string, { uid: number; gid: number }> {
  const users = new Map<string, { uid: number; gid: number }>();
  const file = join("/", "etc", "passwd");
  if (!existsSync(file)) return users;
  for (const line of readFileSync(file, "utf8").split("\n")) {
    const [name, , uid, gid] = line.split(":");
    if (name && /^\d+$/.test(uid ?? "") && /^\d+$/.test(gid ?? "")) {
      users.set(name, { uid: Number(uid), gid: Number(gid) });
    }
  }
  return users;
}
