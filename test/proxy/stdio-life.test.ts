import assert from "node:assert/strict";
import { after, test } from "node:test";
import { TOKEN_EXCHANGE, type World } from "../support/world.ts";
import { eventsOf, until } from "./stage.ts";
import {
  callTool,
  commandOf,
  FILES_KEY,
  isAlive,
  programOf,
  read,
  SCRIPTED,
  send,
  startedPids,
  stdioWorld,
  tokenFor,
} from "./stdio-stage.ts";

const w = await stdioWorld(
  { after },
  {
    resources: SCRIPTED.resources,
    grants: `${SCRIPTED.grants}
  - { agent: triage-bot, resource: scripted, actions: ["*"], allow_all: true, on_behalf_of: { issuer: okta } }`,
  },
);
await w.operator("PUT", "/v1/secrets/files-key", { value: FILES_KEY });

const pidOf = async (token: string): Promise<number> =>
  read<{ pid: number }>(await callTool(w, "scripted", "where", { token })).pid;

async function humanToken(sub: string): Promise<string> {
  const answer = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human(sub),
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    actor_token: w.workload("triage-bot"),
    actor_token_type: "urn:ietf:params:oauth:token-type:jwt",
    scope: "scripted",
    resource: `${w.server.issuer}/mcp/scripted`,
  });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
}

/** A session of the older revisions, and its process. */
async function session(world: World, token: string): Promise<{ id: string; pid: number; status: number }> {
  const params = { protocolVersion: "2025-11-25", capabilities: {} };
  const message = { jsonrpc: "2.0", id: 1, method: "initialize", params };
  const begun = await send(world, "old", { token, message });
  return { id: begun.headers.get("mcp-session-id") ?? "", pid: startedPids(world).at(-1) ?? 0, status: begun.status };
}

test("a process is one agent's, for one person; the next call of the same pair finds it again (INV-19)", async () => {
  const mine = await tokenFor(w, "scripted");
  const lonely = await tokenFor(w, "scripted", "lonely-bot");
  const [ada, bob] = [await humanToken("ada"), await humanToken("bob")];
  const pids = [await pidOf(mine), await pidOf(lonely), await pidOf(ada), await pidOf(bob)];
  assert.equal(new Set(pids).size, 4);
  assert.equal(await pidOf(await tokenFor(w, "scripted")), pids[0]);
  assert.equal(await pidOf(await humanToken("ada")), pids[2]);
  const metrics = await w.request("GET", "/metrics");
  assert.match(metrics.text, /^ephor_local_servers 4$/m);
});

test("two calls that come first at the same moment start one process", async () => {
  const cam = await humanToken("cam");
  const pids = await Promise.all([pidOf(cam), pidOf(cam), pidOf(cam)]);
  assert.equal(new Set(pids).size, 1);
});

test("the kill of an agent ends its process at once, idle or not, and cuts its calls; others go on", async () => {
  const lonely = await tokenFor(w, "scripted", "lonely-bot");
  const mine = await pidOf(await tokenFor(w, "scripted"));
  const pid = await pidOf(lonely);
  const held = callTool(w, "scripted", "hold", { token: lonely, args: { name: "killed" } }).catch(() => undefined);
  await until(
    async () => read<string[]>(await callTool(w, "scripted", "held", { token: lonely })).includes("killed"),
    "the call is there",
  );
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "lonely-bot", reason: "test" })).status, 200);
  await until(() => !isAlive(pid), "its process is gone");
  assert.notEqual((await held)?.status, 200);
  await until(
    async () => JSON.stringify((await eventsOf(w, "call.outcome"))[0]).includes("cut_killed"),
    "an outcome: cut_killed",
  );
  assert.ok(isAlive(mine));
});

test("the kill of a person ends the processes that act for them, and no others", async () => {
  const [ada, bob] = [await pidOf(await humanToken("ada")), await pidOf(await humanToken("bob"))];
  const kill = await w.operator("POST", "/v1/kill", { subject: "okta|ada", reason: "test" });
  assert.equal(kill.status, 200, kill.text);
  await until(() => !isAlive(ada), "ada's process is gone");
  assert.ok(isAlive(bob));
});

