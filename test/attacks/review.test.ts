/** What a reading of the whole code for holes brought to light: each test says what an attacker saw before it was mended. */
import assert from "node:assert/strict";
import { connect } from "node:net";
import { after, afterEach, test } from "node:test";
import pg from "pg";
import { holdGate as gateHeld, holdLock as lockHeld, type HeldLock } from "../support/held-lock.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, settled, TOKEN_EXCHANGE, usualTrust, type Answer } from "../support/world.ts";
import { asserted, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { badToken, eventOf, granted, refusedNow } from "./refusals.ts";

const DOMAIN = "prod.acme.example";
const TXN_TYPE = "urn:ietf:params:oauth:token-type:txn_token";
const HOUR = 3_600;

const w = await chainWorld(
  { after },
  {
    env: { EPHOR_TRUST_DOMAIN: DOMAIN, EPHOR_TASKS_DEFAULT: "1h", EPHOR_TASKS_MAX: "12h" },
    trust: (issuers) =>
      usualTrust(issuers)
        .replace("identifies: humans, internal: true }", "identifies: humans, internal: true, subject_max_age: 8h }")
        .replace(
          "keys: [AGENT_KEY]",
          'keys: [AGENT_KEY]\n    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:keyed-bot" } }]',
        )
        .replace(
          "\ngrants:",
          `
  watched: { mcp: "https://watched.acme.example/mcp", mode: { observe: true, until: "2026-12-15" } }
  guarded: { mcp: "https://guarded.acme.example/mcp" }
grants:
  - { agent: release-bot, resource: guarded, actions: [close], when: 'args.priority != "P1"' }
  - { agent: release-bot, resource: guarded, actions: [open] }
  - { agent: keyed-bot, resource: ephor, actions: [restore, trust] }`,
        ),
  },
);
const locks: HeldLock[] = [];
const kept = async (held: Promise<HeldLock>): Promise<HeldLock> => {
  const lock = await held;
  locks.push(lock);
  return lock;
};
const holdGate = (url: string): Promise<HeldLock> => kept(gateHeld(url));
const holdLock = (url: string, sql: string): Promise<HeldLock> => kept(lockHeld(url, sql));
// A test that failed must not hold up the others.
afterEach(() => Promise.all(locks.splice(0).map((lock) => lock.release().catch(() => {}))));
const openTask = (bearer: string, body: object = {}): Promise<Answer> =>
  w.request("POST", "/v1/tasks", { headers: { authorization: `Bearer ${bearer}` }, body: { purpose: "x", ...body } });
const atEphor = async (agent: string, scope: string): Promise<string> =>
  granted(
    await settled(() =>
      w.post("/token", {
        grant_type: "client_credentials",
        ...asserted(agent === "keyed-bot" ? w.privateKeyJwt() : w.workload(agent)),
        resource: `${w.server.issuer}/v1`,
        scope,
      }),
    ),
  );
const { port, hostname } = new URL(w.url);
const killKeys = async (token: string): Promise<string[]> => {
  const [row] = await w.admin<{ kill_keys: string[] }>("select kill_keys from ephor.hops where jti = $1", [
    claimsOf(token).jti,
  ]);
  return row?.kill_keys ?? [];
};

test("one packet, a request to upgrade and a reset behind it, ended the server for everybody", async () => {
  for (let round = 0; round < 50; round++) {
    const socket = connect(Number(port), hostname);
    socket.on("error", () => {});
    await new Promise<void>((resolve) => socket.once("connect", resolve));
    const request = "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    await new Promise<void>((resolve) => socket.write(request, () => resolve()));
    socket.resetAndDestroy();
  }
  // The error of a socket that nobody listens to is thrown at the process, which here is the test's.
  assert.equal((await w.request("GET", "/livez")).status, 200);
});

test("a database connection that broke while the ledger was verified ended the server", async () => {
  const lock = await holdLock(w.databaseUrl, "lock table ephor.heads in access exclusive mode");
  const verdict = w.operator("GET", "/v1/audit/verify");
  await lock.waiting(1);
  await w.admin(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and query like 'declare rows%'",
  );
  assert.equal((await verdict).status, 503);
  await lock.release();
  assert.equal((await w.operator("GET", "/v1/audit/verify")).status, 200);
});

test("strangers who sent their forms slowly kept everybody from the token endpoint", async () => {
  const crowd = Array.from({ length: 2_100 }, () => {
    const socket = connect(Number(port), hostname);
    socket.on("error", () => {});
    socket.write(
      "POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 10\r\n\r\n",
    );
    return socket;
  });
  try {
    const inFlight = async (): Promise<number> =>
      Number(/^ephor_http_requests_in_flight (\d+)$/m.exec((await w.request("GET", "/metrics")).text)?.[1]);
    const deadline = performance.now() + 15_000;
    while ((await inFlight()) < 2_050) {
      assert.ok(performance.now() < deadline);
      // They are served by this process, too.
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    granted(await settled(() => w.self("release-bot", READ_INVOICE)));
    assert.ok((await inFlight()) > 2_000, "while all of them were there");
  } finally {
    for (const socket of crowd) socket.destroy();
  }
});

test("an agent lifted the kill of itself by a request whose body came after it", async () => {
  const token = await atEphor("keyed-bot", "ephor:restore");
  const body = JSON.stringify({ agent: "keyed-bot", reason: "me" });
  const socket = connect(Number(port), hostname);
  socket.write(
    `POST /v1/restore HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\nContent-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n`,
  );
  const deadline = performance.now() + 10_000;
  while ((await w.events({ type: "admin.request", agent: "keyed-bot", decision: "granted" })).length === 0)
    assert.ok(performance.now() < deadline);
  assert.equal((await w.kill({ agent: "keyed-bot" })).status, 200);
  socket.write(body);
  const answer = await new Promise<Buffer>((resolve) => socket.once("data", resolve));
  socket.destroy();
  assert.match(answer.toString(), /^HTTP\/1\.1 401 /);
  const client = { grant_type: "client_credentials", ...READ_INVOICE };
  assert.equal((await w.post("/token", { ...client, ...asserted(w.privateKeyJwt()) })).status, 401);
  assert.equal((await w.events({ reason: "token_revoked", agent: "keyed-bot" })).length, 1);
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "keyed-bot", reason: "test" })).status, 200);
});

