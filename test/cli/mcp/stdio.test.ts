import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, test } from "node:test";
import { isAlive, KEY, mcpStage } from "./stage.ts";

const s = await mcpStage({ after });
const { w, up } = s;

interface Refused {
  readonly code: number;
  readonly data: { readonly decision: string };
}
const isRefused = (error: Refused): true => {
  assert.equal(error.code, -32003);
  assert.match(error.data.decision, /^evt_/);
  return true;
};

async function taskOf(purpose: string): Promise<Record<string, unknown>> {
  const [row] = await w.admin("select * from ephor.tasks where purpose = $1", [purpose]);
  assert.ok(row, `no task for ${purpose}`);
  return row;
}

/** The SDK's client starts a second process to find out the revision, so that a purpose can have two tasks. */
async function openTasks(purpose: string): Promise<number> {
  const rows = await w.admin("select ended_at from ephor.tasks where purpose = $1", [purpose]);
  assert.ok(rows.length > 0, `no task for ${purpose}`);
  return rows.filter((row) => row["ended_at"] === null).length;
}

test("2026-07-28: the SDK's client lists what is granted, calls it, and is told no beyond; the process and its task end with it", async () => {
  up.seen.length = 0;
  const { client, pid, talk } = await s.modern(["tickets", "--task", "look at tickets"]);
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.map(({ name }) => name),
    ["get_ticket", "of_region", "wait"],
  );
  const result = await client.callTool({ name: "get_ticket", arguments: { id: 7 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 7" }]);
  await assert.rejects(client.callTool({ name: "get_ticket", arguments: { id: 700 } }), isRefused);
  await assert.rejects(client.callTool({ name: "drop_database", arguments: { id: 7 } }), isRefused);
  const routed = await client.callTool({ name: "of_region", arguments: { region: "Köln" } });
  assert.deepEqual(routed.content, [{ type: "text", text: "of Köln" }]);
  assert.ok(up.seen.length > 0 && up.seen.every((headers) => headers.authorization === `Bearer ${KEY}`));
  assert.ok(
    up.seen.some((headers) => headers["mcp-param-region"] === `=?base64?${Buffer.from("Köln").toString("base64")}?=`),
  );
  await client.close();
  assert.ok(!isAlive(pid));
  assert.equal(await openTasks("look at tickets"), 0);
  assert.equal(talk(), "");
});

test("2025-11-25: the SDK's older client keeps its session, answers what the server asks in it, and a lost one is opened anew without its knowing", async () => {
  const { client, pid } = await s.legacy(["old-tickets"]);
  const { tools } = await client.listTools();
  assert.deepEqual(
    tools.map(({ name }) => name),
    ["get_ticket", "ask_model"],
  );
  const asked = await client.callTool({ name: "ask_model", arguments: {} });
  assert.match(JSON.stringify(asked.content), /it said .*fine/);
  up.forget();
  const [one, two] = await Promise.all([7, 8].map((id) => client.callTool({ name: "get_ticket", arguments: { id } })));
  assert.deepEqual(one?.content, [{ type: "text", text: "ticket 7" }]);
  assert.deepEqual(two?.content, [{ type: "text", text: "ticket 8" }]);
  await assert.rejects(client.callTool({ name: "close_ticket", arguments: { id: 7 } }), { code: -32003 });
  await client.close();
  assert.ok(!isAlive(pid));
});

test("a token that is no longer taken is replaced", async () => {
  const { client, talk } = await s.modern(["tickets", "--task", "the long one"]);
  const call = (): ReturnType<typeof client.callTool> => client.callTool({ name: "get_ticket", arguments: { id: 1 } });
  await call();
  w.clock.advance(61);
  assert.deepEqual((await call()).content, [{ type: "text", text: "ticket 1" }]);
  assert.equal(talk(), "");
  await client.close();
});

test("two clients at once have a task each; the end of one is not the other's", async () => {
  const [one, two] = await Promise.all(["first", "second"].map((task) => s.modern(["tickets", "--task", task])));
  assert.ok(one && two);
  await one.client.close();
  const result = await two.client.callTool({ name: "get_ticket", arguments: { id: 2 } });
  assert.deepEqual(result.content, [{ type: "text", text: "ticket 2" }]);
  assert.deepEqual([await openTasks("first"), await openTasks("second")], [0, 1]);
  await two.client.close();
});

test("on behalf of a human: the record names both; without her nothing is granted and exit code 3 says so", async () => {
  const as = ["--token-file", join(s.env["TOKENS"] as string, "triage-bot")];
  const ada = `token-file:${join(s.env["TOKENS"] as string, "ada")}`;
  const { client } = await s.modern(["tickets", ...as, "--on-behalf-of", ada]);
  await client.callTool({ name: "get_ticket", arguments: { id: 3 } });
  const [event] = await w.events({ type: "call.forward" });
  assert.deepEqual([event?.["agent"], event?.["sub"]], ["triage-bot", "okta|00u1ab"]);
  await client.close();
  const alone = s.raw(["tickets", ...as]);
  const ended = await alone.ended;
  assert.deepEqual([ended.code, ended.out], [3, ""], ended.talk);
  const other = await s.raw(["billing"]).ended;
  assert.deepEqual([other.code, other.out], [1, ""]);
  assert.match(other.talk, /billing is no MCP resource/);
});

const MODERN_META = {
  "io.modelcontextprotocol/protocolVersion": "2026-07-28",
  "io.modelcontextprotocol/clientCapabilities": {},
};
const call = (id: number | string, name: string, args: object = {}): string =>
  `${JSON.stringify({ jsonrpc: "2.0", id, method: "tools/call", params: { name, arguments: args, _meta: MODERN_META } })}\n`;

test("garbage on standard input is answered with JSON-RPC errors, and what comes after it with its answer", async () => {
  const raw = s.raw(["tickets"]);
  const long = `{"jsonrpc":"2.0","id":9,"method":"ping","params":{"x":"${"x".repeat(1024 * 1024)}"}}`;
  const codes: unknown[] = [];
  for (const text of ["nonsense", "[]", '"text"', '{"jsonrpc":"2.0","id":null,"method":"ping"}', "{}", long]) {
    raw.send(`\n${text}\n`);
    const { id, error } = (await raw.line()) as { id: unknown; error: { code: number } };
    assert.equal(id, null);
    codes.push(error.code);
  }
  assert.deepEqual(codes, [-32700, -32600, -32600, -32600, -32600, -32600]);
  raw.send('{"jsonrpc":"2.0","id":5,"result":{}}\n');
  raw.send('{"jsonrpc":"2.0","id":6,"method":"no/such"}\n');
  assert.deepEqual(((await raw.line())["error"] as { code: number }).code, -32601);
  // The last line has no end, and is answered all the same before the process ends.
  raw.send(call("last", "get_ticket", { id: 4 }).trimEnd());
  raw.endInput();
  assert.equal((await raw.line())["id"], "last");
  const ended = await raw.ended;
  assert.equal(ended.code, 0, ended.talk);
});

const LISTEN = `${JSON.stringify({
  jsonrpc: "2.0",
  id: "changes",
  method: "subscriptions/listen",
  params: { notifications: { toolsListChanged: true }, _meta: MODERN_META },
})}\n`;

test("a stream of changes that is cut at its token's end goes on with the next; the client hears of it once", async () => {
  const raw = s.raw(["tickets"]);
  const listens = (): number => up.seen.filter((headers) => headers["mcp-method"] === "subscriptions/listen").length;
  raw.send(LISTEN);
  assert.equal((await raw.line())["method"], "notifications/subscriptions/acknowledged");
  const before = listens();
  w.clock.advance(61);
  for (let round = 0; listens() === before; round++) {
    assert.ok(round < 400, "it is not asked for again");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  raw.send(call("next", "get_ticket", { id: 5 }));
  assert.equal((await raw.line())["id"], "next");
  raw.endInput();
  const ended = await raw.ended;
  assert.deepEqual([ended.code, ended.out.split("\n").length], [0, 3]);
});

test("a client that cancels breaks its call off at the upstream, and gets no answer to it", async () => {
  const raw = s.raw(["tickets"]);
  raw.send(call("slow", "wait"));
  await up.waits();
  const before = up.brokenOff();
  raw.send('{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"slow"}}\n');
  for (let round = 0; up.brokenOff() === before; round++) {
    assert.ok(round < 200, "the call goes on");
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  raw.send(call("next", "get_ticket", { id: 5 }));
  assert.equal((await raw.line())["id"], "next");
  raw.endInput();
  const ended = await raw.ended;
  assert.equal(ended.code, 0);
  assert.equal(ended.out.split("\n").length, 2);
});

test("SIGTERM ends the task though a call is waiting", async () => {
  const raw = s.raw(["tickets", "--task", "told to stop"]);
  raw.send(call(1, "wait"));
  await up.waits();
  raw.kill("SIGTERM");
  assert.equal((await raw.ended).code, 0);
  assert.equal(await openTasks("told to stop"), 0);
});

test("nothing that could be spent is in its arguments, its environment or on its standard error", async () => {
  const raw = s.raw(["tickets"]);
  raw.send(call(1, "get_ticket", { id: 6 }));
  await raw.line();
  raw.endInput();
  const { out, talk } = await raw.ended;
  const workload = await readFile(s.env["EPHOR_TOKEN_FILE"] as string, "utf8");
  for (const secret of [KEY, workload, "eyJ"]) assert.ok(!(out + talk).includes(secret));
});

test("a killed task: every request that waits is told so, and the exit code is 5", async () => {
  const raw = s.raw(["tickets", "--task", "to be killed"]);
  raw.send(call("a", "wait") + call("b", "wait"));
  await up.waits();
  await up.waits();
  const { txn } = await taskOf("to be killed");
  await w.operator("POST", "/v1/kill", { txn, reason: "test" });
  const told = [await raw.line(), await raw.line()];
  assert.deepEqual(
    told.map(({ id, error }) => [id, (error as { code: number }).code, (error as { data: object }).data]).toSorted(),
    [
      ["a", -32004, { error: "killed", what: "task" }],
      ["b", -32004, { error: "killed", what: "task" }],
    ],
  );
  const ended = await raw.ended;
  assert.equal(ended.code, 5);
  assert.match(ended.talk, /the task was killed/);
});

test("a killed agent: a stream of changes that waits alone brings the end too; started again it ends with 5", async () => {
  const raw = s.raw(["tickets"]);
  raw.send(LISTEN);
  assert.equal((await raw.line())["method"], "notifications/subscriptions/acknowledged");
  await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  const { id, error } = await raw.line();
  assert.deepEqual([id, (error as { data: object }).data], ["changes", { error: "killed", what: "agent" }]);
  assert.equal((await raw.ended).code, 5);
  const again = await s.raw(["tickets"]).ended;
  assert.deepEqual([again.code, again.out], [5, ""], again.talk);
});
