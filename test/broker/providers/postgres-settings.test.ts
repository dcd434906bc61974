import assert from "node:assert/strict";
import { test } from "node:test";
import { postgresSettings, rightsOf, tlsOf } from "../../../src/broker/providers/postgres-settings.ts";

const BASE = { host: "db.acme.example", database: "orders", secret: "orders-maker", roles: ["readers"] };

const accepts = (changes: object): boolean => postgresSettings.safeParse({ ...BASE, ...changes }).success;

test("settings have defaults that are narrow", () => {
  const parsed = postgresSettings.parse(BASE);
  assert.deepEqual(parsed, {
    ...BASE,
    port: 5432,
    statements: [],
    session_policies: {},
    connection_limit: 2,
    name_prefix: "ephor",
    allow_set_role: false,
  });
});

test("a mistyped key stops the apply, and so does a role that is given nothing", () => {
  assert.equal(accepts({ conection_limit: 3 }), false);
  assert.equal(accepts({ roles: [] }), false);
  assert.equal(accepts({ roles: [], statements: ["GRANT SELECT ON app.orders TO {role}"] }), true);
});

test("hosts are names, addresses or socket folders", () => {
  for (const host of ["db", "db.acme.example", "10.0.0.1", "::1", "fd00::1", "/var/run/postgresql"])
    assert.ok(accepts({ host }), host);
  for (const host of ["", "a b", "db/x", "user@db", "db?x=1", "-db", "a,b", "db:5432\n"])
    assert.ok(!accepts({ host }), host);
});

test("statements give or set, name the role as {role}, and replace nothing else", () => {
  for (const statement of [
    "GRANT SELECT ON ALL TABLES IN SCHEMA app TO {role}",
    "grant usage on schema app to {role}",
    'REVOKE SELECT ON app."odd table" FROM {role}',
    "ALTER ROLE {role} SET app.tenant = 'acme'",
    "alter role {role} in database orders set search_path = app",
  ]) {
    assert.ok(accepts({ statements: [statement] }), statement);
  }
  for (const statement of [
    "GRANT SELECT ON app.orders TO readers",
    "GRANT SELECT ON app.orders TO {role}; COMMIT",
    "GRANT SELECT ON app.orders TO {rôle}",
    "GRANT SELECT ON app.{table} TO {role}",
    "GRANT SELECT ON app.orders TO {{role}}",
    'GRANT SELECT ON app.orders TO "{role}"',
    "ALTER ROLE {role} SUPERUSER",
    "ALTER ROLE readers SET x = '{role}'",
    "COMMIT AND CHAIN /* {role} */",
    "DROP ROLE {role}",
    "GRANTED {role}",
  ]) {
    assert.ok(!accepts({ statements: [statement] }), statement);
  }
});

test("a prefix leaves room for agent and lease, and is none of PostgreSQL's own", () => {
  for (const name_prefix of ["e", "ephor_prod", "pgx", "a234567890123456"])
    assert.ok(accepts({ name_prefix }), name_prefix);
  for (const name_prefix of ["", "pg_x", "pg", "Ephor", "1e", 'a"b', "a-b", "a2345678901234567"]) {
    assert.ok(!accepts({ name_prefix }), name_prefix);
  }
});

test("a session policy leaves some of what the resource has, and several leave what all of them do", () => {
  const statements = ["GRANT INSERT ON app.orders TO {role}", "GRANT DELETE ON app.orders TO {role}"];
  assert.equal(accepts({ session_policies: { more: { roles: ["writers"] } } }), false);
  assert.equal(accepts({ session_policies: { more: { statements } } }), false);
  const settings = postgresSettings.parse({
    ...BASE,
    statements,
    session_policies: { insert: { statements: [statements[0]] }, bare: { roles: [] }, change: { statements } },
  });
  assert.deepEqual(rightsOf(settings, []), { roles: ["readers"], statements });
  assert.deepEqual(rightsOf(settings, ["insert"]), { roles: ["readers"], statements: [statements[0]] });
  assert.deepEqual(rightsOf(settings, ["change", "insert", "bare"]), { roles: [], statements: [statements[0]] });
});

test("TLS is verified unless the database is on this machine or the operator says otherwise", () => {
  const tls = (changes: object) => tlsOf(postgresSettings.parse({ ...BASE, ...changes }));
  assert.deepEqual(tls({}), { sslmode: "verify-full" });
  for (const host of ["localhost", "127.0.0.1", "127.9.9.9", "::1", "/run/postgresql"])
    assert.equal(tls({ host }), undefined);
  for (const host of ["127.0.0.1.acme.example", "localhost.acme.example", "::2"]) assert.ok(tls({ host }), host);
  assert.deepEqual(tls({ host: "localhost", tls: {} }), { sslmode: "verify-full" });
  assert.equal(tls({ tls: false }), undefined);
  assert.equal(accepts({ tls: { ca: "not a certificate" } }), false);
  assert.equal(accepts({ tls: { verify: false } }), false);
});
