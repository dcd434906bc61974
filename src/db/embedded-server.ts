/** One run of the bundled server: starts it, or finds the one that another process runs on the same folder. */
import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, fchownSync, openSync, readFileSync, statSync, truncateSync } from "node:fs";
import { chown, mkdir, mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { closedParent, EmbeddedDatabaseError, spawnAs, type Account } from "./embedded-account.ts";
import { isAlive, OWNER, type Place } from "./embedded-cluster.ts";
import { endPostmaster, POLL_MS, readPostmaster, stalePid, watchOver, type Postmaster } from "./embedded-postmaster.ts";
import type { Programs } from "./embedded-programs.ts";

/** The database that is made for Ephor. */
export const DATABASE = "ephor";

/** How long a start may take, in ms: recovery after a crash replays up to a gigabyte of log. */
const START_TIMEOUT_MS = 180_000;

/** Longest path of a unix socket, in bytes, on every system we start on (macOS: 104 with its end, Linux: 108). */
const MAX_SOCKET_PATH_BYTES = 103;

/** The log is cut at a start when it is larger, in bytes. It holds warnings and errors, no statements. */
const MAX_LOG_BYTES = 4 * 1024 * 1024;

/** How much of the log is shown when a start fails, in characters. */
const LOG_TAIL = 1_500;

/** The complaint about a folder in use is among so many last characters of the log. */
const OUTRUN_TAIL = 400;

/** Everything a run needs. */
export interface ServerOptions {
  readonly place: Place;
  readonly account: Account;
  readonly programs: Programs;
  readonly password: string;
  readonly durable: boolean;
}

/** A server that accepts connections and has our database. */
export interface RunningServer {
  readonly pid: number;
  readonly socketDirectory: string;
  readonly url: string;
  /** `started` and `taken_over` are ours to stop; `shared` belongs to another live process */
  readonly kind: "started" | "taken_over" | "shared";
  /** false as soon as the process is gone */
  isRunning(): boolean;
  /** ends the server if it is ours; forgets it if not */
  stop(): Promise<void>;
}

/**
 * Starts the server, or joins the one that runs on the folder already.
 *
 * @throws {EmbeddedDatabaseError} when it does not come up
 */
export async function openServer(options: ServerOptions): Promise<RunningServer> {
  const { place } = options;
  const until = performance.now() + START_TIMEOUT_MS;
  let child: ChildProcess | undefined;
  while (performance.now() < until) {
    if (readPostmaster(place) === undefined) child = await startServer(options);
    const ready = await waitUntilReady(place, child, until);
    if (ready === undefined) continue; // it went away, or another process was faster: look again
    const isChild = ready.pid === child?.pid;
    try {
      return await greet(ready, isChild, options);
    } catch (error) {
      if (!isPassing(error)) {
        if (isChild) await endPostmaster(ready.pid, place);
        throw error;
      }
      await pause(POLL_MS);
    }
  }
  throw new EmbeddedDatabaseError(`The bundled PostgreSQL did not come up in time. ${tail(place)}`);
}

async function startServer(options: ServerOptions): Promise<ChildProcess> {
  const { place, account, programs } = options;
  const socketDirectory = await makeSocketDirectory(place, account);
  const log = openLog(place, account);
  const stale = stalePid(place);
  const child = spawn(programs.postgres, [...settings(options, socketDirectory)], {
    ...spawnAs(account),
    cwd: "/",
    // A process that got the id of a crashed server must not keep ours from starting. PostgreSQL leaves ids of its
    // "grandparent" out of that test, and still tests that no backend of the crashed server holds the shared memory.
    env: { ...programs.env, ...(stale === undefined ? {} : { PG_GRANDPARENT_PID: String(stale) }) },
    detached: true,
    stdio: ["ignore", log, log],
  });
  closeSync(log);
  child.unref();
  await new Promise<void>((done, fail) => {
    child.once("spawn", done);
    child.once("error", (cause) =>
      fail(new EmbeddedDatabaseError("The bundled PostgreSQL does not run here. Set DATABASE_URL.", { cause })),
    );
  });
  return child;
}

function settings({ place, durable }: ServerOptions, socketDirectory: string): string[] {
  const always = {
    listen_addresses: "",
    unix_socket_directories: socketDirectory,
    unix_socket_permissions: "0700",
    max_connections: "200",
    timezone: "UTC",
    log_timezone: "UTC",
    jit: "off",
    // The log must never hold a statement: values may stand in it.
    log_statement: "none",
    log_min_error_statement: "panic",
    log_min_messages: "warning",
    log_checkpoints: "off",
    // Tells a process that finds this server whether the one that started it still lives.
    "ephor.owner_pid": String(process.pid),
  };
  const kept = { fsync: "on", synchronous_commit: "on", full_page_writes: "on", shared_buffers: "128MB" };
  const passing = {
    fsync: "off",
    synchronous_commit: "off",
    full_page_writes: "off",
    shared_buffers: "64MB",
    wal_level: "minimal",
    max_wal_senders: "0",
    io_method: "sync",
  };
  const all = Object.entries({ ...always, ...(durable ? kept : passing) });
  return ["-D", place.cluster, ...all.flatMap(([name, value]) => ["-c", `${name}=${value}`])];
}

async function makeSocketDirectory(place: Place, account: Account): Promise<string> {
  const own = join(place.root, "run");
  // A comma separates directories in the setting.
  const fits = Buffer.byteLength(join(own, ".s.PGSQL.5432")) <= MAX_SOCKET_PATH_BYTES && !own.includes(",");
  if (fits) await mkdir(own, { recursive: true, mode: 0o700 });
  const temporary =
    closedParent(join(tmpdir(), "x"), account) === undefined && tmpdir().length < 60 ? tmpdir() : "/tmp";
  const folder = fits ? own : await mkdtemp(join(temporary, "ephor-"));
  if (account.dropped) await chown(folder, account.uid, account.gid);
  return folder;
}

function openLog(place: Place, account: Account): number {
  const log = openSync(place.logFile, "a", 0o600);
  if (account.dropped) fchownSync(log, account.uid, account.gid);
  if (statSync(place.logFile).size > MAX_LOG_BYTES) truncateSync(place.logFile);
  return log;
}

/** Waits for a server on the folder to accept connections. Undefined: there is none any more, look again. */
async function waitUntilReady(
  place: Place,
  child: ChildProcess | undefined,
  until: number,
): Promise<Postmaster | undefined> {
  while (performance.now() < until) {
    const found = readPostmaster(place);
    if (found?.status === "ready") return found;
    const isChildRunning = child !== undefined && child.exitCode === null && child.signalCode === null;
    if (found === undefined && !isChildRunning) {
      if (child === undefined || wasOutrun(place, child)) return undefined;
      throw new EmbeddedDatabaseError(`The bundled PostgreSQL ended at its start. ${tail(place)}`);
    }
    await pause(POLL_MS);
  }
  return undefined;
}

/**
 * Whether our child ended because another process's server had the folder at that moment, though it may be gone by now.
 * PostgreSQL ends with 1 for that as for much else, so its log is asked.
 */
function wasOutrun(place: Place, child: ChildProcess): boolean {
  return child.exitCode === 1 && tail(place).slice(-OUTRUN_TAIL).includes("postmaster.pid");
}

/** Checks that the server is what we want, makes the database, and settles who ends it. */
async function greet(found: Postmaster, isChild: boolean, options: ServerOptions): Promise<RunningServer> {
  const url = (database: string): string =>
    // pg and libpq take the host of the query; a name in the authority keeps the URL readable for the URL class.
    `postgres://${OWNER}:${options.password}@localhost/${database}?host=${encodeURIComponent(found.socketDirectory)}`;
  const client = new pg.Client({ connectionString: url("postgres") });
  client.on("error", () => undefined);
  let owner = 0;
  try {
    await client.connect();
    owner = await readOwner(client, options.durable);
    await makeDatabase(client);
  } finally {
    await client.end().catch(() => undefined);
  }
  const kind = isChild ? "started" : isAlive(owner) && owner !== process.pid ? "shared" : "taken_over";
  // Our own second start in one process shares the first one's server.
  return handle(found, { kind: owner === process.pid && !isChild ? "shared" : kind, url: url(DATABASE), options });
}

async function readOwner(client: pg.Client, durable: boolean): Promise<number> {
  const { rows } = await client.query<{ owner: string | null; fsync: string }>(
    "select current_setting('ephor.owner_pid', true) as owner, current_setting('fsync') as fsync",
  );
  if (durable && rows[0]?.fsync !== "on") {
    throw new EmbeddedDatabaseError(
      "The server that runs on this data directory was started by a test or a demonstration and does not keep what it " +
        "writes: stop it first.",
    );
  }
  return Number(rows[0]?.owner ?? 0);
}

async function makeDatabase(client: pg.Client): Promise<void> {
  const { rowCount } = await client.query("select 1 from pg_database where datname = $1", [DATABASE]);
  if (rowCount) return;
  try {
    await client.query(`create database ${DATABASE}`);
  } catch (error) {
    const { code } = error as { code?: string };
    if (code !== "42P04" && code !== "23505") throw error; // another process was faster
  }
}

function handle(
  found: Postmaster,
  { kind, url, options }: { kind: RunningServer["kind"]; url: string; options: ServerOptions },
): RunningServer {
  const { place, account } = options;
  const dismiss = kind === "shared" ? undefined : watchOver(found.pid, account);
  return {
    pid: found.pid,
    socketDirectory: found.socketDirectory,
    url,
    kind,
    isRunning: () => readPostmaster(place)?.pid === found.pid,
    stop: async () => {
      if (!dismiss) return;
      await endPostmaster(found.pid, place);
      dismiss();
      if (!found.socketDirectory.startsWith(place.root))
        await rm(found.socketDirectory, { recursive: true, force: true });
    },
  };
}

/** Whether a connection failed because the server is starting or stopping: cannot_connect_now, or no socket. */
function isPassing(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code !== undefined && ["57P01", "57P03", "ECONNREFUSED", "ENOENT", "ECONNRESET", "EPIPE"].includes(code);
}

function tail(place: Place): string {
  try {
    return `Its log (${place.logFile}) ends: ${readFileSync(place.logFile, "utf8").slice(-LOG_TAIL).trim()}`;
  } catch {
    return `Its log is ${place.logFile}.`;
  }
}
