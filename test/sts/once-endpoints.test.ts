/** A once-only token at Ephor's own endpoints, and what becomes of it in a chain (CONTRACT §2 rule 3, §5 "Once"). */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { dpopKey } from "../support/dpop-key.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, type Answer, type Form } from "../support/world.ts";
import { claimsOf, ONCE, onceWorld } from "./once-world.ts";

const DOMAIN = "prod.acme.example";
const w = await onceWorld({ after }, { env: { EPHOR_TRUST_DOMAIN: DOMAIN } });
const issuer = w.server.issuer;

const VEND = { audience: "vault-key", resource: undefined, scope: "vault-key:vend" };
const API = { resource: `${issuer}/v1`, scope: "ephor:read" };
const vend = (token: string, headers: Record<string, string> = { authorization: `Bearer ${token}` }): Promise<Answer> =>
  w.request("POST", "/credentials/vault-key", { headers });
const api = (token: string, method = "GET", path = "/v1/agents", body?: unknown): Promise<Answer> =>
  w.request(method, path, { headers: { authorization: `Bearer ${token}` }, ...(body === undefined ? {} : { body }) });
const tokenOf = (answer: Answer): string => {
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};
const refusedAs = async (answer: Answer, face: [number, string], recorded: [string, string]): Promise<void> => {
  assert.deepEqual([answer.status, answer.body["error"] ?? answer.body["code"]], face, answer.text);
  assert.equal(await w.newest(recorded[0]), `refused ${recorded[1]}`);
};
const isSpent = async (token: string): Promise<boolean> => {
  const key = `once:${String(claimsOf(token)["jti"])}`;
  return (await w.admin("select 1 from ephor.replay where key = $1", [key])).length > 0;
};

test("a vend uses the token: the second one is 401 as with a dead token, one that was issued anew is served", async () => {
  const token = await w.once(VEND);
  assert.equal(claimsOf(token)["once"], true);
  const first = await vend(token);
  assert.equal(first.status, 200, first.text);
  await refusedAs(await vend(token), [401, "invalid_token"], ["admin.request", "replayed"]);
  assert.equal((await vend(await w.once(VEND))).status, 200);
});

test("INV-07 of twelve vends at one moment one is served, and one lease is made", async () => {
  const token = await w.once(VEND);
  const answers = await Promise.all(Array.from({ length: 12 }, () => vend(token)));
  assert.equal(answers.filter(({ status }) => status === 200).length, 1);
  assert.equal(answers.filter(({ status }) => status === 401).length, 11);
  const recorded = await w.recorded("credential.vend", token);
  assert.equal(recorded.filter((one) => one === "granted").length, 1);
  assert.ok(
    recorded.every((one) => one === "granted" || one === "refused replayed"),
    recorded.join(),
  );
  const leases = await w.admin("select 1 from ephor.leases where facts ->> 'jti' = $1", [claimsOf(token)["jti"]]);
  assert.equal(leases.length, 1);
});

test("a vend that is refused by decision uses nothing up", async () => {
  const grant = { agent: "release-bot", resource: "vault-key", actions: ["vend"], residual: "unlimited", once: true };
  const put = (more: object): Promise<Answer> => w.operator("PUT", "/v1/grants/at-times", { ...grant, ...more });
  assert.equal((await w.operator("PUT", "/v1/grants/at-times", grant)).status, 201);
  await w.apply(ONCE.replace(/^.*name: vends.*$/m, ""), "once.yaml");
  const token = await w.once(VEND);
  assert.equal((await put({ when: 'task.purpose == "never"' })).status, 200);
  const refused = await vend(token);
  assert.equal(refused.status, 403, refused.text);
  assert.match((await w.recorded("credential.vend", token)).join(), /^refused condition_/);
  assert.equal(await isSpent(token), false);
  assert.equal((await put({})).status, 200);
  assert.equal((await vend(token)).status, 200);
});

