import assert from "node:assert/strict";
import { test } from "node:test";
import { HEAD_LIMITS, readHeadClaims } from "../../src/audit/head-claims.ts";
import { latestHead } from "../../src/audit/heads.ts";
import { sha256Base64url } from "../../src/system/hash.ts";
import { ask, headSigner, ISSUER, ledgerWorld, START, type LedgerWorld } from "./ledger-world.ts";

const headRows = (world: LedgerWorld) =>
  world.admin<{ seq: string; jws: string }>("select seq, jws from ephor.heads order by seq");

test("a head names where the streams stand, its time, its issuer and no head before it", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  await world.gate("r1").submit(ask());
  const heads = world.headsOf();
  assert.equal(await heads.tick(), 1);
  const claims = world.claims((await latestHead(world.db)) ?? "");
  const [stream] = await world.admin<{ hash: Buffer }>("select hash from ephor.streams where id = 'r1.gate.1'");
  assert.deepEqual(claims, {
    iss: ISSUER,
    seq: 1,
    iat: START,
    streams: { "r1.gate.1": [1, stream?.hash.toString("base64url")] },
    prev: null,
  });
});

test("the next head follows after five seconds, names only what moved, and the head before it by its hash", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const gate = world.gate("r1");
  await gate.submit(ask());
  await world.recorder("r1").noted({ type: "audit.read", facts: {} });
  const heads = world.headsOf();
  await heads.tick();
  const first = (await latestHead(world.db)) ?? "";
  assert.deepEqual(Object.keys(world.claims(first).streams), ["r1.gate.1", "r1.notes.1"]);
  await gate.submit(ask());
  assert.equal(await heads.tick(), undefined);
  world.hand.advance(5);
  assert.equal(await heads.tick(), 2);
  const second = world.claims((await latestHead(world.db)) ?? "");
  assert.deepEqual(Object.keys(second.streams), ["r1.gate.1"]);
  assert.equal(second.prev, sha256Base64url(first));
});

test("nothing moved: no head", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const heads = world.headsOf();
  assert.equal(await heads.tick(), undefined);
  await world.gate("r1").submit(ask());
  await heads.tick();
  world.hand.advance(60);
  assert.equal(await heads.tick(), undefined);
  assert.equal((await headRows(world)).length, 1);
});

test("closing signs a last head at once, however young the one before", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const gate = world.gate("r1");
  await gate.submit(ask());
  const kept: number[] = [];
  const heads = world.headsOf({ onHead: ({ seq }) => void kept.push(seq) });
  await heads.tick();
  await gate.submit(ask());
  await heads.close();
  assert.deepEqual(kept, [1, 2]);
});

test("three replicas that tick at once make one head, and heads stay one chain", async (t) => {
  const world = await ledgerWorld(t);
  const replicas = await Promise.all(
    ["r1", "r2", "r3"].map(async (name) => {
      await world.beat(name);
      return { gate: world.gate(name), heads: world.headsOf() };
    }),
  );
  for (let round = 0; round < 6; round++) {
    await Promise.all(replicas.map(({ gate }) => gate.submit(ask())));
    const made = await Promise.all(replicas.map(({ heads }) => heads.tick()));
    assert.deepEqual(
      made.filter((seq) => seq !== undefined),
      [round + 1],
    );
    world.hand.advance(5);
  }
  const verdict = await world.verify((await latestHead(world.db)) ?? "");
  assert.deepEqual([verdict.ok, verdict.heads, verdict.events], [true, 6, 18]);
});

test("a replica that crashed between its last append and a head is named by the next one, also hours later", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("old");
  const gate = world.gate("old");
  await gate.submit(ask());
  world.hand.advance(7_200);
  await world.beat("old");
  await world.headsOf().tick();
  await gate.submit(ask());
  world.hand.advance(20_000);
  await world.beat("new");
  await world.gate("new").submit(ask());
  await world.headsOf().tick();
  const claims = world.claims((await latestHead(world.db)) ?? "");
  assert.equal(claims.streams["old.gate.1"]?.[0], 2);
  assert.equal((await world.verify()).ok, true);
});

