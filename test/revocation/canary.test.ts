import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { createLog } from "../../src/system/log.ts";
import { createMetrics } from "../../src/system/metrics.ts";
import type { CanaryDoors } from "../../src/revocation/canary.ts";
import { canaryTurns } from "../../src/server/canary.ts";
import type { DatabaseClock } from "../../src/system/clock.ts";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, world, type World } from "../support/world.ts";

/** A turn takes some 50 ms; this is for a busy machine. */
const PATIENCE_MS = 30_000;
const POINTS = ["exchange", "introspection", "vend", "proxy", "stream", "feed"];
/** Its turns come every second, as near as the setting allows. */
const w = await world({ after }, { clock: runningClock(), env: { EPHOR_CANARY: "1s" } });

/** The sample of a metric; undefined where it is not there. */
async function sample(at: Pick<World, "request">, name: string): Promise<number | undefined> {
  const { text } = await at.request("GET", "/metrics");
  const line = text.split("\n").find((one) => one.startsWith(`${name} `));
  return line === undefined ? undefined : Number(line.slice(name.length + 1));
}

/** Reads a metric until it is so. */
async function until(name: string, isSo: (value: number) => boolean): Promise<number> {
  const deadline = performance.now() + PATIENCE_MS;
  for (;;) {
    const value = await sample(w, name);
    if (value !== undefined && isSo(value)) return value;
    assert.ok(performance.now() < deadline, `${name} is ${value}`);
    await pause();
  }
}

/** Between two looks; a turn takes longer. */
const pause = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 50));

const denials = (point: string): string => `ephor_kill_to_deny_seconds_count{point="${point}"}`;
const failures = (point: string): string => `ephor_canary_failures_total{point="${point}"}`;

test("CONTRACT §6 the canary mints, uses, kills and probes each point of enforcement, and the metrics say how long it took", async () => {
  for (const point of POINTS) await until(denials(point), (count) => count >= 2);
  for (const point of POINTS) assert.equal(await sample(w, failures(point)), 0, point);
  // On a machine that is busy with something else a turn may not come to its end.
  assert.ok((await sample(w, failures("run"))) !== undefined);
  const at = await sample(w, "ephor_canary_last_success_timestamp_seconds");
  assert.ok(at !== undefined && Math.abs(at - w.clock.nowMs() / 1_000) < PATIENCE_MS / 1_000);
  // By the gate and the record, as everybody's: nothing is released that is not there.
  const types = new Set((await w.events({ agent: "ephor-canary" })).map(({ type, decision }) => `${type} ${decision}`));
  for (const type of ["task.open granted", "token.issue granted", "kill granted", "token.issue refused"])
    assert.ok(types.has(type), type);
  for (const type of ["credential.vend granted", "credential.release granted", "call.forward granted"])
    assert.ok(types.has(type), type);
});

test("INV-08 its proxied call flows before the kill and is cut by it; its lease is ended by it; what comes after is refused", async () => {
  await until(denials("stream"), (count) => count >= 1);
  const factsOf = (event: Record<string, unknown> | undefined): Record<string, unknown> =>
    (event?.["body"] as Record<string, unknown> | undefined) ?? {};
  const deadline = performance.now() + PATIENCE_MS;
  const one = async (filter: Record<string, string>, isIt: (event: Record<string, unknown>) => boolean) => {
    for (;;) {
      const found = (await w.events({ agent: "ephor-canary", ...filter })).find(isIt);
      if (found !== undefined) return found;
      assert.ok(performance.now() < deadline, JSON.stringify(filter));
      await pause();
    }
  };
  // One that nobody but the kill ended: a turn that could not be taken to its end hangs up.
  const cut = await one({ type: "call.outcome" }, (event) => factsOf(event)["outcome"] === "cut_killed");
  assert.equal(cut["resource"], "ephor-canary-proxied");
  const ended = await one({ type: "lease.end", txn: String(cut["txn"]) }, () => true);
  assert.equal(factsOf(ended)["because"], "killed");
  // By the gate, or by what is known of the token when it comes.
  const refusals = (await w.events({ agent: "ephor-canary", decision: "refused" })).map(
    (event) => `${String(event["resource"] ?? factsOf(event)["route"])} ${String(event["reason"])}`,
  );
  for (const at of [/^ephor-canary killed$/, /vend|credentials/, /prox|http/])
    assert.ok(
      refusals.some((refusal) => at.test(refusal) && /killed$|token_revoked$/.test(refusal)),
      refusals.join(),
    );
});

