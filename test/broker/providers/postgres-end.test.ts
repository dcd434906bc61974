import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync } from "node:fs";
import { after, test } from "node:test";
import pg from "pg";
import type { Minted, MintOrder } from "../../../src/broker/provider.ts";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { roleName } from "../../../src/broker/providers/postgres-role.ts";
import type { PostgresSettings } from "../../../src/broker/providers/postgres-settings.ts";
import { withDatabase } from "../../support/database.ts";
import { ownDatabase } from "../../support/own-database.ts";
import { leaseFacts, placeOf, provider, secretText, stage, type Stage } from "./postgres-stage.ts";

const s = await stage({ after });
const never = new AbortController().signal;
const PSQL = "/usr/bin/psql";

async function destroy(on: Stage, order: MintOrder<PostgresSettings>, minted?: Minted): Promise<void> {
  assert.ok(provider.destroy);
  await provider.destroy(on.ended(order, minted), never);
}

function nameOf(order: MintOrder<PostgresSettings>): string {
  return roleName("ephor", order.lease);
}

test("a session that is open goes on after VALID UNTIL, and is thrown out by destroy", async () => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  const client = await s.login(minted);
  await s.database.admin(`alter role ${nameOf(order)} valid until '2020-01-01'`);
  await assert.rejects(s.login(minted), { code: "28P01" });
  await client.query("select note from app.orders");

  const ended = new Promise<void>((done) => client.once("end", done));
  const running = assert.rejects(client.query("select pg_sleep(60)"), { code: "57P01" });
  await destroy(s, order, minted);
  await running;
  await ended;
  assert.equal(await s.roleExists(nameOf(order)), false);
  await assert.rejects(s.login(minted), { code: "28P01" });
});

test("an agent that logs in again and again while its lease ends is out for good", async () => {
  const order = s.order({ settings: s.settingsWith({ connection_limit: 20 }) });
  const minted = await provider.mint(order, never);
  const [role] = await s.database.admin<{ oid: number }>("select oid from pg_roles where rolname = $1", [
    nameOf(order),
  ]);
  let isOver = false;
  const insist = async (): Promise<void> => {
    while (!isOver) await s.login(minted).catch(() => {});
  };
  const insisting = Array.from({ length: 4 }, insist);
  await s.login(minted);
  await destroy(s, order, minted);
  isOver = true;
  await Promise.all(insisting);
  assert.deepEqual(await s.database.admin("select pid from pg_stat_activity where usesysid = $1", [role?.oid]), []);
});

test("psql is thrown out mid-session", { skip: !existsSync(PSQL) && "no psql here" }, async () => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  const psql = spawn(PSQL, [String(minted.credential["url"]), "-XAtq"], { stdio: ["pipe", "pipe", "pipe"] });
  const closed = once(psql, "close") as Promise<[number]>;
  let complaint = "";
  psql.stderr.setEncoding("utf8").on("data", (text: string) => (complaint += text));
  psql.stdin.write("select 'in as ' || current_user;\n");
  const [first] = (await once(psql.stdout.setEncoding("utf8"), "data")) as [string];
  assert.equal(first.trim(), `in as ${nameOf(order)}`);
  psql.stdin.write("select pg_sleep(60);\n");
  await destroy(s, order, minted);
  const [code] = await closed;
  assert.notEqual(code, 0);
  assert.match(complaint, /terminating connection due to administrator command/);
});

