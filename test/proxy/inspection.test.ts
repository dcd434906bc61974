import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, beforeEach, test } from "node:test";
import { decide, work, type Notice } from "../approvals/approval-stage.ts";
import { startInspector, SECRET, type Shown } from "./inspector-stage.ts";
import { CRM_KEY, eventsOf, plain, stage, startCrm, until, type Raw } from "./stage.ts";

const inspector = await startInspector({ after });
const other = await startCrm({ after });
const byInspector = (more = ""): string => `{ url: "${inspector.url}", secret: dlp-key${more} }`;
const api = (name: string, more: string): string => `  ${name}:
    http: ${other.url}
    actions: { write: ["POST /contacts"], read: ["GET /contacts"] }
    inspect: ${byInspector(more)}`;
const s = await stage(
  { after },
  {
    resource: `    record: arguments
    inspect: ${byInspector(", phases: [request]")}
${api("open", ", phases: [request], on_error: allow, max_bytes: 1KiB, timeout: 10s")}
${api("hasty", ", phases: [request], on_error: allow, timeout: 1s")}
${api("answers", ", phases: [response], max_bytes: 1KiB")}
${api("loose", ", phases: [response], max_bytes: 1KiB, on_error: allow")}
${api("asking", ", phases: [request]")}
  away:
    http: ${other.url}
    actions: { write: ["POST /contacts"] }
    inspect: { url: "http://127.0.0.1:9/", secret: dlp-key, phases: [request] }
  inner:
    http: ${other.url}
    actions: { write: ["POST /contacts"] }
    inspect: { url: "https://10.1.2.3/look", secret: dlp-key, phases: [request] }
  keyless:
    http: ${other.url}
    actions: { write: ["POST /contacts"] }
    inspect: { url: "${inspector.url}", secret: never-set, phases: [request], on_error: allow }
  tickets:
    mcp: ${other.url}/mcp
    inject: { header: X-Api-Key, value: "{secret:crm-key}" }
    inspect: ${byInspector()}`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [write], when: '!("body" in args) && (!("amount" in args) || args.amount == "[card]" || args.amount < 100)' }
  - { agent: release-bot, resource: open, actions: [write] }
  - { agent: release-bot, resource: hasty, actions: [write] }
  - { agent: release-bot, resource: answers, actions: [read] }
  - { agent: release-bot, resource: loose, actions: [read] }
  - { agent: release-bot, resource: asking, actions: [write], approval: { by: owner } }
  - { agent: release-bot, resource: away, actions: [write] }
  - { agent: release-bot, resource: inner, actions: [write] }
  - { agent: release-bot, resource: keyless, actions: [write] }
  - { agent: lonely-bot, resource: crm, actions: [write] }
  - { agent: release-bot, resource: tickets, actions: [get_ticket] }`,
  },
);
const { w, crm, token, send } = s;
assert.ok((await w.operator("PUT", "/v1/secrets/dlp-key", { value: SECRET })).status < 300);

beforeEach(() => {
  inspector.seen.length = 0;
  inspector.verdict = () => ({ verdict: "allow" });
  for (const one of [crm, other]) {
    one.seen.length = 0;
    one.answer = plain;
  }
});

type Event = { id: string; decision: string; reason?: string; body: Record<string, unknown> };
const last = async (type: string): Promise<Event> =>
  ((await eventsOf(w, type))[0] ?? assert.fail(type)) as unknown as Event;

async function post(body: unknown, o: { resource?: string; query?: string; token?: string } = {}): Promise<Raw> {
  const { resource = "crm", query = "" } = o;
  const access = o.token ?? (await token(`${resource}:write`, { resource: `http/${resource}` }));
  return await send("POST", `/http/${resource}/contacts${query}`, {
    token: access,
    headers: { "content-type": "application/json" },
    body: typeof body === "string" ? body : JSON.stringify(body),
  });
}

const get = async (resource: string): Promise<Raw> =>
  await send("GET", `/http/${resource}/contacts`, {
    token: await token(`${resource}:read`, { resource: `http/${resource}` }),
  });

async function outcomeOf({ id }: { id: string }): Promise<Event> {
  let found: Event | undefined;
  await until(async () => {
    const events = (await eventsOf(w, "call.outcome")) as unknown as Event[];
    found = events.find(({ body }) => body["of"] === id);
    return found !== undefined;
  }, "outcome");
  return found as Event;
}

async function refusedBy(answer: Raw, reason: string): Promise<Event> {
  assert.equal(answer.status, 403, answer.text);
  const { decision, code } = JSON.parse(answer.text) as { decision: string; code: string };
  assert.equal(code, "access_denied");
  const event = await last("call.forward");
  assert.deepEqual([event.id, event.decision, event.reason], [decision, "refused", reason]);
  return event;
}

test("an allowed call is shown to its inspector, signed, without credentials, and goes on as it was", async () => {
  const access = await token("crm:write");
  const sent = { name: "Ann", mine: access };
  const answer = await post(sent, { query: "?page=2", token: access });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(JSON.parse(crm.seen[0]?.body ?? ""), sent);
  assert.equal(crm.seen[0]?.url, "/api/contacts?page=2");
  const [one, ...more] = inspector.seen;
  assert.equal(more.length, 0);
  assert.equal(one?.isSigned, true);
  assert.match(one?.id ?? "", /^msg_/);
  const { decision, txn, call, ...rest } = one?.shown ?? ({} as Shown);
  assert.deepEqual(rest, {
    phase: "request",
    agent: "release-bot",
    path: ["release-bot"],
    sub: "agent|release-bot",
    resource: "crm",
    action: "write",
    arguments: { query: { page: "2" }, body: { name: "Ann", mine: "*".repeat(access.length) } },
  });
  assert.deepEqual([call["method"], call["path"]], ["POST", "/contacts"]);
  for (const secret of [CRM_KEY, SECRET, access]) assert.ok(!one?.text.includes(secret));
  const asked = await last("call.inspect");
  assert.deepEqual([asked.id, asked.decision], [decision, "granted"]);
  const event = await last("call.forward");
  assert.deepEqual(event.body["inspected"], { by: decision, verdict: "allow" });
  assert.equal(event.body["txn"], txn);
  assert.ok(!JSON.stringify(await w.events()).includes(SECRET));
});

test("INV-18 what was redacted is what is decided, recorded and sent; conditions hold for both", async () => {
  const redact = (...replace: object[]): void => void (inspector.verdict = () => ({ verdict: "redact", replace }));
  redact({ path: "/arguments/body/card", value: "[card]" }, { path: "/arguments/query/q", value: "x y&z" });
  const answer = await post({ card: "4111 1111", list: [1, { n: 2 }] }, { query: "?a=1&a=2&q=secret" });
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(JSON.parse(crm.seen[0]?.body ?? ""), { card: "[card]", list: [1, { n: 2 }] });
  assert.equal(crm.seen[0]?.url, "/api/contacts?a=1&a=2&q=x%20y%26z");
  const event = await last("call.forward");
  const { redacted } = event.body["inspected"] as { redacted: string[] };
  assert.deepEqual(redacted, ["/arguments/body/card", "/arguments/query/q"]);
  const kept = await w.operator("GET", `/v1/audit/${event.id}/recording`);
  const { arguments: args } = JSON.parse(kept.body["text"] as string) as { arguments: unknown };
  assert.deepEqual(args, { query: { a: ["1", "2"], q: "x y&z" }, body: { card: "[card]", list: [1, { n: 2 }] } });
  assert.ok(!JSON.stringify(await w.events()).includes("4111 1111"));

  // Beyond the condition as it was: it is not shown to anybody.
  crm.seen.length = inspector.seen.length = 0;
  redact({ path: "/arguments/body/amount", value: 1 });
  await refusedBy(await post({ amount: 500 }), "condition_false");
  assert.equal(inspector.seen.length, 0);
  // Beyond it as it became.
  redact({ path: "/arguments/body/amount", value: 500 });
  await refusedBy(await post({ amount: 1 }), "condition_false");
  assert.deepEqual([inspector.seen.length, crm.seen.length], [1, 0]);
});

test("INV-18 a body that is `null` is shown and sent as that, also where something else of the call was redacted", async () => {
  inspector.verdict = () => ({ verdict: "redact", replace: [{ path: "/arguments/query/a", value: "2" }] });
  assert.equal((await post("null", { resource: "open", query: "?a=1" })).status, 200);
  assert.deepEqual(inspector.seen[0]?.shown.arguments, { query: { a: "1" }, body: null });
  assert.deepEqual(
    other.seen.map(({ url, body }) => [url, body]),
    [["/contacts?a=2", "null"]],
  );
});

test("a redaction replaces values that are there, by plain values; anything else refuses the call", async () => {
  for (const replace of [
    [{ path: "/arguments/body/new", value: 1 }],
    [{ path: "/arguments/body/list/2", value: 1 }],
    [{ path: "/arguments/body/list/-", value: 1 }],
    [{ path: "/arguments/body/a/b", value: 1 }],
    [{ path: "/arguments/query/q", value: 7 }],
    [{ path: "/arguments/query", value: "x" }],
    [{ path: "/body/a", value: 1 }],
    [{ path: "/arguments/body/__proto__", value: 1 }],
  ]) {
    inspector.verdict = () => ({ verdict: "redact", replace });
    const event = await refusedBy(await post({ a: 1, list: [1, 2] }, { query: "?q=1" }), "inspection_refused");
    assert.equal((event.body["inspected"] as { problem: string }).problem, "not_applicable", JSON.stringify(replace));
  }
  for (const verdict of [
    { verdict: "redact", replace: [{ path: "/arguments/body/a", value: { more: 1 } }] },
    { verdict: "redact", replace: [{ path: "arguments", value: 1 }] },
    { verdict: "redact", replace: [] },
    { verdict: "redact" },
    { verdict: "allow", replace: [{ path: "/arguments/body/a", value: 1 }] },
    { verdict: "ALLOW" },
    { verdict: "refuse", verdicts: "allow" },
    '{"verdict":"refuse","verdict":"allow"}',
    "allow",
  ]) {
    inspector.verdict = () => verdict;
    const event = await refusedBy(await post({ a: 1 }), "inspection_failed");
    assert.deepEqual((event.body["inspected"] as { problem: string }).problem, "answer", JSON.stringify(verdict));
  }
  assert.equal(crm.seen.length, 0);
});

test("a refused call goes nowhere, and the record says by whom and why; the caller learns neither", async () => {
  inspector.verdict = () => ({ verdict: "refuse", reason: "card number" });
  const answer = await post({ card: "4111" });
  const event = await refusedBy(answer, "inspection_refused");
  const { by, why } = event.body["inspected"] as { by: string; why: string };
  assert.deepEqual([by, why], [inspector.seen[0]?.shown.decision, "card number"]);
  assert.ok(!answer.text.includes("card number"));
  assert.equal(crm.seen.length, 0);
  const kept = await w.operator("GET", `/v1/audit/${event.id}/recording`);
  assert.match(String(kept.body["text"]), /4111/);
});

test("what grants refuse, and what a token does not hold, no inspector sees", async () => {
  const access = await token("open:write", { resource: "http/open" });
  assert.equal((await send("DELETE", "/http/crm/contacts/1", { token: await token("crm:write") })).status, 403);
  assert.equal((await post({ body: 1 })).status, 403);
  assert.equal((await post({ a: 1 }, { token: access })).status, 401);
  assert.equal(inspector.seen.length, 0);
  const dying = await token("crm:write", { agent: "lonely-bot" });
  assert.equal((await post({ a: 1 }, { token: dying })).status, 200);
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "lonely-bot", reason: "test" })).status, 200);
  inspector.seen.length = 0;
  assert.equal((await post({ a: 1 }, { token: dying })).status, 401);
  assert.equal(inspector.seen.length, 0);
});

test("an inspector that is away, slow, redirects or answers another status: refused, or let on where the resource says so", async () => {
  await refusedBy(await post({ a: 1 }, { resource: "away" }), "inspection_failed");
  const inner = await refusedBy(await post({ a: 1 }, { resource: "inner" }), "inspection_failed");
  assert.equal((inner.body["inspected"] as { problem: string }).problem, "address");
  // A key that is not there is no failure of the inspector's.
  assert.equal((await post({ a: 1 }, { resource: "keyless" })).status, 503);
  assert.deepEqual([inspector.seen.length, other.seen.length], [0, 0]);
  const failing: Record<string, (shown: Shown, res: ServerResponse) => unknown> = {
    "status 500": (_shown, res) => void res.writeHead(500).end(),
    redirect: (_shown, res) => void res.writeHead(307, { location: inspector.url }).end(),
    "status 204": (_shown, res) => void res.writeHead(204).end(),
    network: (_shown, res) => void res.destroy(),
    timeout: () => undefined,
  };
  for (const [problem, answer] of Object.entries(failing)) {
    inspector.verdict = answer;
    inspector.seen.length = 0;
    const opened = await post({ a: 1 }, { resource: problem === "timeout" ? "hasty" : "open" });
    assert.equal(opened.status, 200, problem);
    assert.equal(inspector.seen.length, 1, "no second try");
    const event = await last("call.forward");
    assert.deepEqual((event.body["inspected"] as { problem: string }).problem, problem);
    if (problem === "timeout") continue;
    const event2 = await refusedBy(await post({ a: 1 }), "inspection_failed");
    assert.deepEqual((event2.body["inspected"] as { problem: string }).problem, problem);
  }
  assert.equal(crm.seen.length, 0);
  inspector.verdict = () => ({ verdict: "refuse" });
  inspector.seen.length = 0;
  // Too much to judge is not shown at all, and neither is what nobody could read.
  assert.equal((await post({ a: "x".repeat(20_000) }, { resource: "open" })).status, 200);
  const access = await token("open:write", { resource: "http/open" });
  const text = { token: access, headers: { "content-type": "text/plain" }, body: "4111" };
  assert.equal((await send("POST", "/http/open/contacts", text)).status, 200);
  assert.equal(inspector.seen.length, 0);
  await refusedBy(await post({ a: "x".repeat(100_000) }), "inspection_failed");
  // It can be asked, and says no: that is no failure.
  await refusedBy(await post({ a: 1 }, { resource: "open" }), "inspection_refused");
  const metrics = await w.request("GET", "/metrics");
  assert.match(metrics.text, /ephor_inspections_total\{resource="open",outcome="failed"\} 6/);
  assert.match(metrics.text, /ephor_inspections_total\{resource="hasty",outcome="failed"\} 1/);
  assert.match(metrics.text, /ephor_inspections_total\{resource="open",outcome="refuse"\} 1/);
});

test("a call that is killed while it is inspected is refused at once, and never sent", async () => {
  for (const resource of ["crm", "open"]) {
    const access = await token(`${resource}:write`, { resource: `http/${resource}` });
    const { txn } = JSON.parse(Buffer.from(access.split(".")[1] ?? "", "base64url").toString()) as { txn: string };
    let answer: Promise<Raw> | undefined;
    await new Promise<void>((resolve) => {
      inspector.verdict = () => void resolve();
      answer = post({ a: 1 }, { resource, token: access });
    });
    const killed = await w.operator("POST", "/v1/kill", { txn, reason: "in flight" });
    assert.equal(killed.status, 200, killed.text);
    const refused = await (answer as Promise<Raw>);
    assert.equal(refused.status, 401, refused.text);
    const event = await last("call.forward");
    assert.deepEqual([event.decision, event.reason], ["refused", "killed"]);
  }
  assert.deepEqual([crm.seen.length, other.seen.length], [0, 0]);
});

test("INV-20 an approval is asked for, shown and used for what finally goes", async () => {
  inspector.verdict = () => ({ verdict: "redact", replace: [{ path: "/arguments/body/card", value: "[card]" }] });
  const job = await work(s, { resource: "asking" });
  const { approval }: Notice = await job.waits({ card: "4111" });
  const shown = await w.operator("GET", `/v1/approvals/${approval.id}`);
  assert.deepEqual(shown.body["arguments"], { query: null, body: { card: "[card]" } });
  assert.equal((await decide(s, approval.id)).status, 200);
  inspector.verdict = () => ({ verdict: "redact", replace: [{ path: "/arguments/body/card", value: "other" }] });
  const again = await job.waits({ card: "4111" });
  assert.notEqual(again.approval.id, approval.id);
  inspector.verdict = () => ({ verdict: "redact", replace: [{ path: "/arguments/body/card", value: "[card]" }] });
  assert.equal((await job.post({ card: "4222" })).status, 200);
  assert.deepEqual(
    other.seen.map(({ body }) => body),
    ['{"card":"[card]"}'],
  );
});

test("an answer is held until it was judged: it goes on byte for byte, redacted, or not at all", async () => {
  const body = '{ "id": 12345678901234567890, "list": [ {"ssn":"078-05-1120"}, 1.0 ], "key": "' + CRM_KEY + '" }';
  other.answer = (_req, res) => res.writeHead(200, { "content-type": "application/json" }).end(body);
  const whole = await get("answers");
  assert.equal(whole.text, body);
  assert.ok(inspector.seen[0]?.text.endsWith(`,"body":${body}}`), "numbers keep their digits");
  assert.equal(inspector.seen[0]?.shown.phase, "response");
  assert.equal(inspector.seen[0]?.shown.decision, (await last("call.forward")).id);
  inspector.verdict = () => ({ verdict: "redact", replace: [{ path: "/body/list/0/ssn", value: "***" }] });
  const redacted = await get("answers");
  assert.equal(redacted.text, body.replace("078-05-1120", "***"));
  const outcome = await outcomeOf(await last("call.forward"));
  assert.deepEqual((outcome.body["inspected"] as { redacted: string[] }).redacted, ["/body/list/0/ssn"]);
  for (const verdict of [
    { verdict: "refuse", reason: "person" },
    { verdict: "redact", replace: [{ path: "/body/none", value: 1 }] },
    { verdict: "unheard of" },
  ]) {
    inspector.verdict = () => verdict;
    const refused = await get("answers");
    assert.equal(refused.status, 403);
    assert.ok(!refused.text.includes('"078'));
    const decision = await last("call.forward");
    assert.equal((JSON.parse(refused.text) as { decision: string }).decision, decision.id);
    assert.equal((await outcomeOf(decision)).body["outcome"], "inspection_refused");
  }
  assert.equal((await get("loose")).text, body);
});

test("an answer that is asked for piece by piece is judged by nobody, and so is none", async () => {
  const text = "078-05-1120";
  other.answer = (req, res) => {
    const [, from, to] = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? "") ?? [];
    if (from === undefined) return void res.writeHead(200, { "content-type": "text/plain" }).end(text);
    const range = `bytes ${from}-${to}/${text.length}`;
    res.writeHead(206, { "content-type": "text/plain", "content-range": range });
    res.end(text.slice(Number(from), Number(to) + 1));
  };
  inspector.verdict = ({ body }) => ({ verdict: /\d{3}-\d{2}-\d{4}/.test(String(body)) ? "refuse" : "allow" });
  const piece = async (resource: string, range: string): Promise<Raw> =>
    await send("GET", `/http/${resource}/contacts`, {
      token: await token(`${resource}:read`, { resource: `http/${resource}` }),
      headers: { range },
    });
  assert.equal((await get("answers")).status, 403);
  for (const range of ["bytes=0-4", "bytes=5-10"]) {
    const refused = await piece("answers", range);
    assert.equal(refused.status, 403, refused.text);
    const outcome = await outcomeOf(await last("call.forward"));
    assert.equal(outcome.body["outcome"], "inspection_refused");
    assert.equal((outcome.body["inspected"] as { problem: string }).problem, "partial");
  }
  const loose = await piece("loose", "bytes=0-4");
  assert.deepEqual([loose.status, loose.text], [206, text.slice(0, 5)]);
});

test("what cannot be judged is refused, or goes on where the resource says so", async () => {
  const answers: [string, string | Buffer][] = [
    ["application/json", JSON.stringify({ a: "x".repeat(2_000) })],
    ["application/octet-stream", Buffer.from([0, 1, 2])],
    ["application/json", '{"a":1,"a":2}'],
    ["text/plain", Buffer.from([0xff, 0xfe])],
  ];
  for (const [type, body] of answers) {
    const head = { "content-type": type, "content-length": String(Buffer.byteLength(body)) };
    other.answer = (_req, res) => res.writeHead(200, head).end(body);
    assert.equal((await get("answers")).status, 403, type);
    const loose = await get("loose");
    assert.deepEqual([loose.status, loose.whole], [200, true]);
    assert.equal(loose.headers["content-length"], String(Buffer.byteLength(body)));
  }
  assert.equal(inspector.seen.length, 0);
  other.answer = (_req, res) => res.writeHead(204).end();
  assert.equal((await get("answers")).status, 204);
  inspector.verdict = ({ body }) => ({ verdict: body === "say friend" ? "allow" : "refuse" });
  other.answer = (_req, res) => res.writeHead(200, { "content-type": "text/plain" }).end("say friend");
  assert.equal((await get("answers")).text, "say friend");
});

test("events of an HTTP API are judged one by one; after one that is refused nothing follows", async () => {
  inspector.verdict = ({ body }) =>
    (body as { n: number }).n === 3
      ? { verdict: "refuse" }
      : (body as { n: number }).n === 2
        ? { verdict: "redact", replace: [{ path: "/body/ssn", value: "***" }] }
        : { verdict: "allow" };
  other.answer = (_req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    for (const n of [1, 2, 3, 4]) res.write(`id: ${n}\nevent: tick\ndata: {"n":${n},"ssn":"078"}\n\n`);
    res.end();
  };
  const answer = await get("answers");
  assert.equal(answer.whole, false);
  assert.equal(
    answer.text,
    'event: tick\nid: 1\ndata: {"n":1,"ssn":"078"}\n\nevent: tick\nid: 2\ndata: {"n":2,"ssn":"***"}\n\n',
  );
});

const VERSION = "2026-07-28";
const META = {
  "io.modelcontextprotocol/protocolVersion": VERSION,
  "io.modelcontextprotocol/clientCapabilities": {},
};

test("a tool's arguments and answers are inspected, as JSON and as events; a refusal is −32003 with its decision", async () => {
  const access = await token("tickets", { resource: "mcp/tickets" });
  const tools = [{ name: "get_ticket", inputSchema: { type: "object" } }];
  const asked: unknown[] = [];
  let streams = false;
  other.answer = (_req, res, text) => {
    const { id, method, params } = JSON.parse(text) as {
      id?: unknown;
      method: string;
      params: Record<string, unknown>;
    };
    if (method === "tools/call") asked.push(params["arguments"]);
    const result =
      method === "tools/list" ? { tools } : { content: [{ type: "text", text: "078-05-1120" }], echo: CRM_KEY };
    const message = JSON.stringify({ jsonrpc: "2.0", id, result });
    const note = JSON.stringify({ jsonrpc: "2.0", method: "notifications/message", params: { data: "078" } });
    res.writeHead(200, { "content-type": streams ? "text/event-stream" : "application/json" });
    res.end(streams ? `data: ${note}\n\ndata: ${message}\n\n` : message);
  };
  const call = async (args: object, headers: Record<string, string> = {}): Promise<Raw> =>
    await send("POST", "/mcp/tickets", {
      token: access,
      headers: {
        "content-type": "application/json",
        accept: "application/json, text/event-stream",
        "mcp-protocol-version": VERSION,
        "mcp-method": "tools/call",
        "mcp-name": "get_ticket",
        ...headers,
      },
      body: JSON.stringify({
        jsonrpc: "2.0",
        id: 7,
        method: "tools/call",
        params: { name: "get_ticket", arguments: args, _meta: META },
      }),
    });
  const redactBoth = ({ phase }: Shown): unknown => ({
    verdict: "redact",
    replace: [
      phase === "request"
        ? { path: "/arguments/secret", value: "***" }
        : { path: "/body/result/content/0/text", value: "***" },
    ],
  });
  inspector.verdict = redactBoth;
  const redacted = await call({ secret: "s3cr3t", id: 1 });
  assert.equal(redacted.status, 200, redacted.text);
  assert.deepEqual(asked, [{ secret: "***", id: 1 }]);
  assert.deepEqual((JSON.parse(redacted.text) as { result: unknown }).result, {
    content: [{ type: "text", text: "***" }],
    echo: "*".repeat(CRM_KEY.length),
  });
  assert.ok(
    inspector.seen.every(({ text, isSigned }) => isSigned && !text.includes(CRM_KEY)),
    "INV-16",
  );
  // A header that repeats an argument would go on saying what was taken out.
  assert.match((await call({ secret: "s3cr3t" }, { "mcp-param-secret": "s3cr3t" })).text, /"code":-32003/);
  assert.equal(asked.length, 1);

  inspector.verdict = ({ phase }) => ({ verdict: phase === "request" ? "refuse" : "allow" });
  const refused = await call({ id: 1 });
  const { error, id } = JSON.parse(refused.text) as { id: number; error: { code: number; data: { decision: string } } };
  const event = await last("call.forward");
  assert.deepEqual([refused.status, id, error.code, error.data.decision], [200, 7, -32003, event.id]);
  assert.equal(event.reason, "inspection_refused");
  assert.equal(asked.length, 1);

  for (const isStream of [false, true]) {
    streams = isStream;
    inspector.verdict = ({ phase }) => ({ verdict: phase === "request" ? "allow" : "refuse" });
    const answer = await call({ id: 2 });
    assert.equal(answer.status, 200);
    assert.ok(!answer.text.includes('"078'), answer.text);
    const text = isStream ? (answer.text.match(/^data: (.*)$/m)?.[1] ?? "") : answer.text;
    const said = JSON.parse(text) as { id: number; error: { code: number; data: { decision: string } } };
    const decision = await last("call.forward");
    assert.deepEqual([said.id, said.error.code, said.error.data.decision], [7, -32003, decision.id]);
    assert.equal((await outcomeOf(decision)).body["outcome"], "inspection_refused");
  }
  assert.equal(asked.length, 3);
});

test("a notification that says something is inspected like a call; one that says nothing is not", async () => {
  const access = await token("tickets", { resource: "mcp/tickets" });
  other.answer = (_req, res) => res.writeHead(202).end();
  const notify = (params: object): Promise<Raw> =>
    send("POST", "/mcp/tickets", {
      token: access,
      headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
      body: JSON.stringify({ jsonrpc: "2.0", method: "notifications/told", params }),
    });
  inspector.verdict = ({ arguments: args }) =>
    JSON.stringify(args).includes("4111")
      ? { verdict: "refuse" }
      : { verdict: "redact", replace: [{ path: "/arguments/data", value: "x" }] };
  // What is no tool's call cannot be changed.
  for (const data of ["4111", "other"]) assert.equal((await notify({ data })).status, 400);
  assert.deepEqual([inspector.seen.length, other.seen.length], [2, 0]);
  assert.equal((await last("call.forward")).reason, "inspection_refused");
  inspector.verdict = () => ({ verdict: "allow" });
  assert.equal((await notify({ data: "fine" })).status, 202);
  assert.equal((await notify({})).status, 202);
  assert.deepEqual([inspector.seen.length, other.seen.length], [3, 2]);
});

test("a stream whose event is being judged ends with a kill, and that event never leaves", async () => {
  other.answer = (_req, res) => {
    res.writeHead(200, { "content-type": "application/json" });
    res.end('{"ssn":"078"}');
  };
  const access = await token("answers:read", { resource: "http/answers" });
  const { txn } = JSON.parse(Buffer.from(access.split(".")[1] ?? "", "base64url").toString()) as { txn: string };
  let answer: Promise<Raw> | undefined;
  let pass = (): void => {};
  await new Promise<void>((resolve) => {
    inspector.verdict = (_shown, res) => {
      pass = () => void res.end('{"verdict":"allow"}');
      resolve();
      return undefined;
    };
    answer = send("GET", "/http/answers/contacts", { token: access }).catch(() => ({
      status: 0,
      headers: {},
      text: "",
      whole: false,
    }));
  });
  const decision = await last("call.forward");
  assert.equal((await w.operator("POST", "/v1/kill", { txn, reason: "in flight" })).status, 200);
  pass();
  const ended = await (answer as Promise<Raw>);
  assert.ok(!ended.text.includes('"078'));
  assert.equal(ended.whole, false);
  assert.equal((await outcomeOf(decision)).body["outcome"], "cut_killed");
});

test("what is wrong in `inspect` is refused by apply", async () => {
  const put = (inspect: unknown, more: object = {}): ReturnType<typeof w.operator> =>
    w.operator("PUT", "/v1/resources/tried", { http: other.url, actions: { read: ["GET /**"] }, inspect, ...more });
  const good = { url: "https://dlp.acme.example/look", secret: "dlp-key" };
  for (const inspect of [
    {},
    { url: good.url },
    { ...good, url: "http://dlp.acme.example/look" },
    { ...good, phases: [] },
    { ...good, phases: ["both"] },
    { ...good, timeout: "11s" },
    { ...good, on_error: "ignore" },
    { ...good, max_bytes: "1MiB" },
    { ...good, header: "x" },
  ])
    assert.equal((await put(inspect)).status, 422, JSON.stringify(inspect));
  const shared = await put(good, { inject: { header: "X-Api-Key", value: "{secret:dlp-key}" } });
  assert.equal(shared.status, 422);
  assert.match(shared.text, /the upstream's credential/);
  assert.equal((await put({ ...good, timeout: "10s", max_bytes: "512KiB", on_error: "allow" })).status, 201);
});
