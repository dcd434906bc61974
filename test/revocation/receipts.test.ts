import assert from "node:assert/strict";
import { createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, type JSONWebKeySet } from "jose";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import { BROKER, KEYS, KEYS_SECRET, ROLE } from "../support/aws-order.ts";
import { startFakeGithub } from "../support/fake-github.ts";
import { fakeSts } from "../support/fake-sts.ts";
import { holdLock } from "../support/held-lock.ts";
import type { UpstreamReply } from "../support/upstream-server.ts";
import { usualTrust, world, type Answer } from "../support/world.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

type Line = { kind: string; id: string; outcome: string; at: string; problem?: string };
interface Receipt {
  readonly id: string;
  readonly reason: string;
  readonly truncated?: boolean;
  readonly lines: readonly Line[];
}
interface Signed {
  readonly jws: string;
  readonly iat: number;
  readonly receipt: Receipt;
}

/** What a worker does is waited for so long, in real ms: it looks each second, and at once after a kill. */
const WAIT_MS = 8_000;

const app = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ca = makeKeyPair("Ed25519");
const w = await world({ after }, { trust: usualTrust, start: Math.floor(Date.now() / 1_000) });
const github = await startFakeGithub({
  ids: ["123456"],
  publicKey: createPublicKey(app.privateKey),
  installationId: 7,
  installation: { owner: "acme", repositories: ["widgets"], permissions: { contents: "write" } },
  now: w.now,
});
after(() => github.stop());
const sts = await fakeSts(
  { after },
  {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, arn: BROKER } },
    roles: {
      [ROLE]: {
        trust: {
          Statement: {
            Effect: "Allow",
            Principal: { AWS: BROKER },
            Action: ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
          },
        },
      },
    },
  },
);
await w.apply(
  `
resources:
  widgets: { credential: { github_app: { app_id: 123456, installation_id: 7, secret: github-key, repositories: [widgets], permissions: { contents: read }, api_url: "${github.url}", internal: true } } }
  aws-prod: { credential: { aws: { role_arn: "${ROLE}", region: eu-west-1, secret: aws-root, endpoint: "${sts.url}" } } }
  hosts: { credential: { ssh: { secret: ssh-ca, principals: [deploy] } } }
  crm: { credential: { static: { secret: crm-key, disclose: true } } }
grants:
  - { agent: release-bot, resource: widgets, actions: [vend] }
  - { agent: release-bot, resource: aws-prod, actions: [vend] }
  - { agent: release-bot, resource: hosts, actions: [vend] }
  - { agent: release-bot, resource: crm, actions: [vend], residual: unlimited }
`,
  "vault.yaml",
);
const pem = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();
for (const [name, value] of [
  ["github-key", pem(app.privateKey)],
  ["aws-root", KEYS_SECRET],
  ["ssh-ca", pem(ca.privateKey)],
  ["crm-key", "crm-key-0123456789"],
] as const)
  assert.equal((await w.operator("PUT", `/v1/secrets/${name}`, { value })).status, 200);

/** Read once, as somebody did who keeps receipts: what follows is verified without asking anybody. */
const recordKeys = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;

async function verified(jws: string): Promise<Signed> {
  const { payload } = await jwtVerify(jws, createLocalJWKSet(recordKeys), {
    issuer: w.server.issuer,
    typ: "ephor-receipt+jwt",
    currentDate: new Date(w.clock.nowMs()),
  });
  return { jws, iat: payload.iat ?? 0, receipt: payload["receipt"] as Receipt };
}

async function signed(method: "GET" | "POST", path: string, body?: object): Promise<Signed> {
  const headers = { authorization: `Bearer ${w.operatorKey}`, accept: "application/jwt" };
  const answer = await w.request(method, path, { headers, ...(body && { body }) });
  assert.equal(answer.status, 200, answer.text);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/jwt/);
  return await verified(answer.text);
}
const killed = (what: object): Promise<Signed> =>
  signed("POST", "/v1/kill", { reason: "token seen in a log", ...what });
