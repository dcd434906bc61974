import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { Client as LegacyClient } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport as LegacyTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { ElicitationCompleteNotificationSchema, ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { startLegacy, startModern } from "../proxy/mcp-upstream.ts";
import { sessionStage, type Json, type Line } from "../proxy/session-stage.ts";
import { isCut, until } from "../proxy/stage.ts";

const s = await sessionStage({ after });
const { w, server, speak, begin } = s;
const modern = await startModern({ after });
const legacy = await startLegacy({ after });
const approval = "approval: { by: owner, within: 30s }";
await w.apply(`
resources:
  new-tickets: { mcp: "${modern.url}" }
  old-tickets: { mcp: "${legacy.url}" }
grants:
  - { agent: release-bot, resource: tickets, actions: [drop_database], name: drops, ${approval} }
  - { agent: lonely-bot, resource: tickets, actions: [drop_database], name: lonely-drops, ${approval} }
  - { agent: release-bot, resource: new-tickets, actions: [close_ticket], name: closes-new, ${approval} }
  - { agent: release-bot, resource: old-tickets, actions: [close_ticket], name: closes-old, ${approval} }`);

const RPC = { jsonrpc: "2.0" };
const VERSION = "2026-07-28";
const URLS = { elicitation: { url: {} } };
const token = (agent = "release-bot", resource = "tickets"): Promise<string> =>
  s.token(resource, { agent, resource: `mcp/${resource}` });

beforeEach(() => {
  server.seen.length = 0;
  s.onCall = (stream, { id }) => {
    stream.event({ ...RPC, id, result: { content: [{ type: "text", text: "dropped" }] } });
    stream.end();
  };
});

const callOf = (args: Json, more: Json = {}): Json => ({
  ...RPC,
  id: 5,
  method: "tools/call",
  params: { name: "drop_database", arguments: args, ...more },
});

/** Fails where nothing comes that should. */
async function soon<T>(promise: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error("it still waits")), 20_000);
  });
  return await Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

const nextOf = async (line: Line): Promise<Json | undefined> => (await soon(line.next()))?.message;

/** Calls that reached the server. */
const arrived = (): Json[] =>
  server.seen
    .filter(({ method }) => method === "POST")
    .map(({ body }) => JSON.parse(body) as Json)
    .filter(({ method }) => method === undefined || method === "tools/call");

const decide = async (id: string, decision = "approve"): Promise<void> => {
  const done = await w.operator("POST", `/v1/approvals/${id}`, { decision, reason: "looked at it" });
  assert.equal(done.status, 200, done.text);
};

const statusOf = async (id: string): Promise<unknown> =>
  (await w.operator("GET", `/v1/approvals/${id}`)).body["status"];

const claimsOf = (access: string): Json =>
  JSON.parse(Buffer.from(access.split(".")[1] ?? "", "base64url").toString()) as Json;

interface Question {
  readonly line: Line;
  /** Of the question. */
  readonly id: string;
  readonly approval: string;
  readonly url: string;
}

/** A call whose client is asked to have its human see to the approval. */
async function asked(session: string, as: string, message: Json): Promise<Question> {
  const line = await speak({ as, session, message });
  assert.equal(line.status, 200, line.status === 200 ? "" : await line.text());
  assert.equal(line.headers.get("content-type"), "text/event-stream");
  const question = await nextOf(line);
  assert.deepEqual([question?.["method"], typeof question?.["id"]], ["elicitation/create", "string"]);
  const { mode, elicitationId, url, message: text } = (question?.["params"] ?? {}) as Record<string, string>;
  assert.equal(mode, "url");
  assert.match(elicitationId ?? "", /^apr_/);
  assert.match(text ?? "", /release-bot asks to do tickets:drop_database/);
  return { line, id: String(question?.["id"]), approval: elicitationId ?? "", url: url ?? "" };
}

/** The end of a stream: an error that names the approval. */
async function endsPending(line: Line, id: string, status = "pending"): Promise<void> {
  const error = (await nextOf(line))?.["error"] as { code: number; data: { approval: Json; decision: string } };
  assert.deepEqual([error.code, error.data.approval["id"], error.data.approval["status"]], [-32003, id, status]);
  assert.match(error.data.decision, /^evt_/);
  assert.equal(await soon(line.next()), undefined);
}

const answer = async (as: string, session: string, o: { id: string; action?: string }): Promise<number> =>
  (
    await speak({
      as,
      session,
      message: {
        ...RPC,
        id: o.id,
        ...(o.action === undefined ? { error: { code: -1, message: "no" } } : { result: { action: o.action } }),
      },
    })
  ).status;

