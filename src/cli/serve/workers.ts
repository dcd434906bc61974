import cluster, { type Worker } from "node:cluster";
import { join } from "node:path";
import type { Config } from "../../config.ts";
import { startEmbedded } from "../../db/embedded.ts";
import type { CliContext } from "../context.ts";
import { EXIT, type ExitCode } from "../exit-code.ts";

/** Milliseconds before a worker that died is replaced: one that dies at once must not keep a processor busy. */
const RESTART_PAUSE_MS = 1_000;

/** What primary and workers say to each other. */
const STOP = "ephor:stop";
const READY = "ephor:ready";

/**
 * `--workers N`: N processes share the port and the database. This one only holds them: it serves nothing, starts the embedded
 * database that they join, replaces one that dies, and ends them all.
 */
export async function runWorkers({ say }: CliContext, config: Config): Promise<ExitCode> {
  const embedded =
    config.database === null
      ? await startEmbedded({ dataDirectory: join(config.dataDirectory, "postgres"), durable: true })
      : undefined;
  cluster.setupPrimary({ args: process.argv.slice(2) });
  const workers = new Set<Worker>();
  let isStopping = false;
  let hasStarted = false;
  let end = (): void => {};
  const ended = new Promise<void>((resolve) => (end = resolve));
  const stop = (): void => {
    isStopping = true;
    for (const worker of workers) worker.send(STOP, () => {});
    if (workers.size === 0) end();
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);

  const run = (): Promise<boolean> => {
    const worker = cluster.fork();
    workers.add(worker);
    return new Promise((resolve) => {
      worker.on("message", (message) => message === READY && resolve(true));
      worker.once("exit", (code, signal) => {
        workers.delete(worker);
        resolve(false);
        if (isStopping && workers.size === 0) end();
        if (isStopping || !hasStarted) return;
        say(`worker ${worker.process.pid} ended (${signal ?? code}); another one takes its place`);
        setTimeout(() => !isStopping && void run(), RESTART_PAUSE_MS);
      });
    });
  };
  try {
    // The first one alone: it migrates, makes the keys, and says what is to be said.
    hasStarted = await run();
    if (!hasStarted) return isStopping ? EXIT.done : EXIT.failed;
    await Promise.all(Array.from({ length: config.workers - 1 }, run));
    if (!isStopping) say(`${config.workers} workers serve`);
    await ended;
    return EXIT.done;
  } finally {
    await embedded?.stop();
  }
}

/** In a worker: what to do when the primary says that it is over. */
export function hearStop(stop: () => void): void {
  process.on("message", (message) => {
    if (message === STOP) stop();
  });
}

/** In a worker: tells the primary that it serves. */
export function sayReady(): void {
  process.send?.(READY);
}
