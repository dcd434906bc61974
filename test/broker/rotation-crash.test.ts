/** `kill -9` of a real server process in the middle of a rotation; and a server that does not look at passwords. */
import assert from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { after, test } from "node:test";
import pg from "pg";
import { withDatabase } from "../support/database.ts";
import { holdLock, type HeldLock } from "../support/held-lock.ts";
import { replicas, type Replica } from "../support/replicas.ts";
import type { Answer } from "../support/world.ts";
import { placeOf } from "./providers/postgres-stage.ts";

const cleanups: (() => unknown)[] = [];
const file = { after: (fn: () => unknown): void => void cleanups.push(fn) };
after(async () => {
  for (const cleanUp of cleanups.toReversed()) await cleanUp();
});
const w = await replicas(file, { count: 2 });
const { database } = w;
await database.admin("create database orders");
const upstreamUrl = withDatabase(database.url, "orders");
const place = placeOf(upstreamUrl);
const FIRST = "first-password-of-the-login";
await database.admin("create role readers nologin");
for (const name of ["before", "between", "trusted"]) {
  await database.admin(`create role maker_${name} login createrole password '${FIRST}'`);
  await database.admin(`grant readers to maker_${name} with admin option`);
}
const [, other] = w.all as [Replica, Replica];
let [server] = w.all as [Replica];
const setUp = await w.operator(server, "POST", "/v1/apply", {
  source: "vault.yaml",
  file: `
resources:${["before", "between", "trusted"]
    .map(
      (name) => `
  ${name}-db:
    credential:
      postgres: { host: "${place.host}", port: ${place.port}, database: orders, secret: ${name}-admin, roles: [readers] }`,
    )
    .join("")}
grants:
  - { agent: release-bot, resource: before-db, actions: [vend] }
  - { agent: release-bot, resource: between-db, actions: [vend] }
`,
});
assert.equal(setUp.status, 200, setUp.text);
for (const name of ["before", "between", "trusted"]) {
  const value = JSON.stringify({ username: `maker_${name}`, password: FIRST });
  assert.equal((await w.operator(server, "PUT", `/v1/secrets/${name}-admin`, { value })).status, 200);
}

async function vend(replica: Replica, name: string): Promise<Answer> {
  const form = { audience: `${name}-db`, scope: `${name}-db:vend`, resource: undefined };
  const token = await w.self(replica, "release-bot", form);
  assert.equal(token.status, 200, token.text);
  const response = await fetch(`${replica.url}/credentials/${name}-db`, {
    method: "POST",
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, text, body: JSON.parse(text) as Answer["body"] };
}

const rotate = (replica: Replica, name: string): Promise<Answer | undefined> =>
  w.operator(replica, "POST", `/v1/secrets/${name}-admin/rotate`).catch(() => undefined);

async function letsIn(name: string, password = FIRST): Promise<boolean> {
  const { host, port } = place;
  const client = new pg.Client({ host, port, database: "orders", user: `maker_${name}`, password });
  client.on("error", () => {});
  return client
    .connect()
    .then(
      () => true,
      () => false,
    )
    .finally(() => client.end().catch(() => {}));
}

const versionOf = async (name: string): Promise<unknown> =>
  (await w.operator(other, "GET", `/v1/secrets/${name}-admin`)).body["version"];

async function killedAt(held: HeldLock, name: string): Promise<void> {
  const rotating = rotate(server, name);
  await held.waiting(1);
  server.child.kill("SIGKILL");
  await server.ended;
  // What the dead server had asked for would still be done.
  await database.admin("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'");
  await held.release();
  assert.equal(await rotating, undefined);
  const rows = await database.admin(
    "select 1 from ephor.secret_versions where name = $1 and version = 2 and retired_at is null",
    [`${name}-admin`],
  );
  assert.equal(rows.length, 1);
  server = await w.start();
}

test("kill -9 before the change: the old password counts, and the next rotation makes its own", async () => {
  await killedAt(
    await holdLock(upstreamUrl, "select pg_advisory_xact_lock(hashtextextended('ephor rotation', 0))"),
    "before",
  );
  assert.equal(await letsIn("before"), true);
  assert.equal((await vend(other, "before")).status, 200);
  const answer = await rotate(other, "before");
  assert.equal(answer?.status, 200, answer?.text);
  assert.deepEqual([await versionOf("before"), await letsIn("before")], [3, false]);
  assert.equal((await vend(server, "before")).status, 200);
});

test("kill -9 between the change and its record: every replica finds the new password, and nothing is lost", async () => {
  // The row that says which version counts: the new one is sealed already, and cannot be made to count.
  const row = await holdLock(database.url, "select 1 from ephor.secrets where name = 'between-admin' for update");
  await killedAt(row, "between");
  assert.deepEqual([await versionOf("between"), await letsIn("between")], [1, false]);
  const answers = await Promise.all([vend(other, "between"), vend(server, "between"), vend(other, "between")]);
  for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  assert.equal(await versionOf("between"), 2);
});

test("a server that lets anybody in proves nothing: the rotation is refused, and taken back", async () => {
  const [row] = await database.admin<{ file: string }>("select current_setting('hba_file') as file");
  const hba = row?.file ?? "";
  const [lines] = await database.admin<{ text: string }>("select pg_read_file($1) as text", [hba]);
  const rules = async (text: string, letsAnybodyIn: boolean): Promise<void> => {
    await writeFile(hba, text);
    await database.admin("select pg_reload_conf()");
    for (let round = 0; (await letsIn("trusted", "wrong")) !== letsAnybodyIn; round++)
      assert.ok(round < 500, "the rules are not read");
  };
  const usual = lines?.text ?? "";
  await rules(`local all maker_trusted trust\nhost all maker_trusted all trust\n${usual}`, true);
  const answer = await rotate(other, "trusted");
  assert.equal(answer?.status, 422, answer?.text);
  assert.match(String(answer?.body["detail"]), /password_not_checked/);
  assert.equal(await versionOf("trusted"), 1);
  await rules(usual, false);
  // Its stored password is the one before: taken back, not only given up.
  assert.equal(await letsIn("trusted"), true);
});