const stored = (id: string, at = ""): Promise<Signed> => signed("GET", `${at}/v1/kills/${id}`);
const lineOf = ({ receipt }: Signed, lease: string): Line | undefined =>
  receipt.lines.find(({ kind, id }) => kind === "lease" && id === lease);
const outcomeOf = (one: Signed, lease: string): string | undefined => lineOf(one, lease)?.outcome;

async function vending(resource: string): Promise<{ txn: string; answer: Promise<Answer> }> {
  const token = await w.self("release-bot", { audience: resource, scope: `${resource}:vend` });
  assert.equal(token.status, 200, token.text);
  const authorization = `Bearer ${String(token.body["access_token"])}`;
  const answer = w.request("POST", `/credentials/${resource}`, { headers: { authorization } });
  const payload = String(token.body["access_token"]).split(".")[1] ?? "";
  const { txn } = JSON.parse(Buffer.from(payload, "base64url").toString()) as { txn: string };
  return { txn, answer };
}
async function vend(resource: string): Promise<{ lease: string; endsAt: number; answer: Answer }> {
  const answer = await (await vending(resource)).answer;
  assert.equal(answer.status, 200, answer.text);
  return { lease: String(answer.body["lease"]), endsAt: Date.parse(String(answer.body["expires_at"])) / 1_000, answer };
}