test("a new version of its secret is a new process at the next call", async () => {
  const token = await tokenFor(w, "scripted");
  const before = await pidOf(token);
  await w.operator("PUT", "/v1/secrets/files-key", { value: "another-key-value-771b" });
  const now = await pidOf(token);
  assert.notEqual(now, before);
  await until(() => !isAlive(before), "the one with the old key is gone");
  const { FILES_KEY: shown } = read<{ FILES_KEY: string }>(await callTool(w, "scripted", "env", { token }));
  assert.equal(shown, "*".repeat("another-key-value-771b".length));
});

test("at most four of one agent for one person: an idle session makes room for the next", async () => {
  const token = await tokenFor(w, "old");
  const sessions: Awaited<ReturnType<typeof session>>[] = [];
  for (let i = 0; i < 5; i++) sessions.push(await session(w, token));
  assert.deepEqual(
    sessions.map(({ status }) => status),
    [200, 200, 200, 200, 200],
  );
  await until(() => sessions.filter(({ pid }) => isAlive(pid)).length === 4, "four are left");
  assert.ok(!isAlive(sessions[0]?.pid as number));
  const call = (id: string, tool: string): ReturnType<typeof send> => {
    const params = { name: tool, arguments: { name: "x" } };
    const message = { jsonrpc: "2.0", id: 1, method: "tools/call", params };
    return send(w, "old", { token, headers: { "mcp-session-id": id }, message });
  };
  const calls = sessions.slice(1).map(({ id }) => call(id, "hold").catch(() => undefined));
  for (const { id } of sessions.slice(1))
    await until(async () => read<string[]>(await call(id, "held")).includes("x"), "the call is there");
  const beyond = await session(w, token);
  assert.equal(beyond.status, 503);
  for (const { id } of sessions.slice(1))
    await fetch(`${w.url}/mcp/old`, {
      method: "DELETE",
      headers: { authorization: `Bearer ${token}`, "mcp-session-id": id },
    });
  // They end with their calls, which end with the token.
  w.clock.advance(60);
  await Promise.all(calls);
  await until(() => sessions.every(({ pid }) => !isAlive(pid)), "all are gone");
});

test("without a call for a minute a process ends, and one that was called does not; the next call starts another", async () => {
  const [mine, bobs] = [await tokenFor(w, "scripted"), await humanToken("bob")];
  const before = await pidOf(mine);
  w.clock.advance(30);
  const bob = await pidOf(bobs);
  w.clock.advance(40);
  await until(() => !isAlive(before), "it is gone");
  assert.ok(isAlive(bob));
  const again = await tokenFor(w, "scripted");
  assert.notEqual(await pidOf(again), before);
});

test("a resource whose command was changed, or that is gone, has no process any more", async () => {
  const spare = (era: string): string => `resources:
  spare: { mcp: { command: ${commandOf(programOf("scripted"), "modern", era)} } }
grants:
  - { agent: release-bot, resource: spare, actions: ["*"], allow_all: true }`;
  const argv = async (): Promise<string[]> =>
    read<{ argv: string[] }>(await callTool(w, "spare", "where", { token: await tokenFor(w, "spare") })).argv;
  await w.apply(spare("first"));
  assert.deepEqual(await argv(), ["modern", "first"]);
  const first = startedPids(w).at(-1) as number;
  await w.apply(spare("second"));
  await until(() => !isAlive(first), "the one with the old command is gone");
  assert.deepEqual(await argv(), ["modern", "second"]);
  const second = startedPids(w).at(-1) as number;
  await w.apply("resources: {}\n");
  await until(() => !isAlive(second), "the one of the resource that is gone is gone too");
});

test("the server's end leaves nothing behind", async () => {
  await w.server.close();
  assert.deepEqual(startedPids(w).filter(isAlive), []);
});
