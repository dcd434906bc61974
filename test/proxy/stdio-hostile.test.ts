import assert from "node:assert/strict";
import { after, test } from "node:test";
import { eventsOf, until } from "./stage.ts";
import {
  callTool,
  FILES_KEY,
  isAlive,
  read,
  said,
  SCRIPTED,
  send,
  startedPids,
  stdioWorld,
  tokenFor,
} from "./stdio-stage.ts";

const w = await stdioWorld({ after }, SCRIPTED);
await w.operator("PUT", "/v1/secrets/files-key", { value: FILES_KEY });
const token = await tokenFor(w, "scripted");
const EVENTS = "application/json, text/event-stream";

const newest = (): number => startedPids(w).at(-1) as number;
/** Waits for an event that says how a call ended. */
const hasOutcome = (problem: string): Promise<void> =>
  until(async () => {
    const [event] = await eventsOf(w, "call.outcome");
    const body = event?.["body"] as Record<string, unknown> | undefined;
    return body?.["outcome"] === "upstream_error" && body["problem"] === problem;
  }, `an outcome: ${problem}`);

test("an empty private folder, no shell, and only five variables; what the server echoes of its credential is hidden (INV-16)", async () => {
  const env = read<Record<string, string>>(await callTool(w, "scripted", "env", { token }));
  assert.deepEqual(Object.keys(env).toSorted(), ["FILES_KEY", "HOME", "LANG", "PATH", "TMPDIR"]);
  assert.equal(env["FILES_KEY"], "*".repeat(FILES_KEY.length));
  const where = read<{ cwd: string; files: string[]; home: string[]; pid: number; argv: string[] }>(
    await callTool(w, "scripted", "where", { token }),
  );
  assert.deepEqual([where.files, where.home, where.argv], [[], [], ["modern"]]);
  assert.equal(where.pid, newest());
  assert.notEqual(where.cwd, process.cwd());
});

test("what it writes to standard error is logged without its credential", async () => {
  assert.equal(said(await callTool(w, "scripted", "leak", { token })), `the key is ${"*".repeat(FILES_KEY.length)}`);
  await until(() => w.lines.some((line) => line.includes("local_server_stderr")), "a line of standard error");
  assert.ok(w.lines.every((line) => !line.includes(FILES_KEY)));
});

test("garbage, answers to nobody and old versions go nowhere; the answer goes on with every digit (A-MCP-14)", async () => {
  const answer = await callTool(w, "scripted", "garbage", { token, id: "mine" });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(
    answer.text.trim(),
    '{"jsonrpc": "2.0",  "result": {"content": [], "big": 12345678901234567890, "n": 1.0}, "id": "mine"}',
  );
});

test("equal ids and progress tokens of concurrent calls do not meet", async () => {
  const meta = { progressToken: "same" };
  const texts = await Promise.all(
    ["a", "b", "c"].map(async (say) => {
      const answer = await callTool(w, "scripted", "id", { token, id: 7, args: { say }, meta });
      assert.equal(answer.body["id"], 7);
      return read<{ id: number; token: number; said: string }>(answer);
    }),
  );
  assert.deepEqual(
    texts.map((text) => text.said),
    ["a", "b", "c"],
  );
  assert.equal(new Set(texts.map(({ id }) => id)).size, 3);
  assert.equal(new Set(texts.map((text) => text.token)).size, 3);
});

test("progress goes to its own call, with the caller's token, and only to who takes events", async () => {
  const meta = { progressToken: "mine" };
  const stream = await callTool(w, "scripted", "progress", { token, meta, accept: EVENTS });
  assert.match(stream.headers.get("content-type") ?? "", /^text\/event-stream/);
  assert.equal(stream.text.match(/notifications\/progress/g)?.length, 1);
  assert.match(stream.text, /"progressToken":"mine"/);
  assert.doesNotMatch(stream.text, /4711/);
  const plain = await callTool(w, "scripted", "progress", { token, meta });
  assert.equal(said(plain), "done");
});

test("a server that asks its client something is told that nobody answers, and does not hang", async () => {
  const answers = read<{ id: unknown; error?: { code: number }; result?: unknown }[]>(
    await callTool(w, "scripted", "ask", { token }),
  );
  assert.equal(answers[0]?.id, "mine");
  assert.equal(answers[0]?.error?.code, -32601);
  assert.deepEqual(answers[1]?.result, {});
});