test("2025-11-25: a client that opens addresses is asked, and once the call is approved its result comes in the same stream", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const { line, id, approval: apr, url } = await asked(session, as, callOf({ n: 1 }));
  const listed = await w.operator("GET", `/v1/approvals/${apr}`);
  assert.equal(listed.body["status"], "pending");
  assert.ok(url.startsWith(w.server.issuer) && url.endsWith(apr));
  assert.equal(await answer(as, session, { id, action: "accept" }), 202);
  assert.equal(await statusOf(apr), "pending", "what its human says to the client is no decision");
  assert.deepEqual(arrived(), [], "neither the call nor the answer reached the server");
  await decide(apr);
  const complete = await nextOf(line);
  assert.deepEqual(complete, { ...RPC, method: "notifications/elicitation/complete", params: { elicitationId: apr } });
  assert.deepEqual((await nextOf(line))?.["result"], { content: [{ type: "text", text: "dropped" }] });
  assert.equal(await soon(line.next()), undefined);
  assert.deepEqual(arrived(), [callOf({ n: 1 })]);
  assert.ok(server.seen.at(-1)?.rawHeaders.some((text) => text.toLowerCase() === "ephor-approval"));
  assert.equal(await statusOf(apr), "used");
});

test("a human who says no to his client decides nothing: the call is answered with its approval, which can still be given", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  for (const [n, action] of ["decline", "cancel", undefined].entries()) {
    const { line, id, approval: apr } = await asked(session, as, callOf({ no: n }));
    assert.equal(await answer(as, session, { id, ...(action !== undefined && { action }) }), 202);
    await soon(line.next()).then(async (first) => {
      const error = first?.message?.["error"] as { data: { approval: Json } } | undefined;
      assert.deepEqual([error?.data.approval["id"], error?.data.approval["status"]], [apr, "pending"]);
    });
    assert.equal(await statusOf(apr), "pending");
    await decide(apr);
    const again = await speak({ as, session, message: callOf({ no: n }) });
    assert.ok((await nextOf(again))?.["result"], "once approved the same call passes");
  }
});

test("an approver's no ends the stream as denied; nobody's decision ends it 5 s before the token does, as pending", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const denied = await asked(session, as, callOf({ n: 3 }));
  await decide(denied.approval, "deny");
  assert.equal((await nextOf(denied.line))?.["method"], "notifications/elicitation/complete");
  await endsPending(denied.line, denied.approval, "denied");
  const short = await w.self("release-bot", {
    scope: "tickets",
    resource: `${w.server.issuer}/mcp/tickets`,
    ttl: "20",
  });
  const brief = String(short.body["access_token"]);
  const open = await asked(session, brief, callOf({ n: 4 }));
  w.clock.advance(15);
  await endsPending(open.line, open.approval);
  assert.deepEqual(arrived(), []);
});

test("A-APP-06 the approval's time passes in the stream: DENIED", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const { line, approval: apr } = await asked(session, as, callOf({ n: 5 }));
  w.clock.advance(30);
  await endsPending(line, apr, "expired");
});

test("a kill cuts the stream of a waiting call", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const { line } = await asked(session, as, callOf({ n: 6 }));
  const { jti } = claimsOf(as);
  assert.equal((await w.operator("POST", "/v1/kill", { jti, reason: "test" })).status, 200);
  await isCut(line.next());
});

test("a call that its client cancelled is not made when it is approved", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const { line, approval: apr } = await asked(session, as, callOf({ n: 7 }));
  const message = { ...RPC, method: "notifications/cancelled", params: { requestId: 5 } };
  await speak({ as, session, message });
  await endsPending(line, apr);
  await decide(apr);
  assert.deepEqual(arrived(), []);
});

test("INV-07 a killed token calls off no wait of its session, neither by cancelling the call nor by a no to the question", async () => {
  const as = await token();
  const session = await begin(as, URLS);
  const other = await token();
  const jti = String(claimsOf(other)["jti"]);
  // It was seen here before it was killed.
  await speak({ as: other, session, message: { ...RPC, id: 1, method: "ping" } });
  const { line, id, approval: apr } = await asked(session, as, callOf({ n: 11 }));
  assert.equal((await w.operator("POST", "/v1/kill", { jti, reason: "test" })).status, 200);
  const messages = [
    { ...RPC, method: "notifications/cancelled", params: { requestId: 5 } },
    { ...RPC, id, result: { action: "decline" } },
    { ...RPC, id, result: { action: "accept" } },
  ];
  for (const message of messages) {
    assert.equal((await speak({ as: other, session, message })).status, 401);
    const [last] = await w.events({ jti });
    assert.deepEqual([last?.["decision"], last?.["reason"]], ["refused", "token_revoked"]);
  }
  await decide(apr);
  assert.equal((await nextOf(line))?.["method"], "notifications/elicitation/complete", "it waited all the while");
  assert.ok((await nextOf(line))?.["result"]);
  assert.deepEqual(arrived(), [callOf({ n: 11 })]);
});

