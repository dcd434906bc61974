import assert from "node:assert/strict";
import { test } from "node:test";
import { exportEvents } from "../../src/audit/export.ts";
import { createNoise } from "../../src/audit/noise.ts";
import { queryEvents } from "../../src/audit/query.ts";
import { drawChain } from "../../src/core/delegation/draw.ts";
import { DatabaseError } from "../../src/db/errors.ts";
import { createGate } from "../../src/authz/gate.ts";
import { ask, ledgerWorld } from "../audit/ledger-world.ts";

test("A-AUD-01 a connection that dies in the middle leaves no effect without its row, and no row without its effect", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  const gate = createGate({ db: world.db, clock: world.clock, replica: "r1" });
  let released = 0;
  for (let round = 0; round < 8; round++) {
    const asked = Promise.allSettled(Array.from({ length: 20 }, () => gate.submit(ask())));
    await world.admin(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'ephor gate' and datname = current_database()",
    );
    for (const result of await asked)
      if (result.status === "fulfilled" && result.value.outcome === "granted") released += 1;
  }
  // The last of the killed connections may tell so only now; the gate opens another by itself.
  await gate.submit(ask()).catch(() => gate.submit(ask()));
  const [count] = await world.admin<{ rows: number; effects: number; torn: number }>(
    `select (select count(*)::int from ephor.events where decision = 'granted') as rows, (select count(*)::int from ephor.hops) as effects,
       (select count(*)::int from ephor.events e full join ephor.hops h on h.jti = e.jti where e.jti is null or h.jti is null) as torn`,
  );
  assert.equal(count?.torn, 0);
  assert.equal(count?.rows, count?.effects);
  // More may be recorded than was released (the answer was lost), never less.
  assert.ok((count?.rows ?? 0) >= released + 1);
  await world.head();
  assert.deepEqual((await world.verify()).problems, []);
});

test("A-AUD-04 200 concurrent appends over 3 replicas: every stream gapless, none forked, all tied by heads", async (t) => {
  const world = await ledgerWorld(t);
  const gates = await Promise.all(
    ["r1", "r2", "r3"].map(async (name) => {
      await world.beat(name);
      return world.gate(name);
    }),
  );
  const verdicts = await Promise.all(Array.from({ length: 200 }, (_, i) => gates[i % 3]!.submit(ask())));
  assert.ok(verdicts.every(({ outcome }) => outcome === "granted"));
  const outside = await world.head();
  const streams = await world.admin<{ stream: string; first: number; last: number; count: number }>(
    "select stream, min(seq)::int as first, max(seq)::int as last, count(*)::int as count from ephor.events group by stream order by stream",
  );
  assert.deepEqual(
    streams.map(({ stream }) => stream),
    ["r1.gate.1", "r2.gate.1", "r3.gate.1"],
  );
  assert.equal(
    streams.reduce((sum, { count }) => sum + count, 0),
    200,
  );
  for (const { first, last, count } of streams) assert.deepEqual([first, last], [1, count]);
  const named = world.claims(outside).streams;
  assert.deepEqual(
    streams.map(({ stream, last }) => [stream, named[stream]?.[0] === last]),
    streams.map(({ stream }) => [stream, true]),
  );
  const verdict = await world.verify(outside);
  assert.deepEqual([verdict.ok, verdict.events], [true, 200]);
});

test("A-AUD-04 two writers that believe to stand at the same place do not fork the stream", async (t) => {
  const world = await ledgerWorld(t);
  const event = world.recorder("r1").draft({ type: "audit.read", facts: {} }, "noted");
  await world.db.query(
    "insert into ephor.streams (id, replica, seq, hash, started_at_ms) values ('r1.notes.1', 'r1', 0, sha256('r1.notes.1'), 0)",
  );
  const append = () =>
    world.db.query("select ephor.record('r1.notes.1', 0, sha256('r1.notes.1'), $1, $2::jsonb)", [
      world.clock.nowMs(),
      JSON.stringify([event]),
    ]);
  const results = await Promise.allSettled([append(), append()]);
  assert.deepEqual(results.map(({ status }) => status).sort(), ["fulfilled", "rejected"]);
  assert.equal((await world.verify()).ok, true);
});

const NASTY = [
  "new\nline\r\nand another",
  "\u001b[31mred\u001b[0m\u009b31m\u0007",
  `quote " and ' and \\ and {"`,
  "nul\u0000inside",
  "turn\u202eegnahc\u2066\u200b\ufeff",
  "line\u2028separator\u0085next",
  "half \ud800 a pair",
  "'); drop table ephor.events; --",
  `"}\n{"decision":"granted"`,
  "=cmd|' /C calc'!A0",
];

