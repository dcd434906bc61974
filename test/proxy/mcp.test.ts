import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { after, beforeEach, test } from "node:test";
import type { IncomingMessage, ServerResponse } from "node:http";
import { readJson } from "../../src/core/token/json.ts";
import { CRM_KEY, eventsOf, stage, startCrm, until, type Raw } from "./stage.ts";

/** An upstream whose every byte the test writes. */
const server = await startCrm({ after });
const { w, send } = await stage(
  { after },
  {
    resource: `  tickets:
    mcp: ${server.url}/mcp
    inject: { header: X-Api-Key, value: "{secret:crm-key}" }`,
    grants: `
  - { agent: release-bot, resource: tickets, actions: [get_ticket, "caf%C3%A9"] }
  - { agent: lonely-bot, resource: tickets, actions: [get_ticket, resources/read, prompts/get] }`,
  },
);

type Json = Record<string, unknown>;
const VERSION = "2026-07-28";
const META = {
  "io.modelcontextprotocol/protocolVersion": VERSION,
  "io.modelcontextprotocol/clientCapabilities": {},
};

/** Answers each request with a result, as JSON. */
const result =
  (value: Json): ((req: IncomingMessage, res: ServerResponse, body: string) => void) =>
  (_req, res, body) => {
    const { id } = JSON.parse(body) as { id: unknown };
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ jsonrpc: "2.0", id, result: value }));
  };

beforeEach(() => {
  server.seen.length = 0;
  server.gone.length = 0;
  server.answer = result({ content: [], resultType: "complete" });
});

async function token(agent = "release-bot", scope = "tickets"): Promise<string> {
  const answer = await w.self(agent, { scope, resource: `${w.server.issuer}/mcp/tickets` });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
}
const access = await token();

const JSON_HEADERS = { "content-type": "application/json", accept: "application/json, text/event-stream" };

const raw = (body: string | Buffer, headers: Record<string, string | string[]> = {}, as = access): Promise<Raw> =>
  send("POST", "/mcp/tickets", { token: as, body, headers: { ...JSON_HEADERS, ...headers } });

/** A message of 2025-11-25, without headers that say anything of it. */
const legacy = (message: Json, as = access): Promise<Raw> =>
  raw(JSON.stringify({ jsonrpc: "2.0", ...message }), {}, as);

/** A request of 2026-07-28 with the headers that belong to it, or others. */
function modern(message: Json, headers: Record<string, string | string[] | undefined> = {}, as = access): Promise<Raw> {
  const params = { ...(message["params"] as Json), _meta: META };
  const target = params["name" as keyof typeof params] ?? params["uri" as keyof typeof params];
  const usual = {
    "mcp-protocol-version": VERSION,
    "mcp-method": String(message["method"]),
    ...(typeof target === "string" && { "mcp-name": target }),
  };
  const all = Object.entries({ ...usual, ...headers }).filter(([, value]) => value !== undefined);
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, ...message, params });
  return raw(body, Object.fromEntries(all) as Record<string, string>, as);
}

const call = (name: string, args: Json = { id: 1 }): Json => ({
  id: 1,
  method: "tools/call",
  params: { name, arguments: args },
});
const codeOf = ({ text }: Raw): unknown => (JSON.parse(text) as { error?: { code: number } }).error?.code;

function refusedAs(answer: Raw, status: number, code: number, label = ""): void {
  assert.equal(answer.status, status, `${label} ${answer.text}`);
  assert.equal(codeOf(answer), code, label);
  assert.equal(server.seen.length, 0, `${label}: the upstream heard of it`);
}

// The first list pins what is called below (CONTRACT §8); test/proxy/tools.test.ts is about that.
const TOOLS = ["get_ticket", "drop_database", "caf\u00e9"].map((name) => ({ name, inputSchema: {} }));
server.answer = result({ tools: TOOLS });
assert.equal((await modern({ method: "tools/list" })).status, 200);

