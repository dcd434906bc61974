import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, beforeEach, test } from "node:test";
import { CRM_KEY, eventsOf, plain, stage, until, type Raw } from "./stage.ts";

const { w, crm, token, send } = await stage({ after });
const second = await w.replica();

const routes = `actions: { read: ["GET /**"], write: ["POST /**"] }`;
const granted = (resource: string, agents = ["release-bot", "lonely-bot"]): string =>
  agents.map((agent) => `  - { agent: ${agent}, resource: ${resource}, actions: [read, write] }\n`).join("");

await w.apply(
  `
resources:
  paced: { http: "${crm.url}", ${routes}, limits: { calls_per_minute: 4 } }
  narrow: { http: "${crm.url}", ${routes}, limits: { concurrent: 2 } }
  short: { http: "${crm.url}", ${routes}, limits: { body: 1KiB } }
  seen:
    http: ${crm.url}
    actions: { read: ["GET /**"], write: ["POST /**"] }
    limits: { calls_per_minute: 1, concurrent: 1, body: 1KiB }
    mode: { observe: true, until: 2026-12-01 }
  slim: { mcp: "${crm.url}/mcp", limits: { concurrent: 1 } }
  tickets: { mcp: "${crm.url}/mcp", limits: { calls_per_minute: 1, body: 1KiB } }
grants:
${granted("paced")}${granted("narrow")}${granted("short")}${granted("seen")}  - { agent: release-bot, resource: tickets, actions: [get_ticket] }
  - { agent: release-bot, resource: slim, actions: [get_ticket] }
`,
  "limits.yaml",
);

beforeEach(() => {
  crm.seen.length = 0;
  crm.gone.length = 0;
  crm.answer = (req, res, body) => {
    if (!req.url?.endsWith("/held")) return plain(req, res, body);
    res.writeHead(200);
    res.write("begun");
  };
  // Each test has a minute of its own.
  w.clock.advance(60 - (w.now() % 60));
});

const tokenFor = (name: string, agent = "release-bot"): Promise<string> =>
  token(`${name}:read ${name}:write`, { agent, resource: `http/${name}` });

const json = { "content-type": "application/json" };

interface Refusal {
  readonly code: string;
  readonly decision: string;
  readonly status: number;
}

/** Whether an answer says: not now; with its decision in the ledger. */
async function assertNotNow(answer: Raw, reason: string, retryAfter: number): Promise<void> {
  assert.equal(answer.status, 429, answer.text);
  assert.equal(answer.headers["retry-after"], String(retryAfter));
  assert.match(String(answer.headers["content-type"]), /^application\/problem\+json/);
  const { code, decision, status } = JSON.parse(answer.text) as Refusal;
  assert.deepEqual({ code, status }, { code: reason, status: 429 });
  const event = (await eventsOf(w, "call.forward")).find(({ id }) => id === decision);
  assert.deepEqual([event?.["decision"], event?.["reason"]], ["refused", reason]);
}

test("calls_per_minute holds over two replicas, for one agent at one resource, until the minute is over", async () => {
  w.clock.advance(13);
  const access = await tokenFor("paced");
  const call = (url: string, as = access): Promise<Raw> => send("GET", "/http/paced/x", { token: as, url });
  for (const url of [w.url, second.url, w.url, second.url]) assert.equal((await call(url)).status, 200);
  const over = await call(w.url);
  await assertNotNow(over, "rate_limited", 47);
  const { decision } = JSON.parse(over.text) as Refusal;
  const explained = await w.operator("GET", `/v1/explain/${decision}`);
  assert.match(String(explained.body["difference"]), /as many calls at the resource as it may in a minute/);
  assert.deepEqual(explained.body["smallest"], []);
  await assertNotNow(await call(second.url), "rate_limited", 47);
  await assertNotNow(await call(w.url), "rate_limited", 47);
  assert.equal(crm.seen.length, 4);
  // What would be refused anyway is told so.
  assert.equal((await send("PUT", "/http/paced/x", { token: access })).status, 403);
  // Neither another agent nor another resource is concerned.
  assert.equal((await call(w.url, await tokenFor("paced", "lonely-bot"))).status, 200);
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 200);
  w.clock.advance(47);
  const fresh = await tokenFor("paced");
  assert.equal((await call(second.url, fresh)).status, 200);
  assert.equal((await call(w.url, fresh)).status, 200);
});

