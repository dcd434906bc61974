import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { setMaxListeners } from "node:events";
import { existsSync } from "node:fs";
import { after, test } from "node:test";
import { promisify } from "node:util";
import pg from "pg";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { roleName, scramVerifier } from "../../../src/broker/providers/postgres-role.ts";
import { leaseFacts, placeOf, provider, secretText, stage } from "./postgres-stage.ts";

const s = await stage({ after });
const never = new AbortController().signal;
// One signal for many calls at once.
setMaxListeners(50, never);
const PSQL = "/usr/bin/psql";

/** The problem and the SQLSTATE, and nothing of ours in any text of the error. */
function refusal(problem: string, code?: string) {
  return (error: unknown) => {
    assert.ok(error instanceof ProviderError);
    assert.deepEqual([error.problem, error.code], [problem, code]);
    const all = JSON.stringify([error.message, error.stack, error.cause ?? null, Object.entries(error)]);
    assert.doesNotMatch(all, /CANARY|SCRAM-SHA-256\$/);
    return true;
  };
}

test("mint makes a role that reads what its group reads, and nothing else", async (t) => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  const client = await s.login(minted);
  assert.deepEqual((await client.query("select note from app.orders")).rows, [{ note: "first" }]);
  await assert.rejects(client.query("insert into app.orders values (2, 'x')"), { code: "42501" });
  // Before PostgreSQL 16 a member may always act as its group.
  const [server] = await s.database.admin<{ number: number }>(
    "select current_setting('server_version_num')::int as number",
  );
  if (server && server.number >= 160_000) await assert.rejects(client.query(`set role ${s.group}`), { code: "42501" });
  await assert.rejects(client.query(`create role other_${order.lease.txn.toLowerCase()}`), { code: "42501" });
  assert.deepEqual(minted.marks, [{ kind: "database_role", value: minted.credential["username"] }]);
  assert.deepEqual(minted.handle, { role: minted.credential["username"] });
});

test("mint writes the lease's end, its limit and the human into the role", async (t) => {
  const lease = leaseFacts({
    email: "zoë'\\@acme.example",
    purpose: 'look "here"; drop role x --',
    traceId: "ab".repeat(16),
  });
  const order = s.order({ lease });
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  const [row] = await s.database.admin<Record<string, unknown>>(
    `select extract(epoch from rolvaliduntil)::int as until, rolconnlimit, rolsuper, rolcreaterole, rolcreatedb, rolreplication,
            rolbypassrls, shobj_description(oid, 'pg_authid') as comment
     from pg_roles where rolname = $1`,
    [minted.credential["username"]],
  );
  const { comment, ...attributes } = row ?? {};
  assert.deepEqual(attributes, {
    until: order.endsAt,
    rolconnlimit: 2,
    rolsuper: false,
    rolcreaterole: false,
    rolcreatedb: false,
    rolreplication: false,
    rolbypassrls: false,
  });
  assert.deepEqual(JSON.parse(String(comment)), {
    ephor: lease.id,
    agent: "triage-bot",
    path: ["triage-bot"],
    human: "okta|00u1",
    email: lease.email,
    txn: lease.txn,
    trace: lease.traceId,
    purpose: lease.purpose,
  });
  const client = new pg.Client(String(minted.credential["url"]));
  await client.connect();
  const { rows } = await client.query("show application_name");
  await client.end();
  assert.deepEqual(rows, [{ application_name: "triage-bot for zo...@acme.example" }]);
});

