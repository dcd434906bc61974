import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { sessionStage, type Json, type Line, type Stream } from "./session-stage.ts";
import { eventsOf, isCut, until } from "./stage.ts";

const s = await sessionStage({ after });
const { w, server, speak, begin } = s;
const ALL = { sampling: {}, elicitation: {}, roots: {} };
const VERSION = "2026-07-28";
const RPC = { jsonrpc: "2.0" };
const CALL = { ...RPC, id: 5, method: "tools/call", params: { name: "get_ticket", arguments: {} } };
const answerTo = (id: unknown): Json => ({ ...RPC, id, result: { content: [{ type: "text", text: "done" }] } });
const ask = (id: unknown, method = "sampling/createMessage", more: Json = {}): Json => ({
  ...RPC,
  id,
  method,
  params: { messages: [], maxTokens: 1 },
  ...more,
});
const SAID = { role: "assistant", model: "m", content: { type: "text", text: "hello" } };

const token = (agent = "release-bot"): Promise<string> => s.token("tickets", { agent, resource: "mcp/tickets" });
const mine = await token();
const lonely = await token("lonely-bot");

beforeEach(() => {
  server.seen.length = 0;
});

/** Messages that arrived, without those that begin sessions and pin tools. */
const arrived = (): Json[] =>
  server.seen
    .filter(({ method }) => method === "POST")
    .map(({ body }) => JSON.parse(body) as Json)
    .filter(({ method }) => method === undefined || method === "tools/call");

/** A call whose server asks something and waits. */
async function asked(
  session: string,
  as: string,
  question: Json,
): Promise<{ line: Line; id: unknown; stream: Stream }> {
  let stream: Stream | undefined;
  s.onCall = (one) => {
    stream = one;
    one.event(question);
  };
  const line = await speak({ as, session, message: CALL });
  assert.equal(line.status, 200, "the call flows");
  const heard = await line.next();
  assert.ok(stream && heard?.message);
  return { line, id: heard.message["id"], stream };
}

async function refused(line: Line, status: number, code: number, label = ""): Promise<void> {
  const text = await line.text();
  assert.equal(line.status, status, `${label} ${text}`);
  assert.equal((JSON.parse(text) as { error: Json }).error["code"], code, label);
}

test("2025-11-25: a question that the client declared reaches it, and its answer goes back under the server's own id", async () => {
  const session = await begin(mine, ALL);
  for (const own of [7, "seven", "7"]) {
    const { line, id, stream } = await asked(session, mine, ask(own));
    assert.notEqual(id, own, "the client is asked under a sealed id");
    const before = arrived().length;
    const answered = await speak({ as: mine, session, message: { ...RPC, id, result: SAID } });
    assert.equal(answered.status, 202, await answered.text());
    assert.deepEqual(arrived().slice(before), [{ ...RPC, id: own, result: SAID }]);
    stream.event({ ...RPC, method: "notifications/cancelled", params: { requestId: own } });
    assert.deepEqual((await line.next())?.message?.["params"], { requestId: id });
    stream.event(answerTo(5));
    assert.deepEqual((await line.next())?.message, answerTo(5));
    assert.equal(await line.next(), undefined);
  }
  const recorded = (await eventsOf(w, "call.forward")).filter((event) => JSON.stringify(event).includes('"response"'));
  assert.equal(recorded.length, 3, JSON.stringify((await eventsOf(w, "call.forward"))[0]));
});

test("A-MCP-14 no other request of a server passes: undeclared, outside the list, with more members, or no id at all", async () => {
  const session = await begin(mine, { sampling: {} });
  s.onCall = (stream) => {
    for (const question of [
      ask(1, "elicitation/create"),
      ask(2, "roots/list"),
      ask(3, "tools/call"),
      ask(4, "sampling/createMessage/"),
      ask(5, "sampling/createMessage", { result: {} }),
      ask(6, "sampling/createMessage", { params: [] }),
      ask(null),
      ask(1.5),
    ])
      stream.event(question);
    stream.event(ask(8));
    stream.event(answerTo(5));
  };
  const line = await speak({ as: mine, session, message: CALL });
  assert.equal((await line.next())?.message?.["method"], "sampling/createMessage");
  assert.deepEqual((await line.next())?.message, answerTo(5));
});

