import type { StreamHandle, Streams } from "../../authz/streams.ts";
import { startChild, type Child, type ChildEnd, type ChildOrder } from "../../system/child.ts";
import type { DatabaseClock } from "../../system/clock.ts";
import type { Log } from "../../system/log.ts";
import type { Metrics } from "../../system/metrics.ts";
import type { Programs } from "../../system/programs.ts";
import type { SessionOwner } from "./sessions.ts";
import { createPeer, type Peer } from "./stdio-peer.ts";
import type { LocalServer } from "./stdio-server.ts";

/** Longest line of a local server, in bytes. */
export const MAX_LINE_BYTES = 4 * 1024 * 1024;
/** Lines of standard error that are logged in one such time, in milliseconds. */
const STDERR_LINES = 20;
const STDERR_EVERY_MS = 10_000;

/** What processes are started with. */
export interface ProcessDeps {
  readonly clock: Pick<DatabaseClock, "monotonicMs">;
  readonly streams: Streams;
  readonly programs: Programs;
  readonly log: Log;
  readonly metrics: Pick<Metrics, "localServers">;
}

/** Why a process is started, by whom and with what. */
export interface Start {
  readonly local: LocalServer;
  readonly owner: SessionOwner;
  /** Absolute. */
  readonly program: string;
  /** The credential's value. */
  readonly injected: string | undefined;
  /** What it may ask its client. */
  readonly mayAsk: (method: unknown) => boolean;
  /** Whether a text holds a secret. */
  readonly hides: (text: string) => boolean;
  /** What kills it, beside what kills calls alone. */
  readonly keys: readonly string[];
  readonly epoch: number;
  /** @param end.hasFailed it ended by itself, and not in peace */
  readonly onEnd: (process: LocalProcess, end: { readonly hasFailed: boolean }) => void;
}

/** A local server that runs, for one agent and one person (INV-19). */
export interface LocalProcess {
  readonly owner: SessionOwner;
  readonly print: string;
  readonly injected: string | undefined;
  readonly peer: Peer;
  readonly startedMs: number;
  /** Monotonic milliseconds of the last call. */
  usedMs: number;
  /** It gets no further call, and ends with those that it has. */
  retiring: boolean;
  /** How it ends is known: nobody asked, or we did. */
  readonly isStopping: boolean;
  stop(how: "end" | "kill"): Promise<void>;
}

/**
 * Starts a local server. From here on a kill of its agent, its person or its resource, and the loss of this replica's lease,
 * end it, whether a call is in flight or not.
 */
export function startProcess(deps: ProcessDeps, at: Start): LocalProcess {
  const { owner, local } = at;
  const log = deps.log.child({ resource: owner.resource, agent: owner.agent });
  let child: Child | undefined;
  let [isStopping, floods] = [false, false];
  let queued: string[] | undefined = [];
  let stopped: Promise<void> | undefined;
  const peer = createPeer((line) => {
    if (isStopping) return false;
    if (child) return child.write(line);
    queued?.push(line);
    return queued !== undefined;
  }, at.mayAsk);
  const stream: StreamHandle = deps.streams.open({
    keys: at.keys,
    epoch: at.epoch,
    // It outlives the token that began it, not what allowed that.
    exp: Number.POSITIVE_INFINITY,
    onCut: (reason) => void stop(reason === "closing" ? "end" : "kill"),
  });
  const stderr = stderrLog(deps, log, at);

  function onEnd(end: ChildEnd): void {
    stream.close();
    deps.metrics.localServers.dec();
    queued = undefined;
    const problem = floods ? "flood" : isStopping ? "stopped" : end.how;
    isStopping = true;
    if (problem !== "stopped")
      log.warn("local_server_ended", { reason: problem, code: String(end.code), stderr: stderr.last() });
    at.onEnd(made, { hasFailed: problem !== "stopped" && (peer.inFlight > 0 || end.code !== 0) });
    peer.ended(problem);
  }
  deps.metrics.localServers.inc();
  const starting = startChild({
    ...commandOf(at),
    onLine: (line) => {
      if (peer.heard(line)) return;
      floods = true;
      void stop("kill");
    },
    onStderr: stderr.line,
    onEnd,
  }).then(
    (begun) => {
      child = begun;
      if (begun.pid !== undefined) log.info("local_server_started", { pid: begun.pid });
      queued?.forEach((line) => begun.write(line));
      queued = undefined;
      return begun;
    },
    (err: unknown) => {
      log.error("local_server_not_started", { err });
      onEnd({ how: "not_started", code: null });
      return undefined;
    },
  );
  async function stop(how: "end" | "kill"): Promise<void> {
    isStopping = true;
    if (how === "kill") await (await starting)?.stop("kill");
    else await (stopped ??= starting.then((begun) => begun?.stop("end")));
  }

  const made: LocalProcess = {
    owner,
    print: local.print,
    injected: at.injected,
    peer,
    startedMs: deps.clock.monotonicMs(),
    usedMs: deps.clock.monotonicMs(),
    retiring: false,
    get isStopping() {
      return isStopping;
    },
    stop,
  };
  return made;
}

function commandOf({ program, local, injected }: Start): Pick<ChildOrder, "program" | "args" | "env" | "maxLineBytes"> {
  const env = local.inject && injected !== undefined ? { [local.inject.env]: injected } : {};
  return { program, args: local.command.slice(1), env, maxLineBytes: MAX_LINE_BYTES };
}

/** Characters of a secret in a row that give it away: it may be broken into lines, or cut at the end of one. */
const GIVEAWAY = 8;

/** Whether a text has a part of a secret. */
function resembles(secret: string): (text: string) => boolean {
  const parts = new Set<string>();
  for (let i = 0; i + GIVEAWAY <= secret.length; i++) parts.add(secret.slice(i, i + GIVEAWAY));
  return (text) => {
    for (let i = 0; i + GIVEAWAY <= text.length && parts.size > 0; i++)
      if (parts.has(text.slice(i, i + GIVEAWAY))) return true;
    return false;
  };
}

/** What a local server says of itself: for whoever looks for its fault, a few lines, and nothing with a secret in it. */
function stderrLog(
  { clock }: ProcessDeps,
  log: Log,
  { hides, injected = "" }: Start,
): { line: (line: string) => void; last: () => string | undefined } {
  const isLike = resembles(injected);
  let sinceMs = clock.monotonicMs();
  let count = 0;
  let last: string | undefined;
  return {
    line(line) {
      last = hides(line) || isLike(line) ? "(held a secret)" : line;
      if (clock.monotonicMs() - sinceMs > STDERR_EVERY_MS) {
        sinceMs = clock.monotonicMs();
        count = 0;
      }
      if (++count <= STDERR_LINES) log.debug("local_server_stderr", { stderr: last });
    },
    last: () => last,
  };
}
