/** The processes of a run: plain JavaScript files beside this one, ordered about over Node's channel. */
import { spawn, type ChildProcess } from "node:child_process";
import { fileURLToPath } from "node:url";

/** How a process is started. */
export interface StartOptions {
  /** The command line in front of node's: see `Cores`. */
  readonly run: readonly string[];
  /** What it is to do. */
  readonly order: object;
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** Options of node. */
  readonly node?: readonly string[];
}

/** A process that goes on until it is told to stop. */
export interface Started {
  readonly pid: number;
  stop(): Promise<void>;
}

/** Starts a server and waits until it listens. It ends with us, whatever happens to us. */
export async function startProcess(file: string, options: StartOptions): Promise<Started> {
  const child = open(file, options);
  await firstMessage(child, file);
  return {
    // taskset becomes the program that it starts, so this is the server's own.
    pid: child.pid ?? 0,
    stop: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const ended = new Promise((done) => child.once("exit", done));
      child.kill("SIGTERM");
      const late = setTimeout(() => child.kill("SIGKILL"), 5_000);
      await ended;
      clearTimeout(late);
    },
  };
}

/** Has a process do one thing, and gives its answer. */
export async function askProcess<T>(file: string, options: StartOptions): Promise<T> {
  const child = open(file, options);
  const answer = await firstMessage(child, file);
  child.disconnect();
  return answer as T;
}

function open(file: string, { run, order, env, node = [] }: StartOptions): ChildProcess {
  const program = [process.execPath, ...node, fileURLToPath(new URL(file, import.meta.url))];
  const [command = process.execPath, ...args] = [...run, ...program];
  const child = spawn(command, args, {
    env: { ...process.env, NODE_ENV: "production", ...env },
    stdio: ["ignore", "inherit", "inherit", "ipc"],
  });
  child.send(order, (error) => error && child.kill());
  return child;
}

function firstMessage(child: ChildProcess, file: string): Promise<unknown> {
  return new Promise((done, fail) => {
    child.once("message", done);
    child.once("error", fail);
    child.once("exit", (code, signal) => fail(new Error(`${file} ended (${code ?? signal})`)));
  });
}
