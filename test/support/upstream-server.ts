import { once } from "node:events";
import { createServer, type IncomingHttpHeaders } from "node:http";
import type { AddressInfo } from "node:net";

/** What an upstream was sent. */
export interface SeenRequest {
  readonly method: string;
  /** With its query. */
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** What it answers. Bytes are sent as they are, any other object as JSON. */
export interface UpstreamReply {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | object;
}

/** An upstream on loopback that a test plays: plain HTTP, one function for all requests. */
export interface UpstreamServer {
  readonly url: string;
  /** In order. */
  readonly seen: readonly SeenRequest[];
  forget(): void;
  stop(): void;
}

/** @param answer undefined: the connection is cut without an answer */
export async function startUpstream(
  answer: (request: SeenRequest) => UpstreamReply | undefined | Promise<UpstreamReply | undefined>,
): Promise<UpstreamServer> {
  const seen: SeenRequest[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request.setEncoding("utf8")) body += String(chunk);
    const { method = "", url: path = "", headers } = request;
    const one = { method, path, headers, body };
    seen.push(one);
    const reply = await answer(one);
    if (reply === undefined) {
      request.socket.destroy();
      return;
    }
    const isText = typeof reply.body === "string" || reply.body === undefined || reply.body instanceof Uint8Array;
    response.writeHead(reply.status, {
      ...(isText ? {} : { "content-type": "application/json; charset=utf-8", "cache-control": "no-store" }),
      ...reply.headers,
    });
    response.end(isText ? (reply.body as string | Uint8Array | undefined) : JSON.stringify(reply.body));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    seen,
    forget() {
      seen.length = 0;
    },
    stop() {
      server.closeAllConnections();
      server.close();
    },
  };
}