test("a granted call arrives, written anew; the nearest refused one does not", async () => {
  const answer = await legacy(call("get_ticket"));
  assert.equal(answer.status, 200, answer.text);
  const body = JSON.parse(server.seen[0]?.body ?? "") as Json;
  assert.deepEqual(body, {
    jsonrpc: "2.0",
    id: 1,
    method: "tools/call",
    params: { name: "get_ticket", arguments: { id: 1 } },
  });
  server.seen.length = 0;
  const refused = await legacy(call("drop_database"));
  refusedAs(refused, 200, -32003);
  const [event] = await eventsOf(w, "call.forward");
  const { data } = (JSON.parse(refused.text) as { error: { data: Json } }).error;
  assert.equal(event?.["id"], data["decision"]);
  assert.equal(event?.["reason"], "scope_not_granted");
});

test("A-MCP-01 a batch is refused, whatever is in it", async () => {
  const one = JSON.stringify({ jsonrpc: "2.0", ...call("get_ticket") });
  for (const body of ["[]", `[${one}]`, `[${one},${one}]`, `[${one},1]`]) refusedAs(await raw(body), 400, -32600, body);
});

test("A-MCP-02, A-MCP-03 doubled, escaped, differently spelled and unknown members are refused", async () => {
  for (const body of [
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","method":"ping"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket","name":"drop_database"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket","\\u006eame":"drop_database"}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket","arguments":{"a":{"b":1,"b":2}}}}',
    '{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping"}',
    '{"jsonrpc":"2.0","id":1,"METHOD":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"ping","extra":1}',
    '{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}',
    '{"jsonrpc":"2.0","id":1,"result":{}}',
    '{"jsonrpc":"1.0","id":1,"method":"ping"}',
    '{"id":1,"method":"ping"}',
    '{"jsonrpc":"2.0","id":1,"method":"ping","params":[]}',
  ])
    refusedAs(await raw(body), 400, -32600, body);
  // A differently spelled member of `params` names no tool.
  refusedAs(await legacy({ id: 1, method: "tools/call", params: { Name: "get_ticket" } }), 400, -32602);
});

test("A-MCP-04 names compare as exact code points", async () => {
  for (const name of ["Get_ticket", "get_ticket ", "get_ticket\u200b", "ｇet_ticket", "cafe\u0301", "get_ticket%20"])
    refusedAs(await legacy(call(name)), 200, -32003, JSON.stringify(name));
  refusedAs(
    await raw('{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket\\u0000"}}'),
    400,
    -32600,
  );
  assert.equal((await legacy(call("caf\u00e9"))).status, 200);
});

test("A-MCP-05 every method but those of a closed list needs a grant; what is not listed is not served", async () => {
  const targets: Json[] = [
    { method: "resources/read", params: { uri: "file:///x" } },
    { method: "resources/subscribe", params: { uri: "file:///x" } },
    { method: "resources/unsubscribe", params: { uri: "file:///x" } },
    { method: "prompts/get", params: { name: "x" } },
    { method: "completion/complete", params: { ref: {} } },
    { method: "logging/setLevel", params: { level: "debug" } },
  ];
  for (const message of targets) refusedAs(await legacy({ id: 1, ...message }), 200, -32003, String(message["method"]));
  const listen = {
    method: "subscriptions/listen",
    params: { notifications: { resourceSubscriptions: ["file:///x"] } },
  };
  refusedAs(await modern(listen), 200, -32003);
  for (const method of ["tools/delete", "sampling/createMessage", "elicitation/create", "roots/list", "x"])
    refusedAs(await legacy({ id: 1, method }), 404, -32601, method);
  // No tool may be called what a method's action is called.
  const lonely = await token("lonely-bot");
  refusedAs(await legacy(call("resources/read"), lonely), 200, -32602);
  assert.equal((await legacy({ id: 1, method: "resources/read", params: { uri: "file:///x" } }, lonely)).status, 200);
  for (const method of ["ping", "server/discover", "tools/list"])
    assert.equal((await legacy({ id: 1, method })).status, 200);
});

