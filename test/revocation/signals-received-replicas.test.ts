/** A security event over server processes: 202 says that every replica has acknowledged, or was fenced (RFC 8935, CONTRACT §6). */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { replicas, type Replica } from "../support/replicas.ts";
import { RISC, STREAM } from "../support/signals.ts";
import { BILLING_SECRET, ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE } from "../support/world.ts";

/** "At most 3 s", and what a busy machine adds, in real ms. */
const FENCED_MS = 4_500;
/** The shortest silence after which a replica is fenced, in real ms: its lease. */
const LEASE_MS = 1_500;

const r = await replicas({ after }, { count: 2 });
const [one, two] = r.all as [Replica, Replica];
await r.apply((usual) =>
  usual.replace(
    "identifies: humans, internal: true }",
    `identifies: humans, internal: true, shared_signals: { audience: "${STREAM}", jwks_uri: "${r.humans.jwksUri}" } }`,
  ),
);

function disabled(sub: string): string {
  const claims = {
    iss: r.humans.url,
    aud: STREAM,
    jti: randomUUID(),
    iat: Math.floor(Date.now() / 1_000),
    sub_id: { format: "iss_sub", iss: r.humans.url, sub },
    events: { [`${RISC}account-disabled`]: {} },
  };
  const header = { alg: "RS256", kid: r.humans.key().kid, typ: "secevent+jwt" };
  return r.humans.mintRaw(JSON.stringify(header), JSON.stringify(claims));
}
const push = (replica: Replica, token: string): Promise<Response> =>
  fetch(`${replica.url}/ssf/events/okta`, {
    method: "POST",
    headers: { "content-type": "application/secevent+jwt" },
    body: token,
  });
async function carried(replica: Replica, agent: string, sub: string): Promise<{ status: number; token: string }> {
  const answer = await r.post(replica, "/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: r.human(sub),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: r.workload(agent),
    actor_token_type: JWT_TYPE,
    resource: "https://billing.acme.example",
    scope: "billing:read_invoice",
  });
  return { status: answer.status, token: String(answer.body["access_token"]) };
}
async function lives(replica: Replica, token: string): Promise<unknown> {
  const answer = await r.post(replica, "/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  return answer.body["active"];
}

test("what another process has issued is dead there when the transmitter has its 202", async () => {
  const tokens = await Promise.all(["triage-bot", "summary-bot"].map((agent) => carried(one, agent, "p1")));
  const beside = await carried(one, "triage-bot", "p2");
  for (const { token } of [...tokens, beside]) assert.equal(await lives(one, token), true);
  const answer = await push(two, disabled("p1"));
  assert.equal(answer.status, 202, await answer.text());
  for (const { token } of tokens) assert.equal(await lives(one, token), false);
  assert.equal(await lives(one, beside.token), true);
  assert.equal((await carried(one, "triage-bot", "p1")).status, 400);
  const { items } = (await r.operator(one, "GET", "/v1/kills?limit=1")).body as { items: { id: string; by: string }[] };
  assert.equal(items[0]?.by, "transmitter:okta");
});

test("a process that stands still is waited for until it is fenced, also by whoever sends the same event again", async (t) => {
  t.after(() => one.child.kill("SIGCONT"));
  const { token } = await carried(one, "triage-bot", "p3");
  one.child.kill("SIGSTOP");
  const started = performance.now();
  const sent = disabled("p3");
  const timed = async (): Promise<void> => {
    const answer = await push(two, sent);
    const tookMs = performance.now() - started;
    assert.equal(answer.status, 202, await answer.text());
    assert.ok(tookMs > LEASE_MS && tookMs < FENCED_MS, `answered after ${tookMs} ms`);
  };
  await Promise.all([timed(), timed()]);
  assert.equal(await lives(two, token), false);
  one.child.kill("SIGCONT");
  const rows = await r.database.admin("select id from ephor.kills where keys @> array['subject:okta|p3']");
  assert.equal(rows.length, 1);
});
