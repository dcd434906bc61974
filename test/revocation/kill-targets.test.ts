import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, type JSONWebKeySet } from "jose";
import { asserted, chainWorld, claimsOf, READ_INVOICE } from "../attacks/chain-world.ts";
import { badToken, granted, refusedNow } from "../attacks/refusals.ts";
import type { Answer } from "../support/world.ts";

type Line = { kind: string; id: string; outcome: string; agent?: string; at: string };

const w = await chainWorld({ after }, { start: Math.floor(Date.now() / 1_000) });
const place = new URL(w.databaseUrl);
await w.apply(
  `
resources:
  orders-db:
    credential:
      postgres: { host: "${place.searchParams.get("host") ?? place.hostname}", database: "${place.pathname.slice(1)}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
  crm:
    credential: { static: { secret: crm-key, disclose: true } }
grants:
  - { agent: release-bot, resource: orders-db, actions: [vend] }
  - { agent: release-bot, resource: crm, actions: [vend], residual: unlimited }
`,
  "vault.yaml",
);
await w.operator("PUT", "/v1/secrets/orders-admin", { value: w.databaseUrl });
await w.operator("PUT", "/v1/secrets/crm-key", { value: "crm-key-0123456789" });

const restore = (what: Record<string, unknown>): Promise<Answer> =>
  w.operator("POST", "/v1/restore", { reason: "test", ...what });
const linesOf = (answer: Answer): Line[] => answer.body["lines"] as Line[];
const line = (answer: Answer, kind: string, id: string): Line | undefined =>
  linesOf(answer).find((one) => one.kind === kind && one.id === id);

const byRelease = async (): Promise<string> => granted(await w.self("release-bot", READ_INVOICE));
const byKeyed = async (): Promise<string> =>
  granted(
    await w.post("/token", { grant_type: "client_credentials", ...asserted(w.privateKeyJwt()), ...READ_INVOICE }),
  );
const byHuman = async (sub?: string): Promise<string> =>
  granted(await w.onBehalf("triage-bot", w.human(sub), READ_INVOICE));
const atLedger = async (): Promise<string> =>
  granted(await w.onBehalf("triage-bot", w.human("00u9zz"), { audience: "ledger", scope: "ledger:read" }));

/** What the record says of a token: also of one for a resource whose secret the test does not have. */
async function isLive(token: string): Promise<boolean> {
  const rows = await w.admin<{ live: boolean }>("select live from ephor.token_states($1, $2)", [
    [claimsOf(token).jti],
    w.now(),
  ]);
  return rows[0]?.live === true;
}

async function vend(resource: string): Promise<{ answer: Answer; lease: string; token: string }> {
  const token = granted(await w.self("release-bot", { audience: resource, scope: `${resource}:vend` }));
  const answer = await w.request("POST", `/credentials/${resource}`, { headers: { authorization: `Bearer ${token}` } });
  assert.equal(answer.status, 200, answer.text);
  return { answer, lease: String(answer.body["lease"]), token };
}

const CASES: {
  name: string;
  what: Record<string, unknown>;
  hit: () => Promise<string>;
  neighbour: () => Promise<string>;
}[] = [
  { name: "agent", what: { agent: "release-bot" }, hit: byRelease, neighbour: byKeyed },
  { name: "owner", what: { owner: "dana@acme.example" }, hit: byRelease, neighbour: byKeyed },
  { name: "issuer of workloads", what: { issuer: "cluster" }, hit: byRelease, neighbour: byKeyed },
  { name: "issuer of humans", what: { issuer: "okta" }, hit: byHuman, neighbour: byRelease },
  { name: "subject", what: { subject: "okta|00u1ab" }, hit: byHuman, neighbour: () => byHuman("00u2cd") },
  { name: "subject that is an agent", what: { subject: "agent|release-bot" }, hit: byRelease, neighbour: byKeyed },
  { name: "resource", what: { resource: "billing" }, hit: byRelease, neighbour: atLedger },
];
for (const { name, what, hit, neighbour } of CASES) {
  test(`a kill by ${name} takes what it covers and nothing beside it; a restore lifts it, and what was issued before stays dead`, async () => {
    const [dead, beside] = [await hit(), await neighbour()];
    const { jti } = claimsOf(dead);
    const preview = await w.kill({ ...what, dry_run: true });
    assert.equal(line(preview, "jti", jti)?.outcome, "would_die", preview.text);
    assert.equal(await isLive(dead), true);
    const killed = await w.kill(what);
    assert.equal(killed.status, 200, killed.text);
    const [[kind, id]] = Object.entries(what) as [[string, string]];
    assert.equal(line(killed, kind, id)?.outcome, "dead");
    assert.equal(line(killed, "jti", jti)?.outcome, "dead");
    assert.equal(line(killed, "jti", claimsOf(beside).jti), undefined);
    assert.deepEqual([await isLive(dead), await isLive(beside)], [false, true]);
    await assert.rejects(hit, "nothing new is issued");
    assert.equal(await isLive(await neighbour()), true);
    const lifted = await restore(what);
    assert.deepEqual(lifted.body["restored"], [{ kind, id }], lifted.text);
    assert.equal(await isLive(dead), false);
    assert.equal(await isLive(await hit()), true);
  });
}

