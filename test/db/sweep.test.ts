import assert from "node:assert/strict";
import { test } from "node:test";
import { createSweeper } from "../../src/db/sweep.ts";
import { createLog } from "../../src/system/log.ts";
import { ask, ledgerWorld, START, type LedgerWorld } from "../audit/ledger-world.ts";
import type { Cleanup } from "../support/database.ts";

const DAY = 86_400;

function sweeperOn(t: Cleanup, world: LedgerWorld) {
  const sweeper = createSweeper({ db: world.db, clock: world.clock, log: createLog({ level: "silent" }) });
  t.after(() => sweeper.close());
  return sweeper;
}

const left = async (world: LedgerWorld, table: string): Promise<number> =>
  (await world.admin<{ n: number }>(`select count(*)::int as n from ephor.${table}`))[0]?.n ?? -1;

test("tokens, replay keys and bindings go ten minutes after their exp, not before", async (t) => {
  const world = await ledgerWorld(t);
  await world.gate("r1").submit(
    ask({
      replay: [{ key: "proof:1", exp: START + 45 }],
      binding: { key: "sub:1", node: "n", opens: false, singleUse: false, exp: START + 45 },
    }),
  );
  const sweeper = sweeperOn(t, world);
  const counts = async (): Promise<number[]> =>
    Promise.all(["hops", "replay", "bindings"].map((table) => left(world, table)));
  world.hand.advance(45 + 600);
  await sweeper.tick();
  assert.deepEqual(await counts(), [1, 1, 1]);
  world.hand.advance(1);
  const swept = await sweeper.tick();
  assert.deepEqual([swept["hops"], swept["replay"], swept["bindings"]], [1, 1, 1]);
  assert.deepEqual(await counts(), [0, 0, 0]);
});

test("tasks go with their nodes thirty days after the deadline; events stay for ever", async (t) => {
  const world = await ledgerWorld(t);
  await world.gate("r1").submit(ask());
  const sweeper = sweeperOn(t, world);
  world.hand.advance(3_600 + 30 * DAY);
  await sweeper.tick();
  assert.deepEqual([await left(world, "tasks"), await left(world, "nodes")], [1, 1]);
  world.hand.advance(1);
  await sweeper.tick();
  assert.deepEqual([await left(world, "tasks"), await left(world, "nodes"), await left(world, "events")], [0, 0, 1]);
  assert.equal((await world.verify()).ok, true);
});

test("counts of noise go after thirty days", async (t) => {
  const world = await ledgerWorld(t);
  const minute = Math.floor(START / 60);
  await world.admin(
    "insert into ephor.noise (minute, reason, source, count) values ($1, 'a', 'x', 1), ($2, 'a', 'x', 1)",
    [minute - 30 * 1440 - 1, minute - 30 * 1440],
  );
  assert.equal((await sweeperOn(t, world).tick())["noise"], 1);
  assert.equal(await left(world, "noise"), 1);
});

test("counts of calls go ten minutes after theirs; no backup and no disk holds them", async (t) => {
  const world = await ledgerWorld(t);
  const minute = Math.floor(START / 60);
  await world.admin(
    "insert into ephor.call_counts (agent, resource, minute, calls) values ('a', 'x', $1, 1), ('b', 'x', $2, 1)",
    [minute - 11, minute - 10],
  );
  assert.equal((await sweeperOn(t, world).tick())["call_counts"], 1);
  assert.equal(await left(world, "call_counts"), 1);
  const [table] = await world.admin<{ kind: string }>(
    "select relpersistence as kind from pg_class where oid = 'ephor.call_counts'::regclass",
  );
  assert.equal(table?.kind, "u");
});

test("a replica silent for an hour goes once a head was signed after it; a living one stays", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("gone");
  await world.gate("gone").submit(ask());
  await world.beat("idle");
  world.hand.advance(3_601);
  await world.beat("r1");
  const sweeper = sweeperOn(t, world);
  const names = async (): Promise<string[]> =>
    (await world.admin<{ id: string }>("select id from ephor.replicas order by id")).map((row) => row.id);
  await sweeper.tick();
  assert.deepEqual(await names(), ["gone", "r1"]);
  const head = await world.head();
  assert.deepEqual(Object.keys(world.claims(head).streams), ["gone.gate.1"]);
  await sweeper.tick();
  assert.deepEqual(await names(), ["r1"]);
});

test("several replicas sweep many rows at once, in batches, and each row goes once", async (t) => {
  const world = await ledgerWorld(t);
  await world.admin(
    "insert into ephor.replay (key, holder, exp) select 'k' || n, 'h', $1::bigint from generate_series(1, 5500) n",
    [START - 700],
  );
  await world.admin("insert into ephor.replay (key, holder, exp) values ('live', 'h', $1)", [START + 1]);
  const swept = await Promise.all([1, 2, 3].map(() => sweeperOn(t, world).tick()));
  const again = await sweeperOn(t, world).tick();
  assert.equal(
    [...swept, again].reduce((sum, counts) => sum + (counts["replay"] ?? 0), 0),
    5_500,
  );
  assert.equal(await left(world, "replay"), 1);
});
