/** The files of the bundled database: made once, atomically, so that a crash or a second process cannot see half of it. */
import { spawn } from "node:child_process";
import { existsSync, readFileSync, realpathSync, statSync } from "node:fs";
import { chmod, chown, mkdir, open, readdir, rename, rm, rmdir, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { sha256Hex } from "../system/hash.ts";
import { randomToken } from "../system/random.ts";
import { closedParent, EmbeddedDatabaseError, may, spawnAs, type Account } from "./embedded-account.ts";
import type { Programs } from "./embedded-programs.ts";

/** The major version whose files the bundled programs read. */
const MAJOR = "18";

/** Where root keeps the database when its chosen folder cannot be entered by the account that runs PostgreSQL. */
const ROOT_DATA = "/var/lib/ephor";

/** Name of the superuser of the bundled database. */
export const OWNER = "ephor_owner";

/** How long `initdb` may take, in ms. It needs 1 to 2 s; ten times as much under a heavy load. */
const INITDB_TIMEOUT_MS = 120_000;

/** How much of a program's complaint is passed on, in characters. */
const MAX_COMPLAINT = 2_000;

/** Paths in the data directory. */
export interface Place {
  readonly root: string;
  readonly cluster: string;
  readonly passwordFile: string;
  readonly logFile: string;
  readonly links: string;
  /** set when the files lie elsewhere than asked, because the account could not go there */
  readonly movedFrom?: string;
}

/** Paths for a data directory, before anything was made. */
export function placeOf(dataDirectory: string): Place {
  const wanted = resolve(dataDirectory);
  const root = existsSync(wanted) ? realpathSync(wanted) : wanted;
  const cluster = join(root, "cluster");
  return {
    root,
    cluster,
    // Inside the cluster, so that the password and the cluster it opens appear in one rename.
    passwordFile: join(cluster, "ephor-owner-password"),
    logFile: join(root, "postgresql.log"),
    links: join(root, "lib"),
  };
}

/**
 * Makes the data directory, private to the account. When we are root and the account cannot enter a folder further up, the files go to /var/lib/ephor and a link is left where they were wanted.
 *
 * @throws {EmbeddedDatabaseError} when the folder cannot be made or belongs to somebody else
 */
export async function preparePlace(dataDirectory: string, account: Account): Promise<Place> {
  const wanted = placeOf(dataDirectory);
  try {
    await openParent(dirname(wanted.root), account);
    const closed = closedParent(wanted.root, account);
    if (closed !== undefined) return await placeElsewhere(wanted, { account, closed });
    await makePrivate(wanted.root, account);
  } catch (cause) {
    if (cause instanceof EmbeddedDatabaseError) throw cause;
    throw new EmbeddedDatabaseError(
      `The data directory ${wanted.root} cannot be made or is not ours: ` +
        "name another with `data` (EPHOR_DATA), or set DATABASE_URL.",
      { cause },
    );
  }
  return placeOf(wanted.root); // once more: now that it exists, links in its path are resolved
}

async function placeElsewhere(
  wanted: Place,
  { account, closed }: { account: Account; closed: string },
): Promise<Place> {
  if (existsSync(wanted.cluster)) {
    throw new EmbeddedDatabaseError(
      `${closed} keeps the account that runs PostgreSQL out of ${wanted.root}: open it (chmod o+x), ` +
        "or start Ephor as the user it belongs to.",
    );
  }
  const elsewhere = join(ROOT_DATA, sha256Hex(wanted.root).slice(0, 16));
  await mkdir(dirname(wanted.root), { recursive: true, mode: 0o700 });
  // An empty folder only: whatever else lies there is not ours to remove.
  if (existsSync(wanted.root)) await rmdir(wanted.root);
  await makePrivate(elsewhere, account);
  await symlink(elsewhere, wanted.root);
  return { ...placeOf(elsewhere), movedFrom: wanted.root };
}

/**
 * Lets the account pass the folder directly above, which is Ephor's own data folder or a temporary one, when root made
 * it for itself alone (0700): by its group, which nobody else is in. Never root's home.
 */
async function openParent(folder: string, account: Account): Promise<void> {
  const stats = account.dropped ? statSync(folder, { throwIfNoEntry: false }) : undefined;
  if (!stats || stats.uid !== 0 || stats.gid !== 0 || folder === homedir() || may(stats, account, 1)) return;
  await chown(folder, 0, account.gid);
  await chmod(folder, (stats.mode & 0o7707) | 0o010);
}

async function makePrivate(folder: string, account: Account): Promise<void> {
  // Folders above are made for everybody to pass, or the account we drop to could not; what is secret in them is 0600.
  await mkdir(dirname(folder), { recursive: true });
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const { uid } = statSync(folder);
  if (uid === account.uid) return;
  if (account.dropped) await chown(folder, account.uid, account.gid);
  else throw new EmbeddedDatabaseError(`${folder} belongs to another user (uid ${uid}): start Ephor as that user.`);
}

/**
 * Makes the cluster unless it is there. Two processes may do this at once: each makes its own and the first rename wins.
 *
 * @param durable whether the files are forced to disk before this returns
 * @returns the superuser's password
 * @throws {EmbeddedDatabaseError} when `initdb` fails, or the files are of another version
 */
export async function ensureCluster(
  place: Place,
  { account, programs, durable }: { account: Account; programs: Programs; durable: boolean },
): Promise<string> {
  if (!existsSync(join(place.cluster, "PG_VERSION"))) {
    await removeAbandoned(place);
    const staging = join(place.root, `making-${process.pid}-${randomToken(6)}`);
    try {
      await makeCluster(staging, { account, programs, durable });
      await rename(staging, place.cluster);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code !== "ENOTEMPTY" && code !== "EEXIST") throw error;
    } finally {
      await rm(staging, { recursive: true, force: true });
    }
  }
  const version = readFileSync(join(place.cluster, "PG_VERSION"), "utf8").trim();
  if (version !== MAJOR) {
    throw new EmbeddedDatabaseError(
      `${place.cluster} was made by PostgreSQL ${version}, the bundled one is ${MAJOR}: ` +
        "upgrade it with pg_upgrade, or serve it with its own version and set DATABASE_URL.",
    );
  }
  return readFileSync(place.passwordFile, "utf8").trim();
}

