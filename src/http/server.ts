import { readFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import type { IncomingMessage, RequestListener, Server, ServerOptions, ServerResponse } from "node:http";
import { createServer as createHttpsServer } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import type { Duplex } from "node:stream";
import { LIMITS } from "./limits.ts";
import { whenOver } from "./reader.ts";

/** A listening socket. It listens before it serves, so that the port is known, and refused, before anything is built on it. */
export interface Listener {
  readonly host: string;
  /** The port that was asked for, or the one the system chose. */
  readonly port: number;
  /** Begins to serve; until then every request is answered 503. */
  serve(handler: RequestListener): void;
  /** Stops accepting. Connections without a request end now, the others after their answer. */
  stopAccepting(): void;
  /**
   * Waits for the answers to what was accepted.
   *
   * @param graceMs milliseconds until what is still open is cut
   */
  finish(graceMs: number): Promise<void>;
}

/** Where to listen, and with which certificate. */
export interface ListenOptions {
  readonly host: string;
  readonly port: number;
  /** PEM files. */
  readonly tls?: { readonly certFile: string; readonly keyFile: string } | null;
}

/** The address cannot be listened on, or the certificate cannot be read; the message says which and what to do. */
export class ListenError extends Error {
  override readonly name = "ListenError";
}

/**
 * Listens.
 *
 * @throws {ListenError}
 */
export async function listen(options: ListenOptions): Promise<Listener> {
  const open = new Set<ServerResponse>();
  let handler: RequestListener = unready;
  let isStopping = false;
  const server = makeServer(options, (req, res) => {
    open.add(res);
    whenOver(req, res, () => open.delete(res));
    if (isStopping) res.shouldKeepAlive = false;
    handler(req, res);
  });
  harden(server);
  // Node counts a connection as idle only after its first request; one that never sent a byte would hold up the end.
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  const { port } = await bound(server, options);
  let closed: Promise<void> | undefined;
  const stopAccepting = (): void => {
    if (closed !== undefined) return;
    isStopping = true;
    closed = new Promise((resolve) => server.close(() => resolve()));
    server.closeIdleConnections();
    for (const socket of sockets) if (socket.bytesRead === 0) socket.destroy();
    for (const res of open) if (!res.headersSent) res.shouldKeepAlive = false;
  };
  return {
    host: options.host,
    port,
    serve(next) {
      handler = next;
    },
    stopAccepting,
    async finish(graceMs) {
      stopAccepting();
      const cut = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(cut);
    },
  };
}

const SETTINGS: ServerOptions = {
  maxHeaderSize: LIMITS.headerBytes,
  headersTimeout: LIMITS.headersTimeoutMs,
  requestTimeout: LIMITS.requestTimeoutMs,
  keepAliveTimeout: LIMITS.keepAliveTimeoutMs,
  connectionsCheckingInterval: LIMITS.timeoutCheckMs,
  insecureHTTPParser: false,
  requireHostHeader: true,
  // Repeated headers stay repeated in rawHeaders, where we look for them.
  joinDuplicateHeaders: false,
  noDelay: true,
};

function makeServer({ tls }: ListenOptions, listener: RequestListener): Server {
  if (tls === undefined || tls === null) return createHttpServer(SETTINGS, listener);
  return createHttpsServer(
    {
      ...SETTINGS,
      minVersion: "TLSv1.2",
      cert: readPem(tls.certFile, "tls.cert"),
      key: readPem(tls.keyFile, "tls.key"),
    },
    listener,
  );
}

function readPem(path: string, key: string): Buffer {
  try {
    return readFileSync(path);
  } catch (cause) {
    throw new ListenError(`${key}: ${path} cannot be read. Name a PEM file that this user may read.`, { cause });
  }
}

function harden(server: Server): void {
  server.maxHeadersCount = LIMITS.headerCount;
  server.maxConnections = LIMITS.connections;
  server.on("clientError", refuseBytes);
  // Nobody upgrades here: without a listener Node would serve such a request as a plain one (A-PRX-19).
  server.on("upgrade", (_req: IncomingMessage, socket: Duplex) => {
    // Node takes its own listener off such a socket: a client that is gone before the answer would end the process.
    socket.on("error", () => socket.destroy());
    socket.end("HTTP/1.1 501 Not Implemented\r\nConnection: close\r\n\r\n");
  });
}

/** Bytes that are no request, are too many or come too slowly. */
function refuseBytes(error: NodeJS.ErrnoException, socket: Duplex): void {
  if (!socket.writable) return void socket.destroy();
  const status =
    error.code === "HPE_HEADER_OVERFLOW"
      ? "431 Request Header Fields Too Large"
      : error.code === "ERR_HTTP_REQUEST_TIMEOUT"
        ? "408 Request Timeout"
        : "400 Bad Request";
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
}

function bound(server: Server, { host, port }: ListenOptions): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const why =
        cause.code === "EADDRINUSE"
          ? "is taken; stop what uses it, or set EPHOR_LISTEN"
          : cause.code === "EACCES"
            ? "may not be used by this user; choose a port above 1023"
            : `cannot be listened on (${cause.code ?? "unknown"})`;
      reject(new ListenError(`listen: ${host}:${port} ${why}.`, { cause }));
    });
    server.listen({ host, port }, () => {
      server.removeAllListeners("error");
      resolve(server.address() as AddressInfo);
    });
  });
}

function unready(_req: IncomingMessage, res: ServerResponse): void {
  res.writeHead(503, { "Retry-After": String(LIMITS.retryAfterSeconds), "Content-Length": "0", Connection: "close" });
  res.end();
}
