import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Answer } from "../support/world.ts";
import { BILLING_SECRET, usualTrust } from "../support/world.ts";
import { holdGate, holdLock } from "../support/held-lock.ts";
import { asserted, BILLING, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { badToken, granted, refusedNow } from "./refusals.ts";

/** Agents that are killed and not needed again. */
const VICTIMS = Array.from({ length: 16 }, (_, i) => `victim-${i}`);
const victimAgents = VICTIMS.map(
  (name) =>
    `\n  ${name}: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }] }`,
).join("");
const victimGrants = VICTIMS.map((name) => `  - { agent: ${name}, resource: billing, actions: [read_invoice] }\n`).join(
  "",
);
/** The only one of hers. */
const evesAgent =
  '\n  eve-bot: { owner: eve@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:eve-bot" } }] }';
const evesGrants = `  - { agent: triage-bot, delegate_to: [eve-bot], on_behalf_of: { issuer: okta } }
  - { agent: eve-bot, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }
`;
const agents = victimAgents + evesAgent;
const w = await chainWorld(
  { after },
  {
    trust: (issuers) =>
      usualTrust(issuers).replace("\nresources:", `${agents}\nresources:`) + victimGrants + evesGrants,
  },
);
let used = 0;
const victim = (): string => VICTIMS[used++] as string;
const token = async (agent: string): Promise<string> => granted(await w.self(agent, READ_INVOICE));
const restore = (agent: string): Promise<Answer> => w.operator("POST", "/v1/restore", { agent, reason: "test" });

test("A-KILL-01 what a kill on one replica covers is refused on the others from the next request on", async () => {
  const replicas = [await w.replica(), await w.replica()];
  const bystander = await token("release-bot");
  for (let round = 0; round < 8; round++) {
    const agent = "victim-15";
    const held = await token(agent);
    const subject = w.workload(agent);
    granted(await w.self(agent, { token: subject, ...READ_INVOICE }));
    const killed = await w.kill({ agent });
    assert.equal(killed.status, 200, killed.text);
    // All at once, the moment it has answered.
    const answers = await Promise.all(
      replicas.flatMap(({ url }) => [
        w.post(`${url}/introspect`, { token: held, client_id: "billing", client_secret: BILLING_SECRET }),
        w.post(`${url}/introspect`, { token: bystander, client_id: "billing", client_secret: BILLING_SECRET }),
        w.post(`${url}/token`, exchangeOf(subject)),
        w.post(`${url}/token`, exchangeOf(w.workload(agent))),
        w.request("POST", `${url}/v1/tasks`, {
          headers: { authorization: `Bearer ${w.workload(agent)}` },
          body: { purpose: "x" },
        }),
      ]),
    );
    for (let i = 0; i < answers.length; i += 5) {
      const [dead, live, same, fresh, task] = answers.slice(i, i + 5) as [Answer, Answer, Answer, Answer, Answer];
      assert.equal(dead.text, '{"active":false}');
      assert.equal(live.body["active"], true);
      assert.deepEqual([same.status, same.body["error"]], [400, "invalid_request"]);
      assert.deepEqual([fresh.status, fresh.body["error"]], [400, "invalid_request"]);
      assert.equal(task.status, 401, task.text);
    }
    assert.equal((await restore(agent)).status, 200);
  }
});

test("A-KILL-02 of a crowd of mints during the kill, no token works after its answer", async () => {
  for (let round = 0; round < 5; round++) {
    const agent = victim();
    let isKilled = false;
    const minted: { text: string; startedAfter: boolean }[] = [];
    const attackers = Array.from({ length: 20 }, async () => {
      while (!isKilled) {
        const answer = await w.self(agent, READ_INVOICE);
        if (answer.status === 200) minted.push({ text: granted(answer), startedAfter: false });
      }
      const late = await w.self(agent, READ_INVOICE);
      if (late.status === 200) minted.push({ text: granted(late), startedAfter: true });
    });
    await w.isActive("warm");
    const killed = await w.kill({ agent });
    isKilled = true;
    assert.equal(killed.status, 200, killed.text);
    await Promise.all(attackers);
    assert.deepEqual(
      minted.filter((one) => one.startedAfter),
      [],
    );
    for (const { text } of minted) assert.equal(await w.isActive(text), false);
  }
});

test("A-KILL-03 a mint that waits for the kill is refused; a kill that waits for a mint leaves its token dead", async () => {
  // The kill is first at the gate.
  const first = victim();
  const gate = await holdGate(w.databaseUrl);
  const kill = w.kill({ agent: first });
  await gate.waiting(1);
  const mint = refusedNow(w, { ...badToken("killed"), withinMs: 5_000 }, () => w.self(first, READ_INVOICE));
  await gate.waiting(2);
  await gate.release();
  assert.equal((await kill).status, 200);
  await mint;

  // The mint is inside: it holds the gate, and waits for its stream of the ledger.
  const second = victim();
  await token(second);
  const streams = await holdLock(w.databaseUrl, "select 1 from ephor.streams for update");
  const inside = w.self(second, READ_INVOICE);
  await streams.waiting(1);
  const killing = w.kill({ agent: second });
  await streams.waiting(2);
  await streams.release();
  const [answer, killed] = await Promise.all([inside, killing]);
  assert.equal(killed.status, 200, killed.text);
  if (answer.status === 200) assert.equal(await w.isActive(granted(answer)), false);
});

test("A-KILL-03 a mint that was held before it was decided is refused after the kill", async () => {
  const agent = victim();
  const txn = claimsOf(await token(agent)).txn;
  // It waits for what it knows of its task: proved already, not yet decided. A replica that never saw this task has to read it.
  const { url } = await w.replica();
  const nodes = await holdLock(w.databaseUrl, "lock table ephor.nodes in access exclusive mode");
  const mint = w.post(`${url}/token`, {
    ...exchangeOf(txn),
    subject_token_type: "urn:ephor:params:oauth:token-type:task",
    actor_token: w.workload(agent),
    actor_token_type: "urn:ietf:params:oauth:token-type:jwt",
  });
  await nodes.waiting(1);
  const event = { id: "evt_held", type: "kill", decision: "granted", agent: "operator:test", body: "{}" };
  await w.admin("select ephor.kill($1, $2, $3)", [
    w.now() * 1000,
    JSON.stringify({ id: "kill_held", actor: "operator:test", reason: "test", keys: [`agent:${agent}`] }),
    JSON.stringify(event),
  ]);
  await nodes.release();
  const answer = await mint;
  assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
});

test("A-KILL-04 the kill of a chain takes all below it, on other agents too, and none of their other chains", async () => {
  const given = await w.handed();
  const { txn } = claimsOf(given);
  const below = granted(await w.redeem("summary-bot", given, READ_INVOICE));
  const own = granted(await w.byHandle("triage-bot", txn, { resource: BILLING, scope: "billing:refund" }));
  const otherGiven = await w.handed();
  const otherBelow = granted(await w.redeem("summary-bot", otherGiven, READ_INVOICE));
  const killed = await w.kill({ txn });
  assert.equal(killed.status, 200, killed.text);
  assert.deepEqual(
    [await w.isActive(below), await w.isActive(own), await w.isActive(otherBelow)],
    [false, false, true],
  );
  await refusedNow(w, badToken("killed"), () => w.redeem("summary-bot", given, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("summary-bot", txn, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("triage-bot", txn, READ_INVOICE));
  granted(await w.byHandle("summary-bot", claimsOf(otherGiven).txn, READ_INVOICE));
});

test("A-KILL-04 the kill of a hand-over takes the branch below it and leaves the rest of the chain", async () => {
  const human = w.human();
  const given = await w.handed(human);
  const sibling = await w.handed(human);
  const { txn } = claimsOf(given);
  assert.equal(claimsOf(sibling).txn, txn);
  const below = granted(await w.redeem("summary-bot", given, READ_INVOICE));
  const beside = granted(await w.redeem("summary-bot", sibling, READ_INVOICE));
  assert.equal((await w.kill({ jti: claimsOf(given).jti })).status, 200);
  assert.deepEqual([await w.isActive(below), await w.isActive(beside)], [false, true]);
  await refusedNow(w, badToken("killed"), () =>
    w.byHandle("summary-bot", `${txn}.${claimsOf(given).jti}`, READ_INVOICE),
  );
  granted(await w.byHandle("summary-bot", `${txn}.${claimsOf(sibling).jti}`, READ_INVOICE));
  granted(await w.byHandle("triage-bot", txn, READ_INVOICE));
  // A hand-over that was killed before anybody used it never becomes a node.
  const unused = await w.handed(human);
  assert.equal((await w.kill({ jti: claimsOf(unused).jti })).status, 200);
  await refusedNow(w, badToken("killed"), () => w.redeem("summary-bot", unused, READ_INVOICE));
});

test("CONTRACT §6 a hand-over that was given before a kill of its addressee's owner stays dead when that is restored", async () => {
  const human = w.human();
  const form = { resource: w.agentAudience("eve-bot"), scope: "billing:read_invoice" };
  const given = granted(await w.onBehalf("triage-bot", human, form));
  const owner = "eve@acme.example";
  assert.equal((await w.kill({ owner })).status, 200);
  assert.equal((await w.operator("POST", "/v1/restore", { owner, reason: "test" })).status, 200);
  await refusedNow(w, badToken("killed"), () => w.redeem("eve-bot", given, READ_INVOICE));
  granted(await w.redeem("eve-bot", granted(await w.onBehalf("triage-bot", human, form)), READ_INVOICE));
});

test("A-KILL-08 a second kill is no error, an unknown id is one, and a kill that names both does nothing", async () => {
  const agent = victim();
  const held = await token(agent);
  assert.equal((await w.kill({ agent })).status, 200);
  assert.equal((await w.kill({ agent })).status, 200);
  const live = await token("release-bot");
  const { jti, txn } = claimsOf(live);
  for (const unknown of [
    { agent: "nobody" },
    { jti: "01J00000000000000000000000" },
    { txn: "01J00000000000000000000000" },
  ]) {
    assert.equal((await w.kill(unknown)).status, 404, JSON.stringify(unknown));
    assert.equal((await w.kill({ jti, txn, ...unknown })).status, 404);
  }
  for (const bad of [
    {},
    { agent: [] },
    { agent: "a b" },
    { all: "yes" },
    { jti: "x' or 1=1" },
    { agent, for: "soon" },
    { agent, jti, for: "10m" },
    { agent, for: "0m" },
    { agent, __proto__x: 1 },
  ]) {
    const answer = await w.kill(bad);
    assert.ok(answer.status === 400 || answer.status === 422, `${JSON.stringify(bad)}: ${answer.status}`);
  }
  assert.equal(await w.isActive(live), true);
  assert.equal(await w.isActive(held), false);
  const preview = await w.kill({ jti, dry_run: true });
  assert.deepEqual([preview.status, preview.body["dry_run"]], [200, true]);
  assert.equal(await w.isActive(live), true);
});

test("A-KILL-08 only who may kill kills: no credentials, an agent's proof and a token of ours for elsewhere do not", async () => {
  const live = await token("release-bot");
  const body = { agent: "release-bot", reason: "mine" };
  const watcher = granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:read" }));
  for (const [kind, bearer] of Object.entries({
    nobody: undefined,
    workload: w.workload("release-bot"),
    own: live,
    human: w.human(),
    watcher,
    operator: `${w.operatorKey}x`,
  })) {
    const answer = await w.request("POST", "/v1/kill", {
      body,
      headers: bearer === undefined ? {} : { authorization: `Bearer ${bearer}` },
    });
    assert.ok(answer.status === 401 || answer.status === 403, `${kind}: ${answer.status}`);
  }
  assert.equal(await w.isActive(live), true);
});

test("A-KILL-09 a killed agent with a fresh token of its platform gets nothing until an operator lifts the kill; what was issued before stays dead", async () => {
  const agent = victim();
  const held = await token(agent);
  const human = w.workload(agent);
  granted(await w.self(agent, { token: human, ...READ_INVOICE }));
  assert.equal((await w.kill({ agent })).status, 200);
  await refusedNow(w, badToken("killed"), () => w.self(agent, READ_INVOICE));
  const bearer = await w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${w.workload(agent)}` },
    body: { purpose: "x" },
  });
  assert.equal(bearer.status, 401, bearer.text);
  const lifted = await restore(agent);
  assert.deepEqual([lifted.status, lifted.body["restored"]], [200, [{ kind: "agent", id: agent }]]);
  const rows = await w.admin("select type, decision, agent from ephor.events where id = $1", [lifted.body["event_id"]]);
  assert.deepEqual(
    rows.map((row) => [row["type"], row["decision"]]),
    [["restore", "granted"]],
  );
  assert.equal(await w.isActive(held), false);
  // The task that its earlier token opened is dead for ever; a new token opens a new one.
  await refusedNow(w, badToken("killed"), () => w.self(agent, { token: human, ...READ_INVOICE }));
  assert.equal(await w.isActive(await token(agent)), true);
});

test("A-KILL-09 a killed agent that authenticates as a client hears what a stranger hears (INV-26)", async () => {
  const ask = (assertion: string): Promise<Answer> =>
    w.post("/token", { grant_type: "client_credentials", ...asserted(assertion), ...READ_INVOICE });
  granted(await ask(w.privateKeyJwt()));
  assert.equal((await w.kill({ agent: "keyed-bot" })).status, 200);
  const killed = await refusedNow(w, { error: "invalid_client", reason: "killed" }, () => ask(w.privateKeyJwt()));
  const stranger = await refusedNow(w, { error: "invalid_client", reason: "client_unknown" }, () =>
    ask(w.privateKeyJwt({ iss: "nobody", sub: "nobody" })),
  );
  assert.equal(killed.text, stranger.text);
  assert.equal((await restore("keyed-bot")).status, 200);
});

function exchangeOf(subject: string): Record<string, string> {
  return {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: subject,
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    ...READ_INVOICE,
  };
}