test("the canary is told to no other resource, and is in no list of agents, resources, grants and kills", async () => {
  const authorization = `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}`;
  const frame = async (place: number | undefined): Promise<{ seq: number; dead: unknown[] }> => {
    const path = `/v1/revocations${place === undefined ? "" : `?after=${place}`}`;
    const answer = await w.request("GET", path, { headers: { authorization } });
    assert.equal(answer.status, 200, answer.text);
    return decodeJwt(answer.body["frame"] as string) as unknown as { seq: number; dead: unknown[] };
  };
  const before = await frame(undefined);
  const count = (await sample(w, denials("feed"))) ?? 0;
  await until(denials("feed"), (now) => now >= count + 2);
  const told = await frame(before.seq);
  assert.ok(told.seq >= before.seq + 2);
  assert.deepEqual([before.dead, told.dead], [[], []]);

  // A kill of somebody else is in the list beside it.
  const killed = await w.operator("POST", "/v1/kill", { agent: "lonely-bot", reason: "test" });
  const kills = (await w.operator("GET", "/v1/kills")).body["items"] as { id: string }[];
  assert.deepEqual(
    kills.map(({ id }) => id),
    [killed.body["id"]],
  );
  for (const kind of ["agents", "resources", "grants"]) {
    const list = await w.operator("GET", `/v1/${kind}`);
    assert.equal(list.status, 200, list.text);
    assert.ok(!list.text.includes("ephor-canary"), kind);
  }
  assert.ok(!(await w.operator("GET", "/v1/leases")).text.includes("ephor-canary"));
  const { text: metrics } = await w.request("GET", "/metrics");
  assert.ok(!/ephor_(?:proxied|upstream).*ephor-canary/.test(metrics));
  for (const status of ["intent", "live", "ending"])
    // Counted now and then.
    assert.equal(await until(`ephor_leases_open{status="${status}"}`, () => true), 0, status);
  for (const path of ["http/ephor-canary-proxied", "credentials/ephor-canary-vended"])
    assert.equal((await w.request("GET", `/.well-known/oauth-protected-resource/${path}`)).status, 404, path);
  assert.equal(await sample(w, 'ephor_kills_total{kind="txn"}'), undefined);
  assert.equal(await sample(w, 'ephor_kills_total{kind="agent"}'), 1);
});

