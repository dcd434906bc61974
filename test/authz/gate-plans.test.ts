import assert from "node:assert/strict";
import { test } from "node:test";
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

test("the gate and the reading of tokens go by indexes, also with plans that were made while the tables were empty", async (t) => {
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

  // What PostgreSQL counts of a transaction is there to be read until its end.
  await client.query("begin");
  for (let turn = 0; turn < 8; turn++) {
    const names = [0, 1, 2].map((n) => `t${turn}-${n}`);
    assert.deepEqual(await gate(names.map((name, n) => row(n + 1, name, false))), ["granted", "granted", "granted"]);
    assert.deepEqual(await gate(names.map((name, n) => row(n + 1, name, true))), ["granted", "granted", "granted"]);
    const { rowCount } = await read(names.map((name, n) => `j-${n + 1}-${name}-true`));
    assert.equal(rowCount, 3);
  }
  const { rows: scans } = await client.query<{ relname: string; seq_scan: string; idx_scan: string }>(
    "select relname, seq_scan, idx_scan from pg_stat_xact_user_tables where schemaname = 'ephor'",
  );
  await client.end();
  assert.deepEqual(
    scans.filter((scan) => Number(scan.seq_scan) > 0).map((scan) => scan.relname),
    [],
  );
  const used = new Set(scans.filter((scan) => Number(scan.idx_scan) > 0).map((scan) => scan.relname));
  for (const table of ["tasks", "nodes", "hops", "bindings", "dead_keys", "streams"]) assert.ok(used.has(table), table);
});
