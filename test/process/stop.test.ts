/** A-OPS-07, A-OPS-08: how the real program ends, when it is asked to and when it is not. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, test } from "node:test";
import { BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE } from "../support/world.ts";
import { claimsOf } from "../attacks/chain-world.ts";
import { granted } from "../attacks/refusals.ts";
import { replicas, type Replica } from "../support/replicas.ts";

const w = await replicas({ after }, { count: 1 });
const [first] = w.all as [Replica];
const isActive = async (replica: Replica, token: string): Promise<unknown> =>
  (await w.post(replica, "/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET })).body["active"];

/** A request of which the server has the head, and not yet the whole body. */
async function half(replica: Replica): Promise<{ socket: Socket; finish(): Promise<string> }> {
  const body = new URLSearchParams({
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("release-bot"),
    subject_token_type: JWT_TYPE,
    resource: "https://billing.acme.example",
    scope: "billing:read_invoice",
  }).toString();
  const { hostname, port } = new URL(replica.url);
  const socket = connect(Number(port), hostname);
  await once(socket, "connect");
  const head = [
    "POST /token HTTP/1.1",
    `Host: ${hostname}`,
    "Content-Type: application/x-www-form-urlencoded",
    "Expect: 100-continue",
    `Content-Length: ${body.length}`,
    "",
    "",
  ];
  socket.write(head.join("\r\n"));
  // The server says so when it has begun with the request.
  const [go] = (await once(socket, "data")) as [Buffer];
  assert.match(go.toString(), /^HTTP\/1\.1 100 /);
  socket.write(body.slice(0, 100));
  return {
    socket,
    async finish() {
      let text = "";
      socket.on("data", (chunk: Buffer) => (text += chunk.toString()));
      socket.write(body.slice(100));
      await once(socket, "close");
      return text;
    },
  };
}

async function isRefused(replica: Replica): Promise<boolean> {
  const { hostname, port } = new URL(replica.url);
  const socket = connect(Number(port), hostname);
  return await Promise.race([
    once(socket, "connect").then(() => (socket.destroy(), false)),
    once(socket, "error").then(
      () => true,
      () => true,
    ),
  ]).catch(() => true);
}

test("A-OPS-08 SIGTERM finishes what was accepted, accepts nothing more, and ends with 0 and a whole ledger", async () => {
  const replica = await w.start();
  const accepted = await Promise.all(Array.from({ length: 5 }, () => half(replica)));
  const before = granted(await w.self(replica, "release-bot"));
  replica.child.kill("SIGTERM");
  while (!(await isRefused(replica)));
  const answers = await Promise.all(accepted.map((request) => request.finish()));
  for (const answer of answers) {
    assert.match(answer, /^HTTP\/1\.1 200 /, answer);
    assert.match(answer, /\r\nconnection: close\r\n/i);
  }
  assert.equal(await replica.ended, 0, replica.said());
  const tokens = answers.map(
    (answer) => (JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)) as { access_token: string }).access_token,
  );
  for (const token of [...tokens, before]) assert.equal(await isActive(first, token), true);
  const jtis = tokens.map((token) => claimsOf(token).jti);
  const recorded = await w.database.admin("select jti from ephor.events where decision = 'granted' and jti = any($1)", [
    jtis,
  ]);
  assert.equal(recorded.length, tokens.length);
  // It took its leave, and its last events are under a head.
  const left = await w.database.admin("select id from ephor.replicas");
  assert.equal(left.length, 1);
  assert.equal((await w.operator(first, "GET", "/v1/audit/verify")).body["ok"], true);
});

test("A-OPS-08 a connection that only waits does not hold the end up", async () => {
  const replica = await w.start();
  const { hostname, port } = new URL(replica.url);
  const idle = connect(Number(port), hostname);
  await once(idle, "connect");
  granted(await w.self(replica, "release-bot"));
  const started = performance.now();
  replica.child.kill("SIGTERM");
  assert.equal(await replica.ended, 0);
  // Well below the grace of 10 s after which what is open is cut.
  assert.ok(performance.now() - started < 8_000);
  idle.destroy();
});

test("A-OPS-07, INV-11 kill -9 under load: the others serve, every token received is on record, and no chain is half made", async () => {
  const received: string[] = [];
  for (let round = 0; round < 3; round++) {
    const victim = await w.start();
    let isOver = false;
    const enough = { count: 0, tell: (): void => {} };
    const crowd = Array.from({ length: 12 }, async () => {
      while (!isOver) {
        const answer = await w.self(victim, "release-bot").catch(() => undefined);
        if (answer?.status !== 200) continue;
        received.push(granted(answer));
        enough.count += 1;
        enough.tell();
      }
    });
    await new Promise<void>((resolve) => (enough.tell = () => enough.count >= 60 && resolve()));
    victim.child.kill("SIGKILL");
    const killedAt = performance.now();
    isOver = true;
    // No lock of the dead one holds the living up.
    granted(await w.self(first, "release-bot"));
    assert.equal((await w.operator(first, "POST", "/v1/kill", { agent: "lonely-bot", reason: "test" })).status, 200);
    assert.ok(performance.now() - killedAt < 5_000);
    await Promise.all(crowd);
    await victim.ended;
  }
  const jtis = received.map((token) => claimsOf(token).jti);
  const [count] = await w.database.admin<{ granted: string; ours: string }>(
    "select count(*) as granted, count(*) filter (where jti = any($1)) as ours from ephor.events where type = 'token.issue' and decision = 'granted'",
    [jtis],
  );
  assert.equal(Number(count?.ours), received.length);
  assert.ok(received.length <= Number(count?.granted));
  const halves = await w.database
    .admin(`select h.jti from ephor.hops h left join ephor.nodes n on n.id = h.node left join ephor.tasks t on t.txn = h.txn
    left join ephor.events e on e.jti = h.jti and e.decision = 'granted' where n.id is null or t.txn is null or e.jti is null`);
  assert.deepEqual(halves, []);
  for (const token of received.slice(-10)) assert.equal(await isActive(first, token), true);
  const verdict = await w.operator(first, "GET", "/v1/audit/verify");
  assert.equal(verdict.body["ok"], true, verdict.text);
});
