import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import pg from "pg";
import { testDatabase } from "../support/database.ts";

const NOW = 1_795_312_800;

/** What the gate is given for an agent's first token, or for a later one of a task. */
function row(i: number, name: string, continues: boolean): Record<string, unknown> {
  const keys = ["all", `agent:${name}`, `txn:${name}`];
  const node = {
    id: name,
    txn: name,
    parent: null,
    agent: "bot",
    path: ["bot"],
    ceiling: null,
    made_at: NOW,
    kill_keys: keys,
  };
  const task = { txn: name, opener: "bot", subject: {}, sub: "agent|bot", opened_at: NOW, deadline: NOW + 3600 };
  const jti = `j-${i}-${name}-${continues}`;
  return {
    i,
    trust_version: 1,
    id: `evt-${jti}`,
    type: "token.issue",
    agent: "bot",
    txn: name,
    jti,
    body: "{}",
    kill_keys: [...keys, `jti:${jti}`],
    replay_keys: [`assertion:${jti}`],
    replay_exps: [NOW + 60],
    bind_key: `subject:${name}`,
    bind_open: false,
    bind_node: name,
    bind_single: false,
    bind_exp: NOW + 60,
    new_hop: {
      jti,
      txn: name,
      node: name,
      kind: "access",
      actor: "bot",
      aud: "a",
      scopes: ["s:a"],
      iat: NOW,
      exp: NOW + 45,
    },
    ...(continues ? { check_txn: name, check_nodes: [name] } : { new_task: task, new_node: node }),
  };
}

/** A connection, and the gate's function on it. */
async function connect(t: TestContext) {
  const database = await testDatabase(t);
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  // Where the test fails before its end, the database is dropped from under it.
  client.on("error", () => {});
  await client.query("insert into ephor.streams (id, replica, seq, hash, started_at_ms) values ('s', 'r', 0, 'x', 1)");
  let at = { seq: 0, hash: Buffer.from("x").toString("hex") };
  const gate = async (rows: readonly object[]): Promise<string[]> => {
    const { rows: answers } = await client.query<{ r: { seq: number; hash: string; outcomes: string[] } }>({
      name: "gate",
      text: "select ephor.gate('s', $1, decode($2, 'hex'), $3, $4::jsonb) as r",
      values: [at.seq, at.hash, NOW * 1000, JSON.stringify(rows)],
    });
    const answer = answers[0]?.r;
    assert.ok(answer);
    at = { seq: answer.seq, hash: answer.hash };
    return answer.outcomes;
  };
  const read = (jtis: readonly string[]) =>
    client.query({ name: "states", text: "select * from ephor.token_states($1, $2)", values: [jtis, NOW] });
  /** What this transaction read so far. */
  const scans = async () => {
    const { rows } = await client.query<{ relname: string; seq_scan: string; idx_scan: string; idx_tup_fetch: string }>(
      "select relname, seq_scan, idx_scan, idx_tup_fetch from pg_stat_xact_user_tables where schemaname = 'ephor'",
    );
    return rows;
  };
  return { client, gate, read, scans };
}

test("the gate and the reading of tokens go by indexes, also with plans that were made while the tables were empty", async (t) => {
  const { client, gate, read, scans: scanned } = await connect(t);
  // What PostgreSQL counts of a transaction is there to be read until its end.
  await client.query("begin");
  for (let turn = 0; turn < 8; turn++) {
    const names = [0, 1, 2].map((n) => `t${turn}-${n}`);
    assert.deepEqual(await gate(names.map((name, n) => row(n + 1, name, false))), ["granted", "granted", "granted"]);
    assert.deepEqual(await gate(names.map((name, n) => row(n + 1, name, true))), ["granted", "granted", "granted"]);
    const { rowCount } = await read(names.map((name, n) => `j-${n + 1}-${name}-true`));
    assert.equal(rowCount, 3);
  }
  const scans = await scanned();
  await client.end();
  assert.deepEqual(
    scans.filter((scan) => Number(scan.seq_scan) > 0).map((scan) => scan.relname),
    [],
  );
  const used = new Set(scans.filter((scan) => Number(scan.idx_scan) > 0).map((scan) => scan.relname));
  for (const table of ["tasks", "nodes", "hops", "bindings", "dead_keys", "streams"]) assert.ok(used.has(table), table);
});

const KILLS = 100_000;

test("among 100,000 kills in force the gate, introspection and replicas that catch up read no more rows than concern them", async (t) => {
  const { client, gate, read, scans } = await connect(t);
  // Plans made while there was no kill, and kept.
  assert.deepEqual(await gate([row(1, "before", false)]), ["granted"]);
  await read(["j-1-before-false"]);
  await client.query(
    `insert into ephor.dead_keys (key, position, active, kill_id)
     select case i % 4 when 0 then 'agent:' when 1 then 'txn:' when 2 then 'jti:' else 'subject:okta|' end || 'gone-' || i, i + 1, true, 'kill_' || i
     from generate_series(1, ${KILLS}) i`,
  );
  await client.query("update ephor.gate set epoch = $1", [KILLS + 1]);
  await client.query("analyze ephor.dead_keys");
  const dead = await client.query("select key from ephor.dead_keys where key in ('agent:gone-4', 'txn:gone-5')");
  assert.equal(dead.rowCount, 2);

  await client.query("begin");
  const names = Array.from({ length: 16 }, (_, n) => `n${n}`);
  assert.deepEqual(
    await gate(names.map((name, n) => row(n + 1, name, false))),
    names.map(() => "granted"),
  );
  // `row` names agent and chain alike: one of these two keys is dead.
  assert.deepEqual(await gate([row(1, "gone-4", false), row(2, "gone-5", false), row(3, "gone-6", false)]), [
    "killed",
    "killed",
    "granted",
  ]);
  await read(names.map((name, n) => `j-${n + 1}-${name}-false`));
  await client.query("select ephor.is_dead($1::text[], array[null, null]::bigint[], 9223372036854775807, $2)", [
    ["all", "agent:bot"],
    NOW,
  ]);
  await client.query("select key, position from ephor.dead_keys d where d.position > $1", [KILLS - 3]);
  const found = (await scans()).find(({ relname }) => relname === "dead_keys");
  await client.query("rollback");
  assert.equal(Number(found?.seq_scan), 0);
  assert.ok(Number(found?.idx_scan) > 0);
  // Two killed keys, looked at twice, and four that are new to a replica.
  assert.ok(Number(found?.idx_tup_fetch) <= 12, `${found?.idx_tup_fetch} rows read`);
  await client.end();
});
