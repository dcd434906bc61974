import { createServer, connect, type AddressInfo, type Socket } from "node:net";
import { join } from "node:path";
import type { Cleanup } from "./database.ts";

/** A wire between a server and its database that a test can cut. */
export interface DatabaseProxy {
  /** The database's URL through the wire. */
  readonly url: string;
  /** Bytes flow again; connections made while it hung are served now. */
  restore(): void;
  /** Connections are reset, and new ones too: the server is gone. */
  cut(): void;
  /** Nothing flows any more, and nobody is told: a cut network, a stopped machine. */
  hang(): void;
  /** Requests reach the database; from the first one with these bytes on, no answer comes back on its connection. */
  muteFrom(text: string): void;
  /** The answer to a request with these bytes is followed at once by the word by which a server ends a session, and by its end. */
  endAfter(text: string): void;
}

/** `ErrorResponse` (PostgreSQL, message formats): what an administrator's command, a shutdown or a failover says. */
const ENDED = ((): Buffer => {
  const fields = ["SFATAL", "VFATAL", "C57P01", "Mterminating connection due to administrator command", ""];
  const body = Buffer.from(fields.join("\0") + "\0", "latin1");
  const head = Buffer.alloc(5);
  head.write("E", 0, "latin1");
  head.writeUInt32BE(body.length + 4, 1);
  return Buffer.concat([head, body]);
})();

/** Puts a wire in front of a PostgreSQL on a socket or a port. @param o.host an address of this machine, to listen on */
export async function databaseProxy(
  t: Cleanup,
  url: string,
  { host = "127.0.0.1" }: { host?: string } = {},
): Promise<DatabaseProxy> {
  const target = targetOf(url);
  let mode: "flow" | "cut" | "hang" = "flow";
  let mutedFrom: string | undefined;
  let endedAfter: string | undefined;
  const pairs = new Set<readonly [Socket, Socket]>();
  const server = createServer((near) => {
    if (mode === "cut") return void near.destroy();
    const far = connect(target);
    const pair = [near, far] as const;
    let isLast = false;
    pairs.add(pair);
    const end = (): void => {
      pairs.delete(pair);
      near.destroy();
      far.destroy();
    };
    for (const socket of pair) socket.on("error", end).on("close", end);
    // Paused by hand: a piped socket flows on by itself.
    near.on("data", (chunk) => {
      if (mutedFrom !== undefined && chunk.includes(mutedFrom)) far.pause();
      if (endedAfter !== undefined && chunk.includes(endedAfter)) isLast = true;
      far.write(chunk);
    });
    far.on("data", (chunk) => {
      if (!isLast) return void near.write(chunk);
      near.end(Buffer.concat([chunk, ENDED]));
      far.destroy();
    });
    if (mode === "hang") pair.forEach((socket) => socket.pause());
  });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  const proxy: DatabaseProxy = {
    url: url.replace(/@[^/]*\//, `@${host}:${port}/`).replace(/\?.*$/, ""),
    restore() {
      mode = "flow";
      mutedFrom = undefined;
      endedAfter = undefined;
      for (const pair of pairs) pair.forEach((socket) => socket.resume());
    },
    cut() {
      mode = "cut";
      for (const [near] of pairs) near.resetAndDestroy();
    },
    hang() {
      mode = "hang";
      for (const pair of pairs) pair.forEach((socket) => socket.pause());
    },
    muteFrom(text) {
      mutedFrom = text;
    },
    endAfter(text) {
      endedAfter = text;
    },
  };
  t.after(() => {
    proxy.cut();
    server.close();
  });
  return proxy;
}

function targetOf(url: string): { path: string } | { host: string; port: number } {
  const { hostname, port, searchParams } = new URL(url);
  const host = searchParams.get("host") ?? hostname;
  const number = Number(port || searchParams.get("port") || 5432);
  return host.startsWith("/") ? { path: join(host, `.s.PGSQL.${number}`) } : { host, port: number };
}
