/**
 * `kill -9` of a real server process at every step of a vend. Each step is held from outside, where it needs something that
 * a test can hold: the gate's lock, the lease's row, a lock in the upstream, the wire to it. Nothing in the program knows of it.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import pg from "pg";
import { loadConfig } from "../../src/config.ts";
import { startServer } from "../../src/server.ts";
import { createLog } from "../../src/system/log.ts";
import { withDatabase } from "../support/database.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { runningClock } from "../support/hand-clock.ts";
import { holdGate, holdLock, type HeldLock } from "../support/held-lock.ts";
import { replicas, type Replica } from "../support/replicas.ts";
import type { Answer } from "../support/world.ts";

/** A worker takes what a crash left behind when this is over, in seconds: longer than a mint may take, and than any lease lives. */
const LEFT_BEHIND_SECONDS = 61;
/** On a slow machine that time would be over before the last crash: what is left is due for nobody for so much longer. */
const DUE_LATER_SECONDS = 3_600;
/** Longest wait for a step, in real ms. */
const WAIT_MS = 10_000;

// What a test starts outlives it: the next one kills it.
const cleanups: (() => unknown)[] = [];
const file = { after: (fn: () => unknown): void => void cleanups.push(fn) };
after(async () => {
  for (const cleanUp of cleanups.toReversed()) await cleanUp();
});
const w = await replicas(file, { count: 1 });
const ephor = w.database;
await ephor.admin("create database orders");
const upstreamUrl = withDatabase(ephor.url, "orders");
const wire = await databaseProxy(file, upstreamUrl);
let server = w.all[0] as Replica;

const setUp = await w.operator(server, "POST", "/v1/apply", {
  source: "vault.yaml",
  file: `
resources:
  orders-db:
    credential:
      postgres: { host: "127.0.0.1", port: ${new URL(wire.url).port}, database: orders, secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
grants:
  - { agent: release-bot, resource: orders-db, actions: [vend] }
`,
});
assert.equal(setUp.status, 200, setUp.text);
const put = await w.operator(server, "PUT", "/v1/secrets/orders-admin", { value: ephor.url });
assert.equal(put.status, 200, put.text);

interface Row {
  id: string;
  status: string;
  ended_because: string | null;
  handle: unknown;
  attempts: number;
}

const leases = () => ephor.admin<Row>("select * from ephor.leases order by id");
const roleOf = (lease: string): string => `ephor_release_bot_${lease.slice("lease_".length).toLowerCase()}`;
const hasRole = async (lease: string): Promise<boolean> =>
  (await ephor.admin("select 1 from pg_roles where rolname = $1", [roleOf(lease)])).length === 1;
const isRecorded = async (type: string, lease: string): Promise<boolean> =>
  (
    await ephor.admin(
      "select 1 from ephor.events where type = $1 and decision = 'granted' and strpos(body, $2) > 0 limit 1",
      [type, `"lease":"${lease}"`],
    )
  ).length === 1;
/** A server that runs: a test that failed may have left none. */
async function running(): Promise<Replica> {
  const { exitCode, signalCode } = server.child;
  if (exitCode !== null || signalCode !== null) server = await w.start();
  return server;
}
const tokenOf = async (replica: Replica): Promise<string> => {
  const form = { audience: "orders-db", scope: "orders-db:vend", resource: undefined };
  const answer = await w.self(replica, "release-bot", form);
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
};

async function until<T>(what: string, look: () => Promise<T | undefined | false>): Promise<T> {
  for (const deadline = performance.now() + WAIT_MS; ; await new Promise((resolve) => setTimeout(resolve, 10))) {
    const found = await look();
    if (found !== undefined && found !== false) return found;
    assert.ok(performance.now() < deadline, `not so within ${WAIT_MS} ms: ${what}`);
  }
}

/** A request for a credential that is under way. */
interface Vending {
  readonly answer: Promise<Answer | undefined>;
  /** Its lease, once the intent is written down. */
  lease(): Promise<string>;
}