interface Row {
  id: string;
  status: string;
  attempts: number;
  ended_at: string | null;
  claimed_until_ms: string;
}
async function until(lease: string, isSo: (row: Row) => boolean): Promise<Row> {
  const deadline = performance.now() + WAIT_MS;
  for (;;) {
    const [row] = await w.admin<Row>("select * from ephor.leases where id = $1", [lease]);
    if (row && isSo(row)) return row;
    assert.ok(performance.now() < deadline, `in vain: ${JSON.stringify(row)}`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}
/** So many tries were made, and nobody is at it: the next one is planned. */
const tried = (lease: string, attempts: number): Promise<Row> =>
  until(lease, (row) => row.attempts >= attempts && Number(row.claimed_until_ms) === 0);

/** GitHub takes nothing back. */
function away(): void {
  github.isAwayFor = ({ method }) => method === "DELETE";
}
const tokenOf = ({ body }: Answer): string => String((body["credential"] as { token: string }).token);

beforeEach(() => {
  github.isAwayFor = undefined;
  github.meddle = undefined;
});

// First: AWS judges by a clock of its own, from which ours goes away below.
test("what nobody can end early is said to die at its own end, no later, and dead from then on; what never ends says so for good", async () => {
  const [certificate, session, value] = [await vend("hosts"), await vend("aws-prod"), await vend("crm")];
  const [one, two, three] = [
    await killed({ lease: certificate.lease }),
    await killed({ lease: session.lease }),
    await killed({ lease: value.lease }),
  ];
  for (const [{ lease, endsAt }, receipt] of [
    [certificate, one],
    [session, two],
  ] as const) {
    const { outcome, at } = lineOf(receipt, lease) ?? {};
    assert.deepEqual([outcome, Date.parse(String(at)) / 1_000], ["dies_at", endsAt]);
    assert.ok(endsAt - w.now() <= 60);
  }
  assert.equal(outcomeOf(three, value.lease), "upstream_cannot");
  w.clock.advance(certificate.endsAt - 1 - w.now());
  for (const [{ lease }, { receipt }] of [
    [certificate, one],
    [session, two],
  ] as const)
    assert.equal(outcomeOf(await stored(receipt.id), lease), "dies_at");
  // What AWS itself would say: the session's name lives on, and may do nothing.
  const key = String((session.answer.body["credential"] as Record<string, unknown>)["access_key_id"]);
  const asks = { action: "s3:GetObject", resource: "arn:aws:s3:::data/a" };
  assert.equal(sts.allows(key, { ...asks, at: session.endsAt - 1 }), true);
  assert.equal(sts.allows(key, { ...asks, at: session.endsAt + 1 }), false);
  w.clock.advance(session.endsAt - w.now());
  for (const [{ lease, endsAt }, { receipt }] of [
    [certificate, one],
    [session, two],
  ] as const) {
    const { outcome, at } = lineOf(await stored(receipt.id), lease) ?? {};
    assert.deepEqual([outcome, Date.parse(String(at)) / 1_000], ["dead", endsAt]);
  }
  w.clock.advance(86_400);
  assert.equal(outcomeOf(await stored(three.receipt.id), value.lease), "upstream_cannot");
});

test("a receipt says `retrying` while an upstream is away, and is issued anew when it gave in: signed, of the same kill, the same at every replica", async () => {
  away();
  const { lease, answer } = await vend("widgets");
  const first = await killed({ lease });
  const { id } = first.receipt;
  assert.equal(outcomeOf(first, lease), "retrying");
  assert.equal(github.live.has(tokenOf(answer)), true, "it is told as it is");
  for (let attempt = 1; attempt <= 3; attempt++) {
    await tried(lease, attempt);
    const now = lineOf(await stored(id), lease);
    assert.deepEqual([now?.outcome, now?.problem, now?.at], ["retrying", "unavailable", lineOf(first, lease)?.at]);
    w.clock.advance(2 ** (attempt - 1));
  }
  await tried(lease, 4);
  github.isAwayFor = undefined;
  w.clock.advance(8);
  const { ended_at: endedAt } = await until(lease, ({ status }) => status === "ended");
  assert.equal(github.live.has(tokenOf(answer)), false);

  const last = await stored(id);
  const { at, problem, outcome } = lineOf(last, lease) ?? {};
  assert.deepEqual([outcome, problem], ["dead", undefined]);
  assert.equal(Date.parse(String(at)), Number(endedAt) * 1_000);
  // Another statement, later, of the same kill: nothing else in it has changed.
  assert.deepEqual([last.receipt.id, last.receipt.reason], [id, first.receipt.reason]);
  assert.ok(last.iat > first.iat);
  const others = ({ receipt }: Signed): Line[] => receipt.lines.filter(({ kind }) => kind !== "lease");
  assert.deepEqual(others(last), others(first));
  // The first one still verifies, and says what was so then.
  assert.equal(outcomeOf(await verified(first.jws), lease), "retrying");
  // A replica that heard of none of it answers the same.
  const replica = await w.replica();
  assert.deepEqual((await stored(id, replica.url)).receipt, last.receipt);
});

test("a receipt that somebody changed does not verify, nor one that somebody else signed, nor another statement in its place", async () => {
  away();
  const { lease } = await vend("widgets");
  const { jws, receipt } = await killed({ lease });
  const [header = "", payload = "", signature = ""] = jws.split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const lying = { ...claims, receipt: JSON.parse(JSON.stringify(receipt).replaceAll("retrying", "dead")) as object };
  assert.notDeepEqual(lying["receipt"], claims["receipt"]);
  const encoded = Buffer.from(JSON.stringify(lying)).toString("base64url");
  const other = makeKeyPair("P-256");
  const failed = { code: "ERR_JWS_SIGNATURE_VERIFICATION_FAILED" };
  await assert.rejects(verified(`${header}.${encoded}.${signature}`), failed);
  await assert.rejects(verified(signJws("ES256", other.privateKey, { encodedHeader: header, claims: lying })), failed);
  const { kid } = decodeProtectedHeader(jws);
  const unsigned = Buffer.from(JSON.stringify({ alg: "none", typ: "ephor-receipt+jwt", kid })).toString("base64url");
  await assert.rejects(verified(`${unsigned}.${encoded}.`));
  const authorization = `Basic ${Buffer.from("billing:billing-secret-0123456789abcdefghijklmnopqrstuv").toString("base64")}`;
  const feed = await w.request("GET", "/v1/revocations", { headers: { authorization } });
  await assert.rejects(verified(String(feed.body["frame"])), { code: "ERR_JWT_CLAIM_VALIDATION_FAILED", claim: "typ" });
  assert.equal(outcomeOf(await verified(jws), lease), "retrying");
});

test("what its upstream never takes back is called `retrying`, with why, for as long as it is so, and never dead", async () => {
  away();
  const { lease, answer } = await vend("widgets");
  const first = await killed({ lease });
  for (let attempt = 1; attempt <= 7; attempt++) {
    await tried(lease, attempt);
    // Past its own end, and past the end that its upstream named.
    w.clock.advance(attempt < 7 ? 60 : 7_200);
  }
  await tried(lease, 8);
  const last = await stored(first.receipt.id);
  assert.deepEqual([outcomeOf(last, lease), lineOf(last, lease)?.problem], ["retrying", "unavailable"]);
  assert.equal(github.live.has(tokenOf(answer)), true);
  const stuck = await w.admin("select 1 from ephor.events where type = 'lease.stuck' and strpos(body, $1) > 0", [
    lease,
  ]);
  assert.equal(stuck.length, 1, "whoever must mend it is told once");
  github.isAwayFor = undefined;
  w.clock.advance(61);
  await until(lease, ({ status }) => status === "ended");
  assert.equal(outcomeOf(await stored(first.receipt.id), lease), "dead");
});

test("a credential that is being made when the kill comes never leaves; the receipt says so when it is gone", async () => {
  let made = (): void => {};
  const asked = new Promise<void>((heard) => {
    github.meddle = ({ method }, reply) => {
      if (method !== "POST") return undefined;
      heard();
      return new Promise<UpstreamReply>((resolve) => (made = () => resolve(reply)));
    };
  });
  const { txn, answer } = await vending("widgets");
  await asked;
  const first = await killed({ txn });
  const [{ id: lease } = { id: "" }] = await w.admin<{ id: string }>("select id from ephor.leases where txn = $1", [
    txn,
  ]);
  assert.equal(outcomeOf(first, lease), "retrying");
  made();
  const refused = await answer;
  assert.ok([401, 503].includes(refused.status), refused.text);
  assert.ok(!("credential" in refused.body));
  await until(lease, ({ status }) => status === "ended");
  const last = await stored(first.receipt.id);
  assert.deepEqual([outcomeOf(last, lease), last.receipt.id], ["dead", first.receipt.id]);
  assert.equal(github.live.size, 0);
});

test("a kill is answered in time though nobody could look what it hits: nothing is called dead unseen, and the stored receipt is whole", async () => {
  away();
  const { lease } = await vend("widgets");
  const token = await w.self("release-bot", {
    resource: "https://billing.acme.example",
    scope: "billing:read_invoice",
  });
  assert.equal(token.status, 200, token.text);
  const lock = await holdLock(w.databaseUrl, "lock table ephor.hops in access exclusive mode");
  const first = await killed({ agent: "release-bot", lease }).finally(lock.release);
  assert.equal(first.receipt.truncated, true);
  assert.deepEqual(
    first.receipt.lines.map(({ kind, outcome }) => [kind, outcome]),
    [
      ["agent", "dead"],
      ["lease", "retrying"],
    ],
  );
  const deadline = performance.now() + WAIT_MS;
  let last = await stored(first.receipt.id);
  while (last.receipt.truncated === true) {
    assert.ok(performance.now() < deadline, "it is never whole");
    await new Promise((resolve) => setTimeout(resolve, 15));
    last = await stored(first.receipt.id);
  }
  assert.ok(last.receipt.lines.some(({ kind, outcome }) => kind === "jti" && outcome === "dead"));
  assert.equal(outcomeOf(last, lease), "retrying");
  github.isAwayFor = undefined;
  w.clock.advance(61);
  await until(lease, ({ status }) => status === "ended");
  assert.equal(outcomeOf(await stored(first.receipt.id), lease), "dead");
});