test("of calls that come at once on two replicas, as many pass as the minute allows", async () => {
  const access = await tokenFor("paced");
  const calls = Array.from({ length: 12 }, (_one, index) =>
    send("GET", "/http/paced/x", { token: access, url: index % 2 === 0 ? w.url : second.url }),
  );
  const statuses = (await Promise.all(calls)).map(({ status }) => status);
  assert.deepEqual(statuses.toSorted(), [200, 200, 200, 200, ...Array.from({ length: 8 }, () => 429)]);
  assert.equal(crm.seen.length, 4);
});

test("what grants refuse spends no call of the minute", async () => {
  const access = await tokenFor("paced");
  for (let i = 0; i < 8; i++) assert.equal((await send("PUT", "/http/paced/x", { token: access })).status, 403);
  assert.equal((await send("GET", "/http/paced/x", { token: access })).status, 200);
});

test("where calls cannot be counted, none passes that would have to be", async () => {
  const access = await tokenFor("paced");
  await w.admin("alter table ephor.call_counts rename to call_counts_away");
  try {
    assert.ok((await send("GET", "/http/paced/x", { token: access })).status >= 500);
    assert.equal(crm.seen.length, 0);
    assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 200);
  } finally {
    await w.admin("alter table ephor.call_counts_away rename to call_counts");
  }
  assert.equal((await send("GET", "/http/paced/x", { token: access })).status, 200);
});

interface Held {
  leave(): void;
  readonly ended: Promise<unknown>;
}

/** A call whose answer has begun and does not end. */
async function held(access: string, resource = "narrow"): Promise<Held> {
  const leaving = new AbortController();
  const response = await fetch(`${w.url}/http/${resource}/held`, {
    headers: { authorization: `Bearer ${access}` },
    signal: leaving.signal,
  });
  assert.equal(response.status, 200);
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  await reader.read();
  return { leave: () => leaving.abort(), ended: reader.read().catch(() => {}) };
}

test("concurrent: one more call than that is refused, the calls of another agent are not, and calls one after the other never", async () => {
  const access = await tokenFor("narrow");
  const call = (as = access): Promise<Raw> => send("GET", "/http/narrow/x", { token: as });
  for (let i = 0; i < 10; i++) assert.equal((await call()).status, 200);
  const first = await held(access);
  assert.equal((await call()).status, 200);
  const other = await held(access);
  await assertNotNow(await call(), "too_many_streams", 1);
  assert.equal((await call(await tokenFor("narrow", "lonely-bot"))).status, 200);
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 200);
  first.leave();
  other.leave();
  await until(async () => (await call()).status === 200, "place given back");
});

