import assert from "node:assert/strict";
import { test } from "node:test";
import type { Ask } from "../../src/authz/ask.ts";
import { createGate } from "../../src/authz/gate.ts";
import { createRecorder } from "../../src/audit/recorder.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { handClock } from "../support/hand-clock.ts";
import { testDatabase, type Cleanup } from "../support/database.ts";

const START = 1_795_312_800;
let count = 0;

async function gateOn(t: Cleanup) {
  const database = await testDatabase(t);
  const clock = createDatabaseClock(handClock(START));
  const gate = createGate({ db: database.db, clock, replica: "r1" });
  const recorder = createRecorder({ db: database.db, clock, log: createLog({ level: "silent" }), replica: "r1" });
  return { ...database, clock, gate, recorder };
}

/** An agent's first token in a new task. */
function ask(over: Partial<Ask> & { agent?: string; txn?: string } = {}): Ask {
  count += 1;
  const txn = over.txn ?? `txn${count}`;
  const agent = over.agent ?? "triage-bot";
  const { agent: _agent, txn: _txn, ...rest } = over;
  const kill = { keys: [`agent:${agent}`, `txn:${txn}`, `jti:j${count}`], epochs: [null, null, null] };
  return {
    action: "token.issue",
    target: "https://billing.acme.example",
    actor: agent,
    trustVersion: 1,
    event: { type: "token.issue", agent, txn, jti: `j${count}`, facts: { scope: "billing:read_invoice" } },
    kill,
    newTask: {
      txn,
      opener: agent,
      subject: { type: "agent", agent, sub: `agent|${agent}` },
      sub: `agent|${agent}`,
      ceiling: null,
      opened_at: START,
      deadline: START + 3600,
    },
    newNode: {
      id: txn,
      txn,
      parent: null,
      agent,
      path: [agent],
      ceiling: null,
      made_at: START,
      kill_keys: kill.keys,
      kill_epochs: kill.epochs,
    },
    newHop: {
      jti: `j${count}`,
      txn,
      node: txn,
      kind: "access",
      actor: agent,
      aud: "https://billing.acme.example",
      scopes: ["billing:read_invoice"],
      iat: START,
      exp: START + 45,
    },
    ...rest,
  };
}

const kill = (db: Awaited<ReturnType<typeof gateOn>>, keys: string[], endsAt?: number) =>
  db.db.query("select ephor.kill($1, $2, $3)", [
    START * 1000,
    JSON.stringify({ id: `kill_${(count += 1)}`, actor: "operator", reason: "test", keys, ends_at: endsAt }),
    JSON.stringify(db.recorder.draft({ type: "kill", agent: "operator", facts: {} }, "granted")),
  ]);

test("the gate records a granted release with its task, node and hop in one step", async (t) => {
  const world = await gateOn(t);
  const verdict = await world.gate.submit(ask({ txn: "t-one" }));
  assert.equal(verdict.outcome, "granted");
  const [row] = await world.admin("select * from ephor.events where id = $1", [verdict.eventId]);
  assert.equal(row?.["decision"], "granted");
  assert.equal((await world.admin("select * from ephor.tasks where txn = 't-one'")).length, 1);
  assert.equal((await world.admin("select * from ephor.nodes where txn = 't-one'")).length, 1);
  assert.equal((await world.admin("select * from ephor.hops where txn = 't-one'")).length, 1);
});

test("a decision by an old trust version is stale and records nothing", async (t) => {
  const world = await gateOn(t);
  const verdict = await world.gate.submit(ask({ txn: "t-stale", trustVersion: 0 }));
  assert.equal(verdict.outcome, "stale");
  assert.equal((await world.admin("select 1 from ephor.events")).length, 0);
  assert.equal((await world.admin("select 1 from ephor.hops")).length, 0);
});

test("a tool that is not what its asker remembers (changed, another definition, another server, removed) records nothing and uses nothing up", async (t) => {
  const world = await gateOn(t);
  const put = `insert into ephor.tool_pins (resource, entry, tool, status, hash) values ('shop', 'e1', 'look', $1, $2)
    on conflict (resource, entry, tool) do update set status = $1, hash = $2`;
  const asked = (over: { entry?: string; tool?: string; hash?: string; resource?: string } = {}): Ask => {
    const { entry = "e1", tool = "look", hash = "h1", resource = "shop" } = over;
    const plain = ask({ pin: { entry, tool, hash }, replay: [{ key: "once", holder: "me", exp: START + 60 }] });
    return { ...plain, event: { ...plain.event, resource } };
  };
  const outcomeOf = async (one: Ask): Promise<string> => (await world.gate.submit(one)).outcome;
  await world.admin(put, ["pinned", "h1"]);
  for (const other of [{ hash: "h2" }, { entry: "e2" }, { tool: "buy" }, { resource: "stall" }])
    assert.equal(await outcomeOf(asked(other)), "pin_moved", JSON.stringify(other));
  await world.admin(put, ["changed", "h1"]);
  assert.equal(await outcomeOf(asked()), "pin_moved");
  for (const table of ["events", "hops", "tasks", "replay"])
    assert.equal((await world.admin(`select 1 from ephor.${table}`)).length, 0, table);
  await world.admin(put, ["pinned", "h1"]);
  assert.equal(await outcomeOf(asked()), "granted");
  assert.equal((await world.admin("select 1 from ephor.events")).length, 1);
});

