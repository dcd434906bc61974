import { spawn, type ChildProcess } from "node:child_process";
import { constants } from "node:os";

/** A command that runs. */
export interface Command {
  readonly pid: number;
  /** How it ended: its exit code, or 128 and the signal's number, as shells have it. */
  readonly ended: Promise<number>;
  /** Passes a signal on. */
  kill(signal: NodeJS.Signals): void;
}

/** The command cannot be started: it is not there, or not executable. */
export class NotStartedError extends Error {
  override readonly name = "NotStartedError";
}

/** Signals that end or inform the command; the terminal's own reach it without us. */
const PASSED_ON: readonly NodeJS.Signals[] = ["SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGCONT"];

/**
 * Starts a command with our own input and output.
 *
 * @throws {NotStartedError}
 */
export async function startCommand(
  [file, ...args]: readonly [string, ...string[]],
  env: Readonly<Record<string, string>>,
): Promise<Command> {
  const child: ChildProcess = spawn(file, args, { stdio: "inherit", env });
  const ended = new Promise<number>((resolve) => {
    child.once("exit", (code, signal) => resolve(code ?? 128 + (constants.signals[signal as NodeJS.Signals] ?? 0)));
  });
  await new Promise<void>((resolve, reject) => {
    child.once("spawn", resolve);
    child.once("error", (error: NodeJS.ErrnoException) =>
      reject(
        new NotStartedError(error.code === "ENOENT" ? `${file}: not found` : `${file}: ${error.code ?? "failed"}`),
      ),
    );
  });
  return { pid: child.pid as number, ended, kill: (signal) => void child.kill(signal) };
}

/**
 * Passes signals on to the command until it has ended, and lives on itself: what the command held is ended after it.
 *
 * @param hasTerminal Ctrl-C reaches the command from the terminal already; a second one from us could cut its clean-up short
 */
export function passSignals(command: Command, hasTerminal: boolean): () => void {
  const listeners = new Map<NodeJS.Signals, () => void>();
  for (const signal of PASSED_ON) listeners.set(signal, () => command.kill(signal));
  listeners.set("SIGINT", hasTerminal ? () => {} : () => command.kill("SIGINT"));
  for (const [signal, listener] of listeners) process.on(signal, listener);
  return () => {
    for (const [signal, listener] of listeners) process.off(signal, listener);
  };
}