for (const [how, end] of [
  ["its caller's leaving", (all: Held[]) => all.forEach((one) => one.leave())],
  ["the end of its token", () => w.clock.advance(61)],
  ["a kill", () => w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" })],
] as const)
  test(`a place is given back by ${how}`, async () => {
    for (let round = 0; round < 2; round++) {
      const access = await tokenFor("narrow");
      const all = [await held(access), await held(access)];
      await assertNotNow(await send("GET", "/http/narrow/x", { token: access }), "too_many_streams", 1);
      await end(all);
      await Promise.all(all.map(({ ended }) => ended));
      if (how === "a kill") await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
      const fresh = await tokenFor("narrow");
      const call = (): Promise<Raw> => send("GET", "/http/narrow/x", { token: fresh });
      await until(async () => (await call()).status === 200, "place given back");
    }
  });

test("an upstream that answers nothing or nonsense, and a refusal, keep no place", async () => {
  const access = await tokenFor("narrow");
  crm.answer = (_req, res) => void res.destroy();
  for (let i = 0; i < 5; i++) assert.equal((await send("GET", "/http/narrow/x", { token: access })).status, 502);
  crm.answer = plain;
  for (let i = 0; i < 5; i++) {
    assert.equal((await send("PUT", "/http/narrow/x", { token: access })).status, 403);
    assert.equal((await send("GET", "/http/narrow/x%2fy", { token: access })).status, 400);
  }
  assert.equal((await send("GET", "/http/narrow/x", { token: access })).status, 200);
});

test("body: what is longer is 413, read whole, announced or flowing; what fits passes", async () => {
  const access = await tokenFor("short");
  const post = (type: string, body: string, headers: Record<string, string> = {}): Promise<Raw> =>
    send("POST", "/http/short/x", { token: access, headers: { "content-type": type, ...headers }, body });
  const text = (bytes: number): string => JSON.stringify("x".repeat(bytes - 2));
  assert.equal((await post("application/json", text(1024))).status, 200);
  assert.equal((await post("application/json", text(1025))).status, 413);
  assert.equal((await post("text/plain", text(1024))).status, 200);
  assert.equal((await post("text/plain", text(1025))).status, 413);
  assert.equal(crm.seen.length, 2);
  const [event] = await eventsOf(w, "call.forward");
  assert.equal(event?.["reason"], "body_too_large");

  async function* chunks(count: number): AsyncGenerator<Uint8Array> {
    for (let i = 0; i < count; i++) yield Buffer.alloc(512, "x");
  }
  const flow = async (count: number): Promise<number> => {
    const init = { method: "POST", body: chunks(count), duplex: "half" };
    const headers = { authorization: `Bearer ${access}`, "content-type": "text/plain" };
    return (await fetch(`${w.url}/http/short/x`, { ...init, headers } as RequestInit)).status;
  };
  assert.equal(await flow(2), 200);
  assert.equal(await flow(3), 413);
  assert.equal(crm.seen.length, 3);
});

test("a resource that observes suspends its limits, and the record says what they would have refused", async () => {
  const access = await tokenFor("seen");
  const told = async (): Promise<unknown> => {
    const [event] = await eventsOf(w, "call.forward");
    assert.equal(event?.["decision"], "granted");
    return (event["body"] as Record<string, unknown>)["would_refuse"];
  };
  assert.equal((await send("GET", "/http/seen/x", { token: access })).status, 200);
  assert.equal(await told(), undefined);
  assert.equal((await send("GET", "/http/seen/x", { token: access })).status, 200);
  assert.equal(await told(), "rate_limited");
  w.clock.advance(60 - (w.now() % 60));
  const fresh = await tokenFor("seen");
  const body = JSON.stringify("x".repeat(2000));
  assert.equal((await send("POST", "/http/seen/x", { token: fresh, headers: json, body })).status, 200);
  assert.equal(await told(), "body_too_large");
  const one = await held(fresh, "seen");
  assert.equal((await send("GET", "/http/seen/x", { token: fresh })).status, 200);
  assert.equal(await told(), "too_many_streams");
  one.leave();
});

test("MCP: over the limit is 429 with a JSON-RPC error that names decision and time, and a long message is 413", async () => {
  crm.answer = (_req, res, body) => {
    const { id } = JSON.parse(body) as { id: unknown };
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ jsonrpc: "2.0", id, result: {} }));
  };
  const access = await token("tickets", { resource: "mcp/tickets" });
  const headers = { ...json, accept: "application/json, text/event-stream" };
  const ping = (id: string): Promise<Raw> =>
    send("POST", "/mcp/tickets", {
      token: access,
      headers,
      body: JSON.stringify({ jsonrpc: "2.0", id, method: "ping" }),
    });
  const long = await send("POST", "/mcp/tickets", { token: access, headers, body: `{"x":"${"x".repeat(1024)}"}` });
  assert.equal(long.status, 413);
  const first = await ping("a");
  assert.equal(first.status, 200, first.text);
  const answer = await ping("b");
  assert.equal(answer.status, 429, answer.text);
  assert.equal(answer.headers["retry-after"], "60");
  const { id, error } = JSON.parse(answer.text) as {
    id: string;
    error: { code: number; data: { decision: string; retry_after: number } };
  };
  assert.deepEqual([id, error.code, error.data.retry_after], ["b", -32003, 60]);
  const [event] = await eventsOf(w, "call.forward");
  assert.deepEqual([event?.["id"], event?.["reason"]], [error.data.decision, "rate_limited"]);
  assert.equal(crm.seen.length, 1);
});

