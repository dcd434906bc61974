import assert from "node:assert/strict";
import { createHash, randomBytes } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import pg from "pg";
import { startFakeAuthorizationServer } from "../support/fake-authorization-server.ts";
import { replicas, type Replica, type Replicas } from "../support/replicas.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";

/** Requests that hang at the upstream, each until it is let go. */
const gate: { isShut: boolean; arrived: (() => void)[]; go: (() => void)[] } = { isShut: false, arrived: [], go: [] };
const upstream = await startFakeAuthorizationServer(async () => {
  if (gate.isShut) {
    await new Promise<void>((resolve) => {
      gate.go.push(resolve);
      for (const tell of gate.arrived.splice(0)) tell();
    });
  }
  return true;
});
after(() => upstream.stop());
const arrival = (): Promise<void> => new Promise((resolve) => gate.arrived.push(resolve));
function open(): void {
  gate.isShut = false;
  for (const go of gate.go.splice(0)) go();
}

/** `crm` uses one refresh token for everybody; `bank` another. */
const trust = `
resources:${["crm", "bank"]
  .map(
    (name) => `
  ${name}:
    credential:
      oauth: { token_url: "${upstream.tokenUrl}", revocation_url: "${upstream.revocationUrl}", internal: true, client_id: crm,
               secret: crm-client, grant: refresh_token, refresh_secret: ${name}-refresh }`,
  )
  .join("")}
grants:
  - { agent: release-bot, resource: crm, actions: [vend], residual: none }
  - { agent: release-bot, resource: bank, actions: [vend], residual: none }
`;

const w = await world({ after }, { trust: usualTrust, start: Math.floor(Date.now() / 1000) });
const second = await w.replica();
await w.apply(trust, "oauth.yaml");
await w.operator("PUT", "/v1/secrets/crm-client", { value: "client-secret" });

const tokenFor = async (resource: string): Promise<string> => {
  const answer = await w.self("release-bot", { audience: resource, scope: `${resource}:vend` });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
};
const vendAt = (url: string, resource: string, token: string): Promise<Answer> =>
  w.request("POST", `${url}/credentials/${resource}`, { headers: { authorization: `Bearer ${token}` } });

/** A refresh token that is good at the upstream, and in the vault. */
async function consent(name: string): Promise<void> {
  const token = `refresh-${randomBytes(8).toString("hex")}`;
  upstream.refreshTokens.add(token);
  const put = await w.operator("PUT", `/v1/secrets/${name}`, { value: token });
  assert.equal(put.status, 200, put.text);
}

beforeEach(async () => {
  open();
  upstream.refreshTokens.clear();
  await consent("crm-refresh");
  await consent("bank-refresh");
});

/** Who waits for, or has, a lock of `src/broker/one-at-a-time.ts`. */
const locks = (): Promise<unknown[]> =>
  // Of this database: other files' are on the same server.
  w.admin(
    `select 1 from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
     where l.locktype = 'advisory' and l.classid = 4202173`,
  );

test("RFC 9700 §4.14.2 two replicas that vend by one rotating refresh token use each token once: all succeed", async () => {
  const tokens = await Promise.all(Array.from({ length: 10 }, () => tokenFor("crm")));
  const answers = await Promise.all(
    tokens.map((token, index) => vendAt(index % 2 === 0 ? w.url : second.url, "crm", token)),
  );
  for (const answer of answers) assert.equal(answer.status, 200, answer.text);
  const given = answers.map(({ body }) => (body["credential"] as { access_token: string }).access_token);
  assert.equal(new Set(given).size, 10);
  // None was used twice, or the upstream would have ended the whole grant.
  assert.equal(upstream.refreshTokens.size, 2);
  const { body } = await w.operator("GET", "/v1/secrets/crm-refresh");
  assert.equal(body["version"], 11);
  assert.equal((await vendAt(second.url, "crm", await tokenFor("crm"))).status, 200);
  assert.deepEqual(await locks(), []);
});

test("a refresh token that was used twice ends the grant: the upstream here is one that looks", async () => {
  const [used = ""] = upstream.refreshTokens;
  const refresh = (): Promise<Response> =>
    fetch(upstream.tokenUrl, {
      method: "POST",
      headers: { "content-type": "application/x-www-form-urlencoded" },
      body: new URLSearchParams({ grant_type: "refresh_token", refresh_token: used }).toString(),
    });
  assert.equal((await refresh()).status, 200);
  assert.equal((await refresh()).status, 400);
  assert.equal(upstream.refreshTokens.size, 0);
});

