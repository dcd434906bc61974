import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { openDatabase } from "../../src/db/database.ts";
import { createEnvelope } from "../../src/vault/envelope.ts";
import { openKek } from "../../src/vault/kek.ts";
import type { Place } from "../../src/vault/place.ts";
import { rewrapAll } from "../../src/vault/rewrap.ts";
import { SecretBytes } from "../../src/vault/secret-bytes.ts";
import { SECRET_COLUMN } from "../../src/vault/secrets.ts";
import { holdLock } from "../support/held-lock.ts";
import { replicas, run, type Replica, type Replicas } from "../support/replicas.ts";
import { START, usualTrust, world, type Answer, type World } from "../support/world.ts";

const trust = `
resources:
  crm-key: { credential: { static: { secret: crm-key, disclose: true } } }
grants:
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
`;
const SECRET = `canary-${randomBytes(12).toString("hex")}`;

/** A key file as an operator makes it. */
async function keyFile(folder: string, name: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, randomBytes(32).toString("base64url"), { mode: 0o600 });
  return `file:${path}`;
}

/** Ids of the keys that wrap something, and how often. */
async function keks(admin: World["admin"]): Promise<Map<string, number>> {
  const rows = await admin(`select sealed->>'kek' as kek, count(*)::int as count from (
    select sealed from ephor.keys union all select sealed from ephor.secret_versions
    union all select handle from ephor.leases where handle is not null) as everything group by 1`);
  return new Map(rows.map((row) => [row["kek"] as string, row["count"] as number]));
}

/** A world that can be stopped and started again with another configuration. */
async function changing(t: Parameters<typeof world>[0]): Promise<{
  w: World;
  env: Record<string, string>;
  start(): Promise<{ url: string; close(): Promise<void> }>;
  operator(url: string, method: string, path: string, body?: unknown): Promise<Answer>;
  vend(url: string): Promise<Answer>;
}> {
  const env: Record<string, string> = {};
  const w = await world(t, { trust: usualTrust, start: START, env });
  await w.apply(trust, "vault.yaml");
  const operator = (url: string, method: string, path: string, body?: unknown): Promise<Answer> =>
    w.request(method, url + path, { body, headers: { authorization: `Bearer ${w.operatorKey}` } });
  return {
    w,
    env,
    operator,
    async start() {
      const { server, url } = await w.replica();
      return { url, close: () => server.close() };
    },
    async vend(url) {
      const token = await w.request("POST", `${url}/token`, {
        headers: { "content-type": "application/x-www-form-urlencoded" },
        body: new URLSearchParams({
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token: w.workload("release-bot"),
          subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
          audience: "crm-key",
          scope: "crm-key:vend",
        }).toString(),
      });
      assert.equal(token.status, 200, token.text);
      const authorization = `Bearer ${token.body["access_token"] as string}`;
      return w.request("POST", `${url}/credentials/crm-key`, { headers: { authorization } });
    },
  };
}

test("INV-23 after a rewrap everything opens without the key before it, and the ledger says who did it", async (t) => {
  const { w, env, start, operator, vend } = await changing(t);
  for (const value of ["older", SECRET]) await w.operator("PUT", "/v1/secrets/crm-key", { value });
  await w.operator("POST", "/v1/keys/rotate", { reason: "a retired key lies there too" });
  assert.equal((await vend(w.url)).status, 200);
  const [old] = [...(await keks(w.admin)).keys()];
  await w.server.close();

  env["EPHOR_KEK_PREVIOUS"] = `file:${join(w.data, "kek")}`;
  env["EPHOR_KEK"] = await keyFile(w.data, "kek-2");
  const renewed = await start();
  assert.equal((await vend(renewed.url)).status, 200);
  const before = await keks(w.admin);
  const done = await operator(renewed.url, "POST", "/v1/keys/rewrap", { reason: "yearly" });
  assert.equal(done.status, 200, done.text);
  const after = await keks(w.admin);
  assert.deepEqual([...after.keys()], [done.body["kek"]]);
  assert.notEqual(done.body["kek"], old);
  assert.equal(done.body["rewrapped"], before.get(old ?? ""));
  assert.deepEqual([done.body["remaining"], done.body["failed"]], [0, []]);
  const again = await operator(renewed.url, "POST", "/v1/keys/rewrap");
  assert.deepEqual([again.body["rewrapped"], again.body["already"]], [0, after.get(String(done.body["kek"]))]);
  const audit = await operator(renewed.url, "GET", "/v1/audit?type=keys.rewrap&limit=10");
  assert.equal((audit.body["events"] as unknown[]).length, 4);
  assert.equal((await w.request("POST", `${renewed.url}/v1/keys/rewrap`)).status, 401);
  await renewed.close();

  delete env["EPHOR_KEK_PREVIOUS"];
  const alone = await start();
  assert.ok(!w.lines.join("").includes("sealed_values_do_not_open"));
  const vended = await vend(alone.url);
  assert.deepEqual(vended.body["credential"], { value: SECRET }, vended.text);
});