test("nobody else is asked: clients of forms only, without a session, or that take no events; and no other session answers", async () => {
  const as = await token();
  const mine = await begin(as, URLS);
  const { line, id, approval: apr } = await asked(mine, as, callOf({ n: 8 }));
  const forms = await begin(as, { elicitation: { form: {} } });
  const lonely = await token("lonely-bot");
  const theirs = await begin(lonely, URLS);
  assert.equal(await answer(as, forms, { id, action: "decline" }), 400);
  assert.equal(await answer(lonely, theirs, { id, action: "decline" }), 400);
  assert.equal(await answer(lonely, mine, { id, action: "decline" }), 404);
  for (const o of [{ as, session: forms }, { as }, { as, session: mine, headers: { accept: "application/json" } }]) {
    const plainly = await speak({ ...o, message: callOf({ n: 9 }) });
    assert.equal(plainly.headers.get("content-type"), "application/json");
    assert.equal((JSON.parse(await plainly.text()) as { error: Json }).error["code"], -32003);
  }
  await decide(apr);
  assert.equal((await nextOf(line))?.["method"], "notifications/elicitation/complete", "it waited all the while");
});

test("Prefer: wait holds an MCP call whose client opens no addresses", async () => {
  const as = await token();
  const held = speak({ as, headers: { prefer: "wait=30" }, message: callOf({ n: 10 }) });
  let id = "";
  await until(async () => {
    const list = await w.operator("GET", "/v1/approvals");
    const shown = await Promise.all(
      (list.body["items"] as { id: string }[]).map((one) => w.operator("GET", `/v1/approvals/${one.id}`)),
    );
    const found = shown.find(({ body }) => (body["arguments"] as Json)["n"] === 10);
    id = String(found?.body["id"]);
    return found !== undefined;
  }, "somebody is asked");
  await decide(id);
  const line = await soon(held);
  assert.equal(line.status, 200);
  assert.ok((await nextOf(line))?.["result"]);
});

const meta = (capabilities: Json = URLS): Json => ({
  _meta: {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": capabilities,
  },
});
const MODERN = { "mcp-protocol-version": VERSION, "mcp-method": "tools/call", "mcp-name": "drop_database" };

async function round(as: string, args: Json, more: Json = {}): Promise<Line> {
  return await soon(speak({ as, headers: MODERN, message: callOf(args, { ...meta(), ...more }) }));
}

/** The answer that asks for input. */
async function required(line: Line): Promise<{ state: string; approval: string }> {
  const text = await line.text();
  const { result = {} } = JSON.parse(text) as { result?: Json };
  assert.equal(result["resultType"], "input_required", text);
  const { ephor_approval: entry } = result["inputRequests"] as { ephor_approval: { method: string; params: Json } };
  assert.deepEqual([entry.method, entry.params["mode"]], ["elicitation/create", "url"]);
  return { state: String(result["requestState"]), approval: String(entry.params["url"]).split("/").at(-1) ?? "" };
}

const accepted = (requestState: string, action = "accept"): Json => ({
  requestState,
  inputResponses: { ephor_approval: { action } },
});

const errorOf = async (line: Line): Promise<{ status: number; code: unknown; approval?: Json }> => {
  const text = await line.text();
  const { error } = JSON.parse(text) as { error?: { code: number; data?: { approval?: Json } } };
  assert.ok(error, text);
  return { status: line.status, code: error.code, ...(error.data?.approval && { approval: error.data.approval }) };
};

test("2026-07-28: the answer asks for input, and the call that comes back is the same: it waits, and goes on once approved", async () => {
  const as = await token();
  const first = await required(
    await round(as, { n: 20 }, { requestState: "theirs", inputResponses: { form: { action: "accept" } } }),
  );
  const held = round(as, { n: 20 }, accepted(first.state));
  await decide(first.approval);
  const line = await held;
  assert.ok((await nextOf(line))?.["result"]);
  const [sent = {}, ...more] = arrived();
  assert.deepEqual(more, []);
  const { requestState, inputResponses } = sent["params"] as Json;
  assert.deepEqual(
    [requestState, inputResponses],
    ["theirs", { form: { action: "accept" } }],
    "the server's own round is put back",
  );
  const next = await required(await round(as, { n: 20 }, accepted(first.state)));
  assert.notEqual(next.approval, first.approval, "used once");
});

