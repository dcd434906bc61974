/** Callers who are gone before their call is looked at: what they held is free again. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { InvalidTokenError } from "../../src/core/oauth/errors.ts";
import type { Rooms } from "../../src/http/rooms.ts";
import type { ProxiedAnswer, ProxiedRequest } from "../../src/proxy/exchange.ts";
import { startEdge, type EdgeServer } from "../http/edge-server.ts";
import type { Cleanup } from "../support/database.ts";
import { soon, until } from "./stage.ts";

const DONE: ProxiedAnswer = { status: 200, headers: [], body: Buffer.from("done") };
const GET = "GET /http/crm/x HTTP/1.1\r\nHost: a\r\n\r\n";
const HALF = "POST /http/crm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{";

const proxy = (answer: (request: ProxiedRequest) => Promise<ProxiedAnswer>): Partial<Rooms> => ({
  proxy: { http: answer, mcp: answer },
});

async function inFlight(edge: EdgeServer, count: number): Promise<void> {
  await until(async () => {
    const { text } = await edge.send("GET", "/metrics");
    return text.includes(`ephor_http_requests_in_flight ${count}\n`);
  }, `${count} in flight`);
}

/** Sends, and is gone when so many calls are in progress. */
async function leaves(t: Cleanup, edge: EdgeServer, { text, calls }: { text: string; calls: number }): Promise<void> {
  const socket: Socket = connect({ host: "127.0.0.1", port: edge.listener.port });
  t.after(() => socket.destroy());
  socket.on("error", () => {}).write(text);
  await inFlight(edge, calls);
  const closed = once(socket, "close");
  socket.destroy();
  await closed;
  // The server heard of it, too, before it answers somebody else.
  await edge.send("GET", "/livez");
  await edge.send("GET", "/livez");
}

for (const [what, text, calls, answer] of [
  ["before his body is read", HALF, 1, (request: ProxiedRequest) => request.read(100).then(() => DONE)],
  [
    "before his body flows",
    HALF,
    1,
    async (request: ProxiedRequest) => {
      for await (const _ of request.flow(100) ?? []);
      return DONE;
    },
  ],
  ["before he is answered, with half a body behind another call", GET + HALF, 2, () => Promise.resolve(DONE)],
  [
    "before he is refused, with half a body behind another call",
    GET + HALF,
    2,
    () => Promise.reject(new InvalidTokenError({ reason: "token_unknown" })),
  ],
] as const)
  test(`INV-27 a caller who is gone ${what} holds no place`, async (t) => {
    let look = (): void => {};
    const isLooked = new Promise<void>((resolve) => (look = resolve));
    const edge = await startEdge(t, {
      rooms: () =>
        proxy((request) => isLooked.then(() => (answer as (r: ProxiedRequest) => Promise<ProxiedAnswer>)(request))),
    });
    await leaves(t, edge, { text, calls });
    look();
    await inFlight(edge, 0);
  });

test("A-PRX-17 a caller who waits behind another of his connection and is gone is known to be gone", async (t) => {
  const edge = await startEdge(t, {
    rooms: () => proxy(({ whenGone }) => new Promise((resolve) => whenGone(() => resolve(DONE)))),
  });
  await leaves(t, edge, { text: GET.repeat(3), calls: 3 });
  await inFlight(edge, 0);
});

test("A-PRX-17 of a body that flows nothing more is read for a caller who waited behind another and is gone", async (t) => {
  let end = (_pieces: number): void => {};
  const hasRead = new Promise<number>((resolve) => (end = resolve));
  async function* endless(): AsyncGenerator<Uint8Array> {
    let pieces = 0;
    try {
      // Far beyond what fits in between.
      while (++pieces < 2_000) yield Buffer.alloc(64 * 1024);
    } finally {
      end(pieces);
    }
  }
  let calls = 0;
  const flowing: ProxiedAnswer = {
    status: 200,
    headers: [],
    body: { chunks: endless(), mayFlow: () => true, whenCut: () => {}, ended: () => {} },
  };
  const edge = await startEdge(t, {
    rooms: () => proxy(() => (++calls === 1 ? new Promise(() => {}) : Promise.resolve(flowing))),
  });
  await leaves(t, edge, { text: GET.repeat(2), calls: 2 });
  const pieces = await soon(hasRead, "it is read no more");
  assert.ok(pieces < 10, `${pieces} pieces`);
  await inFlight(edge, 1);
});