async function vending(replica: Replica, token: string): Promise<Vending> {
  const before = new Set((await leases()).map(({ id }) => id));
  const answer = fetch(`${replica.url}/credentials/orders-db`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}` },
  }).then(
    async (response) => {
      const text = await response.text();
      const body = JSON.parse(text) as Record<string, unknown>;
      return { status: response.status, headers: response.headers, body, text };
    },
    () => undefined,
  );
  return {
    answer,
    lease: () => until("an intent", async () => (await leases()).find(({ id }) => !before.has(id))?.id),
  };
}

/** Holds the row, so that whatever writes into it next waits. */
const holdLease = (lease: string): Promise<HeldLock> =>
  holdLock(ephor.url, "select 1 from ephor.leases where id = $1 for update", [lease]);
/** Holds what every mint takes once its role is made and before it is committed. */
const holdRights = (): Promise<HeldLock> =>
  holdLock(upstreamUrl, "select pg_advisory_xact_lock(hashtextextended('ephor rights', 0))");

/** What a step holds when it is reached. */
type Held = readonly HeldLock[];

/** The role is there, and its record waits for the row of the lease. */
async function atRecord(under: Vending, rights: HeldLock): Promise<{ lease: string; row: HeldLock }> {
  await rights.waiting(1);
  const lease = await under.lease();
  const row = await holdLease(lease);
  await rights.release();
  await row.waiting(1);
  return { lease, row };
}

/** The mint is on record, and its release waits at the gate. */
async function atRelease(under: Vending, rights: HeldLock): Promise<{ lease: string; gate: HeldLock }> {
  const { lease, row } = await atRecord(under, rights);
  const gate = await holdGate(ephor.url);
  await row.release();
  await gate.waiting(1);
  return { lease, gate };
}

interface Step {
  readonly when: string;
  /** Whether its role is there after the crash. */
  readonly leavesRole: boolean;
  readonly status: "intent" | "live";
  /** Taken before the request is sent. */
  hold?(): Promise<HeldLock> | void;
  /** Resolves when the process is at the step. */
  reach(under: Vending, held: HeldLock): Promise<{ lease: string; held: Held }>;
}

const STEPS: readonly Step[] = [
  {
    when: "after the decision, before anything reached the upstream",
    leavesRole: false,
    status: "intent",
    hold: () => wire.hang(),
    async reach(under) {
      const lease = await under.lease();
      await until("the decision", () => isRecorded("credential.vend", lease));
      return { lease, held: [] };
    },
  },
  {
    when: "in the mint, its role made and not committed",
    leavesRole: false,
    status: "intent",
    hold: holdRights,
    async reach(under, held) {
      await held.waiting(1);
      return { lease: await under.lease(), held: [held] };
    },
  },
  {
    when: "in the mint, its role committed and the upstream's answer on its way",
    leavesRole: true,
    status: "intent",
    hold: () => wire.muteFrom("commit\0"),
    async reach(under) {
      const lease = await under.lease();
      await until("the role", () => hasRole(lease));
      return { lease, held: [] };
    },
  },
  {
    when: "after the mint, before it is on record",
    leavesRole: true,
    status: "intent",
    hold: holdRights,
    async reach(under, held) {
      const { lease, row } = await atRecord(under, held);
      return { lease, held: [row] };
    },
  },
  {
    when: "after the record, before the release is decided",
    leavesRole: true,
    status: "intent",
    hold: holdRights,
    async reach(under, held) {
      const { lease, gate } = await atRelease(under, held);
      assert.notEqual((await leases()).find(({ id }) => id === lease)?.handle, null);
      return { lease, held: [gate] };
    },
  },
  {
    when: "in the step that decides the release and makes the lease live, not committed",
    leavesRole: true,
    status: "intent",
    hold: holdRights,
    async reach(under, held) {
      const { lease, gate } = await atRelease(under, held);
      const row = await holdLease(lease);
      await gate.release();
      await row.waiting(1);
      return { lease, held: [row] };
    },
  },
  {
    when: "after the lease is live",
    leavesRole: true,
    status: "live",
    async reach(under) {
      const lease = await under.lease();
      await until("live", async () => (await leases()).some(({ id, status }) => id === lease && status === "live"));
      return { lease, held: [] };
    },
  },
];

const crashed: { lease: string; step: Step }[] = [];

for (const step of STEPS) {
  test(`A-OPS-07 kill -9 ${step.when}: ${step.leavesRole ? "the role is there" : "no role is there"}, and the lease knows`, async (t) => {
    t.after(() => wire.restore());
    const token = await tokenOf(await running());
    const holding = await step.hold?.();
    if (holding) t.after(holding.release);
    const under = await vending(server, token);
    const { lease, held } = await step.reach(under, holding as HeldLock);
    server.child.kill("SIGKILL");
    await server.ended;
    // Its machine is gone too: what its sessions wait for they must not get to do after its death.
    await ephor.admin("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'");
    for (const lock of held) await lock.release();
    wire.restore();
    const answer = await under.answer;
    if (step.status === "intent") assert.equal(answer, undefined, "nothing left");
    assert.equal(await hasRole(lease), step.leavesRole);
    assert.equal((await leases()).find(({ id }) => id === lease)?.status, step.status);
    // What is recorded as released is live, and nothing else: both are one step.
    assert.equal(await isRecorded("credential.release", lease), step.status === "live");
    crashed.push({ lease, step });
    const later = "update ephor.leases set next_try_at_ms = next_try_at_ms + $2 where id = $1";
    await ephor.admin(later, [lease, DUE_LATER_SECONDS * 1_000]);
  });
}

test("A-OPS-07 kill -9 before the decision: no lease, no role, nothing to be ended", async (t) => {
  const token = await tokenOf(await running());
  const ids = async (): Promise<string[]> => (await leases()).map(({ id }) => id);
  const before = await ids();
  const gate = await holdGate(ephor.url);
  t.after(gate.release);
  const under = await vending(server, token);
  await gate.waiting(1);
  server.child.kill("SIGKILL");
  await server.ended;
  await ephor.admin("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'");
  await gate.release();
  assert.equal(await under.answer, undefined);
  assert.deepEqual(await ids(), before);
});

test("a credential whose record could not be written is destroyed, and its holder told nothing of it", async () => {
  const token = await tokenOf(await running());
  await ephor.admin("revoke execute on function ephor.lease_minted from ephor_app");
  try {
    const under = await vending(server, token);
    const answer = await under.answer;
    assert.deepEqual([answer?.status, answer?.body["code"]], [503, "temporarily_unavailable"], answer?.text);
    const lease = await under.lease();
    const [made] = await ephor.admin<{ body: string }>(
      "select body from ephor.events where type = 'credential.vend' and decision = 'noted' and strpos(body, $1) > 0",
      [lease],
    );
    assert.equal((JSON.parse(made?.body ?? "{}") as { problem?: string }).problem, "internal");
    await until("its end", async () => (await leases()).some(({ id, status }) => id === lease && status === "ended"));
    assert.equal(await hasRole(lease), false);
  } finally {
    await ephor.admin("grant execute on function ephor.lease_minted to ephor_app");
  }
});

test("A-OPS-08 SIGTERM while a credential is being made: its answer is whole, and the credential works", async () => {
  const stopped = await running();
  server = await w.start();
  const token = await tokenOf(stopped);
  const rights = await holdRights();
  const under = await vending(stopped, token);
  await rights.waiting(1);
  stopped.child.kill("SIGTERM");
  await until("that it accepts nothing more", () =>
    fetch(`${stopped.url}/livez`).then(
      () => false,
      () => true,
    ),
  );
  await rights.release();
  const answer = await under.answer;
  assert.equal(answer?.status, 200, answer?.text);
  assert.equal(await stopped.ended, 0, stopped.said());
  const { username, password } = answer.body["credential"] as { username: string; password: string };
  const { hostname: host, port } = new URL(wire.url);
  const client = new pg.Client({ host, port: Number(port), database: "orders", user: username, password });
  client.on("error", () => {});
  await client.connect();
  assert.equal((await client.query<{ me: string }>("select current_user as me")).rows[0]?.me, username);
  await client.end();
});

test("the next processes end every lease that the crashes left, each once, and nothing of them stays", async () => {
  const before = await leases();
  assert.ok(crashed.length === STEPS.length && before.length === STEPS.length + 2);
  server.child.kill("SIGTERM");
  await server.ended;
  // Their clocks, and the database's as they read it, are ahead by what they would have to wait.
  const clock = runningClock();
  clock.advance(LEFT_BEHIND_SECONDS + DUE_LATER_SECONDS);
  const env = { ...w.env, EPHOR_LISTEN: "127.0.0.1:0" };
  const next = await Promise.all(
    [1, 2].map(() =>
      startServer(loadConfig({ env }), {
        clock,
        readTimeMs: () => Promise.resolve(clock.nowMs()),
        log: createLog({ level: "silent" }),
      }),
    ),
  );
  file.after(() => Promise.all(next.map((one) => one.close())));
  await until("the end of all", async () => (await leases()).every(({ status }) => status === "ended"));
  const rows = await leases();
  assert.deepEqual(
    rows.map(({ id }) => id),
    before.map(({ id }) => id),
    "no lease is lost",
  );
  for (const { lease, step } of crashed) {
    const row = rows.find(({ id }) => id === lease);
    assert.equal(row?.ended_because, step.status === "live" ? "expired" : "orphan", step.when);
    assert.equal(row?.attempts, 1, `${step.when}: claimed once, by one of two`);
    const ends = await ephor.admin(
      "select 1 from ephor.events where type = 'lease.end' and decision = 'noted' and strpos(body, $1) > 0",
      [lease],
    );
    assert.equal(ends.length, 1, step.when);
  }
  assert.deepEqual(await ephor.admin("select rolname from pg_roles where rolname like 'ephor\\_release%'"), []);
  const verdict = await fetch(`${next[0]?.url}/v1/audit/verify`, {
    headers: { authorization: `Bearer ${w.operatorKey}` },
  });
  assert.equal(((await verdict.json()) as { ok?: boolean }).ok, true);
});
