import assert from "node:assert/strict";
import { after, test } from "node:test";
import { stage } from "../proxy/stage.ts";
import { decide, work } from "./approval-stage.ts";

const s = await stage(
  { after },
  { grants: `\n  - { agent: release-bot, resource: crm, actions: [write], approval: { by: owner } }` },
);
const { w, crm } = s;
const job = await work(s);

const rowOf = async (id: string): Promise<string> =>
  (await w.admin<{ row: string }>("select a::text as row from ephor.approvals a where id = $1", [id]))[0]?.row ?? "";
const argumentsOf = async (id: string): Promise<unknown> =>
  (await w.operator("GET", `/v1/approvals/${id}`)).body["arguments"];

test("the arguments of a call that waits lie sealed, and are shown to who is asked", async () => {
  const sent = { to: "a-word-that-waits" };
  const { approval } = await job.waits(sent);
  const row = await rowOf(approval.id);
  assert.match(row, /"kek"/);
  assert.ok(!row.includes("a-word-that-waits"));
  assert.deepEqual(await argumentsOf(approval.id), { query: null, body: sent });
  const listed = await w.operator("GET", "/v1/approvals");
  assert.deepEqual([listed.status, (listed.body["items"] as { id: string }[])[0]?.id], [200, approval.id]);
  const decided = await decide(s, approval.id);
  assert.deepEqual([decided.status, decided.body["arguments"]], [200, { query: null, body: sent }]);
  assert.equal((await job.post(sent)).status, 200);
  assert.deepEqual(JSON.parse(crm.seen.at(-1)?.body ?? ""), sent);
});

test("INV-22 a sealed call opens for its own approval only", async () => {
  const [one, two] = [await job.waits({ n: 1 }), await job.waits({ n: 2 })];
  await w.admin(
    "update ephor.approvals set sealed = (select sealed from ephor.approvals where id = $2) where id = $1",
    [one.approval.id, two.approval.id],
  );
  assert.equal((await w.operator("GET", `/v1/approvals/${one.approval.id}`)).status, 500);
  assert.deepEqual(await argumentsOf(two.approval.id), { query: null, body: { n: 2 } });
});

test("one that was asked for before calls were sealed is read, listed, decided and used as it was", async () => {
  const { approval } = await job.waits({ old: true });
  const shown = { call: { kind: "http" }, args: { query: null, body: { old: true } } };
  await w.admin("update ephor.approvals set sealed = null, shown = $2 where id = $1", [
    approval.id,
    JSON.stringify(shown),
  ]);
  assert.deepEqual(await argumentsOf(approval.id), shown.args);
  assert.equal((await decide(s, approval.id)).status, 200);
  assert.equal((await job.post({ old: true })).status, 200);
});
