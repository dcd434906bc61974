import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server, type ServerResponse } from "node:http";
import { after, beforeEach, test } from "node:test";
import { ephor } from "../cli/command-line.ts";
import { freePort } from "../support/world.ts";
import { eventsOf, stage, until, type Raw } from "./stage.ts";

const { w, token, send } = await stage(
  { after },
  // `ephor doctor` asks for what was refused lately by this machine's clock.
  { start: Math.floor(Date.now() / 1_000) },
);
const routes = `actions: { read: ["GET /**"] }`;

let port = 0;
let server: Server | undefined;

const dead = (at: number): string => `
resources: { frail: { http: "http://127.0.0.1:${at}", ${routes} }, tools: { mcp: "http://127.0.0.1:${at}/mcp" } }
grants:
  - { agent: release-bot, resource: frail, actions: [read] }
  - { agent: lonely-bot, resource: frail, actions: [read] }
  - { agent: release-bot, resource: tools, actions: [look] }`;

/** Each test has an upstream at an address of its own, where nobody is yet. */
beforeEach(async () => {
  server?.closeAllConnections();
  server?.close();
  server = undefined;
  port = await freePort();
  await w.apply(dead(port), "frail.yaml");
  w.clock.advance(1);
});
after(() => {
  server?.closeAllConnections();
  server?.close();
});

async function begin(answer: (res: ServerResponse, url: string) => void): Promise<void> {
  server = createServer((req, res) => answer(res, req.url ?? ""));
  server.listen(port, "127.0.0.1");
  await once(server, "listening");
}

const tokenFor = (agent = "release-bot"): Promise<string> => token("frail:read", { agent, resource: "http/frail" });

const call = (access: string, path = "x", method = "GET"): Promise<Raw> =>
  send(method, `/http/frail/${path}`, { token: access });

async function fails(access: string, times: number): Promise<void> {
  for (let i = 0; i < times; i++) assert.equal((await call(access)).status, 502);
}

async function assertOpen(answer: Raw, retryAfter: number): Promise<void> {
  assert.equal(answer.status, 503, answer.text);
  assert.equal(answer.headers["retry-after"], String(retryAfter));
  const { code, decision } = JSON.parse(answer.text) as { code: string; decision: string };
  assert.equal(code, "upstream_unavailable");
  const event = (await eventsOf(w, "call.forward")).find(({ id }) => id === decision);
  assert.deepEqual([event?.["decision"], event?.["reason"]], ["refused", "upstream_unavailable"]);
}

async function gauge(resource = "frail"): Promise<string | undefined> {
  const { text } = await w.request("GET", "/metrics");
  return new RegExp(`^ephor_upstream_open\\{resource="${resource}"\\} (\\d)$`, "m").exec(text)?.[1];
}

test("five connections in a row that fail open the breaker, four do not; other resources are not concerned", async () => {
  const access = await tokenFor();
  await fails(access, 4);
  await begin((res) => res.end("here"));
  assert.equal((await call(access)).status, 200);
  server?.closeAllConnections();
  server?.close();
  // The kept connection is gone, too; what it says is no failure to connect.
  await until(async () => (await call(access)).status === 502, "away");
  await until(async () => (await call(access)).status === 503, "open");
  await assertOpen(await call(access), 1);
  await assertOpen(await call(await tokenFor("lonely-bot")), 1);
  assert.equal(await gauge(), "1");
  assert.equal(await gauge("crm"), undefined);
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 200);
  const { code, out } = await ephor(["doctor"], { EPHOR_URL: w.url, EPHOR_OPERATOR_KEY: w.operatorKey });
  assert.equal(code, 1, out);
  assert.match(
    out,
    /FAIL {2}upstreams +calls to frail are refused because nobody answers there, last at \S+Z\n +mend: /,
  );
  assert.ok(!out.includes("calls to crm"), out);
  // What would be refused anyway is told so.
  assert.equal((await call(access, "x", "POST")).status, 403);
});