test("a kill of all takes everything but operators, kill and restore", async () => {
  const tokens = [await byRelease(), await byKeyed(), await byHuman(), await atLedger()];
  const killed = await w.kill({ all: true });
  assert.equal(killed.status, 200, killed.text);
  for (const token of tokens) {
    assert.equal(await isLive(token), false);
    assert.equal(line(killed, "jti", claimsOf(token).jti)?.outcome, "dead");
  }
  for (const mint of [byRelease, byKeyed, () => byHuman(), atLedger]) await assert.rejects(mint);
  assert.equal((await w.operator("GET", "/v1/agents")).status, 200);
  assert.equal((await w.kill({ agent: "watch-bot" })).status, 200);
  assert.deepEqual((await restore({ all: true, agent: "watch-bot" })).body["restored"], [
    { kind: "agent", id: "watch-bot" },
    { kind: "all", id: "all" },
  ]);
  for (const token of tokens) assert.equal(await isLive(token), false);
  for (const mint of [byRelease, byKeyed, () => byHuman(), atLedger]) assert.equal(await isLive(await mint()), true);
});

test("a kill by trace takes the chains that carried it until now, each listed, and no other", async () => {
  const trace = "4bf92f3577b34da6a3ce929d0e0e4736";
  const traced = async (): Promise<string> =>
    granted(
      await w.post(
        "/token",
        {
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          subject_token: w.workload("release-bot"),
          subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
          ...READ_INVOICE,
        },
        { traceparent: `00-${trace}-00f067aa0ba902b7-01` },
      ),
    );
  const [one, two, other] = [await traced(), await traced(), await byRelease()];
  const killed = await w.kill({ trace });
  assert.equal(killed.status, 200, killed.text);
  for (const token of [one, two]) {
    assert.equal(line(killed, "txn", claimsOf(token).txn)?.outcome, "dead");
    assert.equal(await isLive(token), false);
  }
  assert.ok(line(killed, "trace", trace));
  assert.equal(line(killed, "txn", claimsOf(other).txn), undefined);
  assert.equal(await isLive(other), true);
  // Until now: a chain that carries it later is another one.
  assert.equal(await isLive(await traced()), true);
  assert.equal((await w.kill({ trace: "4bf92f3577b34da6a3ce929d0e0e4737" })).status, 404);
});

test("a kill with `for` ends by itself; what was issued before it stays dead", async () => {
  const before = await byRelease();
  const killed = await w.kill({ agent: "release-bot", for: "10m" });
  assert.equal(killed.status, 200, killed.text);
  assert.equal(Date.parse(String(killed.body["ends_at"])), (w.now() + 600) * 1_000);
  w.clock.advance(599);
  await refusedNow(w, badToken("killed"), () => w.self("release-bot", READ_INVOICE));
  w.clock.advance(2);
  assert.equal(await isLive(await byRelease()), true);
  assert.equal(await isLive(before), false);
  // A longer one stands over a shorter one.
  await w.kill({ agent: "release-bot" });
  await w.kill({ agent: "release-bot", for: "1s" });
  w.clock.advance(2);
  await refusedNow(w, badToken("killed"), () => w.self("release-bot", READ_INVOICE));
  await restore({ agent: "release-bot" });
});

test("a lease dies alone, and by every key of its chain; the receipt follows it to its end", async () => {
  const [one, other] = [await vend("orders-db"), await vend("orders-db")];
  const killed = await w.kill({ lease: one.lease });
  assert.equal(killed.status, 200, killed.text);
  assert.match(String(line(killed, "lease", one.lease)?.outcome), /^(retrying|dead)$/);
  assert.equal(line(killed, "lease", other.lease), undefined);
  const ended = await until(async () => {
    const receipt = await w.operator("GET", `/v1/kills/${String(killed.body["id"])}`);
    return line(receipt, "lease", one.lease)?.outcome === "dead" ? receipt : undefined;
  });
  assert.equal(line(ended, "lease", one.lease)?.agent, "release-bot");
  assert.equal(await isLive(one.token), true, "the token that it was vended by is another thing");
  const states = await w.admin("select status from ephor.leases where id = $1", [other.lease]);
  assert.equal(states[0]?.["status"], "live");

  const keys: Record<string, unknown>[] = [
    { txn: claimsOf(other.token).txn },
    { agent: "release-bot" },
    { owner: "dana@acme.example" },
    { issuer: "cluster" },
    { subject: "agent|release-bot" },
    { resource: "orders-db" },
    { all: true },
  ];
  let lease = other.lease;
  for (const key of keys) {
    const receipt = await w.kill(key);
    assert.ok(line(receipt, "lease", lease), `${JSON.stringify(key)} ${receipt.text}`);
    await until(async () => {
      const rows = await w.admin("select status, ended_because from ephor.leases where id = $1", [lease]);
      return rows[0]?.["status"] === "ended" && rows[0]["ended_because"] === "killed" ? true : undefined;
    });
    if (!("txn" in key)) assert.equal((await restore(key)).status, 200);
    ({ lease } = await vend("orders-db"));
  }
});

