/** Ways round an inspection that sessions could be: what a client answers its server, and the rest of a stream. */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { SECRET, startInspector } from "./inspector-stage.ts";
import { sessionStage, type Json } from "./session-stage.ts";

const inspector = await startInspector({ after });
const s = await sessionStage({ after }, { more: `    inspect: { url: "${inspector.url}", secret: dlp-key }` });
const { w, server, speak, begin } = s;
assert.ok((await w.operator("PUT", "/v1/secrets/dlp-key", { value: SECRET })).status < 300);
const mine = await s.token("tickets", { resource: "mcp/tickets" });
const RPC = { jsonrpc: "2.0" };
const CALL = { ...RPC, id: 5, method: "tools/call", params: { name: "get_ticket", arguments: {} } };
const answerTo = (id: unknown, text: string): Json => ({ ...RPC, id, result: { content: [{ type: "text", text }] } });

beforeEach(() => {
  inspector.seen.length = 0;
  // Whatever has a card number in it, in either direction.
  inspector.verdict = ({ arguments: args, body }) => ({
    verdict: JSON.stringify([args, body]).includes("4111") ? "refuse" : "allow",
  });
});

test("what a client answers its server is inspected like a call", async () => {
  const session = await begin(mine, { sampling: {} });
  s.onCall = (stream) =>
    stream.event({ ...RPC, id: 7, method: "sampling/createMessage", params: { messages: [], maxTokens: 1 } });
  const line = await speak({ as: mine, session, message: CALL });
  const id = (await line.next())?.message?.["id"];
  const before = server.seen.length;
  const say = (text: string): ReturnType<typeof speak> =>
    speak({
      as: mine,
      session,
      message: { ...RPC, id, result: { role: "assistant", model: "m", content: { type: "text", text } } },
    });
  const refused = await say("4111");
  assert.equal(refused.status, 403, await refused.text());
  assert.equal(server.seen.length, before);
  assert.equal((await say("fine")).status, 202);
  assert.equal(server.seen.length, before + 1);
});

test("of a stream every message is inspected, also where its rest is fetched on another connection", async () => {
  const session = await begin(mine);
  s.onCall = (stream) => {
    stream.event(undefined, "id: 1");
    stream.end();
  };
  const first = await speak({ as: mine, session, message: CALL });
  const name = (await first.next())?.id;
  assert.ok(name);
  s.onListen = (stream) => {
    stream.event({ ...RPC, method: "notifications/message", params: { level: "info", data: "4111" } }, "id: 2");
    stream.event({ ...RPC, method: "notifications/message", params: { level: "info", data: "fine" } }, "id: 3");
    stream.event(answerTo(5, "4111"), "id: 4");
    stream.end();
  };
  const rest = await speak({ as: mine, session, method: "GET", headers: { "last-event-id": name } });
  assert.equal(rest.status, 200);
  assert.deepEqual((await rest.next())?.message?.["params"], { level: "info", data: "fine" });
  const answer = (await rest.next())?.message;
  const { code } = (answer?.["error"] ?? {}) as Json;
  assert.deepEqual([answer?.["id"], code], [5, -32003]);
  assert.ok(!JSON.stringify(answer).includes('"4111'));
});
