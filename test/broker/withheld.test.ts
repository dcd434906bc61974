import assert from "node:assert/strict";
import { after, test } from "node:test";
import { aheadOfServers } from "../support/hand-clock.ts";
import { holdGate, holdLock } from "../support/held-lock.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";

const w = await world({ after }, { trust: usualTrust, start: aheadOfServers() });
const place = new URL(w.databaseUrl);
await w.apply(
  `
resources:
  orders-db:
    credential:
      postgres: { host: "${place.searchParams.get("host") ?? place.hostname}", database: "${place.pathname.slice(1)}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
grants:
  - { agent: release-bot, resource: orders-db, actions: [vend] }
`,
  "vault.yaml",
);
await w.operator("PUT", "/v1/secrets/orders-admin", { value: w.databaseUrl });

interface Row {
  id: string;
  status: string;
  ended_because: string | null;
}
const newest = async (): Promise<Row | undefined> =>
  (await w.admin<Row>("select id, status, ended_because from ephor.leases order by id desc limit 1"))[0];

async function until(isSo: (row: Row | undefined) => boolean): Promise<Row> {
  for (let round = 0; round < 400; round++) {
    const row = await newest();
    if (row && isSo(row)) return row;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new assert.AssertionError({ message: JSON.stringify(await newest()) });
}

/** Vends, and lets so many seconds go by between the decision that it may leave and its leaving. */
async function leavesAfter(seconds: number): Promise<{ answer: Answer; lease: string }> {
  const before = (await newest())?.id;
  const token = await w.self("release-bot", { audience: "orders-db", scope: "orders-db:vend" });
  // The mint waits for the upstream until the lease's row can be held.
  const rights = await holdLock(w.databaseUrl, "select pg_advisory_xact_lock(hashtextextended('ephor rights', 0))");
  const answer = w.request("POST", "/credentials/orders-db", {
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
  const { id: lease } = await until((row) => row !== undefined && row.id !== before);
  await rights.waiting(1);
  const minted = await holdLock(w.databaseUrl, "select 1 from ephor.leases where id = $1 for update", [lease]);
  await rights.release();
  await minted.waiting(1);
  const gate = await holdGate(w.databaseUrl);
  await minted.release();
  await gate.waiting(1);
  // The update that makes it live, after the decision.
  const row = await holdLock(w.databaseUrl, "select 1 from ephor.leases where id = $1 for update", [lease]);
  await gate.release();
  await row.waiting(1);
  w.clock.advance(seconds);
  await row.release();
  return { answer: await answer, lease };
}

test("INV-11 a credential whose permit lapsed before it could leave is withheld and destroyed at once, not at its own end", async () => {
  const { answer, lease } = await leavesAfter(10);
  assert.deepEqual([answer.status, answer.body["code"]], [503, "temporarily_unavailable"], answer.text);
  const ended = await until((row) => row?.id === lease && row.status === "ended");
  assert.equal(ended.ended_because, "withheld");
  const role = `ephor_release_bot_${lease.slice("lease_".length).toLowerCase()}`;
  assert.deepEqual(await w.admin("select 1 from pg_roles where rolname = $1", [role]), []);
});

test("one whose permit still holds leaves, and lives", async () => {
  const { answer, lease } = await leavesAfter(0);
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(await newest(), { id: lease, status: "live", ended_because: null });
});
