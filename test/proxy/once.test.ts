/** A once-only token behind the proxy: one call is forwarded, whatever is sent with it (CONTRACT §5 "Once"). */
import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { stage, startCrm, plain, type Raw } from "./stage.ts";

const server = await startCrm({ after });
const { w, crm, token, send } = await stage(
  { after },
  {
    resource: `  tickets:
    mcp: ${server.url}/mcp
    inject: { header: X-Api-Key, value: "{secret:crm-key}" }`,
    grants: `
  - { name: writes, agent: release-bot, resource: crm, actions: [write], once: true }
  - { agent: release-bot, resource: tickets, actions: [close_ticket], once: true }`,
  },
);

const READS = { agent: "release-bot", resource: "crm", actions: ["read"] };
const putReads = async (more: object, status: number): Promise<void> => {
  const put = await w.operator("PUT", "/v1/grants/reads", { ...READS, ...more });
  assert.equal(put.status, status, put.text);
};
await putReads({}, 201);

beforeEach(() => {
  crm.seen.length = 0;
  crm.answer = plain;
  server.seen.length = 0;
  server.answer = (_req, res, body) => {
    const { id } = JSON.parse(body) as { id: unknown };
    const tools = [{ name: "close_ticket", inputSchema: {} }];
    const told = { content: [], tools, protocolVersion: "2025-11-25" };
    res.writeHead(200, { "content-type": "application/json" });
    res.end(JSON.stringify({ jsonrpc: "2.0", id, result: told }));
  };
});

const patch = (access: string): Promise<Raw> =>
  send("PATCH", "/http/crm/contacts/7", {
    token: access,
    headers: { "content-type": "application/json" },
    body: '{"a":1}',
  });
const mcp = (access: string, method: string, params: object = {}): Promise<Raw> =>
  send("POST", "/mcp/tickets", {
    token: access,
    headers: { "content-type": "application/json", accept: "application/json, text/event-stream" },
    body: JSON.stringify({ jsonrpc: "2.0", id: 1, method, params }),
  });
const close = (access: string): Promise<Raw> => mcp(access, "tools/call", { name: "close_ticket", arguments: {} });
/** One of them is, unless a stalled machine fenced the replica that used the token up. @returns how many */
function servedOnce(answers: readonly Raw[]): number {
  const statuses = answers.map(({ status }) => status);
  const of = (status: number): number => statuses.filter((each) => each === status).length;
  assert.ok(of(200) === 1 || (of(200) === 0 && of(503) > 0), statuses.join());
  assert.equal(of(200) + of(401) + of(503), answers.length, statuses.join());
  return of(200);
}

const newest = async (): Promise<unknown[]> => {
  const [event] = await w.events({ decision: "refused", limit: "1" });
  return [event?.["reason"], event?.["agent"]];
};

test("one HTTP call is forwarded by a once-only token, of many at one moment and of those that follow", async () => {
  const access = await token("crm:write");
  const answers = await Promise.all(Array.from({ length: 8 }, () => patch(access)));
  const served = servedOnce(answers);
  assert.equal((await patch(access)).status, 401);
  assert.deepEqual(await newest(), ["replayed", "release-bot"]);
  assert.equal(crm.seen.length, served);
  // Another that is not once-only serves as long as it lives.
  const often = await token("crm:read");
  for (let i = 0; i < 2; i++) assert.equal((await send("GET", "/http/crm/contacts/7", { token: often })).status, 200);
});

test("a call that is not allowed uses nothing up; one that becomes once-only while its token lives is forwarded once", async () => {
  const access = await token("crm:write");
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: access })).status, 403);
  assert.equal((await send("DELETE", "/http/crm/contacts/7", { token: access })).status, 403);
  assert.equal((await patch(access)).status, 200);

  const before = await token("crm:read");
  await putReads({ once: true }, 200);
  const read = (): Promise<Raw> => send("GET", "/http/crm/contacts/7", { token: before });
  assert.deepEqual([(await read()).status, (await read()).status], [200, 401]);
});

test("lists and pings use nothing up; one tools/call does, and then the token serves nothing", async () => {
  const access = await token("tickets:close_ticket", { resource: "mcp/tickets" });
  assert.equal((await mcp(access, "ping")).status, 200);
  assert.equal((await mcp(access, "tools/list")).status, 200);
  const calls = await Promise.all(Array.from({ length: 6 }, () => close(access)));
  const served = servedOnce(calls);
  assert.equal((await mcp(access, "tools/list")).status, 401);
  assert.equal(server.seen.filter(({ body }) => body.includes("tools/call")).length, served);
});
