/** Three real servers on one database: what they share, and what happens when they are asked at the same moment. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, createRemoteJWKSet, jwtVerify, type JSONWebKeySet } from "jose";
import {
  ACCESS_TOKEN_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  type Answer,
  type Form,
} from "../support/world.ts";
import { claimsOf } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import { replicas, type Replica } from "../support/replicas.ts";

const BILLING = "https://billing.acme.example";
const READ = { resource: BILLING, scope: "billing:read_invoice" };
const w = await replicas({ after }, { count: 3 });
const [one, two, three] = w.all as [Replica, Replica, Replica];
const each = <T>(work: (replica: Replica, i: number) => Promise<T>, times = 1): Promise<T[]> =>
  Promise.all(Array.from({ length: 3 * times }, (_, i) => work(w.all[i % 3] as Replica, i)));
const actor = (agent: string): Form => ({ actor_token: w.workload(agent), actor_token_type: JWT_TYPE });
const onBehalf = (replica: Replica, agent: string, human: string, form: Form): Promise<Answer> =>
  w.post(replica, "/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: human,
    subject_token_type: ID_TOKEN_TYPE,
    ...actor(agent),
    ...form,
  });
const redeem = (replica: Replica, agent: string, token: string, form: Form = READ): Promise<Answer> =>
  w.post(replica, "/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN_TYPE,
    ...actor(agent),
    ...form,
  });
const byHandle = (replica: Replica, agent: string, handle: string, form: Form = READ): Promise<Answer> =>
  w.post(replica, "/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: handle,
    subject_token_type: TASK_TYPE,
    ...actor(agent),
    ...form,
  });
const isActive = async (replica: Replica, token: string): Promise<boolean> => {
  const answer = await w.post(replica, "/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.equal(answer.status, 200, answer.text);
  return answer.body["active"] === true;
};
const handOver = async (human = w.human()): Promise<string> =>
  granted(
    await onBehalf(one, "triage-bot", human, {
      resource: `${w.issuer}/agents/summary-bot`,
      scope: "billing:read_invoice",
    }),
  );
/** Refused, or told to come later: what a replica says that was held up for too long. */
const isRefused = ({ status, body }: Answer): boolean =>
  status === 400 || (status === 503 && body["error"] === "temporarily_unavailable");
const complete = async (replica: Replica, agent: string, txn: string): Promise<Answer> => {
  const response = await fetch(`${replica.url}/v1/tasks/${txn}/complete`, {
    method: "POST",
    headers: { authorization: `Bearer ${w.workload(agent)}` },
  });
  return { status: response.status, headers: response.headers, body: {}, text: await response.text() };
};

