import assert from "node:assert/strict";
import { test } from "node:test";
import { auditVerdict } from "../../src/api/audit.ts";
import { auditVerdictOf, type LedgerVerdict } from "../../src/audit/verify.ts";
import { ask, headSigner, keepLedger, ledgerWorld, recompute, written } from "./ledger-world.ts";

const where = ({ ok, problem }: LedgerVerdict): unknown[] => [ok, problem?.stream, problem?.seq, problem?.kind];

test("INV-13 what was written verifies from its first event to the head kept outside", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  const verdict = await world.verify(outside);
  assert.deepEqual(verdict.problems, []);
  assert.deepEqual([verdict.ok, verdict.events, verdict.heads, verdict.headSeq], [true, 10, 2, 2]);
  assert.deepEqual(
    verdict.streams.map(({ stream, lastSeq }) => [stream, lastSeq]),
    [
      ["control", 1],
      ["r1.gate.1", 5],
      ["r1.notes.1", 2],
      ["r2.gate.1", 2],
    ],
  );
});

test("an empty ledger verifies, and so does one whose last events no head names yet", async (t) => {
  const world = await ledgerWorld(t);
  assert.equal((await world.verify()).ok, true);
  await world.gate("r1").submit(ask());
  assert.equal((await world.verify()).ok, true);
});

test("the verdict fits its wire shape, good and bad", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  auditVerdict.parse(auditVerdictOf(await world.verify(outside)));
  await world.admin("update ephor.events set agent = 'x' where stream = 'r1.gate.1' and seq = 2");
  const bad = auditVerdict.parse(auditVerdictOf(await world.verify(outside)));
  assert.deepEqual([bad.ok, bad.problems[0]?.stream, bad.problems[0]?.seq], [false, "r1.gate.1", 2]);
});

const DAMAGE = [
  [
    "an edited text",
    "update ephor.events set body = replace(body, 'billing:read_invoice', 'billing:refund') where stream = 'r1.gate.1' and seq = 1",
    ["r1.gate.1", 1, "hash"],
  ],
  [
    "an edited text within a batch, named by the batch's first row",
    "update ephor.events set body = replace(body, 'billing:read_invoice', 'billing:refund') where stream = 'r1.gate.1' and seq = 3",
    ["r1.gate.1", 2, "hash"],
  ],
  [
    "an edited column",
    "update ephor.events set agent = 'somebody-else' where stream = 'r1.gate.1' and seq = 3",
    ["r1.gate.1", 3, "hash"],
  ],
  [
    "a refusal turned into a grant",
    "update ephor.events set decision = 'granted', reason = null where stream = 'r1.gate.1' and seq = 5",
    ["r1.gate.1", 5, "hash"],
  ],
  [
    "an empty reason for none",
    "update ephor.events set reason = '' where stream = 'r1.gate.1' and seq = 1",
    ["r1.gate.1", 1, "hash"],
  ],
  [
    "a column that was emptied, so that queries do not find the row",
    "update ephor.events set jti = null where stream = 'r1.notes.1' and seq = 1",
    ["r1.notes.1", 1, "hash"],
  ],
  [
    "a changed time",
    "update ephor.events set at_ms = at_ms - 1 where stream = 'r1.gate.1' and seq = 2",
    ["r1.gate.1", 2, "hash"],
  ],
  ["a deleted row", "delete from ephor.events where stream = 'r1.gate.1' and seq = 3", ["r1.gate.1", 3, "gap"]],
  [
    "the deleted last row",
    "delete from ephor.events where stream = 'r1.gate.1' and seq = 5",
    ["r1.gate.1", 5, "truncated"],
  ],
  [
    "two rows that changed places",
    "update ephor.events set seq = case seq when 2 then -3 else -2 end where stream = 'r1.gate.1' and seq in (2, 3); update ephor.events set seq = -seq where seq < 0",
    ["r1.gate.1", 2, "hash"],
  ],
  [
    "a row inserted beyond the end",
    "insert into ephor.events (stream, seq, id, at_ms, type, decision, body) select stream, 6, id, at_ms, type, decision, body from ephor.events where stream = 'r1.gate.1' and seq = 1",
    ["r1.gate.1", 6, "fork"],
  ],
  [
    "a row inserted before the first",
    "insert into ephor.events (stream, seq, id, at_ms, type, decision, body) select stream, 0, id, at_ms, type, decision, body from ephor.events where stream = 'r1.gate.1' and seq = 1",
    ["r1.gate.1", 1, "gap"],
  ],
  [
    "a batch inserted inside of another",
    "insert into ephor.batches select stream, 3, 3, prev, hash, at_ms from ephor.batches where stream = 'r1.gate.1' and first_seq = 2",
    ["r1.gate.1", 3, "fork"],
  ],
  [
    "a deleted batch",
    "delete from ephor.batches where stream = 'r1.gate.1' and first_seq = 2",
    ["r1.gate.1", 2, "gap"],
  ],
  ["a stream whose position is gone", "delete from ephor.streams where id = 'r2.gate.1'", ["r2.gate.1", 1, "fork"]],
  [
    "a stream under another replica's name",
    "update ephor.streams set replica = 'r' where id = 'r2.gate.1'",
    ["r2.gate.1", 0, "fork"],
  ],
  [
    "rows under a stream of their own",
    "insert into ephor.events (stream, seq, id, at_ms, type, decision, body) values ('zz.gate.1', 1, 'evt_x', 1, 'kill', 'granted', '{}')",
    ["zz.gate.1", 1, "fork"],
  ],
  [
    "a deleted stream that heads name",
    "delete from ephor.events where stream = 'r2.gate.1'; delete from ephor.batches where stream = 'r2.gate.1'; delete from ephor.streams where id = 'r2.gate.1'",
    ["r2.gate.1", 1, "truncated"],
  ],
] as const;

