import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { CreateMessageRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { until } from "./stage.ts";
import { commandOf, packageOf, SCRIPTED, send, stdioWorld, tokenFor } from "./stdio-stage.ts";

type Json = Record<string, unknown>;

const RPC = { jsonrpc: "2.0" };
const EVENTS = "application/json, text/event-stream";
const w = await stdioWorld({ after }, SCRIPTED);
await w.operator("PUT", "/v1/secrets/files-key", { value: "files-key-value-3e9a51" });
const mine = await tokenFor(w, "old");
const lonely = await tokenFor(w, "old", "lonely-bot");

async function begin(token: string, capabilities: Json): Promise<string> {
  const params = { protocolVersion: "2025-11-25", capabilities, clientInfo: { name: "t", version: "1" } };
  const answer = await send(w, "old", { token, message: { ...RPC, id: 0, method: "initialize", params } });
  assert.equal(answer.status, 200, answer.text);
  return answer.headers.get("mcp-session-id") ?? "";
}

/** Events of an answer as they come. */
async function stream(
  token: string,
  session: string,
  o: { tool?: string; args?: Json; accept?: string; signal?: AbortSignal },
): Promise<{ status: number; next(): Promise<Json | undefined> }> {
  const response = await fetch(`${w.url}/mcp/old`, {
    method: "POST",
    signal: AbortSignal.any([AbortSignal.timeout(20_000), ...(o.signal ? [o.signal] : [])]),
    headers: {
      authorization: `Bearer ${token}`,
      "content-type": "application/json",
      accept: o.accept ?? EVENTS,
      "mcp-session-id": session,
    },
    body: JSON.stringify({
      ...RPC,
      id: 5,
      method: "tools/call",
      params: { name: o.tool ?? "question", arguments: o.args ?? {} },
    }),
  });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  return {
    status: response.status,
    async next() {
      for (;;) {
        const [block, ...more] = rest.split("\n\n");
        if (more.length > 0) {
          rest = more.join("\n\n");
          const data = /^data: (.*)$/m.exec(block ?? "")?.[1];
          if (data !== undefined) return JSON.parse(data) as Json;
          continue;
        }
        const read = await reader?.read();
        if (read === undefined || read.done) return rest === "" ? undefined : (JSON.parse(rest) as Json);
        rest += read.value;
      }
    },
  };
}

const answer = (token: string, session: string, id: unknown): ReturnType<typeof send> =>
  send(w, "old", {
    token,
    headers: { "mcp-session-id": session },
    message: { ...RPC, id, result: { model: "m", role: "assistant", content: { type: "text", text: "hello" } } },
  });

/** What the server was answered. */
const heard = (message: Json | undefined): Json => {
  const { content } = (message?.["result"] ?? { content: [] }) as { content: { text: string }[] };
  return JSON.parse(content[0]?.text ?? "") as Json;
};

const asking = { method: "sampling/createMessage", as: 7 };

test("a local server's question reaches the client of its session that declared it, and the answer comes back under its own id", async () => {
  const session = await begin(mine, { sampling: {} });
  for (const as of [7, "7"]) {
    const events = await stream(mine, session, { args: { ...asking, as } });
    const question = await events.next();
    assert.equal(question?.["method"], "sampling/createMessage");
    assert.notEqual(question?.["id"], as, "under a sealed id");
    const done = await answer(mine, session, question?.["id"]);
    assert.equal(done.status, 202, done.text);
    const said = heard(await events.next());
    assert.equal(said["id"], as);
    assert.equal((said["result"] as Json)["model"], "m");
    const twice = await answer(mine, session, question?.["id"]);
    assert.equal(twice.status, 400, "it waits no more");
  }
  const recorded = (await w.events()).filter((event) => JSON.stringify(event).includes('"method":"response"'));
  assert.ok(recorded.length >= 4);
});

test("A-MCP-14 what the client did not declare, or nobody serves, is refused to the server at once, and the call goes on", async () => {
  const session = await begin(mine, { sampling: {} });
  for (const method of ["elicitation/create", "roots/list", "tools/call", "sampling/createMessage/"]) {
    const events = await stream(mine, session, { args: { method, as: 8 } });
    assert.equal((heard(await events.next())["error"] as Json)["code"], -32601, method);
  }
  const ping = await stream(mine, session, { args: { method: "ping", as: 8 } });
  assert.deepEqual(heard(await ping.next())["result"], {});
  const json = await stream(mine, session, { args: asking, accept: "application/json" });
  assert.equal((heard(await json.next())["error"] as Json)["code"], -32601, "a client that takes no events");
  const none = await begin(mine, {});
  const undeclared = await stream(mine, none, { args: asking });
  assert.equal((heard(await undeclared.next())["error"] as Json)["code"], -32601);
});

test("nobody else can answer: another session, another agent, a guessed id", async () => {
  const session = await begin(mine, { sampling: {} });
  const events = await stream(mine, session, { args: asking });
  const id = (await events.next())?.["id"];
  const other = await begin(mine, { sampling: {} });
  const theirs = await begin(lonely, { sampling: {} });
  assert.equal((await answer(mine, other, id)).status, 400);
  assert.equal((await answer(lonely, theirs, id)).status, 400);
  assert.equal((await answer(lonely, session, id)).status, 404);
  assert.equal((await answer(mine, session, 7)).status, 400);
  assert.equal((await answer(mine, session, id)).status, 202);
  assert.equal(heard(await events.next())["id"], 7);
});

test("a question that the server withdraws is withdrawn from its client under the same id, and an answer comes too late", async () => {
  const session = await begin(mine, { sampling: {} });
  const events = await stream(mine, session, { args: { ...asking, withdraws: true } });
  const id = (await events.next())?.["id"];
  const withdrawn = await events.next();
  assert.deepEqual([withdrawn?.["method"], withdrawn?.["params"]], ["notifications/cancelled", { requestId: id }]);
  assert.equal((await answer(mine, session, id)).status, 400);
});

test("a server whose client went away is told that nobody answers", async () => {
  const session = await begin(mine, { sampling: {} });
  const leaving = new AbortController();
  const events = await stream(mine, session, { tool: "unanswered", signal: leaving.signal });
  assert.equal((await events.next())?.["method"], "sampling/createMessage");
  leaving.abort();
  await until(async () => {
    const answers = heard(await (await stream(mine, session, { tool: "answers" })).next()) as unknown as Json[];
    return answers.some(({ id, error }) => id === "left alone" && (error as Json)["code"] === -32601);
  }, "the server is answered");
});

test("server-everything as a local server has the client's model asked, by the official SDKs", async () => {
  const command = commandOf(packageOf("@modelcontextprotocol/server-everything/dist/index.js"), "stdio");
  await w.apply(
    `resources: { everything: { mcp: { command: ${command} } } }\ngrants: [{ agent: release-bot, resource: everything, actions: ["*"], allow_all: true }]`,
  );
  const client = new Client({ name: "test", version: "1" }, { capabilities: { sampling: {} } });
  client.setRequestHandler(CreateMessageRequestSchema, async () => ({
    role: "assistant",
    model: "m",
    content: { type: "text", text: "by the client's model" },
  }));
  const headers = { authorization: `Bearer ${await tokenFor(w, "everything")}` };
  const transport = new StreamableHTTPClientTransport(new URL(`${w.url}/mcp/everything`), { requestInit: { headers } });
  await client.connect(transport as Parameters<typeof client.connect>[0]);
  const { tools } = await client.listTools();
  const name = tools.find((tool) => /sampl/i.test(tool.name))?.name ?? assert.fail(JSON.stringify(tools));
  const result = await client.callTool({ name, arguments: { prompt: "hello", maxTokens: 5 } });
  assert.match(JSON.stringify(result.content), /by the client's model/);
  await client.close();
});
