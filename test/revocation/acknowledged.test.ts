/** A kill's answer over three server processes: what it waits for, and that nothing covered leaves after it (INV-08, A-KILL-10). */
import assert from "node:assert/strict";
import { Agent, request } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { after, test, type TestContext } from "node:test";
import { BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE, type Answer } from "../support/world.ts";
import { replicas, type Replica } from "../support/replicas.ts";

/** "At most 3 s", and what a busy machine adds, in real ms. */
const FENCED_MS = 3_500;
const VICTIM = "release-bot";
const r = await replicas({ after }, { count: 3 });
const [one, two, three] = r.all as [Replica, Replica, Replica];
const connections = new Agent({ keepAlive: true, maxSockets: 40 });
after(() => connections.destroy());

const kill = (replica: Replica): Promise<Answer> =>
  r.operator(replica, "POST", "/v1/kill", { agent: VICTIM, reason: "test" });
const restore = async (): Promise<void> => {
  const answer = await r.operator(one, "POST", "/v1/restore", { agent: VICTIM, reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};
function outcomes(killed: Answer): string[] {
  assert.equal(killed.status, 200, killed.text);
  return (killed.body["replicas"] as { outcome: string }[]).map(({ outcome }) => outcome).sort();
}

/** What arrived here, in the order in which it did. */
interface Seen {
  tokens: string[];
  late: number;
  /** Whatever arrives from now on comes after the kill's answer. */
  close(): Promise<void>;
}

/** Posts a form; `head` is called when the head of the answer is read from the socket. */
function post(url: string, form: Record<string, string>, head: (status: number) => void): Promise<string> {
  return new Promise((resolve) => {
    const sent = request(url, {
      method: "POST",
      agent: connections,
      headers: { "content-type": "application/x-www-form-urlencoded" },
    });
    sent.on("response", (response) => {
      head(response.statusCode ?? 0);
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve(text));
      response.on("error", () => resolve(""));
    });
    sent.on("error", () => resolve(""));
    sent.end(new URLSearchParams(form).toString());
  });
}

/** Attackers mint on these replicas, and ask whether what they got lives, until they are told to stop. */
function attack(t: TestContext): Seen & { stop(): Promise<void>; count(): number } {
  const targets = r.all;
  const each = 4;
  let isOver = false;
  // Also where the test fails: a replica that stays paused would be waited for.
  t.after(async () => {
    two.child.kill("SIGCONT");
    isOver = true;
    await Promise.all([...mints, ...asks]);
    // The next test needs the victim alive, whatever became of this one.
    await restore();
  });
  let isClosed = false;
  const seen = { tokens: [] as string[], late: 0 };
  const mints = targets.flatMap((replica) =>
    Array.from({ length: each }, async () => {
      const token = r.workload(VICTIM, { jti: crypto.randomUUID() });
      const form = {
        grant_type: TOKEN_EXCHANGE,
        subject_token: token,
        subject_token_type: JWT_TYPE,
        resource: "https://billing.acme.example",
        scope: "billing:read_invoice",
      };
      while (!isOver) {
        const text = await post(`${replica.url}/token`, form, (status) => {
          if (status === 200 && isClosed) seen.late += 1;
        });
        if (text.includes("access_token"))
          seen.tokens.push((JSON.parse(text) as { access_token: string }).access_token);
        else await sleep(5);
      }
    }),
  );
  const asks = targets.map(async (replica) => {
    while (!isOver) {
      let isLate = false;
      const token = seen.tokens.at(-1);
      if (token === undefined) {
        await sleep(5);
        continue;
      }
      const text = await post(`${replica.url}/introspect`, asked(token), () => (isLate = isClosed));
      if (isLate && text.includes('"active":true')) seen.late += 1;
    }
  });
  return {
    get tokens() {
      return seen.tokens;
    },
    get late() {
      return seen.late;
    },
    count: () => seen.tokens.length,
    async close() {
      // What lay in the sockets when the kill's answer was read came before it: it is read within these turns.
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      isClosed = true;
    },
    async stop() {
      isOver = true;
      await Promise.all([...mints, ...asks]);
    },
  };
}

const asked = (token: string): Record<string, string> => ({
  token,
  client_id: "billing",
  client_secret: BILLING_SECRET,
});

async function noneLives(tokens: readonly string[]): Promise<void> {
  for (const [i, token] of tokens.entries()) {
    if (i % Math.ceil(tokens.length / 30) !== 0) continue;
    const replica = r.all[i % r.all.length] as Replica;
    assert.equal(await post(`${replica.url}/introspect`, asked(token), () => {}), '{"active":false}');
  }
}

async function minted(load: { count(): number }): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (load.count() < 20) {
    assert.ok(performance.now() < deadline, "nothing was minted");
    await sleep(10);
  }
}