test("a key that is taken away too early is told of at the start and by rewrap, with names and without values", async (t) => {
  const { w, env, start, operator, vend } = await changing(t);
  await w.operator("PUT", "/v1/secrets/crm-key", { value: SECRET });
  const [sealed] = await w.admin("select sealed from ephor.secret_versions where name = 'crm-key'");
  await w.server.close();
  env["EPHOR_KEK_PREVIOUS"] = `file:${join(w.data, "kek")}`;
  env["EPHOR_KEK"] = await keyFile(w.data, "kek-2");
  const renewed = await start();
  await operator(renewed.url, "POST", "/v1/keys/rewrap");
  await renewed.close();
  // As if that had been stopped right before the last row.
  await w.admin("update ephor.secret_versions set sealed = $1::jsonb where name = 'crm-key'", [
    JSON.stringify(sealed?.["sealed"]),
  ]);

  delete env["EPHOR_KEK_PREVIOUS"];
  const early = await start();
  assert.match(w.lines.join(""), /"count":1,.*secret crm-key:1.*kek_previous.*sealed_values_do_not_open/);
  const refused = await vend(early.url);
  assert.equal(refused.status, 500, refused.text);
  const rewrap = await operator(early.url, "POST", "/v1/keys/rewrap");
  assert.deepEqual(rewrap.body["failed"], [{ sort: "secret", name: "crm-key:1" }]);
  assert.equal(rewrap.body["remaining"], 1);
  assert.ok(!`${w.lines.join("")}${rewrap.text}${refused.text}`.includes(SECRET));
  await early.close();

  // Nothing was lost by it.
  env["EPHOR_KEK_PREVIOUS"] = `file:${join(w.data, "kek")}`;
  const mended = await start();
  assert.equal((await operator(mended.url, "POST", "/v1/keys/rewrap")).body["remaining"], 0);
  assert.deepEqual((await vend(mended.url)).body["credential"], { value: SECRET });
});

test("a value that somebody writes while it is rewrapped is not overwritten, and another run takes it", async (t) => {
  const { w } = await changing(t);
  await w.operator("PUT", "/v1/secrets/crm-key", { value: SECRET });
  const db = openDatabase({ url: w.databaseUrl });
  t.after(() => db.close());
  const old = await openKek(`file:${join(w.data, "kek")}`, {
    readEnvironment: () => undefined,
    mayCreate: async () => false,
  });
  const kek = await openKek(await keyFile(w.data, "kek-2"), {
    readEnvironment: () => undefined,
    mayCreate: async () => false,
  });
  const before = createEnvelope({ kek: old });
  const envelope = createEnvelope({ kek, previous: [old] });
  const place = { table: "secret_versions", row: "crm-key", version: 1, purpose: "value" };
  let writes = 0;
  const disturbed = {
    ...envelope,
    async rewrap(sealed: unknown, at: Place) {
      const becomes = await envelope.rewrap(sealed, at);
      if (writes++ === 0) {
        const value = await before.seal(SecretBytes.fromText("written meanwhile"), place);
        await w.admin("update ephor.secret_versions set sealed = $1::jsonb", [JSON.stringify(value)]);
      }
      return becomes;
    },
  };
  const sealed = async (): Promise<unknown> =>
    (await w.admin("select sealed from ephor.secret_versions where name = 'crm-key'"))[0]?.["sealed"];
  const step = await rewrapAll({ db, envelope: disturbed }, [SECRET_COLUMN], 5_000);
  assert.deepEqual([step.rewrapped, step.remaining, step.failed], [0, 1, []]);
  assert.equal((await rewrapAll({ db, envelope: disturbed }, [SECRET_COLUMN], 5_000)).rewrapped, 1);
  const opened = await envelope.open(await sealed(), place);
  assert.equal(
    opened.use((bytes) => Buffer.from(bytes).toString()),
    "written meanwhile",
  );
});

