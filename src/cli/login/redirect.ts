import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { CliFailure, EXIT } from "../exit-code.ts";

/** Where the browser comes back to. */
export interface Redirect {
  readonly uri: string;
  /** The address it came back with. */
  readonly arrived: Promise<URL>;
  close(): Promise<void>;
}

const PATH = "/callback";
const PAGE =
  '<!doctype html><meta charset="utf-8"><title>Ephor</title><p>You can close this window and go back to the terminal.';

/**
 * Listens on loopback for one redirect (RFC 8252 §7.3).
 *
 * @param port 0 for any free one
 * @param patienceMs how long a human may take
 */
export async function receiveRedirect(port: number, patienceMs: number): Promise<Redirect> {
  let resolve: (url: URL) => void = () => {};
  let reject: (error: Error) => void = () => {};
  const arrived = new Promise<URL>((good, bad) => {
    resolve = good;
    reject = bad;
  });
  // Whoever gives up before it is awaited shall not crash the process.
  arrived.catch(() => {});
  const server = createServer((req, res) => {
    const url = new URL(req.url ?? "/", uri);
    const isIt = req.method === "GET" && url.pathname === PATH && req.headers.host === new URL(uri).host;
    res.writeHead(isIt ? 200 : 404, {
      "Content-Type": "text/html; charset=utf-8",
      "Content-Security-Policy": "default-src 'none'",
      "Cache-Control": "no-store",
      "Referrer-Policy": "no-referrer",
      Connection: "close",
    });
    res.end(isIt ? PAGE : "");
    if (isIt) resolve(url);
  });
  await new Promise<void>((listening, failed) => {
    server.once("error", failed);
    server.listen({ host: "127.0.0.1", port }, listening);
  });
  const uri = `http://127.0.0.1:${(server.address() as AddressInfo).port}${PATH}`;
  const timer = setTimeout(
    () => reject(new CliFailure("nobody signed in in time; ephor login", { exitCode: EXIT.unauthenticated })),
    patienceMs,
  );
  return {
    uri,
    arrived,
    async close() {
      clearTimeout(timer);
      server.closeIdleConnections();
      await new Promise<void>((closed) => server.close(() => closed()));
    },
  };
}