test("an agent with ephor:trust gave itself power over Ephor by asking to have a superseded file refused", async () => {
  const token = await atEphor("keyed-bot", "ephor:trust");
  const order = {
    source: "own.yaml",
    file: "grants:\n  - { name: own, agent: keyed-bot, resource: ephor, actions: [kill, audit] }\n",
  };
  for (const more of [{}, { refuse_superseded: false }, { refuse_superseded: true }, { dry_run: true }]) {
    const answer = await w.request("POST", "/v1/apply", {
      headers: { authorization: `Bearer ${token}` },
      body: { ...order, ...more },
    });
    assert.deepEqual([answer.status, answer.body["code"]], [403, "access_denied"], answer.text);
  }
  assert.equal((await w.operator("GET", "/v1/grants/own")).status, 404);
  assert.deepEqual(await w.events({ type: "trust.apply", agent: "operator:start" }), []);
});

test("A-KILL-06 while others used up the pool of connections, nobody could kill", async () => {
  const { txn } = claimsOf(granted(await w.self("release-bot", READ_INVOICE)));
  const lock = await holdLock(w.databaseUrl, "lock table ephor.secrets in access exclusive mode");
  const busy = Array.from({ length: 12 }, () => w.operator("GET", "/v1/secrets"));
  await lock.waiting(8);
  const started = performance.now();
  const killed = await w.kill({ txn });
  assert.equal(killed.status, 200, killed.text);
  assert.ok(performance.now() - started < 2_000);
  await lock.release();
  await Promise.all(busy);
  await refusedNow(w, badToken("killed"), () => w.byHandle("release-bot", txn, READ_INVOICE));
});

