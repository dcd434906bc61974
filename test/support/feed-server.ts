import { randomUUID, type KeyObject } from "node:crypto";
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import type { Cleanup } from "./database.ts";

/** A key by which frames are signed. */
export interface FrameKey {
  readonly kid: string;
  readonly privateKey: KeyObject;
  readonly jwk: Record<string, unknown>;
}

/** Makes one. */
export function frameKey(kid: string = randomUUID()): FrameKey {
  const { privateKey, publicKey } = makeKeyPair("P-256");
  return { kid, privateKey, jwk: { ...publicKey.export({ format: "jwk" }), kid, alg: "ES256", use: "sig" } };
}

/** A frame as the server signs it. */
export function signFrame(
  key: FrameKey,
  claims: Record<string, unknown>,
  header: Record<string, unknown> = {},
): string {
  const text = JSON.stringify({ typ: "ephor-feed+jwt", alg: "ES256", kid: key.kid, ...header });
  return signJws("ES256", key.privateKey, { encodedHeader: Buffer.from(text).toString("base64url"), claims });
}

/**
 * A feed in front of a real server: it answers `/v1/revocations` and the record keys itself and hands everything else on, so
 * that tokens, kills and introspection are real while every frame is the test's.
 */
export interface FeedServer {
  readonly url: string;
  readonly key: FrameKey;
  /** Requests for the feed: what they carried. */
  readonly asked: { authorization: string | undefined; lastEventId: string | undefined; accept: string | undefined }[];
  /** Where everything else goes. */
  behind(url: string): void;
  /** Sends a line of data to whoever listens. */
  send(frame: string): void;
  /** What whoever connects is sent first. */
  greet(frames: () => readonly string[]): void;
  /** How many listen. */
  readonly listeners: number;
  /** Ends all streams; `isRefusing` answers 503 to whoever comes. */
  cut(isRefusing?: boolean): void;
  /** Resolves when somebody has connected so many times in all. */
  connected(times: number): Promise<void>;
}

/** Starts one. */
export async function startFeedServer(t: Cleanup): Promise<FeedServer> {
  const key = frameKey("record-1");
  const open = new Set<ServerResponse>();
  const asked: FeedServer["asked"] = [];
  let target = "";
  let greeting: () => readonly string[] = () => [];
  let isRefusing = false;
  let waiting: { times: number; go: () => void }[] = [];
  const stream = (request: IncomingMessage, response: ServerResponse): void => {
    const { authorization, accept } = request.headers;
    asked.push({ authorization, accept, lastEventId: request.headers["last-event-id"] as string | undefined });
    for (const one of waiting) if (one.times <= asked.length) one.go();
    waiting = waiting.filter(({ times }) => times > asked.length);
    if (isRefusing) return void response.writeHead(503, { "retry-after": "1" }).end();
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write(": hello\n\n");
    for (const frame of greeting()) response.write(eventOf(frame));
    open.add(response);
    response.on("close", () => open.delete(response));
  };
  const server = createServer((request, response) => {
    if (request.url?.startsWith("/v1/revocations") === true) return stream(request, response);
    if (request.url === "/.well-known/ephor-record-keys") {
      return void response
        .writeHead(200, { "content-type": "application/json" })
        .end(JSON.stringify({ keys: [key.jwk] }));
    }
    forward(target, request, response).catch(() => response.writeHead(502).end());
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    key,
    asked,
    behind: (url) => void (target = url),
    send: (frame) => open.forEach((response) => response.write(eventOf(frame))),
    greet: (frames) => void (greeting = frames),
    get listeners() {
      return open.size;
    },
    cut(refusing = false) {
      isRefusing = refusing;
      for (const response of open) response.destroy();
    },
    connected: (times) => new Promise((go) => (asked.length >= times ? go() : void waiting.push({ times, go }))),
  };
}

function eventOf(frame: string): string {
  return `event: frame\ndata: ${frame}\n\n`;
}

async function forward(target: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers))
    if (typeof value === "string" && !["host", "connection", "content-length", "transfer-encoding"].includes(name))
      headers.set(name, value);
  const answer = await fetch(target + (request.url ?? "/"), {
    method: request.method ?? "GET",
    headers,
    redirect: "manual",
    ...(chunks.length > 0 && { body: Buffer.concat(chunks) }),
  });
  const body = Buffer.from(await answer.arrayBuffer());
  const own = [...answer.headers].filter(([name]) => !["content-encoding", "transfer-encoding"].includes(name));
  response.writeHead(answer.status, Object.fromEntries(own)).end(body);
}
