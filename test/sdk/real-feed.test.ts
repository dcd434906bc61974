/** `ephor/verify` on the feed of the real server: what it signs is what the verifier reads. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createVerifier, RefusedError, type FeedProblem, type Verifier } from "../../src/sdk/verify.ts";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, settled, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const LEDGER = "https://ledger.acme.example";

const clock = runningClock();
const w = await world({ after }, { clock });
await w.apply(
  "grants:\n  - { agent: release-bot, resource: ledger, actions: [read] }\n  - { agent: keyed-bot, resource: ledger, actions: [read] }\n",
);
const problems: FeedProblem[] = [];
const common = { issuer: w.server.issuer, clock, onProblem: (problem: FeedProblem) => void problems.push(problem) };
const billing = createVerifier({
  ...common,
  resource: BILLING,
  credential: { name: "billing", secret: BILLING_SECRET },
  boundSeconds: 3,
});
/** By the agent that the trust file names as its introspection client. */
const ledger = createVerifier({
  ...common,
  resource: LEDGER,
  credential: { name: "ledger", assertion: async () => w.workload("billing-svc") },
});
after(() => {
  billing.close();
  ledger.close();
});

const token = async (resource = BILLING, scope = "billing:read_invoice"): Promise<string> => {
  const answer = await settled(() => w.self("release-bot", { resource, scope }));
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};
const claimsOf = (text: string): { jti: string; txn: string } =>
  JSON.parse(Buffer.from(text.split(".")[1] ?? "", "base64url").toString()) as { jti: string; txn: string };
const outcome = (verifier: Verifier, text: string): Promise<string> =>
  verifier.verify(text, { scope: [] }).then(
    () => "served",
    (error: unknown) => (error instanceof RefusedError ? error.reason : String(error)),
  );
const operator = async (path: string, body: object): Promise<void> => {
  const answer = await w.operator("POST", path, { ...body, reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};
/** The token is refused within a second: a hundred looks ten milliseconds apart, and a machine that is held up looks seldom. */
const isRefusedSoon = async (verifier: Verifier, text: string): Promise<void> => {
  for (let look = 1; ; look += 1) {
    const last = await outcome(verifier, text);
    if (last === "token_revoked") return;
    assert.ok(look < 100 && last === "served", last);
    await new Promise((go) => setTimeout(go, 10));
  }
};

test("both kinds of credential follow the feed, and a quiet one keeps serving beyond its bound", async () => {
  assert.deepEqual([await billing.ready(), await ledger.ready()], [true, true], JSON.stringify(problems));
  const start = performance.now();
  const mine = await token();
  while (performance.now() - start < 4_000) {
    assert.equal(await outcome(billing, mine), "served", JSON.stringify(problems));
    await new Promise((go) => setTimeout(go, 50));
  }
});

for (const kind of ["jti", "txn", "agent"] as const) {
  test(`a kill by ${kind} is seen within a second; what it does not cover is served`, async () => {
    const [mine, there] = [await token(), await token(LEDGER, "ledger:read")];
    const other = await w.post("/token", {
      grant_type: "client_credentials",
      client_assertion: w.privateKeyJwt(),
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
      resource: BILLING,
      scope: "billing:read_invoice",
    });
    const target = kind === "agent" ? { agent: "release-bot" } : { [kind]: claimsOf(mine)[kind] };
    await operator("/v1/kill", target);
    await isRefusedSoon(billing, mine);
    if (kind === "agent") await isRefusedSoon(ledger, there);
    else assert.equal(await outcome(ledger, there), "served");
    assert.equal(await outcome(billing, String(other.body["access_token"])), "served");
  });
}

test("a verifier that starts after a kill knows it, and what is issued after a restore is served", async () => {
  await operator("/v1/restore", { agent: "release-bot" });
  const mine = await token();
  await operator("/v1/kill", { jti: claimsOf(mine).jti });
  const late = createVerifier({
    ...common,
    resource: BILLING,
    credential: { name: "billing", secret: BILLING_SECRET },
  });
  assert.equal(await outcome(late, mine), "token_revoked");
  assert.equal(await outcome(late, await token()), "served");
  late.close();
});

test("a wrong credential hears nothing, and everything is refused", async () => {
  const heard: FeedProblem[] = [];
  const wrong = createVerifier({
    ...common,
    resource: BILLING,
    credential: { name: "billing", secret: "x".repeat(43) },
    boundSeconds: 2,
    onProblem: (problem) => heard.push(problem),
  });
  assert.equal(await outcome(wrong, await token()), "feed_silent");
  assert.deepEqual(heard[0], { kind: "refused", status: 401 });
  wrong.close();
});