test("vends of another secret, and everything else, do not wait for one that hangs at its upstream", async () => {
  const tokens = await Promise.all(Array.from({ length: 12 }, () => tokenFor("crm")));
  gate.isShut = true;
  const arrived = arrival();
  const waiting = tokens.map((token) => vendAt(w.url, "crm", token));
  await arrived;
  gate.isShut = false;
  // More wait than the pool has connections; none of them has one.
  assert.equal((await vendAt(w.url, "bank", await tokenFor("bank"))).status, 200);
  assert.equal((await vendAt(second.url, "bank", await tokenFor("bank"))).status, 200);
  open();
  for (const answer of await Promise.all(waiting)) assert.equal(answer.status, 200, answer.text);
});

test("whoever waits too long is told to come back, and what it waited for was not touched", async (t) => {
  const holder = new pg.Client({ connectionString: w.databaseUrl });
  await holder.connect();
  t.after(() => holder.end().catch(() => {}));
  const key =
    Number.parseInt(createHash("sha256").update("ephor one at a time\0crm-refresh").digest("hex").slice(0, 8), 16) | 0;
  await holder.query("select pg_advisory_lock(4202173, $1)", [key]);
  const seen = upstream.seen.length;
  const answer = await vendAt(w.url, "crm", await tokenFor("crm"));
  assert.equal(answer.status, 503, answer.text);
  assert.equal(answer.body["code"], "temporarily_unavailable");
  assert.equal(upstream.seen.length, seen);
  assert.equal((await w.admin("select 1 from ephor.leases where status = 'intent'")).length, 0);
  await holder.end();
  assert.equal((await vendAt(w.url, "crm", await tokenFor("crm"))).status, 200);
});

test("a kill while a vend waits for its turn refuses it, and the refresh token is not used for it", async () => {
  const tokens = await Promise.all([tokenFor("crm"), tokenFor("crm")]);
  gate.isShut = true;
  const arrived = arrival();
  const first = vendAt(w.url, "crm", tokens[0] ?? "");
  await arrived;
  const late = vendAt(second.url, "crm", tokens[1] ?? "");
  const killed = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(killed.status, 200, killed.text);
  const seen = upstream.seen.length;
  open();
  assert.equal((await first).status, 401);
  assert.equal((await late).status, 401);
  assert.equal(upstream.seen.slice(seen).filter(({ path }) => path === "/token").length, 0);
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "over" })).status, 200);
  // What the upstream gave for the first one was kept: the grant lives on.
  assert.equal((await vendAt(w.url, "crm", await tokenFor("crm"))).status, 200);
});

async function vendFrom(all: Replicas, replica: Replica): Promise<Answer> {
  const token = await all.self(replica, "release-bot", { resource: undefined, audience: "crm", scope: "crm:vend" });
  assert.equal(token.status, 200, token.text);
  const response = await fetch(`${replica.url}/credentials/crm`, {
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

test("a replica that dies while it has its turn frees it at once", async (t) => {
  const all = await replicas(t, { count: 2 });
  const [first, other] = all.all as [Replica, Replica];
  const applied = await all.operator(first, "POST", "/v1/apply", { source: "oauth.yaml", file: trust });
  assert.equal(applied.status, 200, applied.text);
  const [refresh = ""] = upstream.refreshTokens;
  for (const [name, value] of [
    ["crm-client", "client-secret"],
    ["crm-refresh", refresh],
  ]) {
    assert.equal((await all.operator(first, "PUT", `/v1/secrets/${name}`, { value })).status, 200);
  }
  gate.isShut = true;
  const arrived = arrival();
  const lost = vendFrom(all, first).catch(() => "lost");
  await arrived;
  // Who comes after that one is let through.
  gate.isShut = false;
  const next = vendFrom(all, other);
  first.child.kill("SIGKILL");
  assert.equal(await lost, "lost");
  const startedAt = performance.now();
  const answer = await next;
  assert.equal(answer.status, 200, answer.text);
  assert.ok(performance.now() - startedAt < 10_000);
  open();
});