test("MCP: who has no place left can still notify, which has places of its own", async () => {
  const waiting: ServerResponse[] = [];
  crm.answer = (_req, res) => void waiting.push(res);
  const access = await token("slim", { resource: "mcp/slim" });
  const headers = { ...json, accept: "application/json, text/event-stream" };
  const say = (message: object): Promise<Raw> =>
    send("POST", "/mcp/slim", { token: access, headers, body: JSON.stringify({ jsonrpc: "2.0", ...message }) });
  const first = say({ id: 1, method: "ping" });
  await until(() => waiting.length === 1, "upstream asked");
  assert.equal((await say({ id: 2, method: "ping" })).status, 429);
  const cancel = { method: "notifications/cancelled", params: { requestId: 9 } };
  const cancelled = say(cancel);
  await until(() => waiting.length === 2, "upstream told");
  assert.equal((await say(cancel)).status, 429);
  for (const res of waiting) res.writeHead(202).end();
  assert.equal((await cancelled).status, 202);
  assert.equal((await first).status, 502);
});

test("limits that cannot be meant are refused with place and mend, their neighbours are taken", async () => {
  const apply = async (resource: string): Promise<string[]> => {
    const answer = await w.operator("POST", "/v1/apply", {
      source: "odd.yaml",
      file: `resources: { odd: ${resource} }`,
    });
    if (answer.status === 200) return [];
    assert.equal(answer.status, 422, answer.text);
    return (answer.body["errors"] as { path: string; mend: string }[]).map(({ path, mend }) => {
      assert.ok(mend.length > 0);
      return path;
    });
  };
  const http = (limits: string): Promise<string[]> =>
    apply(`{ http: "https://odd.acme.example", ${routes}, limits: ${limits} }`);
  const mcp = (limits: string): Promise<string[]> => apply(`{ mcp: "https://odd.acme.example", limits: ${limits} }`);
  for (const good of [
    "{}",
    "{ calls_per_minute: 1, concurrent: 1, body: 1KiB }",
    "{ calls_per_minute: 100000, concurrent: 1000, body: 100MiB }",
  ])
    assert.deepEqual(await http(good), [], good);
  assert.deepEqual(await mcp("{ body: 1MiB }"), []);
  for (const bad of [
    "calls_per_minute: 0",
    "calls_per_minute: 1.5",
    'calls_per_minute: "60"',
    "calls_per_minute: 100001",
  ])
    assert.deepEqual(await http(`{ ${bad} }`), ["resources.odd.limits.calls_per_minute"], bad);
  for (const bad of ["concurrent: 0", "concurrent: 1001"])
    assert.deepEqual(await http(`{ ${bad} }`), ["resources.odd.limits.concurrent"], bad);
  for (const bad of ["body: 101MiB", "body: 1MB", "body: 0KiB", "body: 1024"])
    assert.deepEqual(await http(`{ ${bad} }`), ["resources.odd.limits.body"], bad);
  assert.deepEqual(await mcp("{ body: 1025KiB }"), ["resources.odd.limits.body"]);
  assert.deepEqual(await http("{ calls_per_hour: 1 }"), ["resources.odd.limits.calls_per_hour"]);
  assert.deepEqual(
    await apply(`{ resource: "https://odd.acme.example", actions: [read], limits: { concurrent: 1 } }`),
    ["resources.odd.limits"],
  );
});

test("calls are counted and timed by resource, and the series of a resource go with it", async () => {
  await w.apply(
    `resources: { brief: { http: "${crm.url}", ${routes} } }\ngrants: [{ agent: release-bot, resource: brief, actions: [read] }]`,
    "brief.yaml",
  );
  const access = await token("brief:read", { resource: "http/brief" });
  assert.equal((await send("GET", "/http/brief/x", { token: access })).status, 200);
  await send("GET", "/http/made-up/x", { token: await token() });
  const metrics = async (): Promise<string> => (await w.request("GET", "/metrics")).text;
  await until(
    async () => (await metrics()).includes('ephor_proxied_calls_total{resource="brief",outcome="done"} 1'),
    "counted",
  );
  const text = await metrics();
  assert.match(text, /^ephor_proxied_seconds_count\{resource="brief"\} 1$/m);
  assert.match(text, /^ephor_refusals_total\{reason="rate_limited"\} \d+$/m);
  assert.ok(!text.includes("made-up"));
  assert.ok(!text.includes(CRM_KEY));
  await w.apply("resources: {}", "brief.yaml");
  assert.ok(!(await metrics()).includes("brief"));
  assert.ok((await metrics()).includes('resource="crm"'));
});