test("a kill is answered when all three replicas have acknowledged it, usually in well under 100 ms", async (t) => {
  t.after(restore);
  const times: number[] = [];
  for (let round = 0; round < 9; round++) {
    const began = performance.now();
    const killed = await kill(r.all[round % 3] as Replica);
    times.push(performance.now() - began);
    assert.deepEqual(outcomes(killed), ["acknowledged", "acknowledged", "acknowledged"]);
    await restore();
  }
  times.sort((a, b) => a - b);
  t.diagnostic(`kill to answer, ms: ${times.map(Math.round).join(" ")}`);
  // The bound is 100 ms; a machine that runs other tests beside takes longer, and some of these much longer.
  assert.ok((times[2] ?? 0) < 400, `a third of them took ${times[2]} ms`);
});

test("A-KILL-02 under load on three replicas nothing covered is issued or called active after the answer, nor lives what was", async (t) => {
  for (let round = 0; round < 4; round++) {
    const load = attack(t);
    await minted(load);
    const killed = await kill(r.all[round % 3] as Replica);
    await load.close();
    assert.deepEqual(outcomes(killed), ["acknowledged", "acknowledged", "acknowledged"]);
    await sleep(150);
    await load.stop();
    assert.equal(load.late, 0);
    await noneLives(load.tokens);
    await restore();
  }
});

test("A-KILL-10 a replica that is paused for a moment is waited for, and releases nothing after the answer", async (t) => {
  for (let round = 0; round < 4; round++) {
    const load = attack(t);
    await minted(load);
    two.child.kill("SIGSTOP");
    // What was granted to it lies in its socket now, with permits that live on for most of a second.
    await sleep(50);
    const stood = await killsThatStand();
    const killing = kill(one);
    let isAnswered = false;
    void killing.then(() => (isAnswered = true));
    await until(async () => (await killsThatStand()) > stood);
    await sleep(400);
    assert.ok(!isAnswered, "it is waited for");
    two.child.kill("SIGCONT");
    const killed = await killing;
    await load.close();
    assert.deepEqual(outcomes(killed), ["acknowledged", "acknowledged", "acknowledged"]);
    await sleep(150);
    await load.stop();
    assert.equal(load.late, 0);
    await noneLives(load.tokens);
    await restore();
  }
});

test("A-KILL-10 a replica that stays paused is fenced within three seconds, and releases nothing when it wakes", async (t) => {
  const load = attack(t);
  await minted(load);
  two.child.kill("SIGSTOP");
  await sleep(50);
  const began = performance.now();
  const killed = await kill(one);
  const took = performance.now() - began;
  await load.close();
  assert.ok(took < FENCED_MS, `${took} ms`);
  assert.deepEqual(outcomes(killed), ["acknowledged", "acknowledged", "fenced"]);
  // It was seen to be silent before this one: nobody waits for it again.
  await sleep(700);
  const again = await kill(three);
  assert.deepEqual(outcomes(again), ["acknowledged", "acknowledged", "gone"]);
  two.child.kill("SIGCONT");
  await sleep(500);
  await load.stop();
  assert.equal(load.late, 0);
  await noneLives(load.tokens);
  await until(async () => outcomes(await kill(one)).every((outcome) => outcome === "acknowledged"));
  await restore();
});

test("A-KILL-02 a replica that did not hear the announcement finds the kill at its next beat", async (t) => {
  const [row] = await r.database.admin<{ text: string }>(
    "select pg_get_functiondef('ephor.kill(bigint,jsonb,jsonb)'::regprocedure) as text",
  );
  const loud = row?.text ?? "";
  const silent = loud.replace("PERFORM pg_notify('ephor_kill', p_kill ->> 'id');", "");
  assert.notEqual(silent, loud);
  await r.database.admin(silent);
  try {
    const load = attack(t);
    await minted(load);
    const killed = await kill(one);
    await load.close();
    assert.deepEqual(outcomes(killed), ["acknowledged", "acknowledged", "acknowledged"]);
    await sleep(150);
    await load.stop();
    assert.equal(load.late, 0);
    await noneLives(load.tokens);
  } finally {
    await r.database.admin(loud);
    await restore();
  }
});

test("A-OPS-07 a replica that was shot is fenced once and gone from then on", async () => {
  three.child.kill("SIGKILL");
  await three.ended;
  const began = performance.now();
  assert.deepEqual(outcomes(await kill(one)), ["acknowledged", "acknowledged", "fenced"]);
  assert.ok(performance.now() - began < FENCED_MS);
  await until(async () => outcomes(await kill(one)).join() === "acknowledged,acknowledged,gone");
  await restore();
});

async function killsThatStand(): Promise<number> {
  const [row] = await r.database.admin<{ count: number }>("select count(*)::int as count from ephor.kills");
  return row?.count ?? 0;
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, "in vain");
    await sleep(20);
  }
}