test("A-MCP-14 where nobody declared anything no question passes: without a session, and never in 2026-07-28", async () => {
  s.onCall = (stream, { id }) => {
    for (const method of ["sampling/createMessage", "elicitation/create", "roots/list", "ping"])
      stream.event(ask(9, method));
    stream.event(answerTo(id));
  };
  await begin(mine, ALL);
  const without = await speak({ as: mine, message: CALL });
  assert.deepEqual((await without.next())?.message, answerTo(5));
  const meta = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": ALL,
  };
  const modern = await speak({
    as: mine,
    session: await begin(mine, ALL),
    headers: { "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "get_ticket" },
    message: { ...CALL, params: { ...CALL.params, _meta: meta } },
  });
  assert.deepEqual((await modern.next())?.message, answerTo(5));
});

test("A-MCP-05 what 2026-07-28 took away is not served in it, whatever is granted", async () => {
  const meta = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
  };
  for (const method of ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"]) {
    const headers = { "mcp-protocol-version": VERSION, "mcp-method": method };
    const message = { ...RPC, id: 1, method, params: { _meta: meta, uri: "file:///x" } };
    await refused(await speak({ as: lonely, headers, message }), 404, -32601, method);
  }
  assert.equal(server.seen.length, 0);
});

test("A-MCP-09 an answer that nobody asked for, or that another agent's or session's server asked for, goes nowhere", async () => {
  const session = await begin(mine, ALL);
  const { id, stream } = await asked(session, mine, ask(7));
  const theirs = await begin(lonely, ALL);
  const { id: theirId } = await asked(theirs, lonely, ask(7));
  const another = await begin(mine, ALL);
  const before = arrived().length;
  const wrong: [label: string, status: number, code: number, o: Parameters<typeof speak>[0]][] = [
    ["the server's own id", 400, -32600, { as: mine, session, message: { ...RPC, id: 7, result: SAID } }],
    ["a guessed id", 400, -32600, { as: mine, session, message: { ...RPC, id: "Nw.x", result: SAID } }],
    ["another agent's question", 400, -32600, { as: mine, session, message: { ...RPC, id: theirId, result: SAID } }],
    ["another session's question", 400, -32600, { as: mine, session: another, message: { ...RPC, id, result: SAID } }],
    ["another agent's session", 404, -32600, { as: lonely, session, message: { ...RPC, id, result: SAID } }],
    ["no session", 400, -32600, { as: mine, message: { ...RPC, id, result: SAID } }],
    [
      "the newer revision",
      400,
      -32600,
      { as: mine, session, headers: { "mcp-protocol-version": VERSION }, message: { ...RPC, id, result: SAID } },
    ],
    [
      "both members",
      400,
      -32600,
      { as: mine, session, message: { ...RPC, id, result: SAID, error: { code: 1, message: "" } } },
    ],
    ["a result that is none", 400, -32600, { as: mine, session, message: { ...RPC, id, result: "x" } }],
    ["an error that is none", 400, -32600, { as: mine, session, message: { ...RPC, id, error: { code: "x" } } }],
    ["an answer that is a call too", 400, -32600, { as: mine, session, message: { ...CALL, id, result: SAID } }],
  ];
  for (const [label, status, code, o] of wrong) await refused(await speak(o), status, code, label);
  assert.equal(arrived().length, before, "the server heard of none");
  const refusal = { code: -1, message: "the person says no" };
  const good = await speak({ as: mine, session, message: { ...RPC, id, error: refusal } });
  assert.equal(good.status, 202);
  assert.deepEqual(arrived().at(-1), { ...RPC, id: 7, error: refusal });
  stream.end();
});

test("what a client declared cannot be added to its session id", async () => {
  const session = await begin(mine, {});
  const [id, , seal] = session.split(".");
  for (const forged of [`${id}.ser.${seal}`, `${id}.${seal}`, `${session}.ser`])
    await refused(await speak({ as: mine, session: forged, message: CALL }), 404, -32600, forged);
  assert.equal(arrived().length, 0);
});

