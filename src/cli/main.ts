/**
 * The room `cli` owns the commands: what they are called, what they print, how they end. It decides nothing: every verb but
 * `serve`, `demo` and `doctor` is a client of the HTTP API, and `run` of the local helpers that it starts as well. Nobody imports it; `scripts/ephor.mjs` starts this file.
 */
import { createInput } from "./input.ts";
import { runCli } from "./run.ts";

let whenGone = (): void => process.exit(process.exitCode ?? 0);
let isLasting = false;
for (const stream of [process.stdout, process.stderr]) {
  // Whoever read our output has read enough (`| head`).
  stream.on("error", (error: NodeJS.ErrnoException) => {
    if (isLasting) return;
    if (error.code !== "EPIPE") throw error;
    whenGone();
  });
}

/** A full disk throws at once, a closed pipe says so later. */
function written(stream: NodeJS.WriteStream, text: string): void {
  try {
    stream.write(text);
  } catch (error) {
    if (!isLasting) throw error;
  }
}

const talk = (text: string): void => written(process.stderr, text);

process.exitCode = await runCli(process.argv.slice(2), {
  out: (text) => written(process.stdout, text),
  talk,
  outlive: (told) => (whenGone = told),
  outlast: () => (isLasting = true),
  program: [process.execPath, ...process.argv.slice(1, 2)],
  input: createInput(process.stdin, talk),
  isOutTerminal: process.stdout.isTTY === true,
  isTalkTerminal: process.stderr.isTTY === true,
  surroundings: {},
});
