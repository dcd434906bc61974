import assert from "node:assert/strict";
import { after, test } from "node:test";
import { leasePage } from "../../src/api/leases.ts";
import { ephor } from "../cli/command-line.ts";
import { aheadOfServers } from "../support/hand-clock.ts";
import { holdLock } from "../support/held-lock.ts";
import type { Cleanup } from "../support/database.ts";
import { usualTrust, world, type World } from "../support/world.ts";

async function stage(t: Cleanup): Promise<World> {
  const made = await world(t, { trust: usualTrust, start: aheadOfServers() });
  const place = new URL(made.databaseUrl);
  await made.apply(
    `
resources:
  orders-db:
    credential:
      postgres: { host: "${place.searchParams.get("host") ?? place.hostname}", database: "${place.pathname.slice(1)}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
  crm-key:
    credential: { static: { secret: crm-key, disclose: true } }
grants:
  - { agent: release-bot, resource: orders-db, actions: [vend] }
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
`,
    "vault.yaml",
  );
  return made;
}

const w = await stage({ after });

interface Row {
  status: string;
  attempts: number;
  ended_because: string | null;
  txn: string;
  claimed_until_ms: string;
}

const setLogin = (value: string, at = w) => at.operator("PUT", "/v1/secrets/orders-admin", { value });
const leaseOf = async (id: string, at = w): Promise<Row | undefined> =>
  (await at.admin<Row>("select * from ephor.leases where id = $1", [id]))[0];

interface Lease {
  lease: string;
  role: string;
  txn: string;
  workload: string;
}

