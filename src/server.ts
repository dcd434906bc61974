/**
 * The composition root: configuration → rooms → a listening server. The only place that knows every room; `server/` beside it
 * turns rooms into what the routes call.
 */
import type { Config } from "./config.ts";
import { createEdge } from "./http/edge.ts";
import { listen } from "./http/server.ts";
import type { OperatorKeyOutcome } from "./operators/first-key.ts";
import { agreedIssuer } from "./server/agreed-issuer.ts";
import { layGround } from "./server/ground.ts";
import { openRooms } from "./server/rooms.ts";
import { VERSION } from "./server/version.ts";
import { systemClock, type Clock } from "./system/clock.ts";
import type { ResolveAll } from "./system/egress-connector.ts";
import { createLifecycle, type Lifecycle } from "./system/lifecycle.ts";
import { createLog, type Log } from "./system/log.ts";

/** How long a shutdown waits for each of its steps, in milliseconds. */
const GRACE_MS = 10_000;

/** What tests and the demonstration put in place of the real thing. */
export interface Overrides {
  readonly clock?: Clock;
  /** The database's clock, milliseconds since the epoch; moves together with `clock`. */
  readonly readTimeMs?: () => Promise<number>;
  readonly log?: Log;
  /** False: the embedded database need not survive a power cut. */
  readonly durable?: boolean;
  /** Finds the addresses of issuers' host names in place of the system's resolver; what may be connected to stays the same. */
  readonly resolve?: ResolveAll;
}

/** A running server. */
export interface RunningServer {
  /** Where it listens, as a client on this machine would call it. */
  readonly url: string;
  readonly issuer: string;
  /** Where the operator key is; what was made now is inside, to be shown once and wiped. */
  readonly operatorKey: OperatorKeyOutcome;
  /** Protections that are weaker than they could be, each with its mend. */
  readonly notices: readonly string[];
  readonly lifecycle: Lifecycle;
  /** Finishes what it accepted and ends everything it started. */
  close(): Promise<void>;
}

/**
 * Starts a server.
 *
 * @throws {Error} whose message says what was wrong and how to mend it; nothing is left running then
 */
export async function startServer(config: Config, overrides: Overrides = {}): Promise<RunningServer> {
  const log = overrides.log ?? createLog({ level: config.logLevel });
  const lifecycle = createLifecycle({ log, graceMs: GRACE_MS });
  try {
    return await start(config, { overrides, log, lifecycle });
  } catch (error) {
    await lifecycle.stop("start failed");
    throw error;
  }
}

async function start(
  given: Config,
  at: { overrides: Overrides; log: Log; lifecycle: Lifecycle },
): Promise<RunningServer> {
  const { log, lifecycle } = at;
  // The port first: a second server on it stops here, before it touches the database.
  const listener = await listen({ host: given.listen.host, port: given.listen.port, tls: given.tls });
  lifecycle.onStop("accepting", "listener", () => listener.stopAccepting());
  lifecycle.onStop("accepted", "listener", () => listener.finish(GRACE_MS));
  const ground = await layGround(given, at);
  const config: Config = { ...given, issuer: await agreedIssuer(given, ground.db) };
  const { rooms, console } = await openRooms(config, ground);
  const edge = createEdge({
    issuer: config.issuer,
    version: VERSION,
    algorithm: config.keys.algorithm,
    hasMetricsListener: config.metrics !== null,
    trustedProxies: config.trustedProxies,
    rooms,
    console,
    clock: at.overrides.clock ?? systemClock(),
    log,
    metrics: ground.metrics,
    isStopping: lifecycle.isStopping,
  });
  if (config.metrics !== null) {
    const own = await listen({ host: config.metrics.host, port: config.metrics.port });
    lifecycle.onStop("resources", "metrics listener", () => own.finish(1_000));
    own.serve(edge.handleMetrics);
  }
  ground.heartbeat.serving();
  listener.serve(edge.handle);
  log.info("listening", { address: listener.host, port: listener.port, replica: ground.replica, version: VERSION });
  for (const notice of ground.notices) log.warn("protection_weakened", { note: notice });
  return {
    url: `${config.tls ? "https" : "http"}://${shownHost(listener.host)}:${listener.port}`,
    issuer: config.issuer,
    operatorKey: ground.operatorKey,
    notices: ground.notices,
    lifecycle,
    close: () => lifecycle.stop("closed"),
  };
}

/** An address that listens everywhere is called by the one that is always there. */
function shownHost(host: string): string {
  if (host === "0.0.0.0" || host === "::") return "127.0.0.1";
  return host.includes(":") ? `[${host}]` : host;
}