test("A-AUD-03 damage is found, and the first bad row is named", async (t) => {
  const world = await ledgerWorld(t);
  await written(world);
  const restore = await keepLedger(world);
  for (const [what, sql, expected] of DAMAGE) {
    await t.test(what, async () => {
      for (const statement of sql.split("; ")) await world.admin(statement);
      assert.deepEqual(where(await world.verify()), [false, ...expected]);
      await restore();
    });
  }
  assert.equal((await world.verify()).ok, true);
});

test("A-AUD-03 a chain recomputed after an edit is found by the signed head inside", async (t) => {
  const world = await ledgerWorld(t);
  await written(world);
  await world.admin(
    "update ephor.events set body = replace(body, 'billing:read_invoice', 'billing:refund') where stream = 'r1.gate.1' and seq = 1",
  );
  await recompute(world, "r1.gate.1");
  const verdict = await world.verify();
  assert.deepEqual(
    [verdict.ok, verdict.problem?.kind, verdict.problem?.head, verdict.problem?.stream],
    [false, "head_mismatch", 1, "r1.gate.1"],
  );
});

test("A-AUD-03 a cut tail with everything made to fit is found by the signed head inside", async (t) => {
  const world = await ledgerWorld(t);
  await written(world);
  await world.admin("delete from ephor.events where stream = 'r1.gate.1' and seq = 5");
  await world.admin("delete from ephor.batches where stream = 'r1.gate.1' and first_seq = 5");
  await recompute(world, "r1.gate.1");
  assert.deepEqual(where(await world.verify()), [false, "r1.gate.1", 5, "truncated"]);
});

test("A-AUD-03 a cut tail whose heads were cut with it is found by the head kept outside, and only by it", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  await world.admin("delete from ephor.events where stream = 'r1.gate.1' and seq = 5");
  await world.admin("delete from ephor.batches where stream = 'r1.gate.1' and first_seq = 5");
  await world.admin("delete from ephor.heads where seq = 2");
  await recompute(world, "r1.gate.1");
  assert.equal((await world.verify()).ok, true);
  const verdict = await world.verify(outside);
  assert.deepEqual([verdict.ok, verdict.problem?.kind, verdict.problem?.head], [false, "anchor", 2]);
});