test("the gate brings sealed values with what it grants, as they lie then, and none with what it refuses", async (t) => {
  const world = await gateOn(t);
  await world.admin(`insert into ephor.secret_versions (name, version, sealed, fingerprint, created_at, created_by)
    select n, v, jsonb_build_object('of', n || v), 'f', 0, 'me' from (values ('crm', 1), ('crm', 2), ('db', 1)) as s(n, v)`);
  await world.admin(`insert into ephor.secrets (name, owner, version, created_at, updated_at, updated_by)
    values ('crm', 'dana', 2, 0, 0, 'me'), ('db', 'dana', 1, 0, 0, 'me')`);
  const granted = await world.gate.submit(ask({ brings: ["crm", "none"] }));
  assert.equal(granted.outcome, "granted");
  assert.deepEqual(granted.sealed, { crm: { version: 2, sealed: { of: "crm2" } } });
  assert.deepEqual((await world.gate.submit(ask())).sealed, {});
  await kill(world, ["agent:triage-bot"]);
  const refused = await world.gate.submit(ask({ brings: ["crm"] }));
  assert.deepEqual([refused.outcome, refused.sealed], ["killed", {}]);
});

test("a kill of the agent refuses what it covers, records the refusal, and leaves others alone", async (t) => {
  const world = await gateOn(t);
  await kill(world, ["agent:triage-bot"]);
  const refused = await world.gate.submit(ask());
  const other = await world.gate.submit(ask({ agent: "summary-bot" }));
  assert.equal(refused.outcome, "killed");
  assert.equal(other.outcome, "granted");
  const [row] = await world.admin("select decision, reason from ephor.events where id = $1", [refused.eventId]);
  assert.deepEqual(row, { decision: "refused", reason: "killed" });
  assert.equal((await world.admin("select 1 from ephor.hops where actor = 'triage-bot'")).length, 0);
});

test("after a restore new things live and what was issued before the kill stays dead, by position", async (t) => {
  const world = await gateOn(t);
  const before = await world.gate.submit(ask({ txn: "t-old" }));
  await kill(world, ["agent:triage-bot"]);
  await world.db.query("select ephor.restore($1, $2, $3)", [
    START * 1000,
    ["agent:triage-bot"],
    JSON.stringify(world.recorder.draft({ type: "restore", facts: {} }, "granted")),
  ]);
  const old = ask({
    txn: "t-old",
    task: { txn: "t-old", nodes: ["t-old"] },
    kill: { keys: ["agent:triage-bot"], epochs: [before.epoch] },
  });
  const { newTask: _t, newNode: _n, ...continuing } = old;
  assert.equal((await world.gate.submit(continuing)).outcome, "killed");
  assert.equal((await world.gate.submit(ask())).outcome, "granted");
});

test("a kill for a time ends by itself; until then it refuses", async (t) => {
  const world = await gateOn(t);
  await kill(world, ["agent:triage-bot"], START + 600);
  assert.equal((await world.gate.submit(ask())).outcome, "killed");
  const later = { ...world.clock, nowMs: () => (START + 601) * 1000 };
  const gate = createGate({ db: world.db, clock: later, replica: "r2" });
  assert.equal((await gate.submit(ask())).outcome, "granted");
});

test("an ended, expired or unknown task refuses; an open one grants", async (t) => {
  const world = await gateOn(t);
  await world.gate.submit(ask({ txn: "t-live" }));
  await world.gate.submit(ask({ txn: "t-ended" }));
  const event = JSON.stringify(world.recorder.draft({ type: "task.end", facts: {} }, "granted"));
  await world.db.query("select ephor.end_task($1, 't-ended', null, 'triage-bot', $2)", [START * 1000, event]);
  await world.admin("update ephor.tasks set deadline = $1 where txn = 't-live'", [START + 10]);
  const reuse = (txn: string): Ask => {
    const { newTask: _t, newNode: _n, ...rest } = ask({ txn, task: { txn, nodes: [txn] } });
    return rest;
  };
  assert.equal((await world.gate.submit(reuse("t-live"))).outcome, "granted");
  assert.equal((await world.gate.submit(reuse("t-ended"))).outcome, "task_ended");
  assert.equal((await world.gate.submit(reuse("t-none"))).outcome, "task_unknown");
  const later = createGate({
    db: world.db,
    clock: { ...world.clock, nowMs: () => (START + 10) * 1000 },
    replica: "r2",
  });
  assert.equal((await later.submit(reuse("t-live"))).outcome, "task_expired");
});