test("A-MCP-06, A-MCP-07 headers that differ from the body, are missing, doubled or badly encoded are refused, of whatever revision", async () => {
  const name = Buffer.from("drop_database").toString("base64");
  const wrong: Record<string, string | string[] | undefined>[] = [
    { "mcp-method": "tools/list" },
    { "mcp-method": undefined },
    { "mcp-method": "Tools/Call" },
    { "mcp-name": "drop_database" },
    { "mcp-name": undefined },
    { "mcp-name": "GET_TICKET" },
    { "mcp-name": `=?base64?${name}?=` },
    { "mcp-name": "=?base64?!!?=" },
    { "mcp-name": ["get_ticket", "get_ticket"] },
    { "mcp-protocol-version": "2025-11-25" },
    { "mcp-protocol-version": undefined },
    { "mcp-param-a": ["1", "2"] },
  ];
  for (const headers of wrong)
    refusedAs(await modern(call("get_ticket"), headers), 400, -32020, JSON.stringify(headers));
  // The other way round: an old body under new headers, and header checks under an old version.
  const body = JSON.stringify({ jsonrpc: "2.0", ...call("get_ticket") });
  // A body that says nothing of its revision lacks a member of `_meta` (MCP 2026-07-28, and its conformance suite).
  refusedAs(await raw(body, { "mcp-protocol-version": VERSION }), 400, -32602);
  refusedAs(await raw(body, { "mcp-name": "drop_database" }), 400, -32020);
  refusedAs(await raw(body, { "mcp-protocol-version": "2024-11-05" }), 400, -32022);
  assert.equal((await modern(call("get_ticket"))).status, 200);
  const encoded = `=?base64?${Buffer.from("café").toString("base64")}?=`;
  assert.equal((await modern(call("café"), { "mcp-name": encoded })).status, 200);
  const sent = server.seen.at(-1)?.rawHeaders ?? [];
  assert.equal(sent[sent.findIndex((text) => text.toLowerCase() === "mcp-name") + 1], encoded);
});

test("A-MCP-08 GET and DELETE are 405", async () => {
  for (const method of ["GET", "DELETE", "PUT"])
    assert.equal((await send(method, "/mcp/tickets", { token: access })).status, 405, method);
  assert.equal(server.seen.length, 0);
});

test("A-MCP-09 a session id that is not ours is no session; it is ignored where sessions do not exist", async () => {
  const body = JSON.stringify({ jsonrpc: "2.0", ...call("get_ticket") });
  for (const id of ["guessed", "a.b", "", "x".repeat(600)]) {
    const answer = await raw(body, { "mcp-session-id": id });
    if (id === "") continue;
    assert.equal(answer.status, 404, id);
  }
  server.seen.length = 0;
  assert.equal((await modern(call("get_ticket"), { "mcp-session-id": "guessed" })).status, 200);
  assert.ok(!server.seen[0]?.rawHeaders.some((text) => text.toLowerCase() === "mcp-session-id"));
});

test("A-MCP-10, INV-19 two agents with the same id at the same time each get their own answer", async () => {
  const lonely = await token("lonely-bot");
  const held: (() => void)[] = [];
  server.answer = (_req, res, body) => {
    const { id, params } = JSON.parse(body) as { id: unknown; params: { arguments: { who: string } } };
    held.push(() => {
      res.writeHead(200, { "content-type": "application/json" });
      res.end(JSON.stringify({ jsonrpc: "2.0", id, result: { who: params.arguments.who } }));
    });
    // Swapped: the later one is answered first.
    if (held.length === 2) for (const answer of held.reverse()) answer();
  };
  const [one, two] = await Promise.all([
    legacy(call("get_ticket", { who: "one" })),
    legacy(call("get_ticket", { who: "two" }), lonely),
  ]);
  assert.match(one.text, /"who":"one"/);
  assert.match(two.text, /"who":"two"/);
  server.answer = (_req, res) => {
    res.writeHead(200, { "content-type": "application/json" });
    res.end('{"jsonrpc":"2.0","id":999,"result":{}}');
  };
  assert.equal((await legacy(call("get_ticket"))).status, 502);
});

test("A-MCP-11 a page of another origin is refused", async () => {
  const body = JSON.stringify({ jsonrpc: "2.0", ...call("get_ticket") });
  for (const origin of ["https://evil.example", "null", `${w.server.issuer}.evil.example`]) {
    assert.equal((await raw(body, { origin })).status, 403, origin);
  }
  assert.equal(server.seen.length, 0);
  assert.equal((await raw(body, { origin: new URL(w.server.issuer).origin })).status, 200);
});

