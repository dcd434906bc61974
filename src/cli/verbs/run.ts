import type { TypedToken } from "../../sdk/client/exchange.ts";
import { ApiError } from "../../sdk/client/errors.ts";
import { completeTask, openTask, type OpenTask } from "../../sdk/client/tasks.ts";
import { vend } from "../../sdk/client/vend.ts";
import { readBehalf } from "../behalf.ts";
import type { CliContext } from "../context.ts";
import { CliFailure, EXIT, NOT_STARTED } from "../exit-code.ts";
import { explain } from "../failure.ts";
import { NotStartedError, passSignals, startCommand } from "../job/command.ts";
import { openDoor, type Door } from "../job/door.ts";
import { inherited, type Given } from "../job/environment.ts";
import { createHandles, type Handles } from "../job/handles.ts";
import { createLeases, type Leases } from "../job/leases.ts";
import { openMcpDoors, type McpDoors } from "../job/mcp-doors.ts";
import { outfit, plainValues } from "../job/outfit.ts";
import { openPostgresDoor, type PostgresDoor } from "../job/postgres-door.ts";
import { nowSeconds, readSpan } from "../moments.ts";
import { createProver, type ProofOptions, type Prover } from "../proof.ts";

/** What `ephor run` is told. */
export interface RunOptions extends ProofOptions {
  /** The purpose. */
  readonly task: string;
  /** `me`, or `token-file:PATH`. */
  readonly onBehalfOf?: string;
  /** Credential resources. */
  readonly credential: readonly string[];
  /** MCP resources. */
  readonly mcp: readonly string[];
  /** Plain values in the environment, for tools that can do no better. */
  readonly env?: boolean;
  /** How long the task may go on at most. */
  readonly for?: string;
}

/** Tries to end the task, and the pause between two, in milliseconds. After them its own deadline ends it. */
const END_TRIES = 4;
const END_PAUSE_MS = 500;

/** A working day: the end of the command ends the task, so that its deadline is for a machine that goes down. */
const LONG_SECONDS = 8 * 3_600;

interface Job {
  readonly context: CliContext;
  readonly prove: Prover;
  readonly task: OpenTask;
  readonly leases: Leases;
  readonly options: RunOptions;
}

/**
 * `ephor run -- CMD`: opens a task, starts CMD with handles for what it was given, and ends the task with everything it held
 * when CMD ends, also by a signal.
 *
 * @returns CMD's exit code; 125 for a failure before it started
 */
export async function run(context: CliContext, options: RunOptions, words: readonly string[]): Promise<number> {
  const [file, ...args] = words;
  if (file === undefined)
    throw new CliFailure("say what to run: ephor run --task WHY -- COMMAND", { exitCode: EXIT.wrongUsage });
  let job: Job | undefined;
  try {
    job = await begin(context, options);
    return await runUnder(job, [file, ...args]);
  } catch (error) {
    const lines = error instanceof NotStartedError ? [error.message] : explain(error, context.settings.url);
    context.say(...lines.map((line, at) => (at === 0 ? `ephor run: ${line}` : line)));
    return NOT_STARTED;
  } finally {
    if (job !== undefined) await end(job);
  }
}

async function begin(context: CliContext, options: RunOptions): Promise<Job> {
  const prove = createProver(context, options);
  const { url } = context.settings;
  const subject: TypedToken | undefined =
    options.onBehalfOf === undefined ? undefined : await readBehalf(context, options.onBehalfOf, "idToken");
  // No ceiling says "whatever is granted at this MCP server"; the doors hand out no more than they are for.
  const scopes = options.mcp.length > 0 ? [] : options.credential.map((name) => `${name}:vend`);
  const wanted = { purpose: options.task, subject, ...(scopes.length > 0 && { scopes }) };
  const span = options.for === undefined ? LONG_SECONDS : readSpan(options.for, "--for");
  const deadline = Math.floor(nowSeconds()) + span;
  const task = await openTask(url, await prove(), { ...wanted, deadline }).catch(async (error: unknown) => {
    if (error instanceof ApiError && error.status === 401)
      throw new CliFailure(
        "the server does not take this agent's proof: it is unknown there, suspended, killed, or for another server; " +
          "ephor audit --decision refused says which",
        { exitCode: EXIT.unauthenticated, cause: error },
      );
    // Nobody asked for that long: a server that allows less decides.
    if (options.for !== undefined || !(error instanceof ApiError) || error.status !== 400) throw error;
    return await openTask(url, await prove(), wanted);
  });
  const order = async (resource: string) =>
    await vend(url, { proof: await prove(), subject: { token: task.txn, type: "task" }, resource });
  return { context, prove, task, options, leases: createLeases(order, () => Date.now()) };
}