test("its name is no user's: not in a trust file, not for a grant, and no kill may name it; its proof is nobody else's", async () => {
  const agent = {
    owner: "x@acme.example",
    trust: [{ issuer: "cluster", claims: { sub: "system:serviceaccount:a:b" } }],
  };
  const files = {
    "agents.ephor-canary": { agents: { "ephor-canary": agent } },
    "resources.ephor-canary": {
      resources: { "ephor-canary": { resource: "https://c.acme.example", actions: ["probe"] } },
    },
    "resources.ephor-canary-proxied": {
      resources: { "ephor-canary-proxied": { http: "https://c.acme.example", actions: { probe: ["GET /**"] } } },
    },
    "resources.ephor-canary-vended": {
      resources: { "ephor-canary-vended": { credential: { static: { secret: "x" } }, disclose: true } },
    },
  };
  for (const [key, file] of Object.entries(files)) {
    const answer = await w.operator("POST", "/v1/apply", { source: "c.yaml", file: JSON.stringify(file) });
    assert.equal(answer.status, 422, answer.text);
    assert.ok(answer.text.includes(key) && answer.text.includes("is a name that Ephor keeps for itself"), answer.text);
    assert.ok(answer.text.includes("give it another name"), answer.text);
  }
  for (const grant of [
    { agent: "ephor-canary", resource: "billing", actions: ["read_invoice"] },
    { agent: "release-bot", resource: "ephor-canary", actions: ["probe"] },
    { agent: "release-bot", resource: "ephor-canary-proxied", actions: ["probe"] },
    { agent: "release-bot", resource: "ephor-canary-vended", actions: ["vend"] },
    { name: "to-it", agent: "release-bot", delegate_to: ["ephor-canary"] },
  ]) {
    const file = JSON.stringify({ grants: [grant] });
    const answer = await w.operator("POST", "/v1/apply", { source: "g.yaml", file });
    assert.equal(answer.status, 422, answer.text);
    assert.match(answer.text, /ephor-canary[a-z-]*, which does not exist/);
  }
  const kind = { mine: { credential: { canary: {} } } };
  const vended = await w.operator("POST", "/v1/apply", { source: "k.yaml", file: JSON.stringify({ resources: kind }) });
  assert.equal(vended.status, 422, vended.text);
  for (const path of ["/http/ephor-canary-proxied/stream", "/credentials/ephor-canary-vended"]) {
    const billing = await w.self("release-bot", { audience: "billing", scope: "billing" });
    const headers = { authorization: `Bearer ${String(billing.body["access_token"])}` };
    const answer = await w.request(path.startsWith("/http") ? "GET" : "POST", path, { headers });
    assert.equal(answer.status, 401, answer.text);
  }
  const killed = await w.operator("POST", "/v1/kill", { agent: "ephor-canary", reason: "test" });
  assert.deepEqual([killed.status, killed.body["code"]], [422, "unprocessable"], killed.text);
  const token = await w.self("release-bot", { audience: "ephor-canary", scope: "ephor-canary:probe" });
  assert.deepEqual([token.status, token.body["error"]], [400, "invalid_scope"], token.text);
  const forged = w.privateKeyJwt({ iss: "ephor-canary", sub: "ephor-canary" });
  const asked = await w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${forged}` },
    body: { purpose: "x" },
  });
  assert.equal(asked.status, 401, asked.text);
});

test("where a kill is answered and not enforced, each point counts, and it is loud in log and ledger", async () => {
  // What flows through whoever kills is cut by him, whatever the database has of it.
  const points = POINTS.filter((point) => point !== "stream");
  const before = await Promise.all(points.map(async (point) => (await sample(w, failures(point))) ?? 0));
  // Kills are recorded and answered as ever; they take no effect.
  await w.admin("create function ephor.broken() returns trigger language plpgsql as $$ begin return null; end $$");
  await w.admin("create trigger broken before insert on ephor.dead_keys for each row execute function ephor.broken()");
  for (const [i, point] of points.entries()) await until(failures(point), (count) => count > (before[i] ?? 0));
  await w.admin("drop trigger broken on ephor.dead_keys");
  const lines = w.lines.filter((line) => line.includes("kill_not_enforced"));
  assert.ok(lines.length >= points.length && lines.every((line) => line.includes('"level":"error"')), lines[0]);
  const deadline = performance.now() + PATIENCE_MS;
  while ((await w.events({ type: "canary.failed" })).length === 0) {
    assert.ok(performance.now() < deadline);
    await pause();
  }
  const [event] = await w.events({ type: "canary.failed" });
  assert.equal(event?.["agent"], "ephor-canary");
  const since = (await sample(w, "ephor_canary_last_success_timestamp_seconds")) ?? 0;
  await until("ephor_canary_last_success_timestamp_seconds", (at) => at > since);
});

test("chains and kills of the canary are swept ten minutes after they ended; what others killed stays", async () => {
  const count = async (): Promise<(number | undefined)[]> =>
    Promise.all(
      [
        "select count(*)::int as n from ephor.kills where actor <> 'ephor-canary'",
        "select count(*)::int as n from ephor.dead_keys d join ephor.kills k on k.id = d.kill_id where k.actor <> 'ephor-canary'",
        "select count(*)::int as n from ephor.tasks where sub <> 'agent|ephor-canary'",
        "select count(*)::int as n from ephor.leases where agent <> 'ephor-canary'",
      ].map(async (sql) => (await w.admin<{ n: number }>(sql))[0]?.n),
    );
  assert.equal((await w.self("release-bot", { audience: "billing", scope: "billing" })).status, 200);
  const others = await count();
  const [last] = await w.admin<{ deadline: number }>(
    "select max(deadline)::int as deadline from ephor.tasks where sub = 'agent|ephor-canary'",
  );
  const old = "from ephor.tasks where sub = 'agent|ephor-canary' and deadline <= $1";
  const oldKills = "from ephor.kills where actor = 'ephor-canary' and at_ms <= ($1::bigint - 60) * 1000";
  const left = async (of: string): Promise<number> =>
    (await w.admin<{ n: number }>(`select count(*)::int as n ${of}`, [last?.deadline]))[0]?.n ?? -1;
  assert.ok((await left(old)) > 3 && (await left(oldKills)) > 3);
  // A lease that has not ended keeps its chain until the next time; those of the last test were not killed.
  w.clock.advance(60);
  const deadline = performance.now() + PATIENCE_MS;
  const open =
    "select 1 from ephor.leases where agent = 'ephor-canary' and status <> 'ended' and txn in (select txn from ephor.tasks where deadline <= $1)";
  while ((await w.admin(open, [last?.deadline])).length > 0) {
    assert.ok(performance.now() < deadline);
    await pause();
  }
  const forget = "select ephor.forget_canary($1, 1000) as count";
  await w.admin(forget, [(last?.deadline ?? 0) + 1]);
  assert.deepEqual([await left(old), await left(oldKills)], [0, 0]);
  const orphans =
    "from ephor.leases l where agent = 'ephor-canary' and txn not in (select txn from ephor.tasks) and $1::bigint > 0";
  assert.equal(await left(orphans), 0);
  assert.deepEqual(await count(), others);
});

/** Doors of which one can be held open, or fails; `stream`: what flows goes on. */
function fakeDoors(o: { open?: keyof CanaryDoors | "stream"; fails?: keyof CanaryDoors }): CanaryDoors {
  let isDead = false;
  let cut = (): void => {};
  const fail = (door: keyof CanaryDoors): void => {
    if (o.fails === door) throw new Error("the database is away");
  };
  const isRefused = (door: keyof CanaryDoors): boolean => (fail(door), isDead && o.open !== door);
  return {
    open: async () => (fail("open"), (isDead = false), "01CANARY"),
    exchange: async () => (isRefused("exchange") ? undefined : "token"),
    isActive: async () => !isRefused("isActive"),
    vend: async () => !isRefused("vend"),
    async call() {
      if (isRefused("call")) return undefined;
      const ended = new Promise<number>((resolve) => (cut = () => resolve(performance.now())));
      const close = (): void => void hungUp++;
      return { began: Promise.resolve(true), ended, mayFlow: () => !isDead || o.open === "stream", close };
    },
    feed: async () => (fail("feed"), { seq: 1, dead: isDead && o.open !== "feed" ? ["01CANARY"] : [] }),
    kill: async () => (fail("kill"), (isDead = true), cut()),
  };
}
/** Calls that were ended by the canary itself. */
let hungUp = 0;

async function turned(doors: CanaryDoors, turns = 1): Promise<{ text: string; lines: string[]; noted: object[] }> {
  const metrics = createMetrics({ version: "0" });
  const lines: string[] = [];
  const noted: object[] = [];
  const log = createLog({ level: "debug", destination: { write: (line: string) => void lines.push(line) } });
  const recorder = { noted: async (draft: object) => (noted.push(draft), "evt") };
  const clock = { nowMs: () => 1_795_284_000_000 } as DatabaseClock;
  const turn = canaryTurns(doors, { clock, log, metrics, recorder });
  for (let i = 0; i < turns; i++) await turn();
  return { text: await metrics.render(), lines, noted };
}

test("one point that still allows is counted under its name, and the others as they are", async () => {
  const doors = {
    exchange: "exchange",
    introspection: "isActive",
    vend: "vend",
    proxy: "call",
    stream: "stream",
    feed: "feed",
  } as const;
  assert.deepEqual(Object.keys(doors), POINTS);
  for (const [point, open] of Object.entries(doors)) {
    const { text, lines, noted } = await turned(fakeDoors({ open }));
    for (const each of POINTS) {
      assert.equal(text.includes(`${failures(each)} 1`), each === point, `${point}, ${each}`);
      assert.equal(text.includes(`${denials(each)} 1`), each !== point, `${point}, ${each}`);
    }
    assert.match(text, /^ephor_canary_last_success_timestamp_seconds 0$/m);
    assert.equal(lines.filter((line) => line.includes("kill_not_enforced") && line.includes(point)).length, 1);
    assert.equal(noted.length, 1);
  }
});

test("a turn that finds no way to measure counts as not run, says so once, and claims nothing about kills", async () => {
  for (const fails of ["open", "exchange", "isActive", "vend", "call", "feed", "kill"] as const) {
    hungUp = 0;
    const { text, lines, noted } = await turned(fakeDoors({ fails }), 3);
    assert.ok(text.includes(`${failures("run")} 3`), fails);
    assert.ok(!POINTS.some((point) => text.includes(denials(point)) || text.includes(failures(point))), fails);
    assert.equal(lines.length, 1);
    assert.match(lines[0] ?? "", /canary_not_run/);
    assert.deepEqual(noted, []);
    const hasCalled = fails === "isActive" || fails === "vend" || fails === "kill";
    assert.equal(hungUp, hasCalled ? 3 : 0, `${fails}: no call is left open`);
  }
});

test("EPHOR_CANARY=off: nothing of it is in the ledger, and its name stays reserved", async (t) => {
  const still = await world(t, {});
  assert.equal(await sample(still, "ephor_canary_last_success_timestamp_seconds"), 0);
  assert.equal(await sample(still, failures("run")), undefined);
  const file = '{"agents":{"ephor-canary":{"owner":"x@acme.example"}}}';
  const answer = await still.operator("POST", "/v1/apply", { source: "c.yaml", file });
  assert.equal(answer.status, 422, answer.text);
  const token = await still.self("release-bot", { audience: "ephor-canary", scope: "ephor-canary:probe" });
  assert.deepEqual([token.status, token.body["error"]], [400, "invalid_target"], token.text);
  assert.deepEqual(await still.events({ agent: "ephor-canary" }), []);
});