test("a kill whose receipt took long to draw up was not done at all", async () => {
  const { txn } = claimsOf(granted(await w.self("release-bot", READ_INVOICE)));
  // A table of nodes so large that reading all of it does not end.
  const lock = await holdLock(w.databaseUrl, "lock table ephor.nodes in access exclusive mode");
  const killed = await w.kill({ txn });
  assert.equal(killed.status, 200, killed.text);
  assert.deepEqual([killed.body["truncated"], (killed.body["lines"] as unknown[]).length], [true, 1]);
  const dead = await w.admin("select 1 from ephor.dead_keys where key = $1 and active", [`txn:${txn}`]);
  assert.equal(dead.length, 1);
  await lock.release();
  // What was found too late for the answer is in the stored receipt.
  const deadline = performance.now() + 10_000;
  for (;;) {
    const stored = await w.operator("GET", `/v1/kills/${killed.body["id"] as string}`);
    if ((stored.body["lines"] as unknown[]).length > 1) break;
    assert.ok(performance.now() < deadline, stored.text);
  }
});

test("a holder that revoked its token over and over held up the gate and the kills of operators", async () => {
  const token = granted(await w.self("release-bot", READ_INVOICE));
  const epoch = async (): Promise<number> =>
    Number((await w.admin<{ epoch: string }>("select epoch from ephor.gate"))[0]?.epoch);
  const before = await epoch();
  const assertion = asserted(w.workload("release-bot"));
  const answers = await Promise.all(Array.from({ length: 40 }, () => w.post("/revoke", { token, ...assertion })));
  assert.ok(answers.every(({ status }) => status === 200));
  assert.equal(await epoch(), before + 1);
});

test("A-KILL-03 on a database whose default is repeatable read, a mint that waited for the kill did not see it", async () => {
  const [row] = await w.admin<{ name: string }>("select current_database() as name");
  await w.admin(`alter database ${row?.name} set default_transaction_isolation = 'repeatable read'`);
  const { url } = await w.replica();
  const mint = (): Promise<Answer> =>
    w.post(`${url}/token`, {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.workload("release-bot"),
      subject_token_type: JWT_TYPE,
      ...READ_INVOICE,
    });
  // The replica's connections begin under that default.
  granted(await mint());
  await w.admin(`alter database ${row?.name} reset default_transaction_isolation`);
  const client = new pg.Client({ connectionString: w.databaseUrl });
  await client.connect();
  const gate = await holdGate(w.databaseUrl);
  const held = mint();
  await gate.waiting(1);
  // What a kill writes, before the lock that the mint waits for is released.
  await client.query(
    "insert into ephor.dead_keys (key, position, active, kill_id) values ('agent:release-bot', (select epoch from ephor.gate) + 1, true, 'test')",
  );
  await gate.release();
  const answer = await held;
  await client.query("delete from ephor.dead_keys where kill_id = 'test'");
  await client.end();
  assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
});

test("a human's task was opened for longer than subject_max_age after his sign-in", async () => {
  const signedIn = w.now() - HOUR;
  const subject = { subject_token: w.human("late", { auth_time: signedIn }), subject_token_type: ID_TOKEN_TYPE };
  const longest = await openTask(w.workload("triage-bot"), { ...subject, deadline: w.now() + 12 * HOUR });
  assert.equal(longest.status, 201, longest.text);
  assert.equal(longest.body["deadline"], signedIn + 8 * HOUR);
  const wished = await openTask(w.workload("triage-bot"), { ...subject, deadline: w.now() + 5 * HOUR });
  assert.equal(wished.body["deadline"], w.now() + 5 * HOUR);
  assert.equal((await openTask(w.workload("triage-bot"), subject)).body["deadline"], w.now() + HOUR);
});

