/** INV-24, A-OPS-01: the database goes away, by every way in which one does, and comes back. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { BILLING_SECRET, type Answer } from "../support/world.ts";
import { chainWorld, READ_INVOICE, type ChainWorld } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import { heldUpMs } from "../support/held-up.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { testDatabase } from "../support/database.ts";
import { eventually } from "../support/event-receiver.ts";
import { ownDatabase } from "../support/own-database.ts";

/** A request that needs the database is answered within this, in real ms, not counting those in which nothing ran here (A-OPS-01). */
const DOWN_MS = 2_000;
const heldUp = heldUpMs({ after });
/** After the database is back, this long until everything works again, in real ms. */
const RECOVERY_MS = 10_000;

/** Everything that needs the database. */
function asked(w: ChainWorld, token: string): Record<string, () => Promise<Answer>> {
  return {
    "A-OPS-01 /token": () => w.self("release-bot", READ_INVOICE),
    "/token with a hand-over": () => w.redeem("summary-bot", token, READ_INVOICE),
    "A-CLI-07 /introspect": () => w.introspect(token),
    "A-CLI-08 /revoke": () =>
      w.post("/revoke", {
        token,
        client_id: "billing",
        client_secret: BILLING_SECRET,
      }),
    "A-KILL-07 /v1/kill": () => w.kill({ agent: "lonely-bot" }),
    "/v1/tasks": () =>
      w.request("POST", "/v1/tasks", {
        headers: { authorization: `Bearer ${w.workload("release-bot")}` },
        body: { purpose: "x" },
      }),
    "/v1/audit": () => w.operator("GET", "/v1/audit"),
    "/readyz": () => w.request("GET", "/readyz"),
  };
}

/** Down: 503 in time, at once and again, and nothing that could be mistaken for an answer. */
async function assertDown(w: ChainWorld, token: string): Promise<void> {
  for (const round of [1, 2]) {
    const answers = await Promise.all(
      Object.entries(asked(w, token)).map(async ([name, send]) => {
        const since = performance.now() - heldUp();
        const answer = await send();
        return { name: `${name}, round ${round}`, answer, ms: performance.now() - heldUp() - since };
      }),
    );
    for (const { name, answer, ms } of answers) {
      assert.equal(answer.status, 503, `${name}: ${answer.status} ${answer.text}`);
      assert.ok(ms < DOWN_MS, `${name}: answered after ${ms} ms`);
      assert.equal("active" in answer.body || "access_token" in answer.body, false, name);
    }
  }
  assert.equal((await w.request("GET", "/livez")).status, 200);
  assert.equal((await w.request("GET", "/.well-known/jwks.json")).status, 200);
}

async function assertRecovers(w: ChainWorld, token: string): Promise<void> {
  const deadline = performance.now() + RECOVERY_MS;
  for (;;) {
    const answers = await Promise.all([
      w.self("release-bot", READ_INVOICE),
      w.introspect(token),
      w.request("GET", "/readyz"),
    ]);
    if (answers.every((answer) => answer.status === 200)) break;
    assert.ok(performance.now() < deadline, answers.map((answer) => answer.text).join("\n"));
  }
  assert.equal(await w.isActive(token), true);
  const verdict = await w.operator("GET", "/v1/audit/verify");
  assert.equal(verdict.body["ok"], true, verdict.text);
}

test("A-OPS-01 the database is stopped and started: 503 within two seconds, nothing minted, and service again without a restart", async () => {
  const database = await ownDatabase({ after }, { durable: false });
  const w = await chainWorld({ after }, { database });
  const token = granted(await w.self("release-bot", { ...READ_INVOICE, ttl: "59" }));
  const [before] = await w.admin<{ count: string }>("select count(*) from ephor.hops");
  await database.stop();
  await assertDown(w, token);
  await database.start();
  const [minted] = await w.admin<{ count: string }>("select count(*) from ephor.hops");
  assert.deepEqual(minted, before);
  await assertRecovers(w, token);
});

for (const way of ["cut", "hang"] as const) {
  test(`INV-24 the connection to the database ${way === "cut" ? "is reset" : "hangs without a word"}: 503 in time, and service again`, async (t) => {
    const database = await testDatabase(t);
    const proxy = await databaseProxy(t, database.url);
    const w = await chainWorld(t, { database: { ...database, url: proxy.url } });
    const token = granted(await w.self("release-bot", { ...READ_INVOICE, ttl: "59" }));
    proxy[way]();
    await assertDown(w, token);
    proxy.restore();
    await assertRecovers(w, token);
  });
}

test("A-OPS-02 a database that became read-only decides nothing until it takes writes again", async (t) => {
  const database = await testDatabase(t);
  const w = await chainWorld(t, { database });
  const token = granted(await w.self("release-bot", { ...READ_INVOICE, ttl: "59" }));
  const name = new URL(database.url.replace(/^postgres(ql)?:/, "http:")).pathname.slice(1);
  const become = async (value: "on" | "off"): Promise<void> => {
    await w.admin(`alter database "${name}" set default_transaction_read_only = ${value}`);
    await w.admin(
      "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name like 'ephor%'",
    );
  };
  await become("on");
  await assertDown(w, token);
  await w.admin("set default_transaction_read_only = off");
  await become("off");
  await assertRecovers(w, token);
});

/** Longer than a server that serves takes a silent database for one that is there; in real ms. */
const HICCUPS = { "is silent": 1_200, "is reset": 200 } as const;
for (const [way, ms] of Object.entries(HICCUPS)) {
  test(`a start at whose first beat the connection to the database ${way} waits for it, and serves when it is back`, async (t) => {
    const database = await testDatabase(t);
    const proxy = await databaseProxy(t, database.url);
    proxy.muteFrom("insert into ephor.replicas");
    const starting = chainWorld(t, { database: { ...database, url: proxy.url } });
    starting.catch(() => {});
    await eventually("the first beat comes", async () =>
      (await database.admin("select 1 from ephor.replicas")).length > 0 ? true : undefined,
    );
    if (way === "is reset") proxy.cut();
    await pause(ms);
    proxy.restore();
    const w = await starting;
    granted(await w.self("release-bot", READ_INVOICE));
  });
}