test("A-MCP-13 a list shows each agent its own, and is nobody else's to keep", async () => {
  const tools = ["get_ticket", "drop_database", "resources/read"].map((name) => ({
    name,
    inputSchema: {},
  }));
  server.answer = result({ tools, cacheScope: "public", ttlMs: 3_600_000, resultType: "complete" });
  const listed = async (as: string): Promise<Json> =>
    (JSON.parse((await modern({ method: "tools/list" }, {}, as)).text) as { result: Json }).result;
  const mine = await listed(access);
  assert.deepEqual(
    (mine["tools"] as { name: string }[]).map(({ name }) => name),
    ["get_ticket"],
  );
  assert.equal(mine["cacheScope"], "private");
  assert.ok(Number(mine["ttlMs"]) <= 5_000);
  server.answer = result({ resources: [{ uri: "file:///x" }] });
  assert.match((await legacy({ id: 1, method: "resources/list" })).text, /"resources":\[\]/);
  assert.match((await legacy({ id: 1, method: "resources/list" }, await token("lonely-bot"))).text, /file:\/\/\/x/);
});

test("A-MCP-14 of an event stream only the answer and notifications pass; long lines and endless ones are cut", async () => {
  server.answer = (_req, res, body) => {
    const { id } = JSON.parse(body) as { id: unknown };
    res.writeHead(200, { "content-type": "text/event-stream" });
    const event = (value: unknown): string => `data: ${JSON.stringify(value)}\r\n\r\n`;
    res.write("\ufeff: hello\r\n\r\n");
    res.write(event({ jsonrpc: "2.0", method: "notifications/progress", params: { progress: 1 } }));
    res.write(event({ jsonrpc: "2.0", id: 77, method: "sampling/createMessage", params: {} }));
    res.write(event({ jsonrpc: "2.0", id: 12345, result: { stolen: true } }));
    res.write("event: other\rdata: x\r\r");
    res.write("data: no json\n\n");
    res.write(`data: {"jsonrpc":"2.0",\ndata: "id":${JSON.stringify(id)},"result":{"echo":"${CRM_KEY}"}}\n\n`);
    res.write(event({ jsonrpc: "2.0", method: "notifications/late" }));
  };
  const answer = await legacy(call("get_ticket"));
  assert.equal(answer.status, 200);
  const data = answer.text.split("\n").filter((line) => line.startsWith("data:"));
  assert.equal(data.length, 2, answer.text);
  assert.match(data[0] ?? "", /notifications\/progress/);
  assert.match(data[1] ?? "", new RegExp(`"echo":"\\*{${CRM_KEY.length}}"`));
  await until(() => server.gone.length === 1, "the upstream is told");

  server.answer = (_req, res) => {
    res.writeHead(200, { "content-type": "text/event-stream" });
    const line = "x".repeat(64 * 1024);
    res.write("data: ");
    const more = (): void => {
      while (!res.destroyed && res.write(line));
      if (!res.destroyed) res.once("drain", more);
    };
    more();
  };
  assert.equal((await legacy(call("get_ticket"))).whole, false);
});

test("A-MCP-15, A-MCP-16 odd ids, deep arguments and texts that are no JSON are refused, and the server lives", async () => {
  for (const id of ["1e400", "{}", "null", "1.5", "[1]", "true", "99999999999999999999", '""'])
    refusedAs(await raw(`{"jsonrpc":"2.0","id":${id},"method":"ping"}`), 400, -32600, id);
  const deep = `{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_ticket","arguments":${'{"a":'.repeat(10_000)}1${"}".repeat(10_000)}}}`;
  refusedAs(await raw(deep), 400, -32600, "deep");
  const ping = '{"jsonrpc":"2.0","id":1,"method":"ping"}';
  for (const body of [
    `${ping} x`,
    `${ping}${ping}`,
    `${ping} // comment`,
    '{"jsonrpc":"2.0","id":NaN,"method":"ping"}',
    "{'jsonrpc':'2.0','id':1,'method':'ping'}",
    `\ufeff${ping}`,
    Buffer.from(ping, "utf16le"),
    Buffer.concat([Buffer.from('{"jsonrpc":"2.0","id":"'), Buffer.from([0xff]), Buffer.from('","method":"ping"}')]),
    "",
  ])
    refusedAs(await raw(body), 400, -32700, String(body));
  assert.equal((await raw(ping, { "content-type": "text/plain" })).status, 415);
  assert.equal(
    (await raw(`{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":"${"x".repeat(1024 * 1024)}"}}`)).status,
    413,
  );
  assert.equal((await raw(ping)).status, 200);
});