test("a suspended agent opened tasks by a token of ours that it still had, and one whose task was over did too", async () => {
  const token = await atEphor("watch-bot", "ephor:read");
  assert.equal((await openTask(token)).status, 201);
  const status = (value: string): Promise<Answer> =>
    w.operator("PUT", "/v1/agents/watch-bot/status", { status: value, reason: "test" });
  assert.equal((await status("suspended")).status, 200);
  assert.equal((await openTask(token)).status, 401);
  assert.equal((await status("active")).status, 200);
  // The end of its task is seen by the gate, where the opening was read before it.
  const lock = await holdGate(w.databaseUrl);
  const opening = openTask(token);
  await lock.waiting(1);
  await w.admin("update ephor.tasks set ended_at = $2 where txn = $1", [claimsOf(token).txn, w.now()]);
  await lock.release();
  assert.equal((await opening).status, 409);
});

test("a purpose with control characters got into tokens by way of /v1/tasks", async () => {
  for (const purpose of ["a\nb", "a\u001b[31mb", "a\u0085b"])
    assert.equal((await openTask(w.workload("release-bot"), { purpose })).status, 400);
  assert.equal((await openTask(w.workload("release-bot"), { purpose: "größe: ✓" })).status, 201);
});

test("a transaction token carried what nobody had granted: observed resources, and conditions that only our proxy can judge", async () => {
  const ask = (agent: string, scope: string): Promise<Answer> =>
    w.self(agent, { requested_token_type: TXN_TYPE, audience: DOMAIN, scope });
  const scopeError = (reason: "scope_not_granted" | "condition_error") => ({ error: "invalid_scope", reason }) as const;
  await refusedNow(w, scopeError("scope_not_granted"), () => ask("lonely-bot", "watched:anything"));
  await refusedNow(w, scopeError("condition_error"), () => ask("release-bot", "guarded:close"));
  granted(await ask("release-bot", "guarded:open"));
  // Through the proxy both are judged at the call.
  granted(await w.self("lonely-bot", { audience: "watched", scope: "watched:anything" }));
  granted(await w.self("release-bot", { audience: "guarded", scope: "guarded:close" }));
});

test("a kill of a resource did not reach transaction tokens for it", async () => {
  const ask = (): Promise<Answer> =>
    w.self("release-bot", {
      requested_token_type: TXN_TYPE,
      audience: DOMAIN,
      scope: "billing:read_invoice guarded:open",
    });
  const keys = await killKeys(granted(await ask()));
  assert.ok(keys.includes("resource:billing") && keys.includes("resource:guarded"), keys.join());
});

test("a kill of an owner missed chains below agents that he took over after their places were made", async () => {
  await w.apply(owned("dana@acme.example"), "owned.yaml");
  const given = granted(
    await w.onBehalf("first", w.human(), { resource: w.agentAudience("second"), scope: "billing:read_invoice" }),
  );
  granted(await w.redeem("second", given, READ_INVOICE));
  await w.apply(owned("eve@acme.example"), "owned.yaml");
  const { txn, jti } = claimsOf(given);
  const keys = await killKeys(granted(await w.byHandle("second", `${txn}.${jti}`, READ_INVOICE)));
  assert.ok(keys.includes("owner:eve@acme.example") && keys.includes("owner:dana@acme.example"), keys.join());
});

test("a chain that began with a platform's token outlived the removal of that platform, where a key of the agent came with it", async () => {
  const answer = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("keyed-bot"),
    subject_token_type: JWT_TYPE,
    ...asserted(w.privateKeyJwt()),
    ...READ_INVOICE,
  });
  assert.ok((await killKeys(granted(answer))).includes("issuer:cluster"));
});

test("a replica that had not heard of it yet let an agent carry humans that subject_from keeps from it", async () => {
  const carrier = (extra: string): string =>
    `agents:\n  carrier: { owner: dana@acme.example${extra}, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:carrier" } }] }\n` +
    `grants:\n  - { agent: carrier, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }\n`;
  await w.apply(carrier(""), "carrier.yaml");
  const gate = await holdGate(w.databaseUrl);
  const change = w.apply(carrier(", subject_from: { azp: console }"), "carrier.yaml");
  await gate.waiting(1);
  const mint = w.onBehalf("carrier", w.human(), READ_INVOICE);
  await gate.waiting(2);
  await gate.release();
  await change;
  const answer = await mint;
  assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
  assert.equal((await eventOf(w, answer)).reason, "subject_from_mismatch");
  granted(await w.onBehalf("carrier", w.human("by-console", { azp: "console" }), READ_INVOICE));
});

