import assert from "node:assert/strict";
import { test } from "node:test";
import { taskCompleted, taskView } from "../../src/api/tasks.ts";
import { completeTask } from "../../src/tasks/complete.ts";
import { TaskNotFoundError } from "../../src/tasks/not-found.ts";
import { readTask } from "../../src/tasks/read.ts";
import { strike } from "../audit/ledger-world.ts";
import { HUMAN, id, taskWorld, type TaskWorld } from "./task-world.ts";

const isNotFound = (error: unknown): boolean => error instanceof TaskNotFoundError && error.reason === "task_unknown";
const ends = (world: TaskWorld) =>
  world.admin("select 1 from ephor.events where type = 'task.end' and decision = 'granted'");
const outcomes = async (world: TaskWorld): Promise<unknown[]> => [
  (await world.token({ agent: "triage-bot", node: world.txn, path: ["triage-bot"] })).outcome,
  (await world.token(world.summary)).outcome,
  (await world.token(world.writer)).outcome,
];

test("the opener ends all of the task: nothing more is released in it", async (t) => {
  const world = await taskWorld(t);
  assert.deepEqual(taskCompleted.parse(await completeTask(world.deps, { txn: world.txn, agent: "triage-bot" })), {
    txn: world.txn,
    ended: "task",
  });
  assert.deepEqual(await outcomes(world), ["task_ended", "task_ended", "task_ended"]);
});

test("another member ends its own place and all below it, and the rest goes on", async (t) => {
  const world = await taskWorld(t);
  const done = taskCompleted.parse(await completeTask(world.deps, { txn: world.txn, agent: "summary-bot" }));
  assert.deepEqual([done.ended, done.nodes?.sort()], ["nodes", [world.toSummary, world.toWriter].sort()]);
  assert.deepEqual(await outcomes(world), ["granted", "node_ended", "node_ended"]);
});

test("the lowest member ends only itself", async (t) => {
  const world = await taskWorld(t);
  assert.deepEqual((await completeTask(world.deps, { txn: world.txn, agent: "writer-bot" })).nodes, [world.toWriter]);
  assert.deepEqual(await outcomes(world), ["granted", "granted", "node_ended"]);
});

test("an agent with several places ends each of them", async (t) => {
  const world = await taskWorld(t);
  const again = id();
  await world.token({
    agent: "triage-bot",
    node: world.txn,
    path: ["triage-bot"],
    jti: again,
    resource: "agents/writer-bot",
  });
  await world.token({ agent: "writer-bot", node: again, path: ["triage-bot", "writer-bot"], parent: world.txn });
  const { nodes } = await completeTask(world.deps, { txn: world.txn, agent: "writer-bot" });
  assert.deepEqual([...(nodes ?? [])].sort(), [again, world.toWriter].sort());
  assert.equal((await ends(world)).length, 2);
});

test("ending twice is no error and records nothing more", async (t) => {
  const world = await taskWorld(t);
  await completeTask(world.deps, { txn: world.txn, agent: "summary-bot" });
  assert.deepEqual(await completeTask(world.deps, { txn: world.txn, agent: "summary-bot" }), {
    txn: world.txn,
    ended: "nodes",
    nodes: [],
  });
  assert.equal((await ends(world)).length, 1);
  await completeTask(world.deps, { txn: world.txn, agent: "triage-bot" });
  assert.deepEqual(await completeTask(world.deps, { txn: world.txn, agent: "triage-bot" }), {
    txn: world.txn,
    ended: "task",
  });
  await completeTask(world.deps, { txn: world.txn, agent: "writer-bot" });
  assert.equal((await ends(world)).length, 2);
});

test("an agent that is not in the task finds none, as for a task that is not there; both are recorded", async (t) => {
  const world = await taskWorld(t);
  await assert.rejects(completeTask(world.deps, { txn: world.txn, agent: "thief-bot" }), isNotFound);
  await assert.rejects(completeTask(world.deps, { txn: id(), agent: "thief-bot" }), isNotFound);
  await assert.rejects(readTask(world.deps, { txn: world.txn, reader: { agent: "thief-bot" } }), isNotFound);
  await assert.rejects(readTask(world.deps, { txn: id(), reader: { agent: "triage-bot" } }), isNotFound);
  await assert.rejects(readTask(world.deps, { txn: id(), reader: { operator: "dana" } }), isNotFound);
  assert.deepEqual(await outcomes(world), ["granted", "granted", "granted"]);
  const rows = await world.admin(
    "select type, agent, reason from ephor.events where decision = 'refused' order by seq",
  );
  assert.deepEqual(rows, [
    { type: "task.end", agent: "thief-bot", reason: "task_unknown" },
    { type: "task.end", agent: "thief-bot", reason: "task_unknown" },
    { type: "task.read", agent: "thief-bot", reason: "task_unknown" },
    { type: "task.read", agent: "triage-bot", reason: "task_unknown" },
    { type: "task.read", agent: "operator:dana", reason: "task_unknown" },
  ]);
});

test("a member reads the task with its own places; an operator sees all of them", async (t) => {
  const world = await taskWorld(t);
  const own = taskView.parse(await readTask(world.deps, { txn: world.txn, reader: { agent: "summary-bot" } }));
  assert.deepEqual(
    [own.sub, own.opener, own.status, own.purpose, own.scopes],
    [HUMAN, "triage-bot", "open", "triage inbox", null],
  );
  assert.deepEqual(own.nodes, [
    { node: world.toSummary, path: ["triage-bot", "summary-bot"], scopes: ["billing:read_invoice"], status: "open" },
  ]);
  const all = taskView.parse(await readTask(world.deps, { txn: world.txn, reader: { operator: "dana" } }));
  assert.deepEqual(all.nodes.map(({ path }) => path.at(-1)).sort(), ["summary-bot", "triage-bot", "writer-bot"]);
});

test("reading tells what was killed, ended and expired", async (t) => {
  const world = await taskWorld(t);
  const states = async (): Promise<unknown[]> => {
    const view = taskView.parse(await readTask(world.deps, { txn: world.txn, reader: { agent: "summary-bot" } }));
    return [view.status, view.nodes[0]?.status];
  };
  await completeTask(world.deps, { txn: world.txn, agent: "summary-bot" });
  assert.deepEqual(await states(), ["open", "ended"]);
  world.hand.advance(3_600);
  assert.deepEqual(await states(), ["expired", "ended"]);
  await strike(world, ["agent:summary-bot"]);
  assert.deepEqual(await states(), ["expired", "killed"]);
});
