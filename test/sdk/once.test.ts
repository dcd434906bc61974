/** Once-only tokens through the published libraries, on two replicas behind one name. */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { createClient, type Client } from "../../src/sdk/client.ts";
import { createVerifier, RefusedError, type Verifier } from "../../src/sdk/verify.ts";
import { BILLING } from "../attacks/chain-world.ts";
import { claimsOf, onceWorld, REFUND } from "../sts/once-world.ts";
import { BILLING_SECRET } from "../support/world.ts";

/** Sends each request to the next replica. */
const upstreams: string[] = [];
/** What happens to the next requests, by path: `lost` is answered by a replica and never heard of. */
const faults = new Map<string, "away" | "lost">();
const asked: string[] = [];
const balancer = createServer(async (request, response) => {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const path = request.url ?? "";
  const fault = faults.get(path.replace(/\?.*/, ""));
  asked.push(`${path} ${chunks.join("")}`);
  if (fault === "away") return void response.writeHead(503).end();
  const base = upstreams[asked.length % upstreams.length] as string;
  const headers = Object.fromEntries(
    ["authorization", "content-type", "accept", "dpop"].flatMap((name) => {
      const value = request.headers[name];
      return typeof value === "string" ? [[name, value]] : [];
    }),
  );
  const answer = await fetch(base + path, {
    method: request.method ?? "GET",
    headers,
    ...(request.method === "POST" && { body: Buffer.concat(chunks) }),
  });
  const text = await answer.text();
  if (fault === "lost") return void response.destroy();
  response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") ?? "" }).end(text);
});
await new Promise<void>((resolve) => balancer.listen(0, "127.0.0.1", resolve));
after(() => balancer.close());
const issuer = `http://127.0.0.1:${(balancer.address() as AddressInfo).port}`;

const w = await onceWorld({ after }, { env: { EPHOR_ISSUER: issuer } });
upstreams.push(w.url, (await w.replica()).url);

const credential = { name: "billing", secret: BILLING_SECRET };
const NEEDS = { scope: "billing:refund" };
const asking = (more: object = {}): Verifier =>
  createVerifier({ issuer, resource: BILLING, clock: w.clock, revocation: "introspect", credential, ...more } as never);
const outcome = (verifier: Verifier, token: string): Promise<string> =>
  verifier.verify(token, NEEDS).then(
    () => "served",
    (error: unknown) => (error instanceof RefusedError ? `${error.status} ${error.reason}` : String(error)),
  );

test("two tool servers that are shown one token at one moment, on two replicas: one serves it, once", async () => {
  const [one, two] = [asking(), asking({ revocation: "none" })];
  for (let round = 0; round < 5; round++) {
    const token = await w.once();
    const answers = await Promise.all([one, two, one, two].map((verifier) => outcome(verifier, token)));
    assert.deepEqual(answers.toSorted(), ["401 token_revoked", "401 token_revoked", "401 token_revoked", "served"]);
    assert.equal(await outcome(one, token), "401 token_revoked");
  }
});

test("a request that lacks the scope, and one of a token for another, uses nothing up", async () => {
  const verifier = asking();
  const token = await w.once();
  const lacking = await verifier.verify(token, { scope: "billing:read_invoice" }).catch((error: unknown) => error);
  assert.equal((lacking as RefusedError).reason, "insufficient_scope");
  const elsewhere = asking({ resource: "https://elsewhere.acme.example" });
  assert.equal(await outcome(elsewhere, token), "401 token_audience");
  assert.equal(await outcome(verifier, token), "served");
});

test("when Ephor is away, or its answer is lost, nothing is served; a lost use is not served again", async () => {
  const verifier = asking();
  const token = await w.once();
  await outcome(verifier, await w.once());
  faults.set("/introspect", "away");
  assert.equal(await outcome(verifier, token), "503 introspection_unavailable");
  faults.set("/introspect", "lost");
  assert.equal(await outcome(verifier, token), "503 introspection_unavailable");
  faults.clear();
  assert.equal(await outcome(verifier, token), "401 token_revoked");
  // By two replicas, whose events of one millisecond have no order.
  const recorded = await w.recorded("token.consume", token);
  assert.deepEqual(recorded.toSorted(), ["granted", "refused replayed"]);
});

test("with a silent feed a once-only token is still judged, by its use; others are refused as ever", async () => {
  faults.set("/v1/revocations", "away");
  const verifier = asking({ revocation: "feed", boundSeconds: 2 });
  const token = await w.once();
  assert.equal(await outcome(verifier, token), "served");
  assert.equal(await outcome(verifier, token), "401 token_revoked");
  const plain = await w.once({ scope: "billing:read_invoice" });
  const refused = await verifier.verify(plain, { scope: "billing:read_invoice" }).catch((error: unknown) => error);
  assert.equal((refused as RefusedError).reason, "feed_silent");
  verifier.close();
  faults.clear();
});

const agent = (name: string): Client =>
  createClient({ url: issuer, proof: async () => ({ workloadToken: w.workload(name) }), clock: w.clock });
const order = { resource: REFUND.resource, scopes: [REFUND.scope] };

test("a client hands a once-only token to one caller, and keeps none; others it keeps as before", async () => {
  const client = agent("release-bot");
  const verifier = asking();
  const tokens = await Promise.all([1, 2, 3, 4].map(() => client.exchange(order)));
  tokens.push(await client.exchange(order));
  assert.equal(new Set(tokens.map(({ token }) => token)).size, 5);
  for (const { token } of tokens) assert.equal(await outcome(verifier, token), "served");
  const read = { resource: BILLING, scopes: ["billing:read_invoice"] };
  const plain = await Promise.all([client.exchange(read), client.exchange(read)]);
  assert.equal(plain[0].token, plain[1].token);
});

test("a client vends with a token of its own for each credential", async () => {
  const client = agent("release-bot");
  const one = await client.vend("vault-key");
  assert.equal((await client.vend("vault-key")).lease, one.lease);
  w.clock.advance(50);
  assert.notEqual((await client.vend("vault-key")).lease, one.lease);
});

test("a once-only hand-over is redeemed once by a client, also when it is used at one moment or its answer is lost", async () => {
  const handed = async (): Promise<string> =>
    await agent("triage-bot")
      .onBehalfOf({ token: w.human(`00u-${Math.random()}`), type: "idToken" })
      .handOver({ to: "summary-bot", scopes: ["ledger:write"] });
  const write = (purpose: string) => ({ resource: "ledger", scopes: ["ledger:write"], purpose });
  const given = await handed();
  const work = agent("summary-bot").redeem(given);
  const tokens = await Promise.all([1, 2, 3].map((i) => work.exchange(write(`part ${i}`))));
  assert.deepEqual(
    tokens.map(({ token }) => claimsOf(token)["txn"]),
    Array(3).fill(claimsOf(given)["txn"]),
  );
  await work.exchange(write("later"));

  const second = agent("summary-bot").redeem(await handed());
  faults.set("/token", "lost");
  const before = asked.length;
  const coming = second.exchange(write("lost"));
  while (!asked.slice(before).some((one) => one.startsWith("/token "))) await new Promise((go) => setTimeout(go, 5));
  faults.clear();
  assert.equal(claimsOf((await coming).token)["once"], true);
  // Somebody else's refusal is not taken for that.
  await assert.rejects(
    agent("release-bot")
      .redeem(await handed())
      .exchange(write("stolen")),
    { name: "DeniedError" },
  );
});
