/** What a change of trust takes away is gone everywhere when it is answered, over three server processes (INV-07, INV-08). */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { Agent, request } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { after, test, type TestContext } from "node:test";
import { BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE } from "../support/world.ts";
import { replicas, type Replica } from "../support/replicas.ts";

/** "At most 3 s", and what a busy machine adds, in real ms. */
const FENCED_MS = 3_500;
const VICTIM = "release-bot";
const BILLING_GRANT = "  - { agent: release-bot, resource: billing, actions: [read_invoice] }\n";
const VENDING_GRANT = "  - { agent: release-bot, resource: crm, actions: [vend], residual: unlimited }\n";

const folder = await mkdtemp(join(tmpdir(), "ephor-anchor-"));
after(() => rm(folder, { recursive: true, force: true }));
const anchor = join(folder, "anchor");
const r = await replicas({ after }, { count: 3, env: { EPHOR_ANCHOR: `file:${anchor}` } });
const [one, two, three] = r.all as [Replica, Replica, Replica];
const connections = new Agent({ keepAlive: true, maxSockets: 60 });
after(() => connections.destroy());
const sealed = await r.operator(one, "PUT", "/v1/secrets/crm", { value: "crm-value-0123456789" });
assert.ok(sealed.status < 300, sealed.text);

/** The usual trust with a vended secret, and what a test takes out. */
const apply = (edit: (text: string) => string = (text) => text): Promise<void> =>
  r.apply((usual) =>
    edit(
      `${usual.replace("resources:", "resources:\n  crm: { credential: { static: { secret: crm, disclose: true } } }")}${VENDING_GRANT}`,
    ),
  );
const without =
  (...texts: string[]) =>
  (text: string): string =>
    texts.reduce((left, part) => {
      assert.ok(left.includes(part), part);
      return left.replace(part, "");
    }, text);
const withoutVictim = (text: string): string =>
  text
    .replace(/\n {2}release-bot:\n.*\n.*/, "")
    .replaceAll(/ {2}- \{ agent: release-bot.*\n/g, "")
    .replace(", { agent: release-bot }", "");

interface Head {
  readonly status: number;
  readonly text: string;
  /** Whether the head of the answer was read after everything was closed. */
  readonly isLate: boolean;
}

/** Attackers on all replicas, until the test ends. */
interface Attack {
  readonly tokens: string[];
  vends: number;
  readonly late: string[];
  /** Whatever arrives from now on comes after the answer. */
  close(): Promise<void>;
  stop(): Promise<void>;
}

function post(
  url: string,
  form: Record<string, string>,
  o: { isClosed: () => boolean; bearer?: string },
): Promise<Head> {
  return new Promise((resolve) => {
    const none = (): void => resolve({ status: 0, text: "", isLate: false });
    const headers = {
      "content-type": "application/x-www-form-urlencoded",
      ...(o.bearer !== undefined && { authorization: `Bearer ${o.bearer}` }),
    };
    const sent = request(url, { method: "POST", agent: connections, headers });
    sent.on("response", (response) => {
      const isLate = o.isClosed();
      let text = "";
      response.on("data", (chunk: Buffer) => (text += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text, isLate }));
      response.on("error", none);
    });
    sent.on("error", none);
    sent.end(new URLSearchParams(form).toString());
  });
}

const exchange = (replica: Replica, scope: string, isClosed: () => boolean): Promise<Head> => {
  const form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: r.workload(VICTIM, { jti: crypto.randomUUID() }),
    subject_token_type: JWT_TYPE,
    resource: scope.startsWith("crm") ? `${r.issuer}/credentials/crm` : "https://billing.acme.example",
    scope,
    ...(scope.startsWith("crm") && { ttl: "59" }),
  };
  return post(`${replica.url}/token`, form, { isClosed });
};
const introspect = (replica: Replica, token: string, secret = BILLING_SECRET): Promise<Head> => {
  const form = { token, client_id: "billing", client_secret: secret };
  return post(`${replica.url}/introspect`, form, { isClosed: () => false });
};
const tokenIn = (head: Head): string => {
  assert.equal(head.status, 200, head.text);
  return (JSON.parse(head.text) as { access_token: string }).access_token;
};

