/**
 * The bundled PostgreSQL: a real one, brought by an npm package and run as a child process on a unix socket in the data
 * directory, so that `npm start` needs no server, no container and no network.
 *
 * It listens on no network address and asks for a password (SCRAM) that lies, 0600, in the data directory. It ends with
 * us: by `stop()`, or by a watcher when we die without a word. Two processes on one data directory share one server: the
 * second joins it, and starts its own when the first one's goes away. One data directory belongs to one machine.
 */
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";
import { chooseAccount } from "./embedded-account.ts";
import { ensureCluster, placeOf, preparePlace } from "./embedded-cluster.ts";
import { findPrograms } from "./embedded-programs.ts";
import { DATABASE, openServer, type RunningServer, type ServerOptions } from "./embedded-server.ts";

/** What `startEmbedded` needs. */
export interface EmbeddedOptions {
  /** a folder of its own; it is made, 0700 */
  readonly dataDirectory: string;
  /** true: a commit that was answered survives a power cut. false: fast, for tests and the demonstration */
  readonly durable: boolean;
  readonly log?: (event: string, fields: Readonly<Record<string, string | number | boolean>>) => void;
}

/** A running bundled server. */
export interface Embedded {
  readonly socketDirectory: string;
  /** for `pg`, as the superuser `ephor_owner`, with its password: keep it out of logs */
  readonly adminUrl: string;
  readonly database: string;
  /** process id of the server now; it changes when the server had to be started again */
  readonly pid: number;
  /** false when the server belongs to another process of ours: then `stop` leaves it running */
  readonly isOwned: boolean;
  /** ends the server if it is ours; may be called twice */
  stop(): Promise<void>;
}

/** How often the server is looked at, in ms; its clients notice at once by themselves. */
const SUPERVISE_MS = 500;

/** Pause before a server that went away is started again, in ms; doubled at each failure up to the maximum. */
const RESTART_PAUSE_MS = { first: 200, most: 30_000 } as const;

/**
 * Starts the bundled PostgreSQL on a data directory, or joins the one that runs there; the database `ephor` exists when
 * this resolves. A first start takes 1 to 2 s, a later one 0.2 s.
 *
 * @throws {EmbeddedDatabaseError} with what to do, when it cannot run here or the directory is not usable
 */
export async function startEmbedded(options: EmbeddedOptions): Promise<Embedded> {
  const { durable } = options;
  const log = options.log ?? (() => undefined);
  const account = chooseAccount(join(placeOf(options.dataDirectory).cluster, "PG_VERSION"));
  const place = await preparePlace(options.dataDirectory, account);
  if (place.movedFrom !== undefined) log("database_elsewhere", { wanted: place.movedFrom, path: place.root });
  const programs = await findPrograms(account, place.links);
  const password = await ensureCluster(place, { account, programs, durable });
  return supervise({ place, account, programs, password, durable }, log);
}

/** Starts the server again when it goes away without our doing. */
async function supervise(options: ServerOptions, log: NonNullable<EmbeddedOptions["log"]>): Promise<Embedded> {
  let server: RunningServer = await openServer(options);
  let stopping: Promise<void> | undefined;
  let restarting: Promise<void> | undefined;
  const halt = new AbortController();
  log("database_started", { pid: server.pid, kind: server.kind });

  const restart = async (): Promise<void> => {
    log("database_gone", { pid: server.pid });
    for (let ms: number = RESTART_PAUSE_MS.first; ; ms = Math.min(ms * 2, RESTART_PAUSE_MS.most)) {
      await pause(ms, undefined, { ref: false, signal: halt.signal }).catch(() => undefined);
      if (halt.signal.aborted) return;
      try {
        server = await openServer(options);
        log("database_started", { pid: server.pid, kind: server.kind });
        return;
      } catch (error) {
        log("database_start_failed", { name: error instanceof Error ? error.name : "unknown" });
      }
    }
  };
  const timer = setInterval(() => {
    if (halt.signal.aborted || restarting !== undefined || server.isRunning()) return;
    restarting = restart().finally(() => (restarting = undefined));
  }, SUPERVISE_MS).unref();

  return {
    get socketDirectory() {
      return server.socketDirectory;
    },
    get adminUrl() {
      return server.url;
    },
    database: DATABASE,
    get pid() {
      return server.pid;
    },
    get isOwned() {
      return server.kind !== "shared";
    },
    stop: () =>
      (stopping ??= (async () => {
        halt.abort();
        clearInterval(timer);
        await restarting;
        await server.stop();
        log("database_stopped", { pid: server.pid, kind: server.kind });
      })()),
  };
}
