import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import pg from "pg";
import { eventually } from "../support/event-receiver.ts";
import { aheadOfServers } from "../support/hand-clock.ts";
import { JWT_TYPE, TASK_TYPE, TOKEN_EXCHANGE, usualTrust, world, type Answer } from "../support/world.ts";

const CANARY = `canary-${randomBytes(12).toString("hex")}`;

const trust = (database: { host: string; name: string }) => `
resources:
  crm-key:
    credential: { static: { secret: crm-key, disclose: true } }
  orders-db:
    credential:
      postgres: { host: "${database.host}", database: "${database.name}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
grants:
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
  - { agent: release-bot, resource: orders-db, actions: [vend], residual: none }
  - { agent: summary-bot, resource: orders-db, actions: [vend] }
`;

const w = await world({ after }, { trust: usualTrust, start: aheadOfServers() });
const place = new URL(w.databaseUrl);
await w.apply(
  trust({ host: place.searchParams.get("host") ?? place.hostname, name: place.pathname.slice(1) }),
  "vault.yaml",
);

const setSecret = (name: string, value: string) => w.operator("PUT", `/v1/secrets/${name}`, { value });
const tokenFor = async (agent: string, resource: string, workload = w.workload(agent)): Promise<string> => {
  const answer = await w.self(agent, { token: workload, audience: resource, scope: `${resource}:vend` });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
};
const vend = (resource: string, token: string): Promise<Answer> =>
  w.request("POST", `/credentials/${resource}`, { headers: { authorization: `Bearer ${token}` } });
const leaseOf = async (id: unknown) => (await w.admin("select * from ephor.leases where id = $1", [id]))[0];
/** The worker runs every second by real time; a lease is due by the hand-moved clock. */
async function ended(id: unknown): Promise<Record<string, unknown>> {
  for (let round = 0; round < 200; round++) {
    const lease = await leaseOf(id);
    if (lease?.["status"] === "ended") return lease;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new assert.AssertionError({ message: `lease ${String(id)} did not end` });
}

test("a secret goes in and never comes out: metadata and fingerprint only (A-SEC-08)", async () => {
  const put = await setSecret("crm-key", CANARY);
  assert.equal(put.status, 200, put.text);
  assert.equal(put.body["version"], 1);
  const again = await setSecret("crm-key", CANARY);
  assert.equal(again.body["version"], 2);
  assert.equal(again.body["fingerprint"], put.body["fingerprint"]);
  const other = await setSecret("other-key", CANARY);
  assert.notEqual(other.body["fingerprint"], put.body["fingerprint"]);
  for (const path of ["/v1/secrets/crm-key", "/v1/secrets", "/v1/audit?limit=50"]) {
    const answer = await w.operator("GET", path);
    assert.equal(answer.status, 200);
    assert.ok(!answer.text.includes(CANARY), path);
  }
  const stored = JSON.stringify(await w.admin("select * from ephor.secret_versions"));
  assert.ok(!stored.includes(CANARY) && !stored.includes(Buffer.from(CANARY).toString("base64")));
});

test("a static value is vended to a grant that says residual: unlimited, and to no other", async () => {
  await setSecret("crm-key", CANARY);
  const answer = await vend("crm-key", await tokenFor("release-bot", "crm-key"));
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(answer.body["credential"], { value: CANARY });
  assert.equal(answer.body["residual_seconds"], null);
  const grant = { agent: "keyed-bot", resource: "crm-key", actions: ["vend"], residual: "none" };
  assert.equal((await w.operator("PUT", "/v1/grants/keyed", grant)).status, 422);
});

test("a token for one resource is nothing at another, and without a token there is nothing (A-PRX-16)", async () => {
  const token = await tokenFor("release-bot", "crm-key");
  assert.equal((await vend("orders-db", token)).status, 401);
  w.clock.advance(1);
  assert.equal((await w.request("POST", "/credentials/crm-key")).status, 401);
  // It is written beside the answer.
  const looked = async () => (await w.events({ limit: "1", reason: "client_missing" }))[0];
  const body = (await eventually("its event", looked))["body"] as { route?: string } | undefined;
  assert.equal(body?.route, "POST /credentials/{resource}");
  assert.equal((await vend("nothing", token)).status, 401);
});

test("A-SEC-01 A-SEC-02 a swapped or changed ciphertext is an error, never another value", async () => {
  await setSecret("crm-key", CANARY);
  await setSecret("other-key", "another value");
  await w.admin(
    "update ephor.secret_versions a set sealed = b.sealed from ephor.secret_versions b join ephor.secrets s on s.name = b.name and s.version = b.version where b.name = 'other-key' and a.name = 'crm-key'",
  );
  const answer = await vend("crm-key", await tokenFor("release-bot", "crm-key"));
  assert.equal(answer.status >= 500, true, answer.text);
  assert.ok(!answer.text.includes("another value"));
  await setSecret("crm-key", CANARY);
  assert.equal((await vend("crm-key", await tokenFor("release-bot", "crm-key"))).status, 200);
});

async function connected(credential: Record<string, unknown>): Promise<pg.Client> {
  const client = new pg.Client({
    host: credential["host"] as string,
    database: credential["database"] as string,
    user: credential["username"] as string,
    password: credential["password"] as string,
  });
  client.on("error", () => {});
  await client.connect();
  return client;
}

async function vendedRole(
  agent: string,
): Promise<{ answer: Answer; credential: Record<string, unknown>; token: string; workload: string }> {
  await setSecret("orders-admin", w.databaseUrl);
  const workload = w.workload(agent);
  const token = await tokenFor(agent, "orders-db", workload);
  const answer = await vend("orders-db", token);
  assert.equal(answer.status, 200, answer.text);
  return { answer, token, workload, credential: answer.body["credential"] as Record<string, unknown> };
}

test("a database role is made for the lease, works, and is thrown out mid-session when its task ends", async () => {
  const { answer, credential, workload } = await vendedRole("release-bot");
  const client = await connected(credential);
  assert.equal((await client.query("select current_user as me")).rows[0]?.me, credential["username"]);
  const txn = (await leaseOf(answer.body["lease"]))?.["txn"] as string;
  const complete = await w.request("POST", `/v1/tasks/${txn}/complete`, {
    headers: { authorization: `Bearer ${workload}` },
  });
  assert.equal(complete.status, 200, complete.text);
  assert.equal((await ended(answer.body["lease"]))["ended_because"], "task_ended");
  await assert.rejects(client.query("select 1"));
  assert.equal((await w.admin("select 1 from pg_roles where rolname = $1", [credential["username"]])).length, 0);
});

test("a kill of the agent ends its leases at their upstream, whatever their own end", async () => {
  const { answer, credential } = await vendedRole("summary-bot".replace("summary", "release"));
  const client = await connected(credential);
  const killed = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(killed.status, 200, killed.text);
  assert.equal((await ended(answer.body["lease"]))["ended_because"], "killed");
  await assert.rejects(client.query("select 1"));
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "over" })).status, 200);
});

