import assert from "node:assert/strict";
import { test } from "node:test";
import { createOneAtATime, type OneAtATime } from "../../src/broker/one-at-a-time.ts";
import { openDatabase } from "../../src/db/database.ts";
import { testDatabase, type Cleanup, type TestDatabase } from "../support/database.ts";

const NAMES = ["crm-refresh", "bank-refresh"];

/** Another replica: connections of its own to the same database. */
function replica(t: Cleanup, database: TestDatabase, limits: Parameters<typeof createOneAtATime>[1] = {}): OneAtATime {
  const db = openDatabase({ url: database.url });
  t.after(() => db.close());
  return createOneAtATime(db, limits);
}

const isOverloaded = (error: unknown): boolean => (error as { reason?: string }).reason === "overloaded";

test("whoever wants several names gets all of them, in whatever order they are named, and nobody waits for ever", async (t) => {
  const database = await testDatabase(t);
  const replicas = [replica(t, database), replica(t, database)];
  let inside = 0;
  const work = Array.from({ length: 12 }, async (_, index) => {
    const held = await replicas[index % 2]?.acquire(index % 3 === 0 ? NAMES.toReversed() : NAMES);
    assert.equal(++inside, 1);
    await held?.check();
    inside--;
    await held?.release();
  });
  await Promise.all(work);
});

test("a name is free again after its release, also after two, and after somebody gave up waiting for it", async (t) => {
  const database = await testDatabase(t);
  const first = replica(t, database);
  const second = replica(t, database, { waitMs: 100 });
  const held = await first.acquire(["crm-refresh"]);
  await assert.rejects(second.acquire(NAMES), isOverloaded);
  // What it had got of the two was given back.
  await (await first.acquire(["bank-refresh"])).release();
  await held.release();
  await held.release();
  const again = await second.acquire(NAMES);
  await assert.rejects(second.acquire(["crm-refresh"]), isOverloaded);
  await again.release();
  await (await second.acquire(["crm-refresh"])).release();
});

test("more than may wait are told at once", async (t) => {
  const one = replica(t, await testDatabase(t), { waiting: 1 });
  const held = await one.acquire(["crm-refresh"]);
  const next = one.acquire(["crm-refresh"]);
  await assert.rejects(one.acquire(["crm-refresh"]), isOverloaded);
  await held.release();
  await (await next).release();
});

test("whoever loses the connection has lost its turn, and is told before it uses it", async (t) => {
  const database = await testDatabase(t);
  const [first, second] = [replica(t, database), replica(t, database)];
  const held = await first.acquire(["crm-refresh"]);
  await held.check();
  await database.admin(
    `select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ephor one-at-a-time' and datname = current_database()`,
  );
  const other = await second.acquire(["crm-refresh"]);
  await assert.rejects(held.check(), (error: unknown) =>
    ["overloaded", "database_unreachable"].includes((error as { reason: string }).reason),
  );
  await held.release();
  // Letting go of what it no longer has takes nothing from the other.
  await other.check();
  await assert.rejects(replica(t, database, { waitMs: 100 }).acquire(["crm-refresh"]), isOverloaded);
  await other.release();
});

test("no names need no database", async (t) => {
  const database = await testDatabase(t);
  const db = openDatabase({ url: database.url });
  await db.close();
  await (await createOneAtATime(db).acquire([])).release();
});