test("destroy ends a role by the lease alone, after a crash between mint and record", async () => {
  const order = s.order();
  await provider.mint(order, never);
  assert.equal(await s.roleExists(nameOf(order)), true);
  await destroy(s, order);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("destroy finds the role by its handle when the prefix has changed since", async () => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  await destroy(s, { ...order, settings: s.settingsWith({ name_prefix: "other" }) }, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("destroy ends no role that is not this lease's, whatever the handle says", async () => {
  const order = s.order();
  for (const role of ["postgres", s.maker.username, `ephor_${nameOf(s.order())}`, `${nameOf(order)}" x`]) {
    await assert.rejects(
      async () => await provider.destroy?.({ ...s.ended(order), handle: { role } }, never),
      (error) => error instanceof ProviderError && error.problem === "order_refused",
    );
  }
  assert.equal(await s.roleExists(s.maker.username), true);
});

test("destroy may be called again, by several at once, and for a role that never came to be", async () => {
  const order = s.order();
  await destroy(s, order);
  const minted = await provider.mint(order, never);
  await s.login(minted);
  await Promise.all(Array.from({ length: 4 }, () => destroy(s, order, minted)));
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("destroy goes on where an earlier one stopped half-way", async () => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  await s.database.admin(`alter role ${nameOf(order)} nologin`);
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("a mint that is under way while its lease is destroyed is waited for, and then destroyed", async (t) => {
  // The mint waits inside its transaction, its role made and not committed, for whoever changes rights in this database.
  const busy = new pg.Client(s.database.url);
  t.after(() => busy.end());
  await busy.connect();
  await busy.query("select pg_advisory_lock(hashtextextended('ephor rights', 0))");
  const order = s.order({ settings: s.settingsWith({ statements: ["GRANT INSERT ON app.orders TO {role}"] }) });
  const minting = provider.mint(order, never);
  await untilWaiting(1);
  const destroying = destroy(s, order);
  await untilWaiting(2);
  await busy.query("select pg_advisory_unlock_all()");
  await minting;
  await destroying;
  assert.equal(await s.roleExists(nameOf(order)), false);
});

/** Asks the server until so many wait for a lock of ours in this database. */
async function untilWaiting(count: number): Promise<void> {
  const sql = `select 1 from pg_locks where locktype = 'advisory' and not granted
               and database = (select oid from pg_database where datname = current_database())`;
  for (const until = performance.now() + 10_000; (await s.database.admin(sql)).length < count;)
    assert.ok(performance.now() < until, `${count} wait`);
}

test("what the role made in this database is dropped with it", async () => {
  await s.database.admin(`grant create on schema app to ${s.group}`);
  const order = s.order();
  const minted = await provider.mint(order, never);
  const client = await s.login(minted);
  await client.query("create table app.mine (a int); alter default privileges grant select on tables to public");
  await client.query("create temporary table passing (a int)");
  await destroy(s, order, minted);
  assert.deepEqual(await s.database.admin("select to_regclass('app.mine') as mine"), [{ mine: null }]);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("what the role made in another database of the server is dropped with it", async (t) => {
  const other = `ephor_t_${randomBytes(6).toString("hex")}`;
  await s.database.admin(`create database ${other}`);
  t.after(() => s.database.admin(`drop database ${other} with (force)`));
  const there = placeOf(withDatabase(s.database.url, other));
  const order = s.order();
  const minted = await provider.mint(order, never);
  // It owns nothing there yet; PUBLIC may connect to any database.
  await s.database.admin(`grant create on database ${other} to ${nameOf(order)}`);
  const client = await s.login(minted, there.database);
  await client.query("create schema mine; create table mine.things (a int)");
  await client.end();
  await s.database.admin(`revoke create on database ${other} from ${nameOf(order)}`);
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("what the role made goes to reassign_to where that is set", async () => {
  const tag = s.group.slice("readers_".length);
  await s.database.admin(
    `create role heir_${tag} nologin; grant heir_${tag} to ${s.maker.username}; grant create on schema app to heir_${tag}, ${s.group}`,
  );
  const order = s.order({ settings: s.settingsWith({ reassign_to: `heir_${tag}` }) });
  const minted = await provider.mint(order, never);
  await (await s.login(minted)).query("create table app.kept (a int)");
  await destroy(s, order, minted);
  assert.deepEqual(
    await s.database.admin("select tableowner from pg_tables where schemaname = 'app' and tablename = 'kept'"),
    [{ tableowner: `heir_${tag}` }],
  );
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("what others built on the role's objects stays: the role is then powerless, and destroy says what is in its way", async () => {
  await s.database.admin(`grant create on schema app to ${s.group}`);
  const order = s.order();
  const minted = await provider.mint(order, never);
  await (await s.login(minted)).query("create table app.base (a int)");
  await s.database.admin("create view app.built as select a from app.base");
  await assert.rejects(destroy(s, order, minted), (error) => {
    assert.ok(error instanceof ProviderError);
    assert.deepEqual([error.problem, error.code], ["order_refused", "2BP01"]);
    return true;
  });
  await assert.rejects(s.login(minted), { code: "28P01" });
  const sessions = await s.database.admin("select 1 from pg_stat_activity where usename = $1", [nameOf(order)]);
  assert.deepEqual(sessions, []);

  await s.database.admin("drop view app.built");
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("rights are taken back while others are reading the table", async () => {
  const settings = s.settingsWith({ statements: ["GRANT INSERT ON app.orders TO {role}"] });
  const reader = s.order();
  const reading = await provider.mint(reader, never);
  const other = await s.login(reading);
  await other.query("begin; lock table app.orders in access share mode");
  const order = s.order({ settings });
  const minted = await provider.mint(order, never);
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
  await destroy(s, reader, reading);
});

test("a superuser's login works as well", async () => {
  const { username, password } = placeOf(s.database.url);
  const secrets = new Map([["orders-maker", secretText(JSON.stringify({ username, password }))]]);
  const settings = s.settingsWith({ statements: ["GRANT INSERT ON app.orders TO {role}"], allow_set_role: true });
  const order = s.order({ secrets, settings });
  const minted = await provider.mint(order, never);
  const client = await s.login(minted);
  await client.query(`set role ${s.group}; select * from app.orders; reset role`);
  await destroy(s, order, minted);
  assert.equal(await s.roleExists(nameOf(order)), false);
});

test("destroy of a lease whose database cannot be reached says so, and that another try may help", async () => {
  const order = s.order({ settings: s.settingsWith({ host: "/nowhere" }), lease: leaseFacts() });
  await assert.rejects(destroy(s, order), (error) => error instanceof ProviderError && error.isTransient);
});

test("a transaction that the role prepared and left is rolled back", async (t) => {
  const own = await ownDatabase(t, { durable: false });
  await own.admin("alter system set max_prepared_transactions = 4");
  await own.stop();
  await own.start();
  const there = await stage({ after: () => {} }, own);
  await own.admin(`grant create on schema app to ${there.group}`);
  const order = there.order();
  const minted = await provider.mint(order, never);
  const client = await there.login(minted);
  await client.query("begin; create table app.half (a int); prepare transaction 'it''s half'");
  await client.end();
  await destroy(there, order, minted);
  assert.deepEqual(await own.admin("select gid from pg_prepared_xacts"), []);
  assert.equal(await there.roleExists(nameOf(order)), false);
});
