import cluster from "node:cluster";
import { ConfigError } from "../config/error.ts";
import { loadConfig, type Config } from "../config.ts";
import { OAuthError } from "../core/oauth/errors.ts";
import { DatabaseError } from "../db/errors.ts";
import { operatorKeyNotice } from "../operators/first-key.ts";
import { startServer, type RunningServer } from "../server.ts";
import { stopOnSignals } from "../system/lifecycle.ts";
import type { CliContext } from "./context.ts";
import { CliFailure, EXIT, type ExitCode } from "./exit-code.ts";
import { hearStop, runWorkers, sayReady } from "./serve/workers.ts";
import { packageVersion } from "./version.ts";

/** What `ephor serve` is told. */
export interface ServeOptions {
  readonly config?: string;
  readonly workers?: string;
  readonly applyOnStart?: boolean;
}

/** Milliseconds after an orderly end until what still holds the process is left behind. */
const LINGER_MS = 2_000;

/** `ephor serve`: runs until SIGTERM or SIGINT, then finishes what it accepted. A second signal does not wait. */
export async function serve(context: CliContext, options: ServeOptions): Promise<ExitCode> {
  // Where our words go is no reason to stop serving (A-OPS-05).
  context.io.outlast?.();
  const config = readConfig(context, options);
  if (config.workers > 1 && cluster.isPrimary) return await runWorkers(context, config);
  try {
    return await serveHere(context, config);
  } finally {
    // What a worker and its primary talk over would keep this process alive.
    cluster.worker?.disconnect();
  }
}

async function serveHere(context: CliContext, config: Config): Promise<ExitCode> {
  const starting = started(config);
  let isStopping = false;
  const stop = async (why: string): Promise<void> => {
    isStopping = true;
    await (await starting).lifecycle.stop(why);
  };
  // From the first moment on: a signal during the start ends it as orderly as later ones.
  const stopped = new Promise<ExitCode>((resolve) => {
    const quietly = { isStopping: () => isStopping, stop: (why: string) => stop(why).catch(() => {}) };
    stopOnSignals(quietly, process, (code) => (code === 0 ? resolve(EXIT.done) : process.exit(code)));
    hearStop(() => void quietly.stop("primary").then(() => resolve(EXIT.done)));
  });
  const server = await starting;
  server.lifecycle.onStop("resources", "process", () => {
    setTimeout(() => process.exit(EXIT.done), LINGER_MS).unref();
  });
  if (cluster.worker === undefined || cluster.worker.id === 1) announce(context, server);
  wipe(server);
  sayReady();
  return await stopped;
}

function readConfig({ io }: CliContext, options: ServeOptions): Config {
  const { env, files, workingDirectory } = io.surroundings;
  return loadConfig({
    file: options.config,
    flags: {
      ...(options.workers !== undefined && { workers: options.workers }),
      ...(options.applyOnStart === true && { applyOnStart: "true" }),
    },
    ...(env !== undefined && { env }),
    ...(files !== undefined && { files }),
    ...(workingDirectory !== undefined && { workingDirectory }),
  });
}

/** What stops a start says in its message what is wrong and how to mend it; a mistake of ours does not. */
async function started(config: Config): Promise<RunningServer> {
  try {
    return await startServer(config);
  } catch (error) {
    if (error instanceof ConfigError) throw error;
    throw new CliFailure(startFault(error), { cause: error });
  }
}

/** What kept a server from starting. */
export function startFault(error: unknown): string {
  if (error instanceof OAuthError || error instanceof DatabaseError) {
    const { code } = (error.cause ?? {}) as { code?: unknown };
    return `the database does not work with us: ${error instanceof OAuthError ? error.reason : error.name}${typeof code === "string" ? ` (${code})` : ""}; look at DATABASE_URL`;
  }
  const isOurs =
    error instanceof Error &&
    error.constructor !== Error &&
    /^[A-Z]\w*Error$/.test(error.name) &&
    !(error.name in globalThis);
  if (isOurs) return error.message;
  const { name, code } = error as { name?: unknown; code?: unknown };
  // What pg throws while it connects: a name of the network's, or an SQLSTATE.
  if (typeof code === "string" && /^(?:E[A-Z]+|[0-9A-Z]{5})$/.test(code))
    return `the database cannot be used (${code}); look at DATABASE_URL`;
  return `the server did not start: ${String(name)}${typeof code === "string" ? ` (${code})` : ""}`;
}

function announce({ io, say }: CliContext, server: RunningServer): void {
  const isTerminal = io.isTalkTerminal;
  say(
    `Ephor ${packageVersion()} listens on ${server.url}`,
    ...(server.issuer === server.url ? [] : [`  issuer        ${server.issuer}`]),
    `  API           ${server.issuer}/docs`,
    ...operatorKeyNotice(server.operatorKey, isTerminal)
      .split("\n")
      .map((line) => `  ${line}`),
    ...server.notices.map((notice) => `  weaker than it could be: ${notice}`),
  );
}

/** Once shown, or not to be shown: the key does not stay in memory. */
function wipe({ operatorKey }: RunningServer): void {
  if (operatorKey.kind === "created") operatorKey.key.wipe();
}
