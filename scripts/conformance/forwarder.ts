/**
 * Stands between the suite, which can send no token, and Ephor. It adds a fresh token and writes Ephor's address where the
 * suite wrote this one's, as in front of any server behind another name; everything else it hands on as it came.
 */
import { once } from "node:events";
import { createServer, request as httpRequest } from "node:http";
import type { AddressInfo } from "node:net";
import type { Cleanup } from "../../test/support/database.ts";

/** @param o.target Ephor's address of the resource; @param o.token a token that lives for some seconds more */
export async function startForwarder(
  t: Cleanup,
  o: { readonly target: string; readonly token: () => Promise<string> },
): Promise<{ readonly url: string }> {
  const target = new URL(o.target);
  const server = createServer((req, res) => {
    const own = `127.0.0.1:${(server.address() as AddressInfo).port}`;
    const readdressed = (value: string | undefined): string | undefined => value?.replaceAll(own, target.host);
    void o.token().then(
      (token) => {
        const onward = httpRequest(target, {
          method: req.method,
          agent: false,
          headers: {
            ...req.headers,
            host: readdressed(req.headers.host),
            ...(req.headers.origin !== undefined && { origin: readdressed(req.headers.origin) }),
            authorization: `Bearer ${token}`,
          },
        });
        onward.on("response", (answer) => {
          res.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
          res.flushHeaders();
          answer.on("error", () => res.destroy());
          answer.pipe(res);
        });
        onward.on("error", () => res.destroy());
        res.on("close", () => onward.destroy());
        req.pipe(onward);
      },
      () => res.writeHead(500).end(),
    );
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp` };
}
