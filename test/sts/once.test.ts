/** A once-only token at the resource that judges it: `POST /introspect` with `consume=true` (CONTRACT §5 "Once"). */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { BILLING } from "../attacks/chain-world.ts";
import { dpopKey } from "../support/dpop-key.ts";
import { holdGate } from "../support/held-lock.ts";
import { BILLING_SECRET, type Answer } from "../support/world.ts";
import { claimsOf, onceWorld } from "./once-world.ts";

const INACTIVE = { active: false };
const w = await onceWorld({ after });
const inactive = (answer: Answer): void => {
  assert.equal(answer.status, 200, answer.text);
  assert.deepEqual(answer.body, INACTIVE);
};
const basic = { authorization: `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}` };

test("apply takes once where uses can be counted, and at a verify resource demands introspection, now and later", async () => {
  const put = (name: string, spec: object) => w.operator("PUT", name, spec);
  const bare = { resource: "https://bare.acme.example", actions: ["read"] };
  const grant = { agent: "release-bot", resource: "bare", actions: ["read"], once: true };
  assert.equal((await put("/v1/resources/bare", bare)).status, 201);
  const refused = await put("/v1/grants/bare-once", grant);
  assert.equal(refused.status, 422, refused.text);
  assert.match(refused.text, /needs introspection at bare/);
  assert.equal((await put("/v1/grants/bare-once", { ...grant, once: false })).status, 201);
  const agent = { introspection: { agent: "billing-svc" } };
  assert.equal((await put("/v1/resources/bare", { ...bare, ...agent })).status, 200);
  assert.equal((await put("/v1/grants/bare-once", grant)).status, 200);
  const taken = await put("/v1/resources/bare", bare);
  assert.equal(taken.status, 422, taken.text);
  assert.match(taken.text, /needs introspection at bare/);
});

test("asking about a once-only token shows that it is one and spends nothing; using it is active once, then never again", async () => {
  const token = await w.once();
  const claims = claimsOf(token);
  assert.equal(claims["once"], true);
  const active = { active: true, token_type: "Bearer", ...claims };
  for (const form of [{}, { consume: "false" }, {}]) assert.deepEqual((await w.introspect(token, form)).body, active);
  assert.deepEqual(await w.recorded("token.consume", token), []);
  const used = await w.consume(token);
  assert.equal(used.status, 200);
  assert.deepEqual(used.body, active);
  inactive(await w.consume(token));
  inactive(await w.introspect(token));
  assert.deepEqual(await w.recorded("token.consume", token), ["granted", "refused replayed"]);
  const [event] = await w.events({ type: "token.consume", decision: "granted", limit: "1" });
  assert.ok(event);
  const { by, aud, scope, once, path } = event["body"] as Record<string, unknown>;
  assert.deepEqual(
    { by, aud, scope, once, path },
    { by: "resource:billing", aud: BILLING, scope: "billing:refund", once: true, path: ["release-bot"] },
  );
});

test("a token that is not once-only answers each use as before, with one event for each; asking writes none", async () => {
  const token = await w.once({ scope: "billing:read_invoice" });
  assert.equal(claimsOf(token)["once"], undefined);
  for (let i = 0; i < 2; i++) assert.equal((await w.consume(token)).body["active"], true);
  assert.equal((await w.introspect(token)).body["active"], true);
  assert.deepEqual(await w.recorded("token.consume", token), ["granted", "granted"]);
});

test("RFC 9701: the signed answer is active once too", async () => {
  const token = await w.once();
  const signed = async (): Promise<unknown> => {
    const answer = await w.post(
      "/introspect",
      { token, consume: "true" },
      { ...basic, accept: "application/token-introspection+jwt" },
    );
    assert.equal(answer.headers.get("content-type"), "application/token-introspection+jwt");
    return decodeJwt(answer.text)["token_introspection"];
  };
  assert.deepEqual(await signed(), { active: true, token_type: "Bearer", ...claimsOf(token) });
  assert.deepEqual(await signed(), INACTIVE);
});

test("consume is true or false, once; anything else is invalid_request and spends nothing", async () => {
  const token = await w.once();
  for (const value of ["1", "TRUE", "yes", "true ", "true,true"]) {
    const answer = await w.introspect(token, { consume: value });
    assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], value);
    assert.equal(await w.newest("token.introspect"), "refused parameter_invalid", value);
  }
  const twice = await w.introspect(token, { consume: ["true", "true"] });
  assert.deepEqual([twice.status, twice.body["error"]], [400, "invalid_request"]);
  assert.equal(await w.newest("token.introspect"), "refused parameter_repeated");
  assert.equal((await w.consume(token)).body["active"], true);
});

