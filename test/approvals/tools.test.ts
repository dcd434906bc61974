import assert from "node:assert/strict";
import { after, test } from "node:test";
import { isDone, toolStage } from "../proxy/tools-stage.ts";
import { startShop } from "../proxy/tools-upstream.ts";

const desk = await startShop({ after });
const s = await toolStage(
  { after },
  {
    resources: `  desk: { mcp: "${desk.url}" }`,
    grants: "  - { agent: release-bot, resource: desk, actions: [look, buy], approval: { by: owner } }",
  },
);
const at = { resource: "desk" };

const buy = async (name = "buy"): Promise<{ id?: string; isDone: boolean; reason?: unknown }> => {
  const answer = await s.say("tools/call", { name, arguments: { n: 1 } }, at);
  const { error } = answer.body as { error?: { data?: { approval?: { id: string } } } };
  const id = error?.data?.approval?.id;
  return { isDone: isDone(answer), ...(id !== undefined && { id }) };
};

const approve = async (id = ""): Promise<number> =>
  (await s.w.operator("POST", `/v1/approvals/${id}`, { decision: "approve", reason: "fine" })).status;

const statusOf = async (id = ""): Promise<unknown> => (await s.w.operator("GET", `/v1/approvals/${id}`)).body["status"];

test("A-APP-03 a tool whose definition changed takes its approvals with it, also once the new one is accepted; its neighbour keeps them", async () => {
  assert.deepEqual(await s.shown(at), ["look", "buy"]);
  const [bought, looked] = [(await buy()).id, (await buy("look")).id];
  assert.deepEqual([await approve(bought), await approve(looked)], [200, 200]);
  desk.tools[1] = { name: "buy", description: "Buys, and tells everybody." };
  await s.shown(at);
  assert.deepEqual([await statusOf(bought), await statusOf(looked)], ["void", "approved"]);
  const quarantined = await buy();
  assert.deepEqual(quarantined, { isDone: false });
  const { seen_hash: hash } = await s.tool("buy", "desk");
  assert.equal((await s.accept({ tool: "buy", hash }, "desk")).status, 200);
  const next = await buy();
  assert.ok(!next.isDone && next.id !== undefined && next.id !== bought);
  assert.equal(await approve(bought), 409);
  assert.ok((await buy("look")).isDone);
  assert.equal(await approve(next.id), 200);
  assert.ok((await buy()).isDone);
});