test("a key-bound once-only token is used up by its first proof; a wrong proof uses neither", async () => {
  const [key, thief] = [await dpopKey(), await dpopKey()];
  const htu = `${issuer}/token`;
  const first = await w.post(
    "/token",
    { grant_type: "client_credentials" },
    { dpop: key.proof({ htu, iat: w.now() }) },
  );
  const nonce = first.headers.get("dpop-nonce") ?? "";
  const token = await w.once(VEND, { dpop: key.proof({ htu, iat: w.now(), nonce }) });
  const by = (who: typeof key): Promise<Answer> =>
    vend(token, {
      authorization: `DPoP ${token}`,
      dpop: who.proof({ htu: `${issuer}/credentials/vault-key`, iat: w.now(), token }),
    });
  await refusedAs(await vend(token), [401, "invalid_token"], ["admin.request", "dpop_missing"]);
  const stolen = await by(thief);
  assert.ok(stolen.status === 400 || stolen.status === 401, stolen.text);
  assert.equal(await w.newest("admin.request"), "refused dpop_key_mismatch");
  assert.equal(await isSpent(token), false);
  assert.equal((await by(key)).status, 200);
  await refusedAs(await by(key), [401, "invalid_token"], ["admin.request", "replayed"]);
});

test("Ephor's own API serves a once-only token one request, whatever the request is", async () => {
  const token = await w.once(API);
  assert.equal((await api(token)).status, 200);
  await refusedAs(await api(token), [401, "invalid_token"], ["admin.request", "replayed"]);

  const racing = await w.once(API);
  const answers = await Promise.all(Array.from({ length: 8 }, () => api(racing)));
  assert.deepEqual(answers.map(({ status }) => status).toSorted(), [200, ...Array<number>(7).fill(401)]);

  const outside = await w.once(API);
  const refused = await api(outside, "GET", "/v1/audit");
  assert.equal(refused.status, 403, refused.text);
  assert.equal(await w.newest("admin.request"), "refused insufficient_scope");
  assert.equal((await api(outside)).status, 200);
});

test("one task is opened, read or ended by a once-only token, and no second", async () => {
  const opening = await w.once(API);
  const answers = await Promise.all(
    Array.from({ length: 6 }, () => api(opening, "POST", "/v1/tasks", { purpose: "once" })),
  );
  const opened = answers.filter(({ status }) => status === 201);
  assert.equal(opened.length, 1, answers.map(({ text }) => text).join());
  const txn = String(opened[0]?.body["txn"]);
  await refusedAs(await api(opening, "GET", `/v1/tasks/${txn}`), [401, "invalid_token"], ["admin.request", "replayed"]);

  const reading = await w.once(API);
  assert.equal((await api(reading, "GET", `/v1/tasks/${txn}`)).status, 200);
  const complete = await api(reading, "POST", `/v1/tasks/${txn}/complete`);
  await refusedAs(complete, [401, "invalid_token"], ["admin.request", "replayed"]);

  const ending = await w.once(API);
  assert.equal((await api(ending, "POST", `/v1/tasks/${txn}/complete`)).status, 200);
  const again = await api(ending, "POST", "/v1/tasks", { purpose: "again" });
  await refusedAs(again, [401, "invalid_token"], ["admin.request", "replayed"]);
});

test("a once-only access token is no subject and no actor: it cannot be turned into another token", async () => {
  const token = await w.once();
  const asSubject = await w.redeem("release-bot", token, {
    resource: "https://billing.acme.example",
    scope: "billing",
  });
  await refusedAs(asSubject, [400, "invalid_request"], ["token.issue", "subject_not_addressed"]);
  for (const form of [
    { actor_token: token, actor_token_type: JWT_TYPE, subject_token: w.human("00u-actor") },
    { subject_token: token, subject_token_type: JWT_TYPE, actor_token: undefined, actor_token_type: undefined },
  ] as Form[]) {
    const answer = await w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token_type: ID_TOKEN_TYPE,
      audience: "billing",
      scope: "billing:refund",
      ...form,
    });
    assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
  }
  assert.equal((await w.consume(token)).body["active"], true);
});