test("A-MCP-17 a tool whose schema names a header that is no argument's is not shown", async () => {
  const tool = (header: string): Json => ({
    name: "get_ticket",
    inputSchema: { type: "object", properties: { a: { type: "string", "x-mcp-header": header } } },
  });
  const shown = async (header: string): Promise<number> => {
    server.answer = result({ tools: [tool(header)] });
    await legacy({ id: 1, method: "tools/list" });
    const accepted = await w.operator("POST", "/v1/resources/tickets/tools/accept", { tool: "get_ticket" });
    assert.equal(accepted.status, header === "Region" ? 200 : 422, header);
    const { text } = await legacy({ id: 1, method: "tools/list" });
    return (JSON.parse(text) as { result: { tools: unknown[] } }).result.tools.length;
  };
  for (const header of ["Authorization", "Host", "A\r\nB", "", "a b"]) assert.equal(await shown(header), 0, header);
  assert.equal(await shown("Region"), 1);
  // As it was, for the tests below.
  server.answer = result({ tools: TOOLS });
  await legacy({ id: 1, method: "tools/list" });
  await w.operator("POST", "/v1/resources/tickets/tools/accept", {});
});

test("A-MCP-18 a call without an id is refused; a notification goes on and is answered 202", async () => {
  const answer = await legacy({ method: "tools/call", params: { name: "get_ticket" } });
  refusedAs(answer, 400, -32600);
  const [event] = await eventsOf(w, "call.forward");
  assert.equal(event?.["reason"], "malformed_request");
  server.answer = (_req, res) => res.writeHead(202).end();
  const noted = await legacy({ method: "notifications/initialized" });
  assert.equal(noted.status, 202);
  assert.equal(noted.text, "");
  assert.equal(server.seen.length, 1);
});

test("an upstream's 401, HTML and compressed bodies are 502, never the agent's challenge", async () => {
  for (const [status, type, encoding] of [
    [401, "application/json", undefined],
    [200, "text/html", undefined],
    [200, "application/json", "gzip"],
  ] as const) {
    server.answer = (_req, res) => {
      res.writeHead(status, {
        "content-type": type,
        "www-authenticate": "Basic",
        ...(encoding && { "content-encoding": encoding }),
      });
      res.end('{"jsonrpc":"2.0","id":1,"result":{}}');
    };
    const answer = await legacy(call("get_ticket"));
    assert.equal(answer.status, 502, type);
    assert.equal(answer.headers["www-authenticate"], undefined);
  }
});

test("INV-18 what three parsers read in what was sent is what was decided on", async () => {
  const args = { text: 'a"b\\c\u2028\u{1f600}', n: 1.5e-7, z: -0, list: [1, { a: null }], "k\u00e9y": true };
  assert.equal((await legacy(call("get_ticket", args))).status, 200);
  const body = server.seen[0]?.body ?? "";
  const python = spawnSync("python3", ["-c", "import json,sys; print(json.dumps(json.load(sys.stdin)))"], {
    input: body,
  });
  type Read = { params: { name: string; arguments: Json } };
  const readers: Read[] = [JSON.parse(body) as Read, readJson(Buffer.from(body)) as Read];
  // Another language's parser, where there is one.
  if (python.status === 0) readers.push(JSON.parse(python.stdout.toString("utf8")) as Read);
  for (const one of readers) {
    assert.equal(one.params.name, "get_ticket");
    assert.deepEqual(one.params.arguments, JSON.parse(JSON.stringify(args)));
  }
});
