/** A replica whose network to the database can be cut, so that nothing arrives any more and nobody is told. */
import { spawnSync } from "node:child_process";
import { databaseProxy } from "../../test/support/database-proxy.ts";
import type { Place } from "../../test/support/replicas.ts";

/** The wire of one replica. */
export interface Wire {
  /** What the replica is started with. */
  readonly env: NodeJS.ProcessEnv;
  readonly place?: Place;
  /** How it is cut. */
  readonly words: string;
  cut(): void;
  restore(): void;
}

/** Addresses of tests of networks (RFC 2544): nobody else has them. */
const BLOCK = `198.18.${process.pid % 256}`;
const CLIENTS = { here: `${BLOCK}.1`, there: `${BLOCK}.2` };
const DATABASE = { here: `${BLOCK}.5`, there: `${BLOCK}.6` };

/**
 * A network namespace with two cables, one for clients and one for the database, where the system lets us; else a forwarder
 * that stops to forward.
 */
export async function layWire(t: { after(fn: () => unknown): void }, databaseUrl: string): Promise<Wire> {
  const name = `ephor-soak-${process.pid}`;
  const why = makeNamespace(name);
  if (why !== undefined) {
    const proxy = await databaseProxy(t, databaseUrl);
    return {
      env: { DATABASE_URL: proxy.url },
      words: `a forwarder that lets nothing through; LEFT OUT: a cut cable in a network namespace (${why})`,
      cut: proxy.hang,
      restore: proxy.restore,
    };
  }
  t.after(() => ip("netns", "delete", name));
  const proxy = await databaseProxy(t, databaseUrl, { host: DATABASE.here });
  return {
    env: { DATABASE_URL: proxy.url },
    place: { command: ["ip", "netns", "exec", name], host: CLIENTS.there },
    words: "a cable between two network namespaces that is pulled",
    cut: () => must("link", "set", cable("d"), "down"),
    restore: () => must("link", "set", cable("d"), "up"),
  };
}

/** Names of interfaces have at most 15 characters. */
const cable = (which: string): string => `es${process.pid}${which}`;

/** @returns why it could not be made */
function makeNamespace(name: string): string | undefined {
  if (process.platform !== "linux") return "this is not Linux";
  if (process.getuid?.() !== 0) return "only root may make one";
  const refused = ip("netns", "add", name);
  if (refused !== undefined) return refused;
  for (const [which, { here, there }] of [
    ["c", CLIENTS],
    ["d", DATABASE],
  ] as const) {
    const far = `${cable(which)}n`;
    const failed =
      ip("link", "add", cable(which), "type", "veth", "peer", "name", far, "netns", name) ??
      ip("address", "add", `${here}/30`, "dev", cable(which)) ??
      ip("link", "set", cable(which), "up") ??
      ip("-n", name, "address", "add", `${there}/30`, "dev", far) ??
      ip("-n", name, "link", "set", far, "up");
    if (failed !== undefined) {
      ip("netns", "delete", name);
      return failed;
    }
  }
  ip("-n", name, "link", "set", "lo", "up");
  return undefined;
}

/** @returns what was wrong */
function ip(...args: string[]): string | undefined {
  const { status, stderr, error } = spawnSync("ip", args, { encoding: "utf8" });
  if (error) return "there is no `ip` command";
  return status === 0 ? undefined : `ip ${args.join(" ")}: ${stderr.trim()}`;
}

function must(...args: string[]): void {
  const failed = ip(...args);
  if (failed !== undefined) throw new Error(failed);
}