test("a token that came to another resource is inactive there and not used up; nor is it by a stranger", async () => {
  const token = await w.once();
  inactive(await w.asLedger(token, { consume: "true" }));
  assert.deepEqual(await w.recorded("token.consume", token), ["refused token_audience"]);
  const stranger = await w.introspect(token, { consume: "true", client_secret: `${BILLING_SECRET}x` });
  assert.deepEqual([stranger.status, stranger.body["error"]], [401, "invalid_client"]);
  assert.equal(await w.newest("token.introspect"), "refused client_secret_wrong");
  assert.equal((await w.consume(token)).body["active"], true);
  // The resource's own agent uses what is for it.
  const write = await w.onBehalf("summary-bot", w.human("00u-ledger"), { audience: "ledger", scope: "ledger:write" });
  assert.equal((await w.asLedger(String(write.body["access_token"]), { consume: "true" })).body["active"], true);
  const [event] = await w.events({ type: "token.consume", limit: "1" });
  assert.ok(event);
  assert.equal((event["body"] as Record<string, unknown>)["by"], "agent:billing-svc");
});

test("what is no live token of ours is inactive when it is used, each with its reason", async () => {
  inactive(await w.consume("garbage"));
  assert.equal(await w.newest("token.consume"), "refused token_malformed");
  inactive(await w.consume(w.workload("release-bot")));
  assert.match(await w.newest("token.consume"), /^refused token_/);

  const revoked = await w.once();
  assert.equal((await w.post("/revoke", { token: revoked }, basic)).status, 200);
  inactive(await w.consume(revoked));
  assert.deepEqual(await w.recorded("token.consume", revoked), ["refused killed"]);

  const ended = await w.once();
  const done = await w.request("POST", `/v1/tasks/${String(claimsOf(ended)["txn"])}/complete`, {
    headers: { authorization: `Bearer ${w.workload("release-bot")}` },
  });
  assert.equal(done.status, 200, done.text);
  inactive(await w.consume(ended));
  assert.deepEqual(await w.recorded("token.consume", ended), ["refused task_ended"]);

  const old = await w.once();
  w.clock.advance(45);
  inactive(await w.consume(old));
  assert.equal(await w.newest("token.consume"), "refused token_expired");
});

test("a used token can be revoked, and stays inactive", async () => {
  const token = await w.once();
  assert.equal((await w.consume(token)).body["active"], true);
  assert.equal((await w.post("/revoke", { token }, basic)).status, 200);
  inactive(await w.consume(token));
  inactive(await w.introspect(token));
});

test("a key-bound once-only token is used by its resource like any other, and shows its key", async () => {
  const key = await dpopKey();
  const htu = `${w.server.issuer}/token`;
  const first = await w.post(
    "/token",
    { grant_type: "client_credentials" },
    { dpop: key.proof({ htu, iat: w.now() }) },
  );
  const nonce = first.headers.get("dpop-nonce") ?? "";
  const token = await w.once({}, { dpop: key.proof({ htu, iat: w.now(), nonce }) });
  const used = await w.consume(token);
  assert.deepEqual(used.body["cnf"], { jkt: key.jkt });
  assert.deepEqual(used.body, { active: true, token_type: "DPoP", ...claimsOf(token) });
  inactive(await w.consume(token));
});

test("a killed resource agent uses nothing, and what it tried is still unused", async () => {
  const write = await w.onBehalf("summary-bot", w.human("00u-svc"), { audience: "ledger", scope: "ledger:write" });
  const token = String(write.body["access_token"]);
  await w.kill({ agent: "billing-svc" });
  const answer = await w.asLedger(token, { consume: "true" });
  assert.deepEqual([answer.status, answer.body["error"]], [401, "invalid_client"]);
  assert.equal(await w.newest("token.introspect"), "refused killed");
  await w.operator("POST", "/v1/restore", { agent: "billing-svc", reason: "test" });
  assert.equal((await w.asLedger(token, { consume: "true" })).body["active"], true);
});

test("INV-07 of thirty uses at one moment one is active, in one batch of the gate or in several", async () => {
  for (let round = 0; round < 3; round++) {
    const token = await w.once();
    const answers = await Promise.all(Array.from({ length: 30 }, () => w.consume(token)));
    assert.equal(answers.filter(({ body }) => body["active"] === true).length, 1);
    assert.ok(answers.every(({ status }) => status === 200));
    const recorded = await w.recorded("token.consume", token);
    assert.equal(recorded.length, 30);
    assert.equal(recorded.filter((one) => one === "granted").length, 1);
    assert.equal(recorded.filter((one) => one === "refused replayed").length, 29);
  }
});

test("INV-09 a use that waits for the gate behind a kill is inactive and spends nothing", async () => {
  const token = await w.once();
  const gate = await holdGate(w.databaseUrl);
  const killing = w.kill({ agent: "release-bot" });
  await gate.waiting(1);
  const using = w.consume(token);
  await gate.waiting(2);
  await gate.release();
  const [killed, used] = await Promise.all([killing, using]);
  assert.equal(killed.status, 200, killed.text);
  inactive(used);
  assert.deepEqual(await w.recorded("token.consume", token), ["refused killed"]);
  const spent = await w.admin("select 1 from ephor.replay where key = $1", [`once:${String(claimsOf(token)["jti"])}`]);
  assert.equal(spent.length, 0);
  await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
  inactive(await w.consume(token));
  assert.equal((await w.consume(await w.once())).body["active"], true);
});