test("A-MCP-08 a session's stream is its owner's alone, is judged like an answer, and ends with a kill", async () => {
  const session = await begin(mine, ALL);
  const updated = { ...RPC, method: "notifications/resources/updated", params: { uri: "file:///x" } };
  const changed = { ...RPC, method: "notifications/tools/list_changed" };
  s.onListen = (stream) => {
    stream.event(updated);
    stream.event(answerTo(5));
    stream.event(ask(1, "tools/call"));
    stream.event(changed);
    stream.event(ask(2, "roots/list"));
  };
  const line = await speak({ as: mine, session, method: "GET" });
  assert.equal(line.status, 200);
  assert.equal(line.headers.get("content-type"), "text/event-stream");
  assert.deepEqual((await line.next())?.message, changed, "not the update of what it may not read, nor an answer");
  const { message } = (await line.next()) ?? {};
  assert.equal(message?.["method"], "roots/list");
  const answered = await speak({ as: mine, session, message: { ...RPC, id: message?.["id"], result: { roots: [] } } });
  assert.equal(answered.status, 202);

  const theirs = await begin(lonely, ALL);
  const other = await speak({ as: lonely, session: theirs, method: "GET" });
  assert.deepEqual((await other.next())?.message, updated, "whoever may subscribe is told");
  server.seen.length = 0;
  await refused(await speak({ as: lonely, session, method: "GET" }), 404, -32600);
  const modern = { "mcp-protocol-version": VERSION };
  assert.equal((await speak({ as: mine, session, method: "GET", headers: modern })).status, 405);
  assert.equal((await speak({ as: mine, method: "GET" })).status, 405);
  assert.equal((await speak({ as: "no.to.ken", session, method: "GET" })).status, 401);
  assert.equal(server.seen.length, 0);

  const killed = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(killed.status, 200);
  await isCut(line.next());
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" })).status, 200);
});

test("a stream is resumed by its own session alone, and what is left of a list is filtered like the list", async () => {
  const as = await token();
  const session = await begin(as, ALL);
  const list = { ...RPC, id: 6, method: "tools/list" };
  const tools = [
    { name: "get_ticket", inputSchema: {} },
    { name: "drop_database", inputSchema: {} },
  ];
  const usual = server.answer;
  // Pinned first; then the server hangs up in the middle of the next list.
  assert.equal((await speak({ as, session, message: list })).status, 200);
  server.answer = (req, res, body) => {
    if (req.method === "GET") return usual(req, res, body);
    res.writeHead(200, { "content-type": "text/event-stream" });
    res.end("id: ev-1\nretry: 25\ndata: \n\n");
  };
  const line = await speak({ as, session, message: list });
  const first = await line.next();
  assert.equal(first?.message, undefined);
  assert.equal(first?.retry, "25");
  assert.ok(first?.id !== undefined && !first.id.includes("ev-1"));
  assert.equal(await line.next(), undefined);
  server.answer = usual;
  s.onListen = (stream) => {
    stream.event({ ...RPC, id: 7, result: { tools } }, "id: ev-2");
    stream.event({ ...RPC, id: 6, result: { tools } }, "id: ev-3");
  };
  server.seen.length = 0;
  const resumed = await speak({ as, session, method: "GET", headers: { "last-event-id": first.id } });
  const rest = await resumed.next();
  assert.deepEqual(rest?.message, { ...RPC, id: 6, result: { tools: [tools[0]] } });
  const sent = server.seen.at(-1)?.rawHeaders ?? [];
  assert.equal(sent[sent.findIndex((text) => text.toLowerCase() === "last-event-id") + 1], "ev-1");

  server.seen.length = 0;
  const another = await begin(as, ALL);
  server.seen.length = 0;
  for (const [at, id] of [
    [session, "ev-1"],
    [session, `${first.id}x`],
    [another, first.id],
  ] as const)
    await refused(await speak({ as, session: at, method: "GET", headers: { "last-event-id": id } }), 400, -32600, id);
  assert.equal(server.seen.length, 0);
});

test("a session is ended by its owner alone", async () => {
  const as = await token();
  const session = await begin(as);
  server.seen.length = 0;
  await refused(await speak({ as: await token("lonely-bot"), session, method: "DELETE" }), 404, -32600);
  assert.equal((await speak({ as, method: "DELETE" })).status, 405);
  assert.equal(server.seen.length, 0);
  const ended = await speak({ as, session, method: "DELETE" });
  assert.equal(ended.status, 204);
  await until(() => server.seen.length === 1, "the server is told");
  const { method, rawHeaders = [] } = server.seen[0] ?? {};
  assert.equal(method, "DELETE");
  assert.match(rawHeaders.join("\n"), /mcp-session-id\nupstream-\d+/i);
});

test("a question and its answer may go through different replicas", async () => {
  const as = await token();
  const { url } = await w.replica();
  const session = await begin(as, ALL);
  const { id, stream } = await asked(session, as, ask(7));
  const answered = await w.request("POST", `${url}/mcp/tickets`, {
    headers: { authorization: `Bearer ${as}`, "mcp-session-id": session },
    body: { ...RPC, id, result: SAID },
  });
  assert.equal(answered.status, 202, answered.text);
  assert.deepEqual(arrived().at(-1), { ...RPC, id: 7, result: SAID });
  stream.end();
});