test("a lease ends at its own end", async () => {
  const { answer } = await vendedRole("release-bot");
  assert.equal((await leaseOf(answer.body["lease"]))?.["status"], "live");
  w.clock.advance(60);
  assert.equal((await ended(answer.body["lease"]))["ended_because"], "expired");
});

test("a killed token gets no credential, and what it names is recorded", async () => {
  await setSecret("crm-key", CANARY);
  const token = await tokenFor("release-bot", "crm-key");
  const { jti, txn } = decodeJwt(token) as { jti: string; txn: string };
  assert.equal((await w.operator("POST", "/v1/kill", { jti, reason: "test" })).status, 200);
  assert.equal((await vend("crm-key", token)).status, 401);
  // Another token of the same task still vends.
  const another = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: txn,
    subject_token_type: TASK_TYPE,
    actor_token: w.workload("release-bot"),
    actor_token_type: JWT_TYPE,
    audience: "crm-key",
    scope: "crm-key:vend",
  });
  assert.equal((await vend("crm-key", another.body["access_token"] as string)).status, 200);
});

test("an intent that a crash left behind is ended by the worker, without a handle", async () => {
  const { answer, credential } = await vendedRole("release-bot");
  // As if the process had died between the mint and its record.
  await w.admin("update ephor.leases set status = 'intent', handle = null, next_try_at_ms = 0 where id = $1", [
    answer.body["lease"],
  ]);
  assert.equal((await ended(answer.body["lease"]))["ended_because"], "orphan");
  assert.equal((await w.admin("select 1 from pg_roles where rolname = $1", [credential["username"]])).length, 0);
});

test("INV-15 no secret value is in the log or the ledger", async () => {
  const events = JSON.stringify(await w.admin("select body from ephor.events"));
  assert.ok(!events.includes(CANARY) && !w.lines.join("").includes(CANARY));
});