for (const who of ["a replica that stays", "the next start"] as const) {
  test(`what a replica appended between its last head and its leaving is named by ${who}`, async (t) => {
    const world = await ledgerWorld(t);
    await world.beat("leaver");
    await world.beat("stayer");
    const gate = world.gate("leaver");
    await gate.submit(ask());
    world.hand.advance(20_000);
    for (const replica of ["leaver", "stayer"]) await world.beat(replica);
    const heads = world.headsOf();
    await heads.tick();
    await gate.submit(ask());
    await world.admin("delete from ephor.replicas where id = 'leaver'");
    world.hand.advance(100);
    await world.beat("stayer");
    await (who === "the next start" ? world.headsOf() : heads).tick();
    const claims = world.claims((await latestHead(world.db)) ?? "");
    assert.deepEqual(claims.streams["leaver.gate.1"]?.[0], 2);
    assert.equal((await world.verify()).ok, true);
    world.hand.advance(5);
    assert.equal(await heads.tick(), undefined);
  });
}

test("heads do not grow with restarts: streams of replicas long gone are not named again", async (t) => {
  const world = await ledgerWorld(t);
  for (let run = 1; run <= 12; run++) {
    await world.beat(`run-${run}`);
    await world.gate(`run-${run}`).submit(ask());
    await world.headsOf().close();
    await world.admin("delete from ephor.replicas");
    world.hand.advance(3_000);
  }
  const rows = await headRows(world);
  const sizes = rows.map((row) => Object.keys(world.claims(row.jws).streams).length);
  assert.ok(Math.max(...sizes) <= 3, `sizes ${sizes.join(" ")}`);
  const verdict = await world.verify(rows.at(-1)?.jws);
  assert.deepEqual([verdict.ok, verdict.streams.length], [true, 12]);
});

test("more streams than a head holds are in the heads that follow at once", async (t) => {
  const world = await ledgerWorld(t);
  await world.admin(
    `insert into ephor.streams (id, replica, seq, hash, started_at_ms)
     select 'many.gate.' || n, 'many', 1, sha256('x'), $1 from generate_series(1, $2::int) n`,
    [START * 1000, HEAD_LIMITS.streams + 5],
  );
  assert.equal(await world.headsOf().tick(), 2);
  const sizes = (await headRows(world)).map((row) => Object.keys(world.claims(row.jws).streams).length);
  assert.deepEqual(sizes, [HEAD_LIMITS.streams, 5]);
  for (const { jws } of await headRows(world)) assert.ok(jws.length < HEAD_LIMITS.maxBytes);
});

test("a clock that was set back does not stop the heads", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const gate = world.gate("r1");
  const heads = world.headsOf();
  await gate.submit(ask());
  await heads.tick();
  world.hand.advance(-600);
  await gate.submit(ask());
  assert.equal(await heads.tick(), 2);
});

test("a head that cannot be signed is not stored, and is made later", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  await world.gate("r1").submit(ask());
  let broken = true;
  const signer = headSigner();
  const heads = world.headsOf({
    sign(claims) {
      if (broken) throw new Error("no key");
      return signer.sign(claims);
    },
  });
  await assert.rejects(heads.tick());
  assert.equal((await headRows(world)).length, 0);
  broken = false;
  assert.equal(await heads.tick(), 1);
});

test("the claims of a head are read strictly", () => {
  const hash = sha256Base64url("x");
  const good = { iss: ISSUER, seq: 1, iat: START, streams: { "r.gate.1": [1, hash] }, prev: null };
  assert.deepEqual(readHeadClaims(good), good);
  const bad: unknown[] = [
    undefined,
    [],
    { ...good, seq: 0 },
    { ...good, seq: 1.5 },
    { ...good, iat: "1" },
    { ...good, prev: "short" },
    { ...good, prev: undefined },
    { ...good, streams: [] },
    { ...good, streams: { a: [0, hash] } },
    { ...good, streams: { a: [1, hash, 2] } },
    { ...good, streams: { a: [1, "short"] } },
  ];
  for (const claims of bad) assert.equal(readHeadClaims(claims), undefined);
});