test("the end of a subtree refuses its nodes and leaves the rest of the task open", async (t) => {
  const world = await gateOn(t);
  await world.gate.submit(ask({ txn: "t-tree" }));
  const child = ask({ txn: "t-tree", agent: "summary-bot" });
  const { newTask: _t, ...handedOver } = child;
  await world.gate.submit({
    ...handedOver,
    task: { txn: "t-tree", nodes: ["t-tree"] },
    newNode: { ...child.newNode!, id: "handover-1", parent: "t-tree", path: ["triage-bot", "summary-bot"] },
  });
  const event = JSON.stringify(world.recorder.draft({ type: "task.end", facts: {} }, "granted"));
  await world.db.query("select ephor.end_task($1, 't-tree', 'handover-1', 'summary-bot', $2)", [START * 1000, event]);
  const reuse = (nodes: string[]): Ask => {
    const { newTask: _task, newNode: _node, ...rest } = ask({ txn: "t-tree", task: { txn: "t-tree", nodes } });
    return rest;
  };
  assert.equal((await world.gate.submit(reuse(["t-tree", "handover-1"]))).outcome, "node_ended");
  assert.equal((await world.gate.submit(reuse(["t-tree"]))).outcome, "granted");
});

test("INV-07 a replay key works once, over 50 parallel uses and two replicas", async (t) => {
  const world = await gateOn(t);
  const second = createGate({ db: world.db, clock: world.clock, replica: "r2" });
  const replay = [{ key: "assertion:abc", exp: START + 300 }];
  const outcomes = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => (await (i % 2 ? world.gate : second).submit(ask({ replay }))).outcome),
  );
  assert.equal(outcomes.filter((outcome) => outcome === "granted").length, 1);
  assert.equal(outcomes.filter((outcome) => outcome === "replayed").length, 49);
  assert.equal((await world.admin("select 1 from ephor.hops")).length, 1);
});

test("a refused request burns nothing: its replay keys stay free", async (t) => {
  const world = await gateOn(t);
  await kill(world, ["agent:triage-bot"]);
  const replay = [{ key: "proof:1", exp: START + 60 }];
  assert.equal((await world.gate.submit(ask({ replay }))).outcome, "killed");
  assert.equal((await world.gate.submit(ask({ agent: "other-bot", replay }))).outcome, "granted");
});

test("a subject token belongs to the first agent, and its second use continues the task it opened", async (t) => {
  const world = await gateOn(t);
  const binding = { key: "sub:1", node: "t-first", opens: false, singleUse: false, exp: START + 600 };
  assert.equal((await world.gate.submit(ask({ txn: "t-first", binding }))).outcome, "granted");
  const again = await world.gate.submit(ask({ txn: "t-second", binding: { ...binding, node: "t-second" } }));
  assert.deepEqual([again.outcome, again.txn, again.node], ["continue", "t-first", "t-first"]);
  const thief = await world.gate.submit(ask({ agent: "thief-bot", binding: { ...binding, node: "x" } }));
  assert.equal(thief.outcome, "subject_bound_elsewhere");
  const opened = await world.gate.submit(
    ask({ txn: "t-third", binding: { ...binding, node: "t-third", opens: true } }),
  );
  assert.equal(opened.outcome, "granted");
});

test("A-OIDC-23 a single-use token opens one task, 50 times in parallel over two replicas", async (t) => {
  const world = await gateOn(t);
  const second = createGate({ db: world.db, clock: world.clock, replica: "r2" });
  const outcomes = await Promise.all(
    Array.from({ length: 50 }, async (_, i) => {
      const txn = `t-single-${i}`;
      const binding = { key: "single:1", node: txn, opens: false, singleUse: true, exp: START + 600 };
      return (await (i % 2 ? world.gate : second).submit(ask({ txn, binding }))).outcome;
    }),
  );
  assert.equal(outcomes.filter((outcome) => outcome === "granted").length, 1);
  assert.equal(outcomes.filter((outcome) => outcome === "single_use_spent").length, 49);
});