test("what no upstream can take back is called so in the receipt", async () => {
  const { lease } = await vend("crm");
  const killed = await w.kill({ resource: "crm" });
  assert.equal(line(killed, "lease", lease)?.outcome, "upstream_cannot", killed.text);
  assert.equal((await restore({ resource: "crm" })).status, 200);
});

test("the union of what is named dies in one action; a name that nobody knows, or Ephor itself, and nothing dies", async () => {
  const live = await byKeyed();
  const { jti } = claimsOf(live);
  for (const unknown of [
    { lease: "lease_01J00000000000000000000000" },
    { subject: "nobody|x" },
    { subject: "agent|nobody" },
    { issuer: "nobody" },
    { resource: "nobody" },
    { owner: "nobody@acme.example" },
  ]) {
    const answer = await w.kill({ jti, ...unknown });
    assert.equal(answer.status, 404, answer.text);
    assert.ok(answer.text.includes(Object.values(unknown)[0] as string), answer.text);
  }
  const ephor = await w.kill({ jti, resource: "ephor" });
  assert.equal(ephor.status, 422, ephor.text);
  assert.equal(await isLive(live), true);
  // A person whom we never saw can be killed before he comes.
  assert.equal((await w.kill({ subject: "okta|never-seen" })).status, 200);
  await assert.rejects(() => byHuman("never-seen"));
  const [first, second] = [await byHuman("00u3ef"), await byRelease()];
  const both = await w.kill({ txn: claimsOf(first).txn, jti: claimsOf(second).jti });
  assert.deepEqual([await isLive(first), await isLive(second), await isLive(live)], [false, false, true]);
  assert.deepEqual(
    ["txn", "jti"].map((kind) => linesOf(both).filter((one) => one.kind === kind).length),
    [1, 2],
  );
});

test("kills are listed newest first, page by page, and a receipt verifies offline with the record keys", async () => {
  await byRelease();
  const killed = await w.request("POST", "/v1/kill", {
    headers: { authorization: `Bearer ${w.operatorKey}`, accept: "application/jwt" },
    body: { agent: "release-bot", reason: "signed" },
  });
  assert.equal(killed.status, 200, killed.text);
  const keys = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;
  const { payload } = await jwtVerify(killed.text, createLocalJWKSet(keys), {
    issuer: w.server.issuer,
    clockTolerance: 600,
  });
  assert.equal(decodeProtectedHeader(killed.text).typ, "ephor-receipt+jwt");
  const receipt = payload["receipt"] as { id: string; reason: string; lines: Line[]; replicas: { outcome: string }[] };
  assert.equal(receipt.reason, "signed");
  assert.ok(receipt.lines.some(({ kind, outcome }) => kind === "jti" && outcome === "dead"));
  assert.deepEqual(
    receipt.replicas.map(({ outcome }) => outcome),
    ["acknowledged"],
  );
  const first = await w.operator("GET", "/v1/kills?limit=1");
  assert.deepEqual(
    (first.body["items"] as { id: string; targets: string[] }[]).map(({ id, targets }) => [id, targets]),
    [[receipt.id, ["agent:release-bot"]]],
  );
  const second = await w.operator("GET", `/v1/kills?limit=1&before=${String(first.body["next"])}`);
  assert.deepEqual(
    (second.body["items"] as { targets: string[] }[]).map(({ targets }) => targets.map((key) => key.slice(0, 4))),
    [["jti:", "txn:"]],
  );
  await restore({ agent: "release-bot" });
  const stored = await w.operator("GET", `/v1/kills/${receipt.id}`);
  assert.ok(stored.body["restored_at"]);
  assert.deepEqual(stored.body["lines"], receipt.lines);
});

async function until<T>(look: () => Promise<T | undefined>): Promise<T> {
  const deadline = performance.now() + 8_000;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(performance.now() < deadline, "in vain");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
