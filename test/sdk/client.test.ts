import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import type { JWK } from "jose";
import {
  ApprovalNeededError,
  awsCredentials,
  createClient,
  DeniedError,
  EndedError,
  keyProof,
  KilledError,
  NotAuthenticatedError,
  UnavailableError,
  type Client,
  type EphorError,
} from "../../src/sdk/client.ts";
import { createVerifier } from "../../src/sdk/verify.ts";
import { settled, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const READ = { resource: BILLING, scopes: ["billing:read_invoice"] } as const;

const w = await world({ after });
await w.apply(
  `
resources:
  mail-key: { credential: { static: { secret: mail-key, disclose: true } } }
grants:
  - { agent: release-bot, resource: mail-key, actions: [vend], residual: unlimited }
`,
  "mail.yaml",
);
const sealed = await settled(() => w.operator("PUT", "/v1/secrets/mail-key", { value: "s3cret" }));
assert.ok(sealed.status < 300, sealed.text);

const agent = (name: string, more: object = {}): Client =>
  createClient({ url: w.url, proof: async () => ({ workloadToken: w.workload(name) }), clock: w.clock, ...more });
const human = () => ({ token: w.human(), type: "idToken" }) as const;
const verifier = createVerifier({
  issuer: w.server.issuer,
  resource: BILLING,
  revocation: "none",
  clock: w.clock,
});
const actorsOf = async (token: string): Promise<readonly string[]> =>
  (await verifier.verify(token, { scope: READ.scopes })).actors;
const fails = async <E extends EphorError>(
  call: Promise<unknown>,
  kind: abstract new (...args: never[]) => E,
  facts: Record<string, unknown> = {},
): Promise<E> => {
  const error = await call.then(
    () => assert.fail("it succeeded"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof kind, String(error));
  assert.deepEqual({ ...facts }, Object.fromEntries(Object.keys(facts).map((key) => [key, (error as never)[key]])));
  return error;
};
const kill = async (target: object): Promise<void> => {
  const answer = await w.operator("POST", "/v1/kill", { ...target, reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};

test("a token is kept while it is young and renewed fifteen seconds before its end; who asks together shares one", async () => {
  const task = await agent("release-bot").openTask({ purpose: "cut a release" });
  const [first, second] = await Promise.all([task.exchange(READ), task.exchange(READ)]);
  assert.equal(first.token, second.token);
  assert.equal(first.lifeSeconds, 45);
  w.clock.advance(29);
  assert.equal((await task.exchange(READ)).token, first.token);
  w.clock.advance(1);
  const renewed = await task.exchange(READ);
  assert.notEqual(renewed.token, first.token);
  assert.deepEqual(await actorsOf(renewed.token), ["release-bot"]);
  assert.match(task.txn ?? "", /^[0-9A-Z]{26}$/);
});

test("a short token is renewed at two thirds of its life", async () => {
  const task = await agent("release-bot").openTask({ purpose: "short" });
  const order = { ...READ, ttlSeconds: 9 };
  const first = await task.exchange(order);
  w.clock.advance(5.9);
  assert.equal((await task.exchange(order)).token, first.token);
  w.clock.advance(0.2);
  assert.notEqual((await task.exchange(order)).token, first.token);
});

test("work for a human is handed over, redeemed by that agent alone, and goes on after the hand-over has expired", async () => {
  const work = agent("triage-bot").onBehalfOf(human());
  assert.deepEqual(await actorsOf((await work.exchange(READ)).token), ["triage-bot"]);
  const handOver = await work.handOver({ to: "summary-bot", scopes: READ.scopes });
  await fails(agent("release-bot").redeem(handOver).exchange(READ), DeniedError, { code: "invalid_request" });
  const part = agent("summary-bot").redeem(handOver);
  assert.deepEqual(await actorsOf((await part.exchange(READ)).token), ["triage-bot", "summary-bot"]);
  assert.equal(part.txn, work.txn);
  w.clock.advance(120);
  assert.deepEqual(await actorsOf((await part.exchange(READ)).token), ["triage-bot", "summary-bot"]);
});

test("what is not granted is denied, once, and what is no hand-over is not sent", async () => {
  const client = agent("release-bot");
  await fails(client.exchange({ resource: BILLING, scopes: ["billing:refund"] }), DeniedError, {
    code: "invalid_scope",
  });
  await fails(client.exchange({ resource: "https://x.example", scopes: ["x:y"] }), DeniedError, {
    code: "invalid_target",
  });
  await fails(client.handOver({ to: "lonely-bot", scopes: READ.scopes }), DeniedError);
  assert.throws(() => client.redeem("abc"), DeniedError);
});

test("a vended credential is kept until fifteen seconds before its lease ends", async () => {
  const task = await agent("release-bot").openTask({ purpose: "send mail" });
  const [first, second] = await Promise.all([task.vend("mail-key"), task.vend("mail-key")]);
  assert.equal(first.lease, second.lease);
  assert.equal(first.kind, "static");
  const life = (Date.parse(first.expires_at) - w.clock.nowMs()) / 1000;
  w.clock.advance(life - 15.5);
  assert.equal((await task.vend("mail-key")).lease, first.lease);
  w.clock.advance(1);
  assert.notEqual((await task.vend("mail-key")).lease, first.lease);
  await fails(awsCredentials(task, "mail-key")(), DeniedError, { code: "invalid_target" });
  await fails((await agent("triage-bot").openTask({ purpose: "steal" })).vend("mail-key"), DeniedError);
});

test("the AWS SDK's provider gives a lease in the SDK's own words", async () => {
  const lease = {
    lease: "l",
    kind: "aws",
    expires_at: "2026-11-21T18:01:00Z",
    residual_seconds: 0,
    credential: { access_key_id: "AKIA", secret_access_key: "s", session_token: "t" },
  };
  const provider = awsCredentials({ vend: async () => lease }, "aws-prod");
  assert.deepEqual(await provider(), {
    accessKeyId: "AKIA",
    secretAccessKey: "s",
    sessionToken: "t",
    expiration: new Date("2026-11-21T18:01:00Z"),
  });
});

test("a completed task gives nothing more: EndedError; completing twice is no error", async () => {
  const task = await agent("release-bot").openTask({ purpose: "soon done" });
  await task.exchange(READ);
  await task.complete();
  await task.complete();
  await fails(task.exchange(READ), EndedError);
  await fails(task.vend("mail-key"), EndedError);
});

test("a killed task is KilledError, also for who joined it, and another task of the same agent goes on", async () => {
  const work = agent("triage-bot").onBehalfOf(human());
  const part = agent("summary-bot").redeem(await work.handOver({ to: "summary-bot", scopes: READ.scopes }));
  await part.exchange(READ);
  await kill({ txn: work.txn });
  w.clock.advance(31);
  await fails(work.exchange(READ), KilledError, { what: "task" });
  await fails(part.exchange(READ), KilledError, { what: "task" });
  await agent("triage-bot")
    .onBehalfOf({ token: w.human("00u2"), type: "idToken" })
    .exchange(READ);
});

test("a killed agent is KilledError where it worked before, and the token that was kept is not handed out again", async () => {
  const task = await agent("release-bot").openTask({ purpose: "doomed" });
  await task.exchange(READ);
  await kill({ agent: "release-bot" });
  try {
    w.clock.advance(31);
    await fails(task.exchange(READ), KilledError, { what: "agent" });
    await fails(task.exchange(READ), KilledError, { what: "agent" });
    await fails(agent("release-bot").openTask({ purpose: "again" }), NotAuthenticatedError, { status: 401 });
  } finally {
    const restored = await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
    assert.equal(restored.status, 200, restored.text);
  }
  await fails(task.exchange(READ), KilledError, { what: "task" });
});

test("an agent whose platform token is out of date is not said to be killed", async () => {
  const stale: string[] = [];
  const client = agent("release-bot", {
    proof: async () => ({ workloadToken: stale[0] ?? w.workload("release-bot") }),
  });
  const task = await client.openTask({ purpose: "stale" });
  await task.exchange(READ);
  stale.push(w.workload("release-bot", {}, { ttl: 20 }));
  w.clock.advance(60);
  const error = await task.exchange(READ).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof DeniedError || error instanceof NotAuthenticatedError, String(error));
});

test("an agent with a key of its own proves itself anew each time", async () => {
  const privateJwk = w.agentKey.export({ format: "jwk" }) as JWK;
  const proof = keyProof({ agent: "keyed-bot", url: w.url, privateJwk, nowMs: () => w.clock.nowMs() });
  const task = await createClient({ url: w.url, proof, clock: w.clock }).openTask({ purpose: "keyed" });
  const first = await task.exchange(READ);
  w.clock.advance(31);
  assert.notEqual((await task.exchange(READ)).token, first.token);
  await task.complete();
});

test("with dpop a token is bound to this process's key: served with its proof, refused without", async () => {
  const task = await agent("release-bot", { dpop: true }).openTask({ purpose: "bound" });
  const token = await task.exchange(READ);
  assert.equal(token.scheme, "DPoP");
  const call = async (): Promise<Request> => {
    const url = `${BILLING}/invoices?page=1`;
    return new Request(url, { headers: await token.headers({ method: "GET", url }) });
  };
  const request = await call();
  await verifier.verify(request, { scope: READ.scopes });
  await assert.rejects(verifier.verify(request, { scope: READ.scopes }), { reason: "dpop_replayed" });
  await verifier.verify(await call(), { scope: READ.scopes });
  await assert.rejects(verifier.verify(token.token, { scope: READ.scopes }), { reason: "dpop_missing" });
});

test("a server that hangs delays nobody who holds a living token, and the new one is handed out once it came", async () => {
  const held: Promise<void>[] = [];
  const releases: (() => void)[] = [];
  let count = 0;
  const url = await answering(async () => {
    await held[0];
    const granted = { token_type: "Bearer", expires_in: 45, scope: READ.scopes[0] };
    return [200, { ...granted, access_token: `token-${++count}` }];
  });
  const client = agent("release-bot", { url });
  assert.equal((await client.exchange(READ)).token, "token-1");
  held.push(new Promise((go) => void releases.push(go)));
  w.clock.advance(31);
  assert.equal((await client.exchange(READ)).token, "token-1");
  for (const release of releases) release();
  const deadline = performance.now() + 3_000;
  while ((await client.exchange(READ)).token === "token-1") assert.ok(performance.now() < deadline);
  assert.equal(count, 2);
});

test("what is safe to repeat is repeated with Retry-After; the opening of a task whose outcome is unknown is not", async () => {
  const seen: string[] = [];
  const answers: Record<string, () => [number, object, Record<string, string>?]> = {};
  const url = await answering((path) => {
    seen.push(path);
    return answers[path]?.() ?? [404, {}];
  });
  const client = agent("release-bot", { url });
  const granted = { access_token: "a.b.c", token_type: "Bearer", expires_in: 45, scope: READ.scopes[0] };
  const busy = { error: "temporarily_unavailable" };
  answers["/token"] = () => (seen.length < 3 ? [503, busy, { "retry-after": "0" }] : [200, granted]);
  const kept = await client.exchange(READ);
  assert.equal(kept.token, "a.b.c");
  assert.equal(seen.length, 3);
  // The server goes away while the token still lives: it is handed out; once it is dead, nothing is.
  w.clock.advance(31);
  answers["/token"] = () => [503, busy, { "retry-after": "0" }];
  assert.equal((await client.exchange(READ)).token, "a.b.c");
  w.clock.advance(14);
  await fails(client.exchange(READ), UnavailableError, { status: 503, retryAfterSeconds: 0 });
  // After a refusal the old token is not handed out, though it lives and the server is away again.
  answers["/token"] = () => [200, granted];
  await client.exchange(READ);
  w.clock.advance(31);
  answers["/token"] = () => [400, { error: "invalid_scope" }];
  await fails(client.exchange(READ), DeniedError, { code: "invalid_scope" });
  answers["/token"] = () => [503, busy, { "retry-after": "0" }];
  await fails(client.exchange(READ), UnavailableError, { status: 503 });
  seen.length = 0;
  answers["/v1/tasks"] = () => [503, busy];
  await fails(client.openTask({ purpose: "x" }), UnavailableError, { isOutcomeUnknown: true });
  assert.deepEqual(seen, ["/v1/tasks"]);
  answers["/token"] = () => [
    400,
    { error: "authorization_pending", approval_id: "ap1", approval_uri: "https://sts.acme.example/a", interval: 5 },
  ];
  const needed = await fails(client.exchange(READ), ApprovalNeededError, { code: "authorization_pending" });
  assert.deepEqual(needed.approval, { id: "ap1", uri: "https://sts.acme.example/a", intervalSeconds: 5 });
  answers["/token"] = () => [400, { error: "authorization_pending", approval_id: "ap1" }];
  const bare = await fails(client.exchange(READ), ApprovalNeededError);
  assert.deepEqual(bare.approval, { id: "ap1", uri: undefined, intervalSeconds: undefined });
});

test("an approval is asked for at the call, not at the exchange; the same call by any token of the work passes once", async () => {
  const crm = await answering(() => [200, { made: true }]);
  await w.apply(
    `
resources:
  crm: { http: "${crm}", actions: { write: [POST /contacts] } }
grants:
  - { agent: release-bot, resource: crm, actions: [write], approval: { by: owner } }
`,
    "crm.yaml",
  );
  const task = await agent("release-bot").openTask({ purpose: "x" });
  const url = `${w.server.issuer}/http/crm/contacts`;
  const call = async (): Promise<{ status: number; body: Record<string, unknown> }> => {
    const token = await task.exchange({ resource: `${w.server.issuer}/http/crm`, scopes: ["crm:write"] });
    const headers = { ...(await token.headers({ method: "POST", url })), "content-type": "application/json" };
    const answer = await fetch(url, { method: "POST", headers, body: '{"name":"Ann"}' });
    return { status: answer.status, body: (await answer.json()) as Record<string, unknown> };
  };
  const waits = await call();
  assert.deepEqual([waits.status, waits.body["code"]], [403, "approval_required"]);
  const approval = waits.body["approval"] as Record<string, unknown>;
  assert.deepEqual(Object.keys(approval).toSorted(), ["by", "expires_at", "id", "status", "uri"]);
  const decision = { decision: "approve", reason: "looked at it" };
  assert.equal((await w.operator("POST", `/v1/approvals/${String(approval["id"])}`, decision)).status, 200);
  w.clock.advance(40);
  assert.deepEqual(await call(), { status: 200, body: { made: true } });
  assert.equal((await call()).body["code"], "approval_required", "used once");
});

test("no error of the client holds a token", async () => {
  const workloadToken = w.workload("nobody");
  const client = createClient({ url: w.url, proof: async () => ({ workloadToken }), clock: w.clock });
  const error = await client.exchange(READ).catch((thrown: unknown) => thrown);
  assert.ok(error instanceof Error);
  const { inspect } = await import("node:util");
  assert.ok(!inspect(error, { depth: 9, showHidden: true }).includes(workloadToken.slice(-20)));
});

type Answering = [status: number, body: object, headers?: Record<string, string>];

/** A server that is not Ephor, for answers that Ephor gives on bad days. */
async function answering(answer: (path: string) => Answering | Promise<Answering>): Promise<string> {
  const server = createServer(async (request, response) => {
    request.resume();
    const [status, body, headers = {}] = await answer(request.url ?? "");
    response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