/** Until it mints: it may have to hear of something first. */
async function serving(replica: Replica): Promise<void> {
  for (const deadline = performance.now() + 10_000; (await w.self(replica, "release-bot")).status !== 200;) {
    assert.ok(performance.now() < deadline, "it does not mint");
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test("three replicas share keys, trust, tasks and the ledger", async () => {
  const tokens = await each((replica) => w.minted(replica, "release-bot"));
  for (const replica of w.all) {
    const keys = createRemoteJWKSet(new URL(`${replica.url}/.well-known/jwks.json`));
    for (const token of tokens) await jwtVerify(token, keys, { issuer: w.issuer, audience: BILLING, typ: "at+jwt" });
    assert.deepEqual(await Promise.all(tokens.map((token) => isActive(replica, token))), [true, true, true]);
  }
  const given = await handOver();
  assert.equal(claimsOf(await redeem(two, "summary-bot", given)).txn, claimsOf(given).txn);
  assert.equal(claimsOf(await byHandle(three, "summary-bot", claimsOf(given).txn)).txn, claimsOf(given).txn);
  // A change of trust counts everywhere from its answer on.
  const put = await w.operator(two, "PUT", "/v1/agents/release-bot/status", { status: "suspended", reason: "test" });
  assert.equal(put.status, 200, put.text);
  assert.deepEqual(
    (await each((replica) => w.self(replica, "release-bot"))).map((answer) => answer.status),
    [400, 400, 400],
  );
  await w.operator(three, "PUT", "/v1/agents/release-bot/status", { status: "active", reason: "test" });
  // Less counts from the answer on; more as soon as each has heard of it.
  for (const replica of w.all) await serving(replica);
  const streams = await w.database.admin<{ replica: string }>(
    "select distinct body::jsonb ->> 'replica' as replica from ephor.events where type = 'token.issue'",
  );
  assert.equal(streams.length, 3);
  for (const replica of w.all) assert.equal((await w.operator(replica, "GET", "/v1/audit/verify")).body["ok"], true);
});

test("A-OIDC-23 a human's token presented by two agents at once goes to one of them, on whichever replica", async () => {
  for (let round = 0; round < 10; round++) {
    const human = w.human(`race-${round}`);
    const answers = await each(async (replica, i) => {
      const agent = i % 2 ? "triage-bot" : "summary-bot";
      return { agent, answer: await onBehalf(replica, agent, human, READ) };
    }, 2);
    const winners = new Set(answers.filter(({ answer }) => answer.status === 200).map(({ agent }) => agent));
    assert.equal(winners.size, 1, JSON.stringify(answers.map(({ answer }) => answer.text)));
    const txns = new Set(
      answers.filter(({ answer }) => answer.status === 200).map(({ answer }) => claimsOf(answer).txn),
    );
    assert.equal(txns.size, 1, "one token opened two tasks");
    assert.ok(answers.every(({ agent, answer }) => answer.status === (winners.has(agent) ? 200 : 400)));
  }
});

test("a hand-over that its addressee redeems everywhere at once makes one node", async () => {
  for (let round = 0; round < 5; round++) {
    const given = await handOver();
    const { jti, txn } = claimsOf(given);
    const answers = await each((replica) => redeem(replica, "summary-bot", given), 2);
    assert.ok(
      answers.every((answer) => answer.status === 200 && claimsOf(answer).txn === txn),
      answers.map((answer) => answer.text).join("\n"),
    );
    const nodes = await w.database.admin("select id, parent, path from ephor.nodes where txn = $1 order by id", [txn]);
    assert.deepEqual(
      nodes.map((node) => [node["id"], node["parent"]]).toSorted(),
      [
        [txn, null],
        [jti, txn],
      ].toSorted(),
    );
  }
});

test("after the end of a task was answered, nothing in it is minted or active on any replica", async () => {
  for (let round = 0; round < 5; round++) {
    const given = await handOver();
    const { txn } = claimsOf(given);
    granted(await redeem(two, "summary-bot", given));
    let isEnded = false;
    const minted: { token: string; late: boolean }[] = [];
    const agents = each(async (replica, i) => {
      const [agent, form] = i % 2 ? ["triage-bot", READ] : ["summary-bot", READ];
      for (let late = false; !late;) {
        late = isEnded;
        const answer = await byHandle(replica, agent as string, txn, form as Form);
        if (answer.status === 200) minted.push({ token: granted(answer), late });
        else assert.ok(isRefused(answer), answer.text);
      }
    }, 2);
    assert.equal((await complete(w.all[round % 3] as Replica, "triage-bot", txn)).status, 200);
    isEnded = true;
    await agents;
    assert.deepEqual(
      minted.filter((one_) => one_.late),
      [],
    );
    for (const { token } of minted)
      assert.deepEqual(await each((replica) => isActive(replica, token)), [false, false, false]);
  }
});

test("INV-08 no token minted before a kill's answer is active after it, and none is minted after it, on three replicas", async () => {
  const history: { token: string; askedAt: number }[] = [];
  for (let round = 0; round < 8; round++) {
    let isKilled = false;
    let answeredAt = Number.POSITIVE_INFINITY;
    const attackers = each(async (replica) => {
      for (let late = false; !late;) {
        late = isKilled;
        const askedAt = performance.now();
        const answer = await w.self(replica, "release-bot");
        if (answer.status === 200) history.push({ token: granted(answer), askedAt });
        else assert.ok(isRefused(answer), answer.text);
      }
    }, 3);
    await w.self(one, "lonely-bot");
    const killed = await w.operator(w.all[round % 3] as Replica, "POST", "/v1/kill", {
      agent: "release-bot",
      reason: "race",
    });
    answeredAt = performance.now();
    isKilled = true;
    assert.equal(killed.status, 200, killed.text);
    await attackers;
    assert.deepEqual(
      history.filter((entry) => entry.askedAt > answeredAt),
      [],
    );
    const states = await Promise.all(history.map((entry, i) => isActive(w.all[i % 3] as Replica, entry.token)));
    assert.ok(
      states.every((state) => !state),
      "a token outlived its kill",
    );
    history.length = 0;
    assert.equal((await w.operator(two, "POST", "/v1/restore", { agent: "release-bot", reason: "race" })).status, 200);
  }
  await w.minted(three, "release-bot");
});

test("A-KILL-10 a replica that slept through a kill refuses from its first answer on", async () => {
  const held = await w.minted(three, "release-bot");
  assert.equal(await isActive(three, held), true);
  three.child.kill("SIGSTOP");
  try {
    assert.equal((await w.operator(one, "POST", "/v1/kill", { agent: "release-bot", reason: "asleep" })).status, 200);
    // What is sent while it sleeps is read when it wakes.
    const sent = [
      w.self(three, "release-bot"),
      w.post(three, "/introspect", { token: held, client_id: "billing", client_secret: BILLING_SECRET }),
    ] as const;
    await w.self(one, "lonely-bot");
    three.child.kill("SIGCONT");
    const [minted, introspected] = await Promise.all(sent);
    assert.notEqual(minted.status, 200, minted.text);
    assert.notEqual(introspected.body["active"], true);
  } finally {
    three.child.kill("SIGCONT");
  }
  assert.equal((await w.operator(one, "POST", "/v1/restore", { agent: "release-bot", reason: "awake" })).status, 200);
  assert.equal(await isActive(two, held), false);
  // Until a beat of its own was answered it releases nothing.
  await serving(three);
});

test("A-OIDC-23, A-OIDC-24 a single-use token opens one task over all replicas, and none after a restart", async () => {
  await w.apply((usual) => usual.replace("internal: true }", "internal: true, single_use: true }"));
  for (let round = 0; round < 3; round++) {
    const token = w.workload("release-bot");
    const answers = await each((replica) => w.self(replica, "release-bot", { token }), 6);
    assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [
      200,
      ...Array.from({ length: 17 }, () => 400),
    ]);
  }
  const token = w.workload("release-bot");
  granted(await w.self(one, "release-bot", { token }));
  const late = await w.start();
  await w.minted(late, "release-bot");
  assert.equal((await w.self(late, "release-bot", { token })).status, 400);
  await w.apply((usual) => usual);
  await w.minted(two, "release-bot");
});

test("A-AUD-04 many appends over three replicas leave streams without gap or fork, tied by heads", async () => {
  const answers = await each((replica) => w.self(replica, "release-bot"), 40);
  assert.ok(answers.every((answer) => answer.status === 200));
  const rows = await w.database.admin(
    "select stream from ephor.events group by stream having count(*) <> max(seq) or min(seq) <> 1 or count(distinct seq) <> count(*)",
  );
  assert.deepEqual(rows, []);
  const jwks = (await (await fetch(`${one.url}/.well-known/jwks.json`)).json()) as JSONWebKeySet;
  const jtis = await Promise.all(
    answers.map(async (answer) => (await jwtVerify(granted(answer), createLocalJWKSet(jwks))).payload.jti),
  );
  const recorded = await w.database.admin<{ count: string }>(
    "select count(*) from ephor.events where decision = 'granted' and jti = any($1)",
    [jtis],
  );
  assert.equal(Number(recorded[0]?.count), answers.length);
  assert.equal((await w.operator(two, "GET", "/v1/audit/verify")).body["ok"], true);
});