test("a caller that goes away is a cancellation for the server, of its call alone", async () => {
  const leaving = new AbortController();
  const held = callTool(w, "scripted", "hold", { token, args: { name: "left" }, signal: leaving.signal });
  const staying = callTool(w, "scripted", "hold", { token, args: { name: "stays" } });
  const names = async (): Promise<string[]> => read(await callTool(w, "scripted", "held", { token }));
  await until(async () => (await names()).length === 2, "both calls are there");
  leaving.abort();
  await assert.rejects(held);
  await until(async () => (await names()).includes("cancelled left"), "the cancellation");
  assert.ok(!(await names()).includes("cancelled stays"));
  await callTool(w, "scripted", "release", { token, args: { name: "stays" } });
  assert.equal(said(await staying), "held stays");
});

test("a process that ends in the middle of a call: 502, an outcome, and the next call has another", async () => {
  const before = newest();
  assert.equal((await callTool(w, "scripted", "exit", { token })).status, 502);
  await hasOutcome("exited");
  assert.ok(!isAlive(before));
  assert.equal((await callTool(w, "scripted", "id", { token })).status, 200);
  assert.notEqual(newest(), before);
});

test("one that ends again and again is not started at once: 503 says when", async () => {
  assert.equal((await callTool(w, "scripted", "exit", { token })).status, 502);
  const refused = await callTool(w, "scripted", "id", { token, id: "x" });
  assert.equal(refused.status, 503);
  assert.equal(refused.body["id"], "x");
  assert.match(refused.text, /try again in 1 s/);
  w.clock.advance(1);
  assert.equal((await callTool(w, "scripted", "id", { token })).status, 200);
});

for (const [tool, problem] of [
  ["endless", "line_too_long"],
  ["flood", "flood"],
] as const)
  test(`a server that writes without end (${tool}) is ended`, async () => {
    w.clock.advance(40);
    const fresh = await tokenFor(w, "scripted");
    await callTool(w, "scripted", "id", { token: fresh });
    const pid = newest();
    assert.equal((await callTool(w, "scripted", tool, { token: fresh })).status, 502);
    await hasOutcome(problem);
    await until(() => !isAlive(pid), "it is gone");
  });

test("what a server starts ends with it", async () => {
  w.clock.advance(40);
  const fresh = await tokenFor(w, "scripted");
  const { pid } = read<{ pid: number }>(await callTool(w, "scripted", "fork", { token: fresh }));
  assert.ok(isAlive(pid));
  assert.equal((await callTool(w, "scripted", "exit", { token: fresh })).status, 502);
  await until(() => !isAlive(pid), "the grandchild is gone");
});

test("a legacy message without a session, or with one of no process, is refused", async () => {
  const old = await tokenFor(w, "old");
  const list = { jsonrpc: "2.0", id: 1, method: "tools/list" };
  assert.equal((await send(w, "old", { token: old, message: list })).status, 400);
  const begun = await send(w, "old", {
    token: old,
    message: {
      jsonrpc: "2.0",
      id: 1,
      method: "initialize",
      params: { protocolVersion: "2025-11-25", capabilities: {} },
    },
  });
  const session = begun.headers.get("mcp-session-id") ?? "";
  assert.equal(begun.status, 200, begun.text);
  const headers = { "mcp-session-id": session };
  assert.equal((await send(w, "old", { token: old, headers, message: list })).status, 200);
  const lonely = await tokenFor(w, "old", "lonely-bot");
  assert.equal((await send(w, "old", { token: lonely, headers, message: list })).status, 404);
  const pid = newest();
  process.kill(pid, "SIGKILL");
  await until(() => !isAlive(pid), "it is gone");
  await until(async () => (await send(w, "old", { token: old, headers, message: list })).status === 404, "404");
});

test("shutdown ends one that ignores SIGTERM, and everything else", async () => {
  w.clock.advance(40);
  const fresh = await tokenFor(w, "scripted");
  assert.equal(said(await callTool(w, "scripted", "stubborn", { token: fresh })), "stays");
  assert.ok(isAlive(newest()));
  await w.server.close();
  assert.deepEqual(startedPids(w).filter(isAlive), []);
});