test("2026-07-28: a no to the client, other arguments, and time that passes bring nothing that was not approved", async () => {
  const as = await token();
  const first = await required(await round(as, { n: 21 }));
  for (const action of ["decline", "cancel", "approve"]) {
    const { code, approval: notice } = await errorOf(await round(as, { n: 21 }, accepted(first.state, action)));
    assert.deepEqual([code, notice?.["id"], notice?.["status"]], [-32003, first.approval, "pending"]);
  }
  const other = await required(await round(as, { n: 22 }, accepted(first.state)));
  assert.notEqual(other.approval, first.approval, "other arguments are another call");
  await decide(other.approval, "deny");
  const denied = await errorOf(await round(as, { n: 22 }, accepted(other.state)));
  assert.deepEqual([denied.code, denied.approval?.["status"]], [-32003, "denied"]);
  w.clock.advance(30);
  const late = await errorOf(await round(as, { n: 21 }, accepted(first.state)));
  assert.deepEqual([late.code, late.approval?.["id"], late.approval?.["status"]], [-32003, first.approval, "expired"]);
  assert.deepEqual(arrived(), []);
});

test("2026-07-28: a state that is not ours for this agent is refused; a client that opens no addresses is answered as ever", async () => {
  const as = await token();
  const { state } = await required(await round(as, { n: 23 }));
  const lonely = await token("lonely-bot");
  for (const [who, forged] of [
    [as, `${state.slice(0, -1)}${state.endsWith("A") ? "B" : "A"}`],
    [as, "ephor-approval.e30.x"],
    [lonely, state],
  ] as const)
    assert.deepEqual(await errorOf(await round(who, { n: 23 }, accepted(forged))), { status: 400, code: -32602 });
  const last = (await w.events({})).find((event) => event["type"] === "call.forward");
  assert.deepEqual([last?.["decision"], last?.["reason"]], ["refused", "malformed_request"]);
  for (const capabilities of [{}, { elicitation: {} }, { elicitation: { form: {} } }]) {
    const { code } = await errorOf(await round(as, { n: 24 }, meta(capabilities)));
    assert.equal(code, -32003);
  }
  assert.deepEqual(arrived(), []);
});

test("the SDK's clients of both revisions have their human see to it, and get their result from the same call", async () => {
  const headersOf = async (resource: string): Promise<{ requestInit: { headers: Record<string, string> } }> => ({
    requestInit: { headers: { authorization: `Bearer ${await token("release-bot", resource)}` } },
  });
  const opened: string[] = [];
  const human = async (url: string): Promise<{ action: "accept" }> => {
    opened.push(url);
    await decide(url.split("/").at(-1) ?? "");
    return { action: "accept" };
  };
  const now = new Client({ name: "test", version: "1" }, { capabilities: URLS, versionNegotiation: { mode: "auto" } });
  now.setRequestHandler("elicitation/create", async ({ params }) => await human("url" in params ? params.url : ""));
  await now.connect(
    new StreamableHTTPClientTransport(new URL(`${w.url}/mcp/new-tickets`), await headersOf("new-tickets")),
  );
  const done = await now.callTool({ name: "close_ticket", arguments: { id: 7 } });
  assert.deepEqual(done.content, [{ type: "text", text: "closed 7" }]);
  await now.close();

  const before = new LegacyClient({ name: "test", version: "1" }, { capabilities: URLS });
  const complete: string[] = [];
  before.setRequestHandler(ElicitRequestSchema, async ({ params }) => await human("url" in params ? params.url : ""));
  before.setNotificationHandler(ElicitationCompleteNotificationSchema, ({ params }) => {
    complete.push(params.elicitationId);
  });
  const transport = new LegacyTransport(new URL(`${w.url}/mcp/old-tickets`), await headersOf("old-tickets"));
  await before.connect(transport as Parameters<typeof before.connect>[0]);
  const closed = await before.callTool({ name: "close_ticket", arguments: { id: 8 } });
  assert.deepEqual(closed.content, [{ type: "text", text: "closed 8" }]);
  assert.equal(opened.length, 2);
  assert.deepEqual(complete, [opened[1]?.split("/").at(-1)]);
  await before.close();
});