test("a single-use token continues with the DPoP key it came with, and with no other", async (t) => {
  const world = await gateOn(t);
  const binding = { key: "single:2", node: "t-s", opens: false, singleUse: true, jkt: "key-1", exp: START + 600 };
  const first = ask({ txn: "t-s", binding });
  assert.equal((await world.gate.submit(first)).outcome, "granted");
  assert.equal((await world.gate.submit(ask({ binding: { ...binding, node: "n" } }))).outcome, "continue");
  assert.equal((await world.gate.submit(ask({ binding: { ...binding, jkt: "key-2" } }))).outcome, "single_use_spent");
  const { jkt: _jkt, ...bare } = binding;
  assert.equal((await world.gate.submit(ask({ binding: bare }))).outcome, "single_use_spent");
});

test("a row that the database cannot store fails alone; its batch is granted", async (t) => {
  const world = await gateOn(t);
  const good = ask();
  const bad = ask({ kill: { keys: ["agent:a\u0000b"], epochs: [null] } });
  const results = await Promise.allSettled([world.gate.submit(good), world.gate.submit(bad), world.gate.submit(ask())]);
  assert.deepEqual(
    results.map((result) => result.status),
    ["fulfilled", "rejected", "fulfilled"],
  );
});

test("INV-09 a kill waits for the release in flight, and the release after it is refused", async (t) => {
  const world = await gateOn(t);
  const rounds = Array.from({ length: 20 }, (_, i) => i);
  for (const round of rounds) {
    const agent = `racer-${round}`;
    const asks = Array.from({ length: 10 }, () => world.gate.submit(ask({ agent })));
    const killed = kill(world, [`agent:${agent}`]);
    const after = killed.then(() => world.gate.submit(ask({ agent })));
    const verdicts = await Promise.all(asks);
    assert.equal((await after).outcome, "killed");
    // Whatever was granted is dead now: it was issued at an epoch before the kill.
    for (const verdict of verdicts.filter((v) => v.outcome === "granted")) {
      const [row] = await world.admin<{ dead: boolean }>("select ephor.is_dead($1, $2, $3, $4) as dead", [
        [`agent:${agent}`],
        [verdict.epoch],
        0,
        START,
      ]);
      assert.equal(row?.dead, true);
    }
  }
});

test("a lease is written with its decision, released in the same step as the second, and never once a worker took it", async (t) => {
  const { gate, admin } = await gateOn(t);
  const intent = (id: string, over?: Pick<Ask, "kill">): Ask => {
    const { newHop: _hop, ...rest } = ask();
    const { txn } = rest.newTask as NonNullable<Ask["newTask"]>;
    const facts = { id, resource: "orders-db", provider: "static", facts: {}, settings: {}, txn, node: txn };
    const times = { created_at: START, ends_at: START + 45, next_try_at_ms: (START + 60) * 1_000 };
    return { ...rest, ...over, newLease: { ...facts, ...times, agent: "triage-bot" } };
  };
  const release = (id: string): Ask => {
    const { newTask: _task, newNode: _node, newHop: _hop, ...rest } = ask();
    const marks = [{ kind: "aws_access_key_id", value: `AKIA${id}` }];
    return { ...rest, leaseRelease: { id, upstream_expires_at: START + 900, marks } };
  };
  const statusOf = async (id: string): Promise<unknown> =>
    (await admin<{ status: string }>("select status from ephor.leases where id = $1", [id]))[0]?.status;
  assert.equal((await gate.submit(intent("lease_a"))).outcome, "granted");
  assert.equal((await gate.submit(intent("lease_b"))).outcome, "granted");
  assert.deepEqual([await statusOf("lease_a"), await statusOf("lease_b")], ["intent", "intent"]);
  await admin("update ephor.leases set status = 'ending' where id = 'lease_b'");
  const [good, taken, unknown] = await Promise.all(
    ["lease_a", "lease_b", "lease_c"].map((id) => gate.submit(release(id))),
  );
  assert.deepEqual([good?.outcome, taken?.outcome, unknown?.outcome], ["granted", "lease_taken", "lease_taken"]);
  assert.deepEqual([await statusOf("lease_a"), await statusOf("lease_b")], ["live", "ending"]);
  assert.deepEqual(await admin("select value, lease from ephor.lease_marks"), [
    { value: "AKIAlease_a", lease: "lease_a" },
  ]);
  const [event] = await admin("select decision, reason from ephor.events where id = $1", [taken?.eventId]);
  assert.deepEqual(event, { decision: "refused", reason: "lease_taken" });
  // Released once: the second time it is nobody's intent any more.
  assert.equal((await gate.submit(release("lease_a"))).outcome, "lease_taken");
  await admin("insert into ephor.dead_keys (key, position, active, kill_id) values ('agent:bad-bot', 9, true, 'k')");
  const killed = await gate.submit(intent("lease_d", { kill: { keys: ["agent:bad-bot"], epochs: [null] } }));
  assert.deepEqual([killed.outcome, await statusOf("lease_d")], ["killed", undefined]);
});