async function vendAt(all: Replicas, replica: Replica): Promise<Answer> {
  const token = await all.self(replica, "release-bot", {
    resource: undefined,
    audience: "crm-key",
    scope: "crm-key:vend",
  });
  assert.equal(token.status, 200, token.text);
  const response = await fetch(`${replica.url}/credentials/crm-key`, {
    method: "POST",
    headers: { authorization: `Bearer ${token.body["access_token"] as string}` },
  });
  const text = await response.text();
  return {
    status: response.status,
    headers: response.headers,
    text,
    body: JSON.parse(text) as Record<string, unknown>,
  };
}

test("A-SEC-04 a rewrap that is killed in the middle, while secrets are used and set, is run again: no use fails", async (t) => {
  const all = await replicas(t, { count: 1 });
  const [first] = all.all as [Replica];
  const applied = await all.operator(first, "POST", "/v1/apply", { source: "vault.yaml", file: trust });
  assert.equal(applied.status, 200, applied.text);
  const set = (replica: Replica, name: string, value: string): Promise<Answer> =>
    all.operator(replica, "PUT", `/v1/secrets/${name}`, { value });
  const names = Array.from({ length: 120 }, (_, index) => `s-${String(index).padStart(3, "0")}`);
  for (const name of ["crm-key", ...names]) assert.equal((await set(first, name, SECRET)).status, 200);

  const folder = all.env["EPHOR_DATA"] as string;
  const env = { EPHOR_KEK: await keyFile(folder, "kek-2"), EPHOR_KEK_PREVIOUS: `file:${join(folder, "kek")}` };
  first.child.kill("SIGTERM");
  await first.ended;
  const [worker, user] = await Promise.all([all.start({ env }), all.start({ env })]);

  let isOver = false;
  let used = 0;
  const load = Array.from({ length: 3 }, async () => {
    while (!isOver) {
      const vended = await vendAt(all, user);
      assert.deepEqual([vended.status, vended.body["credential"]], [200, { value: SECRET }], vended.text);
      used++;
    }
  });
  const writes = (async () => {
    for (let round = 0; !isOver; round++) assert.equal((await set(user, `w-${round % 5}`, SECRET)).status, 200);
  })();

  const row = await holdLock(all.database.url, "select 1 from ephor.secret_versions where name = 's-070' for update");
  const lost = all.operator(worker, "POST", "/v1/keys/rewrap").catch(() => "lost");
  await row.waiting(1);
  worker.child.kill("SIGKILL");
  assert.equal(await lost, "lost");
  await row.release();
  const half = await keks(all.database.admin);
  assert.equal(half.size, 2, JSON.stringify([...half]));

  const another = await all.start({ env });
  const cli = run(["keys", "rewrap", "--json"], {
    ...all.env,
    EPHOR_URL: another.url,
    EPHOR_OPERATOR_KEY: all.operatorKey,
  });
  assert.equal(await cli.ended, 0, cli.said());
  const answer = JSON.parse(cli.out()) as Record<string, unknown>;
  assert.deepEqual([answer["remaining"], answer["failed"]], [0, []]);
  isOver = true;
  await Promise.all([...load, writes]);
  assert.ok(used > 10, `${used} uses`);
  assert.deepEqual([...(await keks(all.database.admin)).keys()], [answer["kek"]]);

  const alone = await all.start({ env: { EPHOR_KEK: env.EPHOR_KEK } });
  assert.deepEqual((await vendAt(all, alone)).body["credential"], { value: SECRET });
  assert.ok(!alone.said().includes("do not open"), alone.said());
});