test("mint runs the operator's statements with the role's name in them, and undoes all of it when one fails", async (t) => {
  const good = s.settingsWith({
    roles: [],
    statements: [
      "GRANT USAGE ON SCHEMA app TO {role}",
      "GRANT INSERT ON app.orders TO {role}",
      "ALTER ROLE {role} SET statement_timeout = '7s'",
    ],
  });
  const order = s.order({ settings: good });
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  const client = await s.login(minted);
  await client.query("insert into app.orders values (2, 'second')");
  assert.deepEqual((await client.query("show statement_timeout")).rows, [{ statement_timeout: "7s" }]);
  await assert.rejects(client.query("select * from app.orders"), { code: "42501" });

  const bad = s.order({
    settings: s.settingsWith({
      statements: ["GRANT INSERT ON app.orders TO {role}", "GRANT DELETE ON app.missing TO {role}"],
    }),
  });
  await assert.rejects(provider.mint(bad, never), refusal("order_refused", "42P01"));
  assert.equal(await s.roleExists(roleName("ephor", bad.lease)), false);
});

test("mint gives what every policy of the grants leaves, and refuses one that the resource does not have", async (t) => {
  const settings = s.settingsWith({
    statements: ["GRANT INSERT ON app.orders TO {role}"],
    session_policies: { read: { statements: [] }, write: { roles: [] } },
  });
  const reading = s.order({ settings, policies: ["read"] });
  const minted = await provider.mint(reading, never);
  t.after(() => provider.destroy?.(s.ended(reading, minted), never));
  const client = await s.login(minted);
  await client.query("select * from app.orders");
  await assert.rejects(client.query("insert into app.orders values (3, 'x')"), { code: "42501" });

  const both = s.order({ settings, policies: ["read", "write"] });
  const nothing = await provider.mint(both, never);
  t.after(() => provider.destroy?.(s.ended(both, nothing), never));
  await assert.rejects((await s.login(nothing)).query("select * from app.orders"), { code: "42501" });

  await assert.rejects(provider.mint(s.order({ settings, policies: ["toString"] }), never), refusal("order_refused"));
});

test("mint refuses rights with which the role could outlive its lease", async (t) => {
  const tag = s.group.slice("readers_".length);
  await s.database.admin(`create role chiefs_${tag} createrole; grant chiefs_${tag} to ${s.group}`);
  t.after(() => s.database.admin(`revoke chiefs_${tag} from ${s.group}`));
  const order = s.order();
  await assert.rejects(provider.mint(order, never), refusal("cannot_bound"));
  assert.equal(await s.roleExists(roleName("ephor", order.lease)), false);

  const { username, password } = placeOf(s.database.url);
  const secrets = new Map([["orders-maker", secretText(JSON.stringify({ username, password }))]]);
  const programs = s.order({ secrets, settings: s.settingsWith({ roles: ["pg_execute_server_program"] }) });
  await assert.rejects(provider.mint(programs, never), refusal("cannot_bound"));
});

test("mint refuses a lease that the server's clock has already ended", async () => {
  const issuedAt = Math.floor(Date.now() / 1000) - 60;
  await assert.rejects(provider.mint(s.order({ issuedAt, endsAt: issuedAt + 50 }), never), refusal("cannot_bound"));
});

test("a server whose clock is behind lets the role live no longer than the lease", async (t) => {
  const issuedAt = Math.floor(Date.now() / 1000) + 3600;
  const order = s.order({ issuedAt, endsAt: issuedAt + 50 });
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  const [row] = await s.database.admin<{ left: number }>(
    "select extract(epoch from rolvaliduntil - now())::float8 as left from pg_roles where rolname = $1",
    [minted.credential["username"]],
  );
  assert.ok(row && row.left > 30 && row.left <= 50);
});

test("mint refuses a group that the login may not give", async () => {
  await s.database.admin(`create role foreign_${s.group} superuser`);
  await assert.rejects(
    provider.mint(s.order({ settings: s.settingsWith({ roles: [`foreign_${s.group}`] }) }), never),
    refusal("order_refused", "42501"),
  );
  await assert.rejects(
    provider.mint(s.order({ settings: s.settingsWith({ roles: [`missing_${s.group}`] }) }), never),
    refusal("order_refused", "42704"),
  );
});

