import { createHouse, type House, type Place } from "../../sdk/client/house.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import type { KilledError } from "../../sdk/client/outcome.ts";
import { completeTask, openTask } from "../../sdk/client/tasks.ts";
import { readBehalf } from "../behalf.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, type ExitCode } from "../exit-code.ts";
import { createAccess, reasonOf, type Access } from "../mcp/access.ts";
import { createBridge } from "../mcp/bridge.ts";
import { MESSAGE_BYTES, openMcpDoor } from "../mcp/http-door.ts";
import { readLines } from "../mcp/message.ts";
import { requireServed } from "../mcp/post.ts";
import { nowSeconds, readSpan } from "../moments.ts";
import { createProver, type ProofOptions } from "../proof.ts";

/** What `ephor mcp` is told. */
export interface McpOptions extends ProofOptions {
  /** The purpose. */
  readonly task?: string;
  /** `me`, or `token-file:PATH`. */
  readonly onBehalfOf?: string;
  /** A door on loopback instead of standard input and output: its port, or true for any. */
  readonly http?: string | true;
  /** How long it may go on at most. */
  readonly for?: string;
}

/** A working day; without `--for` another task follows. */
const LONG_SECONDS = 8 * 3_600;
/** Milliseconds that answers may take after the end of standard input. */
const SETTLE_MS = 10_000;
/** Milliseconds for the end of the task: hosts kill what does not end. */
const END_MS = 1_500;

interface Job {
  readonly context: CliContext;
  readonly house: House;
  readonly resource: string;
  readonly access: Access;
  /** The task that is open. */
  readonly place: () => Place;
}

/**
 * `ephor mcp RESOURCE`: a server of MCP on standard input and output, or on loopback, that is the resource behind Ephor's
 * proxy, for a host that cannot log in by itself. Its task ends with it.
 *
 * @returns 5 where the task or the agent was killed
 */
export async function mcp(context: CliContext, resource: string, options: McpOptions): Promise<ExitCode> {
  const port = readPort(options.http);
  const job = await begin(context, resource, options);
  let killed: KilledError | undefined;
  const over = new AbortController();
  const end = (): void => over.abort();
  const stop = (error: KilledError): void => {
    killed = error;
    end();
  };
  process.on("SIGINT", end).on("SIGTERM", end).on("SIGHUP", end);
  context.io.outlive?.(end);
  try {
    if (port === undefined) await relayLines(job, over, stop);
    else await keepDoor(job, port, over.signal, stop);
  } finally {
    if (killed === undefined) await endTask(job);
    process.off("SIGINT", end).off("SIGTERM", end).off("SIGHUP", end);
  }
  if (killed === undefined) return EXIT.done;
  context.say(`ephor mcp: ${killed.message}`);
  return EXIT.unauthenticated;
}

async function begin(context: CliContext, resource: string, options: McpOptions): Promise<Job> {
  const prove = createProver(context, options);
  const { url } = context.settings;
  await requireServed({ url, resource }).catch((error: unknown) => {
    throw reasonOf(error);
  });
  const clock = { nowMs: () => Date.now(), monotonicMs: () => performance.now() };
  const house = createHouse({ url, proof: prove, isBound: false, clock });
  const open = async (): Promise<Place> => {
    // Read anew: who is logged in when a second task is opened?
    const subject =
      options.onBehalfOf === undefined ? undefined : await readBehalf(context, options.onBehalfOf, "idToken");
    const wanted = { purpose: options.task ?? `ephor mcp ${resource}`, subject };
    const span = options.for === undefined ? LONG_SECONDS : readSpan(options.for, "--for");
    const deadline = Math.floor(nowSeconds()) + span;
    const { txn } = await openTask(url, await prove(), { ...wanted, deadline }).catch(async (error: unknown) => {
      // Nobody asked for that long: a server that allows less decides.
      if (options.for !== undefined || !(error instanceof ApiError) || error.status !== 400) throw error;
      return await openTask(url, await prove(), wanted);
    });
    return { txn, node: txn };
  };
  let place = await open().catch((error: unknown) => {
    if (!(error instanceof ApiError) || error.status !== 401) throw error;
    throw new CliFailure(
      "the server does not take this agent's proof: it is unknown there, suspended, killed, or for another server; " +
        "ephor audit --decision refused says which",
      { exitCode: EXIT.unauthenticated, cause: error },
    );
  });
  const reopen = async (): Promise<Place> => {
    place = await house.told(() => undefined, open);
    context.say(`ephor mcp: the task had reached its end; ${place.txn} goes on`);
    return place;
  };
  const access = createAccess({ house, place, resource, ...(options.for === undefined && { reopen }) });
  const job = { context, house, resource, access, place: () => place };
  // What is not granted is told here, and not at the first call.
  await access.token().catch(async (error: unknown) => {
    await endTask(job);
    throw reasonOf(error);
  });
  return job;
}

async function relayLines(
  { context, house, resource, access }: Job,
  over: AbortController,
  killed: (error: KilledError) => void,
): Promise<void> {
  const bridge = createBridge({
    url: house.url,
    resource,
    access,
    write: (message) => context.io.out(`${JSON.stringify(message)}\n`),
    say: (line) => context.say(`ephor mcp: ${line}`),
    killed,
  });
  try {
    for await (const line of readLines(context.io.input.chunks(over.signal), MESSAGE_BYTES)) bridge.take(line);
    if (!over.signal.aborted) await bridge.settle(SETTLE_MS, over.signal);
  } finally {
    bridge.close();
  }
}

async function keepDoor(
  { context, house, resource, access }: Job,
  port: number,
  over: AbortSignal,
  killed: (error: KilledError) => void,
): Promise<void> {
  const door = await openMcpDoor({
    url: house.url,
    resource,
    access,
    port,
    // The answer that tells of it leaves first.
    killed: (error) => setImmediate(killed, error),
    refused: (why) => context.say(`ephor mcp: somebody was sent away from the local door: ${why}`),
  }).catch((error: unknown) => {
    throw (error as NodeJS.ErrnoException).code === "EADDRINUSE"
      ? new CliFailure(`port ${port} is in use; leave it out, or name another`, { cause: error })
      : error;
  });
  context.say(`ephor mcp: ${resource} at ${door.url}`, "Whoever knows this URL may call while this runs.");
  await new Promise<void>((resolve) => {
    // A server alone keeps the process alive; the signal ends it.
    if (over.aborted) resolve();
    else over.addEventListener("abort", () => resolve(), { once: true });
  });
  await door.close();
}

/** Ends the task; its deadline does where this fails. */
async function endTask({ context, house, place }: Job): Promise<void> {
  const { txn } = place();
  try {
    await completeTask(house.url, await house.prove(), txn, END_MS);
  } catch {
    context.say(`ephor mcp: the task ${txn} could not be ended; ephor kill chain ${txn} --reason WHY ends it at once`);
  }
}

function readPort(text: string | true | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (text === true) return 0;
  const port = /^\d{1,5}$/.test(text) ? Number(text) : Number.NaN;
  if (!(port <= 65_535)) throw new CliFailure("--http: a port, 0 to 65535", { exitCode: EXIT.wrongUsage });
  return port;
}