test("A-AUD-05 hostile text is stored and shown as data: one row, one line", async (t) => {
  const world = await ledgerWorld(t);
  const recorder = world.recorder("r1");
  for (const text of NASTY) {
    await recorder.refused(
      {
        type: "token.issue",
        agent: text,
        sub: text,
        resource: text,
        txn: text,
        jti: text,
        traceId: text,
        requestId: text,
        facts: { purpose: text, [text]: text, list: [text] },
      },
      "no_rule_matches",
    );
  }
  const rows = await world.admin<{ agent: string; body: string }>("select agent, body from ephor.events order by seq");
  assert.equal(rows.length, NASTY.length);
  for (const [index, row] of rows.entries()) {
    assert.equal(row.agent, NASTY[index]?.toWellFormed().replaceAll("\u0000", "\ufffd"));
    assert.doesNotMatch(row.body, /\n/);
  }
  for (const format of ["ephor", "ocsf"] as const) {
    const lines: string[] = [];
    for await (const line of exportEvents(world.db, { format })) lines.push(line);
    assert.equal(lines.length, NASTY.length);
    for (const line of lines) {
      assert.match(line, /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+\n$/u);
      assert.equal(typeof JSON.parse(line), "object");
    }
  }
  assert.equal((await queryEvents(world.db, { agent: NASTY[0] })).events.length, 1);
  assert.equal((await world.verify()).ok, true);
});

test("A-AUD-05 a drawn chain shows hostile text as data", () => {
  for (const text of NASTY) {
    const refusal = { at: 0, agent: text, reason: text, resource: text };
    const token = { jti: text, kind: "access" as const, aud: text, scopes: [text], exp: 0, status: "live" };
    const node = { agent: text, status: "open", scopes: [text], tokens: [token], refusals: [refusal], children: [] };
    const lines = drawChain({
      txn: text,
      sub: text,
      email: text,
      purpose: text,
      status: "open",
      deadline: 0,
      kill_ids: [text],
      root: { ...node, children: [node] },
      refusals: [refusal],
    });
    for (const line of lines) assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/u);
  }
});

test("A-AUD-06 INV-14 the application's role may append to the ledger and read it, and nothing else", async (t) => {
  const world = await ledgerWorld(t);
  await world.beat("r1");
  await world.gate("r1").submit(ask());
  await world.head();
  const [who] = await world.db.query<{ role: string }>("select current_user as role");
  assert.equal(who?.role, "ephor_app");
  for (const table of ["events", "batches", "heads"]) {
    const name = `ephor.${table}`;
    assert.equal((await world.db.query(`select 1 from ${name}`)).length, 1);
    // PostgreSQL answers this with a warning; nothing is granted by it.
    await world.db.query(`grant update, delete on ${name} to ephor_app`);
    for (const statement of [
      `update ${name} set at_ms = 0`,
      `update ${name} set at_ms = at_ms where false`,
      `delete from ${name}`,
      `truncate ${name}`,
      `alter table ${name} add column x int`,
      `alter table ${name} disable trigger all`,
      `alter table ${name} owner to ephor_app`,
      `drop table ${name}`,
      `create rule quiet as on insert to ${name} do instead nothing`,
      `create trigger t before insert on ${name} for each row execute function suppress_redundant_updates_trigger()`,
    ]) {
      await assert.rejects(
        world.db.query(statement),
        (error) => error instanceof DatabaseError && error.sqlState === "42501",
        statement,
      );
    }
  }
  for (const statement of [
    "create or replace function ephor.leaf(body text, decision text, reason text) returns bytea language sql return ''::bytea",
    "drop function ephor.append(text, bigint, bytea, bigint, ephor.event_row[])",
    "delete from ephor.streams",
    "delete from ephor.kills",
    "set session_replication_role = replica",
  ]) {
    await assert.rejects(
      world.db.query(statement),
      (error) => error instanceof DatabaseError && error.sqlState === "42501",
      statement,
    );
  }
  assert.equal((await world.verify()).events, 1);
});

test("A-AUD-07 a flood of strangers costs a bounded number of rows; every refusal of an authenticated agent has its own", async (t) => {
  const world = await ledgerWorld(t);
  const recorder = world.recorder("r1");
  const noise = createNoise({ db: world.db, clock: world.clock, recorder });
  t.after(() => noise.close());
  const draft = { type: "token.issue" as const, facts: {} };
  for (let i = 0; i < 10_000; i++) {
    void noise.refused(draft, "no_rule_matches", `${i % 200}.${Math.floor(i / 200)}.0.1`);
  }
  const authenticated = Array.from({ length: 100 }, (_, i) =>
    recorder.refused({ ...draft, agent: `agent-${i}` }, "scope_not_granted"),
  );
  const ids = await Promise.all(authenticated);
  await recorder.idle();
  await noise.flush();
  const [rows] = await world.admin<{ noise: number; counted: number; events: number }>(
    `select (select count(*)::int from ephor.noise) as noise, (select sum(count)::int from ephor.noise) as counted,
       (select count(*)::int from ephor.events where reason = 'no_rule_matches') as events`,
  );
  assert.equal(rows?.counted, 10_000);
  assert.ok((rows?.noise ?? 0) <= 501 && (rows?.events ?? 0) <= 501, JSON.stringify(rows));
  assert.equal(new Set(ids).size, 100);
  assert.equal((await world.admin("select 1 from ephor.events where id = any($1)", [ids])).length, 100);
  assert.equal((await world.verify()).ok, true);
});