async function makeCluster(
  folder: string,
  { account, programs, durable }: { account: Account; programs: Programs; durable: boolean },
): Promise<void> {
  const password = randomToken(32);
  const passwordFile = `${folder}.password`;
  const give = async (path: string): Promise<void> =>
    account.dropped ? chown(path, account.uid, account.gid) : undefined;
  await mkdir(folder, { mode: 0o700 });
  await give(folder);
  try {
    await writeFile(passwordFile, password, { mode: 0o600, flag: "wx" });
    await give(passwordFile);
    const sync = durable ? [] : ["--no-sync"];
    const args = ["-D", folder, "-U", OWNER, "-A", "scram-sha-256", `--pwfile=${passwordFile}`];
    await run(programs, account, [...args, "-E", "UTF8", "--locale=C", "--no-instructions", ...sync]);
    const kept = join(folder, "ephor-owner-password");
    await rename(passwordFile, kept);
    await chmod(kept, 0o600);
    if (durable) await syncFile(kept);
  } finally {
    await rm(passwordFile, { force: true });
  }
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, "r");
  await file.sync();
  await file.close();
}

function run(programs: Programs, account: Account, args: string[]): Promise<void> {
  return new Promise((done, fail) => {
    const child = spawn(programs.initdb, args, {
      ...spawnAs(account),
      cwd: "/",
      env: { ...programs.env },
      stdio: ["ignore", "ignore", "pipe"],
      timeout: INITDB_TIMEOUT_MS,
    });
    let complaint = "";
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      complaint = (complaint + text).slice(-MAX_COMPLAINT);
    });
    const refuse = (why: string, cause?: unknown): void =>
      fail(
        new EmbeddedDatabaseError(`The bundled PostgreSQL cannot make its files (${why}). You can set DATABASE_URL.`, {
          cause,
        }),
      );
    child.on("error", (error) => refuse(`initdb does not run here: ${error.message}`, error));
    child.on("close", (code, signal) =>
      code === 0 ? done() : refuse(complaint.trim() || `initdb ended with ${code ?? signal}`),
    );
  });
}

/** Removes what a start left behind that died while making the cluster. */
async function removeAbandoned(place: Place): Promise<void> {
  for (const name of await readdir(place.root)) {
    const pid = /^making-(\d+)-[\w-]+(?:\.password)?$/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(place.root, name), { recursive: true, force: true });
  }
}

/** Whether a process with this id exists, whoever it belongs to. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "EPERM";
  }
}