test("a wrong login, a malformed secret and a missing database are told apart, without a word of the secret (INV-15)", async () => {
  const secretsOf = (text: string) => new Map([["orders-maker", secretText(text)]]);
  const { username } = s.maker;
  await assert.rejects(
    provider.mint(s.order({ secrets: secretsOf(JSON.stringify({ username, password: "CANARY-wrong" })) }), never),
    refusal("credentials_refused", "28P01"),
  );
  for (const text of [
    "CANARY",
    "{CANARY",
    '{"username":"CANARY"}',
    "postgres://CANARY@host/x",
    "mysql://CANARY:x@y/z",
  ]) {
    await assert.rejects(provider.mint(s.order({ secrets: secretsOf(text) }), never), refusal("secret_malformed"));
  }
  await assert.rejects(provider.mint(s.order({ secrets: new Map() }), never), refusal("secret_malformed"));
  await assert.rejects(
    provider.mint(s.order({ settings: s.settingsWith({ database: "no_such_database" }) }), never),
    refusal("order_refused", "3D000"),
  );
  await assert.rejects(
    provider.mint(s.order({ settings: s.settingsWith({ host: "/nowhere" }) }), never),
    refusal("unreachable", "ENOENT"),
  );
});

test("the login may be given as a URL, of which only the login counts", async (t) => {
  const { username, password } = s.maker;
  const url = `postgres://${username}:${encodeURIComponent(password)}@elsewhere.example/other`;
  const order = s.order({ secrets: new Map([["orders-maker", secretText(url)]]) });
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  await s.login(minted);
});

test("mint stops at a signal and leaves no role", async () => {
  const stopped = AbortSignal.abort();
  const order = s.order();
  await assert.rejects(provider.mint(order, stopped), refusal("unreachable"));
  const soon = new AbortController();
  const minting = provider.mint(order, soon.signal);
  setImmediate(() => soon.abort());
  await assert.rejects(minting, refusal("unreachable"));
  await provider.destroy?.(s.ended(order), never);
  assert.equal(await s.roleExists(roleName("ephor", order.lease)), false);
});

test("many mints at once on one table all succeed, while others end", async () => {
  const settings = s.settingsWith({ statements: ["GRANT INSERT ON app.orders TO {role}"] });
  await Promise.all(
    Array.from({ length: 12 }, async () => {
      const order = s.order({ settings });
      const minted = await provider.mint(order, never);
      await provider.destroy?.(s.ended(order, minted), never);
    }),
  );
});

test("the role's name holds prefix, agent and lease in at most 63 of a-z, 0-9 and _", () => {
  const id = "lease_01JD9Z8Q4V3W2X1Y0ZABCDEFGH";
  assert.equal(roleName("ephor", leaseFacts({ id })), "ephor_triage_bot_01jd9z8q4v3w2x1y0zabcdefgh");
  const long = roleName("sixteencharacter", leaseFacts({ id, agent: "a".repeat(63) }));
  assert.match(long, /^sixteencharacter_a{19}_01jd9z8q4v3w2x1y0zabcdefgh$/);
  assert.equal(long.length, 63);
  assert.throws(
    () => roleName("ephor", leaseFacts({ id: 'lease_01JD9Z8Q4V3W2X1Y0ZABCDEFG"' })),
    refusal("order_refused"),
  );
});

test("the verifier is what PostgreSQL itself makes of a password (RFC 7677 §3)", async () => {
  const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
  // Salt, count and password of the RFC's example: its server signature follows from the second key.
  assert.equal(
    await scramVerifier("pencil", salt),
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
  );
});

test("psql logs in with the URL", { skip: !existsSync(PSQL) && "no psql here" }, async (t) => {
  const order = s.order();
  const minted = await provider.mint(order, never);
  t.after(() => provider.destroy?.(s.ended(order, minted), never));
  const { stdout } = await promisify(execFile)(PSQL, [
    String(minted.credential["url"]),
    "-XAtc",
    "select current_user, note from app.orders where id = 1",
  ]);
  assert.equal(stdout.trim(), `${String(minted.credential["username"])}|first`);
});