async function vend(resource = "orders-db", at = w): Promise<Lease> {
  const workload = at.workload("release-bot");
  const token = await at.self("release-bot", { token: workload, audience: resource, scope: `${resource}:vend` });
  assert.equal(token.status, 200, token.text);
  const answer = await at.request("POST", `/credentials/${resource}`, {
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
  assert.equal(answer.status, 200, answer.text);
  const lease = answer.body["lease"] as string;
  const { username = "" } = answer.body["credential"] as { username?: string };
  return { lease, role: username, txn: (await leaseOf(lease, at))?.txn ?? "", workload };
}

/** The worker looks every second by real time, and at once after a kill or an end. */
async function until(lease: string, isSo: (row: Row) => boolean, at = w): Promise<Row> {
  for (let round = 0; round < 400; round++) {
    const row = await leaseOf(lease, at);
    if (row && isSo(row)) return row;
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  throw new assert.AssertionError({ message: `lease ${lease}: ${JSON.stringify(await leaseOf(lease, at))}` });
}

async function end(vended: Lease, at = w): Promise<void> {
  const answer = await at.request("POST", `/v1/tasks/${vended.txn}/complete`, {
    headers: { authorization: `Bearer ${vended.workload}` },
  });
  assert.equal(answer.status, 200, answer.text);
}

const doctor = () => ephor(["doctor"], { EPHOR_URL: w.url, EPHOR_OPERATOR_KEY: w.operatorKey, EPHOR_ISSUER: w.url });
const notes = (type: string, lease: string) =>
  w.admin<{ body: string }>("select body from ephor.events where type = $1 and strpos(body, $2) > 0", [type, lease]);
async function gauge(name: string): Promise<number> {
  const { text } = await w.request("GET", "/metrics", { headers: { authorization: `Bearer ${w.operatorKey}` } });
  const [, value] = new RegExp(`^${name.replaceAll(/[{}"]/g, "\\$&")} (\\S+)$`, "m").exec(text) ?? [];
  return Number(value);
}
async function gaugeBecomes(name: string, value: number): Promise<void> {
  for (let round = 0; round < 300 && (await gauge(name)) !== value; round++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal(await gauge(name), value, name);
}

test("the end of a task, or a kill, ends its role at once where it was said, without waiting for the next look", async (t) => {
  // A server in which nothing comes about that is done every second or more seldom: no look but the one that is asked for.
  const every = globalThis.setInterval;
  const seldom = t.mock.method(globalThis, "setInterval", (work: () => void, ms = 0) =>
    every(ms < 1_000 ? work : () => {}, ms),
  );
  const quiet = await stage(t);
  seldom.mock.restore();
  await setLogin(quiet.databaseUrl, quiet);
  const kill = async ({ txn }: Lease): Promise<void> => {
    const answer = await quiet.operator("POST", "/v1/kill", { txn, reason: "test" });
    assert.equal(answer.status, 200, answer.text);
  };
  for (const stop of [(vended: Lease) => end(vended, quiet), kill]) {
    const vended = await vend("orders-db", quiet);
    await stop(vended);
    await until(vended.lease, ({ status }) => status === "ended", quiet);
    assert.deepEqual(await quiet.admin("select 1 from pg_roles where rolname = $1", [vended.role]), []);
  }
});

test("an upstream that does not let a credential end is noted once, shown by doctor with its mend, and told when it is over", async () => {
  await setLogin(w.databaseUrl);
  const vended = await vend();
  const { lease } = vended;
  assert.equal((await doctor()).code, 0, (await doctor()).out);
  await setLogin("postgres://postgres:wrong@host/db");
  await end(vended);
  for (let attempt = 1; attempt <= 6; attempt++) {
    // Nobody has it any more, so that the next try is planned.
    await until(lease, (row) => row.attempts === attempt && Number(row.claimed_until_ms) === 0);
    const open = leasePage.parse((await w.operator("GET", "/v1/leases?stuck=true")).body).items;
    assert.deepEqual(
      open.map((one) => one.lease),
      attempt >= 5 ? [lease] : [],
      `after ${attempt} tries`,
    );
    w.clock.advance(2 ** (attempt - 1));
  }
  await until(lease, ({ attempts }) => attempts >= 7);
  const stuck = await notes("lease.stuck", lease);
  assert.equal(stuck.length, 1);
  const said = JSON.parse(stuck[0]?.body ?? "{}") as Record<string, unknown>;
  assert.deepEqual([said["problem"], said["resource"], said["txn"]], ["credentials_refused", "orders-db", vended.txn]);

  const ill = await doctor();
  assert.equal(ill.code, 1);
  const line = ill.out.split("\n").findIndex((text) => text.includes(lease));
  assert.match(
    ill.out.split("\n")[line] ?? "",
    /^FAIL .* of release-bot at orders-db .* since 20.*credentials_refused/,
  );
  assert.match(ill.out.split("\n")[line + 1] ?? "", /mend: .*set the resource's secret anew/);
  await gaugeBecomes("ephor_leases_stuck", 1);
  assert.equal(await gauge('ephor_leases_open{status="ending"}'), 1);
  assert.ok((await gauge("ephor_leases_oldest_seconds")) >= 15);

  await setLogin(w.databaseUrl);
  w.clock.advance(61);
  await until(lease, ({ status }) => status === "ended");
  const [over] = await notes("lease.end", lease).then((all) => all.filter(({ body }) => body.includes("stuck_since")));
  assert.ok(over, "its end says since when it was stuck");
  assert.equal((await doctor()).code, 0);
  await gaugeBecomes("ephor_leases_stuck", 0);
});

test("one upstream that hangs does not hold up the end of another's credential", async () => {
  await setLogin(w.databaseUrl);
  await w.operator("PUT", "/v1/secrets/crm-key", { value: "a value" });
  const hanging = await vend();
  // Somebody holds the role's lock: its end waits there, for seconds.
  const lock = await holdLock(w.databaseUrl, "select pg_advisory_xact_lock(hashtextextended($1, 0))", [
    `ephor role ${hanging.role}`,
  ]);
  await end(hanging);
  await lock.waiting(1);
  const other = await vend("crm-key");
  await end(other);
  await until(other.lease, ({ status }) => status === "ended");
  // The other's end is there, and this one's still waits.
  await lock.waiting(1);
  const row = await leaseOf(hanging.lease);
  assert.deepEqual([row?.status, row?.attempts], ["ending", 1]);
  await lock.release();
  // Where it gave up meanwhile, its next try comes.
  w.clock.advance(2);
  await until(hanging.lease, ({ status }) => status === "ended");
});
