/** Sessions that are ended under load: nothing is released that is not on record, and the record stays whole. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { chainWorld, claimsOf, READ_INVOICE } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import type { Answer } from "../support/world.ts";

const w = await chainWorld({ after });
/** Rounds in which sessions are ended; between two of them this many answers are waited for. */
const ROUNDS = 8;
const ANSWERS_BETWEEN = 15;
/** Where none of them was in use, as chance has it, it is tried on. */
const MOST_ROUNDS = 200;

async function underLoad(
  send: () => Promise<{ status: number; text: string }>,
  disturb: () => Promise<unknown>,
  isEnough: (statuses: ReadonlyMap<number, number>) => boolean = () => true,
): Promise<Map<number, number>> {
  const statuses = new Map<number, number>();
  let answered = 0;
  let isOver = false;
  let tell = (): void => {};
  const loops = Array.from({ length: 12 }, async () => {
    while (!isOver) {
      const { status } = await send();
      statuses.set(status, (statuses.get(status) ?? 0) + 1);
      answered += 1;
      tell();
    }
  });
  for (let round = 0; round < ROUNDS || (!isEnough(statuses) && round < MOST_ROUNDS); round++) {
    const goal = answered + ANSWERS_BETWEEN;
    await new Promise<void>((resolve) => {
      tell = () => answered >= goal && resolve();
    });
    await disturb();
  }
  isOver = true;
  await Promise.all(loops);
  return statuses;
}

/** Ends them, and waits until they are gone: what is asked afterwards finds no session that is about to end. */
const end = (name: string) => () =>
  w.admin(
    "select pg_terminate_backend(pid, 5000) from pg_stat_activity where datname = current_database() and application_name like $1",
    [name],
  );

async function assertWhole(): Promise<void> {
  const verdict = await w.operator("GET", "/v1/audit/verify");
  assert.equal(verdict.body["ok"], true, verdict.text);
  const gaps = await w.admin(
    "select stream from ephor.events group by stream having count(*) <> max(seq) or min(seq) <> 1",
  );
  assert.deepEqual(gaps, []);
}

test("INV-11, INV-12 the gate's session is ended under load: 200 or 503, every token received is on record, and a new stream begins", async () => {
  const received: string[] = [];
  const send = async (): Promise<Answer> => {
    const answer = await w.self("release-bot", READ_INVOICE);
    if (answer.status === 200) received.push(granted(answer));
    return answer;
  };
  const statuses = await underLoad(send, end("ephor gate"), (seen) => seen.has(503));
  assert.deepEqual(
    [...statuses.keys()].filter((status) => status !== 200 && status !== 503),
    [],
  );
  assert.ok((statuses.get(503) ?? 0) > 0, "no session was ended while it was used");
  const jtis = received.map((token) => claimsOf(token).jti);
  assert.equal(new Set(jtis).size, received.length);
  const rows = await w.admin(
    "select jti from ephor.events where type = 'token.issue' and decision = 'granted' and jti = any($1)",
    [jtis],
  );
  assert.equal(rows.length, received.length);
  // Each chain is whole: no token without its node and task, no node without its task.
  const halves =
    await w.admin(`select h.jti from ephor.hops h left join ephor.nodes n on n.id = h.node left join ephor.tasks t on t.txn = h.txn
    where n.id is null or t.txn is null union all select n.id from ephor.nodes n left join ephor.tasks t on t.txn = n.txn where t.txn is null
    union all select h.jti from ephor.hops h left join ephor.events e on e.jti = h.jti and e.decision = 'granted' where e.jti is null`);
  assert.deepEqual(halves, []);
  const streams = await w.admin("select id from ephor.streams where id like '%.gate.%'");
  assert.ok(streams.length > 1);
  for (const token of received.slice(-5)) assert.equal(await w.isActive(token), true);
  await assertWhole();
});

test("the recorder's session is ended under load: a refusal is recorded, or answered as what it is", async () => {
  const requests: (string | null)[] = [];
  const statuses = await underLoad(async () => {
    const answer = await w.self("release-bot", { resource: "https://billing.acme.example", scope: "billing:refund" });
    if (answer.status === 400) requests.push(answer.headers.get("x-request-id"));
    return answer;
  }, end("ephor recorder"));
  assert.deepEqual(
    [...statuses.keys()].filter((status) => status !== 400 && status !== 503),
    [],
  );
  const rows = await w.admin<{ id: string }>(
    "select body::jsonb ->> 'requestId' as id from ephor.events where decision = 'refused' and agent = 'release-bot'",
  );
  const recorded = new Set(rows.map((row) => row.id));
  assert.deepEqual(
    requests.filter((id) => id === null || !recorded.has(id)),
    [],
  );
  await assertWhole();
});

test("every session is ended, again and again: introspection answers what is so, or 503, and all is well afterwards", async () => {
  const live = granted(await w.self("release-bot", READ_INVOICE));
  const dead = granted(await w.self("release-bot", READ_INVOICE));
  assert.equal((await w.kill({ jti: claimsOf(dead).jti })).status, 200);
  let i = 0;
  const statuses = await underLoad(async () => {
    const isLive = i++ % 2 === 0;
    const answer = await w.introspect(isLive ? live : dead);
    if (answer.status === 200) assert.equal(answer.body["active"], isLive);
    return answer;
  }, end("ephor%"));
  assert.deepEqual(
    [...statuses.keys()].filter((status) => status !== 200 && status !== 503),
    [],
  );
  const deadline = performance.now() + 10_000;
  while ((await w.self("release-bot", READ_INVOICE)).status !== 200) assert.ok(performance.now() < deadline);
  assert.equal(await w.isActive(live), true);
  await assertWhole();
});

test("A-KILL-07 a kill whose session is ended says that it is not done, and what it says is so", async () => {
  for (let round = 0; round < 6; round++) {
    const token = granted(await w.self("release-bot", READ_INVOICE));
    const { jti } = claimsOf(token);
    const [answer] = await Promise.all([w.kill({ jti }), end("ephor kill")()]);
    assert.ok(answer.status === 200 || answer.status === 503, answer.text);
    const [row] = await w.admin("select 1 from ephor.dead_keys where key = $1", [`jti:${jti}`]);
    // A 200 is done. After a 503 it may be, or not: whoever asks again gets it done.
    if (answer.status === 200) assert.ok(row);
    assert.equal((await w.kill({ jti })).status, 200);
    assert.equal(await w.isActive(token), false);
  }
});