/** Triage-bot hands writing at the ledger, which it may do once-only, to summary-bot. */
const handed = async (scope = "ledger:write"): Promise<string> =>
  tokenOf(
    await w.onBehalf("triage-bot", w.human(`00u-${Math.random()}`), {
      resource: w.agentAudience("summary-bot"),
      scope,
    }),
  );
const WRITE = { audience: "ledger", scope: "ledger:write" };

test("§2 rule 3 what is handed over from a once-only grant is once-only: redeemed once, and what it gives is once-only too", async () => {
  const given = await handed();
  assert.equal(claimsOf(given)["once"], true);
  const token = tokenOf(await w.redeem("summary-bot", given, WRITE));
  assert.equal(claimsOf(token)["once"], true);
  const again = await w.redeem("summary-bot", given, WRITE);
  await refusedAs(again, [400, "invalid_request"], ["token.issue", "replayed"]);
  // Who redeemed it goes on by the task's handle; each token is once-only.
  const { txn, jti } = claimsOf(given);
  const next = tokenOf(await w.byHandle("summary-bot", `${String(txn)}.${String(jti)}`, WRITE));
  assert.equal(claimsOf(next)["once"], true);
  for (const one of [token, next]) {
    assert.equal((await w.asLedger(one, { consume: "true" })).body["active"], true);
    assert.equal((await w.asLedger(one, { consume: "true" })).body["active"], false);
  }
  // What is not once-only is handed over as before, and redeemed again while it lives.
  const plain = await handed("ledger:read");
  assert.equal(claimsOf(plain)["once"], undefined);
  const READ = { audience: "ledger", scope: "ledger:read" };
  for (let i = 0; i < 2; i++)
    assert.equal(claimsOf(tokenOf(await w.redeem("summary-bot", plain, READ)))["once"], undefined);
});

test("a once-only hand-over that is redeemed many times at one moment is redeemed once", async () => {
  const given = await handed();
  const answers = await Promise.all(Array.from({ length: 8 }, () => w.redeem("summary-bot", given, WRITE)));
  assert.equal(answers.filter(({ status }) => status === 200).length, 1, answers.map(({ text }) => text).join());
  assert.ok(answers.every(({ status, body }) => status === 200 || body["error"] === "invalid_request"));
  // Whoever may not redeem it uses nothing up.
  const other = await handed();
  const stranger = await w.redeem("release-bot", other, WRITE);
  await refusedAs(stranger, [400, "invalid_request"], ["token.issue", "subject_not_addressed"]);
  const above = await w.redeem("summary-bot", other, { audience: "billing", scope: "billing:read_invoice" });
  assert.equal(above.status, 400, above.text);
  assert.equal(await isSpent(other), false);
  tokenOf(await w.redeem("summary-bot", other, WRITE));
});

test("an agent's token is once-only when a grant that it needs is; one that suffices without once is preferred", async () => {
  const issued = async (form: Form): Promise<unknown> => claimsOf(await w.once(form))["once"];
  assert.equal(await issued({ scope: "billing:read_invoice billing:refund" }), true);
  assert.equal(await issued({ scope: "billing" }), true);
  assert.equal(await issued({ scope: "billing:read_invoice" }), undefined);
  assert.equal(await issued({ requested_token_type: JWT_TYPE }), true);
  const grant = { agent: "release-bot", resource: "billing", actions: ["refund"] };
  assert.equal((await w.operator("PUT", "/v1/grants/often", grant)).status, 201);
  assert.equal(await issued({}), undefined);
  assert.equal((await w.operator("DELETE", "/v1/grants/often")).status, 200);
  assert.equal(await issued({}), true);
});

test("a transaction token, which services read each for themselves, carries nothing once-only", async () => {
  const ask = (scope: string): Promise<Answer> =>
    w.onBehalf("triage-bot", w.human("00u-domain"), {
      requested_token_type: "urn:ietf:params:oauth:token-type:txn_token",
      audience: DOMAIN,
      scope,
    });
  for (const scope of ["ledger:write", "billing:read_invoice ledger:write"])
    await refusedAs(await ask(scope), [400, "invalid_scope"], ["token.issue", "not_transferable"]);
  tokenOf(await ask("billing:read_invoice ledger:read"));
});