test("it stays open for a second, two, and so on to half a minute; one call tries, and an answer closes it", async () => {
  await fails(await tokenFor(), 5);
  for (const seconds of [1, 2, 4, 8, 16, 30, 30]) {
    const access = await tokenFor();
    await assertOpen(await call(access), seconds);
    w.clock.advance(seconds - 0.01);
    await assertOpen(await call(await tokenFor()), 1);
    w.clock.advance(0.01);
    assert.equal((await call(await tokenFor())).status, 502);
  }
  w.clock.advance(30);
  await begin((res) => res.writeHead(500).end("alive"));
  const access = await tokenFor();
  // A living upstream's 500 is an answer.
  for (let i = 0; i < 8; i++) assert.equal((await call(access)).status, 500);
  assert.equal(await gauge(), "0");
});

test("while one call tries, the others are refused; when it takes too long, another may", async () => {
  await fails(await tokenFor(), 5);
  w.clock.advance(1);
  const held: ServerResponse[] = [];
  await begin((res, url) => (url === "/slow" ? held.push(res) : res.end("here")));
  const access = await tokenFor();
  const slow = call(access, "slow");
  await until(() => held.length === 1, "upstream asked");
  await assertOpen(await call(access), 6);
  held[0]?.end("late");
  assert.equal((await slow).status, 200);
  assert.equal((await call(access)).status, 200);

  server?.closeAllConnections();
  server?.close();
  await until(async () => (await call(access)).status === 503, "open");
  w.clock.advance(1);
  await begin((res, url) => (url === "/slow" ? held.push(res) : res.end("here")));
  const slower = call(access, "slow");
  await until(() => held.length === 2, "upstream asked");
  w.clock.advance(5.99);
  await assertOpen(await call(access), 1);
  w.clock.advance(0.01);
  assert.equal((await call(access)).status, 200);
  held[1]?.end("later still");
  assert.equal((await slower).status, 200);
});

test("a try that is refused leaves its place to the next", async () => {
  await fails(await tokenFor(), 5);
  w.clock.advance(1);
  const access = await tokenFor();
  assert.equal((await call(access, "x", "POST")).status, 403);
  assert.equal((await call(access)).status, 502);
  await assertOpen(await call(access), 2);
});

test("answers that break off do not open it: an agent might have caused them", async () => {
  await begin((res) => res.destroy());
  const access = await tokenFor();
  await fails(access, 12);
  assert.notEqual(await gauge(), "1");
});

test("a resource that gets another address begins anew", async () => {
  await fails(await tokenFor(), 5);
  const access = await tokenFor();
  await assertOpen(await call(access), 1);
  port = await freePort();
  await w.apply(dead(port), "frail.yaml");
  await begin((res) => res.end("here"));
  assert.equal((await call(await tokenFor())).status, 200);
});

test("MCP: an open breaker is 503 with a JSON-RPC error that names decision and time", async () => {
  const access = await token("tools", { resource: "mcp/tools" });
  const headers = { "content-type": "application/json", accept: "application/json, text/event-stream" };
  const ping = (): Promise<Raw> =>
    send("POST", "/mcp/tools", { token: access, headers, body: '{"jsonrpc":"2.0","id":7,"method":"ping"}' });
  for (let i = 0; i < 5; i++) assert.equal((await ping()).status, 502);
  const answer = await ping();
  assert.equal(answer.status, 503, answer.text);
  assert.equal(answer.headers["retry-after"], "1");
  const { id, error } = JSON.parse(answer.text) as {
    id: number;
    error: { code: number; data: Record<string, unknown> };
  };
  assert.deepEqual([id, error.code, error.data["retry_after"]], [7, -32003, 1]);
  const [event] = await eventsOf(w, "call.forward");
  assert.deepEqual([event?.["id"], event?.["reason"]], [error.data["decision"], "upstream_unavailable"]);
});