test("INV-29 an agent that had proved itself was refused without a trace of its name, and the second time without any", async () => {
  const human = w.human("choosy", { may_act: { sub: "nobody" } });
  const given = await w.handed();
  for (let round = 0; round < 2; round++) {
    const byMayAct = await refusedNow(w, badToken("may_act_mismatch"), () =>
      w.onBehalf("triage-bot", human, READ_INVOICE),
    );
    assert.equal((await eventOf(w, byMayAct)).agent, "triage-bot");
    const notIts = await refusedNow(w, badToken("subject_not_addressed"), () =>
      w.redeem("triage-bot", given, READ_INVOICE),
    );
    assert.equal((await eventOf(w, notIts)).agent, "triage-bot");
    const stranger = await refusedNow(w, badToken("task_not_member"), () =>
      w.byHandle("lonely-bot", claimsOf(given).txn, READ_INVOICE),
    );
    assert.equal((await eventOf(w, stranger)).agent, "lonely-bot");
  }
});

test("after a hand-over's end its revocation was answered 200, and the work went on", async () => {
  const given = await w.handed();
  const { txn, jti } = claimsOf(given);
  const held = granted(await w.redeem("summary-bot", given, { ...READ_INVOICE, ttl: "59" }));
  w.clock.advance(50);
  granted(await w.byHandle("summary-bot", `${txn}.${jti}`, READ_INVOICE));
  // A stranger's word counts as little as before the end.
  assert.equal((await w.post("/revoke", { token: given, ...asserted(w.workload("lonely-bot")) })).status, 200);
  assert.equal(await w.isActive(held), true);
  assert.equal((await w.post("/revoke", { token: given, ...asserted(w.workload("triage-bot")) })).status, 200);
  assert.equal(await w.isActive(held), false);
  await refusedNow(w, badToken("killed"), () => w.byHandle("summary-bot", `${txn}.${jti}`, READ_INVOICE));
});

test("a human whose sub was longer than an index takes brought a 500, and delayed everybody in his batch", async () => {
  const ask = (sub: string): Promise<Answer> =>
    w.onBehalf("triage-bot", w.human(sub, { email: "a@acme.example" }), READ_INVOICE);
  // Not to be compressed: characters that do not repeat.
  const long = Array.from({ length: 1_400 }, (_, i) => String.fromCodePoint(0x4e00 + ((i * 7_919) % 20_000))).join("");
  await refusedNow(w, badToken("token_claim_type"), () => ask(long));
  granted(await ask(long.slice(0, 300)));
});

test("a grant that was recorded while its connection broke was on the record as if it had left", async () => {
  const gate = await holdGate(w.databaseUrl);
  const mint = w.self("release-bot", READ_INVOICE);
  await gate.waiting(1);
  await w.admin(
    "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'ephor gate' and wait_event_type = 'Lock'",
  );
  assert.equal((await mint).status, 503);
  await gate.release();
  const deadline = performance.now() + 10_000;
  for (;;) {
    const [event] = await w.events({ type: "release.withheld", reason: "gate_unknown_outcome" });
    if (event) return void assert.deepEqual([event["agent"], event["resource"]], ["release-bot", "billing"]);
    assert.ok(performance.now() < deadline);
  }
});

function owned(owner: string): string {
  const agent = (name: string, of: string): string =>
    `  ${name}: { owner: ${of}, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }] }\n`;
  const grant = (name: string): string =>
    `  - { agent: ${name}, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }\n`;
  return `agents:\n${agent("first", owner)}${agent("second", "sam@acme.example")}grants:\n${grant("first")}${grant("second")}  - { agent: first, delegate_to: [second] }\n`;
}