test("A-AUD-03 a ledger replaced as a whole, heads signed by another key, is found", async (t) => {
  const world = await ledgerWorld(t);
  const outside = await written(world);
  const thief = headSigner();
  const heads = await world.admin<{ seq: string; jws: string }>("select seq, jws from ephor.heads order by seq");
  for (const head of heads)
    await world.admin("update ephor.heads set jws = $2 where seq = $1", [head.seq, thief.sign(world.claims(head.jws))]);
  const verdict = await world.verify(outside);
  assert.deepEqual(
    verdict.problems.map(({ kind }) => kind),
    ["head_signature", "anchor"],
  );
});

test("A-AUD-03 a ledger replaced by another one of ours is found by the head kept outside", async (t) => {
  const world = await ledgerWorld(t);
  const outside = world.claims(await written(world));
  const stranger = world.signer.sign({ ...outside, iat: outside.iat - 1 });
  const verdict = await world.verify(stranger);
  assert.deepEqual([verdict.ok, verdict.problem?.kind, verdict.problem?.head], [false, "anchor", 2]);
});

test("a head kept outside that is no head of ours is said to be none", async (t) => {
  const world = await ledgerWorld(t);
  await written(world);
  for (const outside of ["", "a.b.c", headSigner().sign({ seq: 1 }), world.signer.sign({ seq: 1 })]) {
    assert.equal((await world.verify(outside)).problem?.kind, "anchor");
  }
});

test("events that no head names although a later head was signed are told", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const gate = world.gate("r1");
  await gate.submit(ask());
  const heads = world.headsOf();
  await heads.tick();
  // Somebody hides a stream from the heads: its replica is not known, its beginning set back.
  await world.gate("hidden").submit(ask());
  await world.admin("update ephor.streams set started_at_ms = 0 where replica = 'hidden'");
  world.hand.advance(120);
  await gate.submit(ask());
  await heads.tick();
  assert.deepEqual(where(await world.verify()), [false, "hidden.gate.1", 1, "head_mismatch"]);
});

test("a fact named like a key of the event cannot take its place", async (t) => {
  const world = await ledgerWorld(t);
  const id = await world.recorder("r1").refused(
    {
      type: "token.issue",
      agent: "triage-bot",
      facts: { agent: "somebody", id: "evt_x", jti: "j", at: 0, type: "kill", scope: "a:b" },
    },
    "client_mismatch",
  );
  const [row] = await world.admin<{ body: string }>("select body from ephor.events where id = $1", [id]);
  const body = JSON.parse(row?.body ?? "{}") as Record<string, unknown>;
  assert.deepEqual(
    [body["agent"], body["fact_agent"], body["type"], body["fact_type"], body["id"], body["scope"]],
    ["triage-bot", "somebody", "token.issue", "kill", id, "a:b"],
  );
  assert.equal((await world.verify()).ok, true);
});

test("the ledger can be checked while it is written", async (t) => {
  const world = await ledgerWorld(t);
  for (const replica of ["r1", "r2"]) await world.beat(replica);
  const gates = [world.gate("r1"), world.gate("r2")];
  const heads = world.headsOf();
  let isDone = false;
  const writing = (async () => {
    for (let round = 0; round < 60; round++) {
      await Promise.all(gates.flatMap((gate) => [gate.submit(ask()), gate.submit(ask())]));
      world.hand.advance(1);
      await heads.tick();
    }
    isDone = true;
  })();
  const verdicts: LedgerVerdict[] = [];
  while (!isDone) verdicts.push(await world.verify());
  await writing;
  assert.ok(verdicts.length > 2);
  assert.deepEqual(
    verdicts.filter((verdict) => !verdict.ok).map((verdict) => verdict.problem),
    [],
  );
});