/** Mints on each replica, and vends there with a token that lives for a minute. */
async function attack(t: TestContext): Promise<Attack> {
  let isOver = false;
  let isDone = false;
  const isClosed = (): boolean => isDone;
  const seen = { tokens: [] as string[], vends: 0, late: [] as string[] };
  const vending = tokenIn(await exchange(one, "crm:vend", isClosed));
  const each = (count: number, step: (replica: Replica) => Promise<boolean>): Promise<void>[] =>
    r.all.flatMap((replica) =>
      Array.from({ length: count }, async () => {
        while (!isOver) if (!(await step(replica))) await sleep(5);
      }),
    );
  const all = [
    ...each(3, async (replica) => {
      const head = await exchange(replica, "billing:read_invoice", isClosed);
      if (head.status !== 200) return false;
      if (head.isLate) seen.late.push("a token");
      seen.tokens.push(tokenIn(head));
      return true;
    }),
    ...each(1, async (replica) => {
      const head = await post(`${replica.url}/credentials/crm`, {}, { isClosed, bearer: vending });
      if (head.status !== 200) return false;
      if (head.isLate) seen.late.push("a credential");
      seen.vends += 1;
      return true;
    }),
  ];
  const stop = async (): Promise<void> => {
    isOver = true;
    await Promise.all(all);
  };
  // Also where the test fails: a replica that stays paused would be waited for.
  t.after(async () => {
    two.child.kill("SIGCONT");
    await stop();
  });
  await until(async () => seen.tokens.length >= 20 && seen.vends >= 3);
  return {
    tokens: seen.tokens,
    late: seen.late,
    get vends() {
      return seen.vends;
    },
    async close() {
      // What lay in the sockets when the answer was read came before it: it is read within these turns.
      for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
      isDone = true;
    },
    stop,
  };
}

async function until(isSo: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, "in vain");
    await sleep(20);
  }
}

/** Takes it away under load, and looks whether anything came after the answer. */
async function takenAway(t: TestContext, take: () => Promise<unknown>): Promise<Attack> {
  const load = await attack(t);
  await take();
  await load.close();
  await sleep(200);
  await load.stop();
  assert.deepEqual(load.late, []);
  return load;
}

test("INV-07 when an apply that removes an agent's grants is answered, no replica mints or vends by them; what was issued lives out its minute", async (t) => {
  for (let round = 0; round < 3; round++) {
    await apply();
    const load = await takenAway(t, () => apply(without(BILLING_GRANT, VENDING_GRANT)));
    for (const replica of r.all) {
      const refused = await exchange(replica, "billing:read_invoice", () => false);
      assert.deepEqual([refused.status, JSON.parse(refused.text).error], [400, "invalid_scope"]);
      const held = await introspect(replica, load.tokens.at(-1) ?? "");
      assert.equal(JSON.parse(held.text).active, true);
    }
  }
});

test("INV-07 when an apply that removes an agent is answered, no replica mints, vends or calls active by it", async (t) => {
  for (let round = 0; round < 3; round++) {
    await apply();
    const load = await takenAway(t, () => apply(withoutVictim));
    for (const token of load.tokens.slice(-9))
      for (const replica of r.all) assert.equal((await introspect(replica, token)).text, '{"active":false}');
  }
});

test("INV-07 a suspension and a DELETE are answered as late", async (t) => {
  await apply();
  const status = (value: string): Promise<unknown> =>
    r.operator(one, "PUT", `/v1/agents/${VICTIM}/status`, { status: value, reason: "test" });
  await takenAway(t, () => status("suspended"));
  await status("active");

  await apply(without(BILLING_GRANT, VENDING_GRANT));
  for (const [name, spec] of [
    ["one", { agent: VICTIM, resource: "billing", actions: ["read_invoice"] }],
    ["two", { agent: VICTIM, resource: "crm", actions: ["vend"], residual: "unlimited" }],
  ] as const)
    assert.equal((await r.operator(one, "PUT", `/v1/grants/${name}`, spec)).status, 201);
  // The second first, for both are attacked and only what is gone may stay away.
  assert.equal((await r.operator(one, "DELETE", "/v1/grants/two")).status, 200);
  const load = { tokens: 0, late: 0, isOver: false, isDone: false };
  const attackers = r.all.map(async (replica) => {
    while (!load.isOver) {
      const head = await exchange(replica, "billing:read_invoice", () => load.isDone);
      if (head.status === 200) load.tokens += 1;
      if (head.status === 200 && head.isLate) load.late += 1;
    }
  });
  await until(async () => load.tokens >= 10);
  assert.equal((await r.operator(one, "DELETE", "/v1/grants/one")).status, 200);
  for (let turn = 0; turn < 3; turn++) await new Promise((resolve) => setImmediate(resolve));
  load.isDone = true;
  await sleep(200);
  load.isOver = true;
  await Promise.all(attackers);
  assert.equal(load.late, 0);
});

