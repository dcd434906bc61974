/** What a start makes of the database it finds: many at once, a foreign schema, logins of every sort. */
import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import pg from "pg";
import { UnsuitableDatabaseError } from "../../src/db/errors.ts";
import { migrate } from "../../src/db/migrate.ts";
import { withDatabase } from "../support/database.ts";
import { ownDatabase } from "../support/own-database.ts";
import { cleanEnvironment, run } from "../support/replicas.ts";
import { freePort } from "../support/world.ts";

const server = await ownDatabase({ after }, { durable: true });
const newDatabase = async (options = ""): Promise<string> => {
  const name = `start_${randomBytes(4).toString("hex")}`;
  await server.admin(`create database ${name} ${options}`);
  return withDatabase(server.url, name);
};
const urlAs = (url: string, login: string, password: string): string =>
  url.replace(/\/\/[^@]*@/, `//${login}:${password}@`);

async function as<T>(url: string, work: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** What the ledger must stand against (INV-14). */
const DAMAGE = [
  "update ephor.events set reason = 'nothing'",
  "delete from ephor.events",
  "truncate ephor.events",
  "update ephor.batches set hash = prev",
  "delete from ephor.heads",
  "alter table ephor.events disable trigger all",
  "alter table ephor.events drop column body",
  "drop table ephor.events",
  "delete from ephor.kills",
  "delete from ephor.dead_keys",
  "delete from ephor.streams",
  "create or replace function ephor.is_dead(text[], bigint[], bigint, bigint) returns boolean language sql as 'select false'",
];

/** SQLSTATE `insufficient_privilege`. */
const DENIED = "42501";

test("an application's login with database_admin beside it reports nothing weak, and cannot alter the ledger (INV-14, A-AUD-06)", async () => {
  const url = await newDatabase();
  await server.admin("create role app_login login password 'app-password-1'");
  const appUrl = urlAs(url, "app_login", "app-password-1");
  const report = await migrate({ adminUrl: url, appUrl });
  assert.deepEqual(report, { role: "ephor_app", weakened: [] });
  await as(appUrl, async (client) => {
    for (const role of ["set role ephor_app", "reset role"]) {
      await client.query(role);
      for (const sql of DAMAGE) await assert.rejects(client.query(sql), { code: DENIED }, `${role}: ${sql}`);
    }
    await client.query("set role ephor_app");
    assert.equal((await client.query("select count(*) from ephor.events")).rowCount, 1);
  });
});

test("a login that may make no roles still starts, and says what is weaker and how to mend it", async () => {
  // Once where nobody made the role before, once where another database's start did.
  for (const [login, isThere] of [
    ["plain_one", false],
    ["plain_two", true],
  ] as const) {
    const fresh = isThere ? server : await ownDatabase({ after }, { durable: true });
    await fresh.admin(`create role ${login} login password 'plain-password-1'`);
    const name = `plain_${randomBytes(4).toString("hex")}`;
    await fresh.admin(`create database ${name} owner ${login}`);
    const url = urlAs(withDatabase(fresh.url, name), login, "plain-password-1");
    const report = await migrate({ adminUrl: url });
    assert.equal(report.role, undefined, login);
    assert.equal(report.weakened.length, 1, login);
    assert.match(report.weakened[0] ?? "", /GRANT ephor_app TO "plain_/);
    // What it says helps: run as a superuser, the next start is better protected.
    if (!isThere) await fresh.admin("create role ephor_app nologin");
    await fresh.admin(`grant ephor_app to ${login}`);
    const mended = await migrate({ adminUrl: url });
    assert.equal(mended.role, "ephor_app", login);
    assert.equal(mended.weakened.length, 1, "the owner's rights can be taken back, and that is said");
  }
});

test("a login that may make roles works as one that cannot alter the ledger, as on managed servers", async () => {
  const fresh = await ownDatabase({ after }, { durable: true });
  await fresh.admin("create role managed login createrole password 'managed-password-1'");
  await fresh.admin("create database managed owner managed");
  const url = urlAs(withDatabase(fresh.url, "managed"), "managed", "managed-password-1");
  const report = await migrate({ adminUrl: url });
  assert.equal(report.role, "ephor_app");
  await as(url, async (client) => {
    await client.query("set role ephor_app");
    await assert.rejects(client.query("delete from ephor.events"), { code: DENIED });
  });
});

test("an application's login that nobody made a member stops the start with the statement that mends it", async () => {
  const fresh = await ownDatabase({ after }, { durable: true });
  await fresh.admin("create role ephor_app nologin");
  await fresh.admin("create role owner_login login password 'owner-password-1'");
  await fresh.admin("create role other_login login password 'other-password-1'");
  await fresh.admin("create database split owner owner_login");
  const base = withDatabase(fresh.url, "split");
  const urls = {
    adminUrl: urlAs(base, "owner_login", "owner-password-1"),
    appUrl: urlAs(base, "other_login", "other-password-1"),
  };
  await assert.rejects(
    migrate(urls),
    (error) => error instanceof UnsuitableDatabaseError && /GRANT ephor_app TO "other_login"/.test(error.message),
  );
  await fresh.admin("grant ephor_app to other_login");
  assert.deepEqual(await migrate(urls), { role: "ephor_app", weakened: [] });
});

test("a schema `ephor` that is not ours stops the start and is left alone", async () => {
  const url = await newDatabase();
  await as(url, (client) =>
    client.query(
      "create schema ephor; create table ephor.events (mine text); insert into ephor.events values ('precious')",
    ),
  );
  await assert.rejects(migrate({ adminUrl: url }), UnsuitableDatabaseError);
  const { rows } = await as(url, (client) => client.query("select * from ephor.events"));
  assert.deepEqual(rows, [{ mine: "precious" }]);
  const empty = await newDatabase();
  await as(empty, (client) => client.query("create schema ephor"));
  await migrate({ adminUrl: empty });
});

test("INV-30 a server whose commits are not durable, or a read-only one, stops the start", async () => {
  const unsafe = await ownDatabase({ after }, { durable: false });
  await assert.rejects(migrate({ adminUrl: unsafe.url }), UnsuitableDatabaseError);
  const url = await newDatabase();
  await server.admin(`alter database ${url.split("/").pop()?.split("?")[0]} set default_transaction_read_only = on`);
  await assert.rejects(migrate({ adminUrl: url }));
});

test("four servers that start at once on an empty database migrate once, and all serve with the same keys", async (t) => {
  const url = await newDatabase();
  const data = await mkdtemp(join(tmpdir(), "ephor-start-"));
  t.after(() => rm(data, { recursive: true, force: true }));
  const ports = await Promise.all(Array.from({ length: 4 }, freePort));
  const started = ports.map((port) => ({
    port,
    ...run(["serve"], {
      ...cleanEnvironment(),
      DATABASE_URL: url,
      EPHOR_DATA: data,
      EPHOR_ISSUER: `http://127.0.0.1:${ports[0]}`,
      EPHOR_LISTEN: `127.0.0.1:${port}`,
    }),
  }));
  t.after(() => Promise.all(started.map(({ child, ended }) => (child.kill("SIGKILL"), ended))));
  const jwks = await Promise.all(
    started.map(async ({ port, child, said, ended }) => {
      await Promise.race([
        new Promise<void>((resolve) => child.stderr?.on("data", () => said().includes("listens on") && resolve())),
        ended.then((code) => assert.fail(`ended with ${code}: ${said()}`)),
      ]);
      return (await fetch(`http://127.0.0.1:${port}/.well-known/jwks.json`)).text();
    }),
  );
  assert.equal(new Set(jwks).size, 1);
  const applied = await as(url, (client) =>
    client.query("select count(*)::int as count, count(distinct hash)::int as different from ephor.migrations"),
  );
  assert.equal(applied.rows[0].count, applied.rows[0].different);
  const keys = await as(url, (client) =>
    client.query("select count(*)::int as count from ephor.keys where use = 'token' and status = 'active'"),
  );
  assert.deepEqual(keys.rows, [{ count: 1 }]);
  for (const { child, ended } of started) {
    child.kill("SIGTERM");
    assert.equal(await ended, 0);
  }
});