/** Everything is asked for once before the command starts, so that a missing grant is told here and not in the middle. */
async function runUnder(job: Job, words: readonly [string, ...string[]]): Promise<number> {
  const { context, options, leases } = job;
  const given: Given[] = await Promise.all(
    options.credential.map(async (resource) => ({ resource, vended: await leases.get(resource) })),
  );
  const env = inherited(context.settings.env, new Set(given.map((one) => one.vended.kind)), await secretsOf(job));
  const handles = await createHandles(context.settings.env["XDG_RUNTIME_DIR"]);
  const open: (Door | PostgresDoor | McpDoors)[] = [];
  try {
    const door = await openDoor({
      leases,
      handles,
      resources: options.credential,
      failed: tellFailure(context),
      refused: (why) => context.say(`ephor run: somebody was sent away from the local door: ${why}`),
    });
    open.push(door);
    const postgres =
      options.env === true ? new Map<string, PostgresDoor>() : await openDatabases(job, { given, handles });
    open.push(...postgres.values());
    const mcp = await openMcpDoors(context, { prove: job.prove, txn: job.task.txn, resources: options.mcp });
    open.push(mcp);
    Object.assign(env, mcp.env);
    await outfit(env, given, { origin: door.origin, handles, postgres, program: context.io.program });
    if (options.env === true) plainValues(env, given);
    const command = await startCommand(words, env);
    door.admit(command.pid);
    mcp.admit(command.pid);
    const letGo = passSignals(command, context.io.input.isTerminal);
    try {
      return await command.ended;
    } finally {
      letGo();
    }
  } finally {
    await Promise.all(open.map((one) => one.close()));
    await handles.remove();
  }
}

async function openDatabases(
  { context, leases }: Job,
  { given, handles }: { given: readonly Given[]; handles: Handles },
): Promise<ReadonlyMap<string, PostgresDoor>> {
  const doors = new Map<string, PostgresDoor>();
  for (const { resource, vended } of given) {
    if (vended.kind !== "postgres") continue;
    const order = {
      folder: handles.folder,
      resource,
      current: () => leases.get(resource),
      failed: tellFailure(context),
    };
    doors.set(resource, await openPostgresDoor(order));
  }
  return doors;
}

function tellFailure(context: CliContext): (resource: string, error: unknown) => void {
  return (resource, error) => context.say(`ephor run: ${resource}: ${explain(error, context.settings.url).join(" ")}`);
}

/** What proves us, under whatever name a platform put it into the environment. */
async function secretsOf({ prove, options }: Job): Promise<readonly string[]> {
  if (options.as !== undefined) return [];
  const proof = await prove();
  return "workloadToken" in proof ? [proof.workloadToken] : [];
}

/** Ends the task, and with it every lease; the server does both in one step. */
async function end({ context, prove, task }: Job): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      await completeTask(context.settings.url, await prove(), task.txn);
      return;
    } catch (error) {
      const isFinal = error instanceof ApiError && error.status < 500;
      if (isFinal || attempt >= END_TRIES) {
        context.say(
          `ephor run: the task ${task.txn} could not be ended (${explain(error, context.settings.url)[0] ?? ""}); ` +
            `what it held dies within a minute: ephor kill chain ${task.txn} ends it at once`,
        );
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, END_PAUSE_MS * attempt));
    }
  }
}
