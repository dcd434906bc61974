import assert from "node:assert/strict";
import { connect, type Socket } from "node:net";
import { test } from "node:test";
import { InvalidTokenError } from "../../src/core/oauth/errors.ts";
import { LIMITS } from "../../src/http/limits.ts";
import type { Rooms } from "../../src/http/rooms.ts";
import type { ProxiedAnswer } from "../../src/proxy/exchange.ts";
import { startEdge, type EdgeServer } from "../http/edge-server.ts";
import type { Cleanup } from "../support/database.ts";

const DONE: ProxiedAnswer = { status: 200, headers: [], body: Buffer.from("done") };

const proxy = (answer: () => Promise<ProxiedAnswer>): Partial<Rooms> => ({ proxy: { http: answer, mcp: answer } });

/** As many requests at once as may be in progress. */
function crowd(t: Cleanup, { listener }: EdgeServer, request: string): void {
  const sockets = Array.from({ length: 40 }, (): Socket => connect({ host: "127.0.0.1", port: listener.port }));
  t.after(() => sockets.forEach((socket) => void socket.destroy()));
  for (const socket of sockets) socket.write(request.repeat(LIMITS.proxiedInFlight / sockets.length));
}

async function inFlight(edge: EdgeServer, count: number): Promise<void> {
  let text: string;
  do ({ text } = await edge.send("GET", "/metrics"));
  while (!text.includes(`ephor_http_requests_in_flight ${count}\n`));
}

test("INV-27 whoever calls while too many calls are in progress is told to come back; the rest of the API is served", async (t) => {
  let free = (): void => {};
  const blocked = new Promise<void>((resolve) => (free = resolve));
  const edge = await startEdge(t, { rooms: () => proxy(() => blocked.then(() => DONE)) });
  crowd(t, edge, "GET /http/crm/x HTTP/1.1\r\nHost: a\r\n\r\n");
  await inFlight(edge, LIMITS.proxiedInFlight);
  for (const path of ["/http/crm/x", "/mcp/tickets"]) {
    const late = await edge.send("GET", path);
    assert.equal(late.status, 503);
    assert.equal(late.headers["retry-after"], "1");
    assert.equal(late.json()["code"], "temporarily_unavailable");
  }
  assert.equal((await edge.send("GET", "/livez")).status, 200);
  free();
  await inFlight(edge, 0);
  assert.equal((await edge.send("GET", "/http/crm/x")).status, 200);
});

test("a stranger who sends his body slowly holds no place", async (t) => {
  let isStranger = true;
  const answer = (): Promise<ProxiedAnswer> =>
    isStranger ? Promise.reject(new InvalidTokenError({ reason: "token_unknown" })) : Promise.resolve(DONE);
  const edge = await startEdge(t, { rooms: () => proxy(answer) });
  const { port } = edge.listener;
  const head = "POST /http/crm/x HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n";
  const sockets = Array.from({ length: LIMITS.proxiedInFlight }, (): Socket => connect({ host: "127.0.0.1", port }));
  t.after(() => sockets.forEach((socket) => void socket.destroy()));
  for (const socket of sockets) socket.on("error", () => {}).write(head);
  await inFlight(edge, LIMITS.proxiedInFlight);
  isStranger = false;
  assert.equal((await edge.send("GET", "/http/crm/x")).status, 200);
});