test("INV-07 an apply waits for a replica that is paused for a moment, and for the lease of one that stays paused", async (t) => {
  for (const pausedMs of [400, 400, Number.POSITIVE_INFINITY]) {
    await until(() => apply().then(() => true));
    const load = await attack(t);
    two.child.kill("SIGSTOP");
    // What was granted to it lies in its socket now, with permits that live on for most of a second.
    await sleep(50);
    const began = performance.now();
    const applying = apply(without(BILLING_GRANT, VENDING_GRANT));
    if (Number.isFinite(pausedMs)) {
      await sleep(pausedMs);
      two.child.kill("SIGCONT");
    }
    await applying;
    const took = performance.now() - began;
    await load.close();
    assert.ok(took > 300 && took < FENCED_MS, `${took} ms`);
    two.child.kill("SIGCONT");
    await sleep(300);
    await load.stop();
    assert.deepEqual(load.late, []);
  }
});

test("INV-07 a resource server whose secret was replaced is told nothing more, not even by a replica that slept through it", async (t) => {
  await apply();
  t.after(() => two.child.kill("SIGCONT"));
  const token = tokenIn(await exchange(one, "billing:read_invoice", () => false));
  assert.equal(JSON.parse((await introspect(two, token)).text).active, true);
  const secret = "another-secret-0123456789abcdefghijklmnopqrstuvwx";
  const hash = createHash("sha256").update(secret).digest("hex");
  two.child.kill("SIGSTOP");
  await apply((text) => text.replace(/sha256:[0-9a-f]{64}/, `sha256:${hash}`));
  // Asked before it can have heard of anything.
  const asked = Promise.all(Array.from({ length: 5 }, () => introspect(two, token)));
  await sleep(50);
  two.child.kill("SIGCONT");
  for (const head of await asked) assert.ok(head.status !== 200, `${head.status} ${head.text}`);
  for (const replica of r.all) {
    assert.equal((await introspect(replica, token)).status, 401);
    assert.equal(JSON.parse((await introspect(replica, token, secret)).text).active, true);
  }
});

test("a stream of the feed ends where its receiver's secret is replaced, and goes on where something else changes", async () => {
  await apply();
  const credentials = Buffer.from(`billing:${BILLING_SECRET}`).toString("base64");
  const open = (): Promise<Response> =>
    fetch(`${three.url}/v1/revocations`, {
      headers: { authorization: `Basic ${credentials}`, accept: "text/event-stream" },
      signal: AbortSignal.timeout(15_000),
    });
  const stream = await open();
  assert.equal(stream.status, 200);
  const reader = (stream.body as ReadableStream<Uint8Array>).getReader();
  assert.equal((await reader.read()).done, false);
  await apply(without(BILLING_GRANT));
  // Frames come each second: this one was made after the change.
  for (let frame = 0; frame < 3; frame++) assert.equal((await reader.read()).done, false);
  await apply((text) => text.replace(/sha256:[0-9a-f]{64}/, `sha256:${"0".repeat(64)}`));
  let later = 0;
  while (!(await reader.read()).done) later += 1;
  assert.ok(later <= 1, `${later} frames`);
  assert.equal((await open()).status, 401);
});

test("an apply that takes something away has raised the anchor when it is answered; one that adds needs no position", async () => {
  const epoch = async (): Promise<number> =>
    (await r.database.admin<{ epoch: string }>("select epoch from ephor.gate")).map((row) => Number(row.epoch))[0] ?? 0;
  const anchored = async (): Promise<number> =>
    (JSON.parse(await readFile(anchor, "utf8")) as { position: number }).position;
  await apply();
  const before = await epoch();
  await apply(without(BILLING_GRANT));
  assert.equal(await epoch(), before + 1);
  assert.equal(await anchored(), before + 1);
  await apply();
  assert.equal(await epoch(), before + 1);
  await apply(withoutVictim);
  assert.equal(await anchored(), before + 2);
});
