import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_BEARER,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });

const onBehalf = (agent: string, subject: string, form: Form): Promise<Answer> =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload(agent),
    actor_token_type: JWT_TYPE,
    ...form,
  });
const redeem = (agent: string, token: string, form: Form): Promise<Answer> =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: token,
    subject_token_type: ACCESS_TOKEN_TYPE,
    actor_token: w.workload(agent),
    actor_token_type: JWT_TYPE,
    ...form,
  });
const byHandle = (agent: string, handle: string, form: Form): Promise<Answer> =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: handle,
    subject_token_type: TASK_TYPE,
    actor_token: w.workload(agent),
    actor_token_type: JWT_TYPE,
    ...form,
  });
const tokenOf = (answer: Answer): string => {
  assert.equal(answer.status, 200, answer.text);
  return answer.body["access_token"] as string;
};
const refused = (answer: Answer, error: string): void => {
  assert.equal(answer.status, 400, answer.text);
  assert.equal(answer.body["error"], error, answer.text);
};
const handOver = `${w.server.issuer}/agents/summary-bot`;

test("a human's request carried by an agent names both: sub the human, act the agent (RFC 8693 §4.1)", async () => {
  const claims = decodeJwt(
    tokenOf(await onBehalf("triage-bot", w.human(), { resource: BILLING, scope: "billing:refund" })),
  );
  assert.equal(claims.sub, "okta|00u1ab");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
  assert.equal(claims["client_id"], "triage-bot");
});

test("a human's token without an acting agent is refused", async () => {
  refused(
    await w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.human(),
      subject_token_type: ID_TOKEN_TYPE,
      resource: BILLING,
      scope: "billing",
    }),
    "invalid_request",
  );
});

test("a human's token belongs to the first agent that exchanges it", async () => {
  const human = w.human("00u-first");
  tokenOf(await onBehalf("triage-bot", human, { resource: BILLING, scope: "billing:refund" }));
  refused(
    await onBehalf("summary-bot", human, { resource: BILLING, scope: "billing:read_invoice" }),
    "invalid_request",
  );
  tokenOf(await onBehalf("triage-bot", human, { resource: BILLING, scope: "billing:read_invoice" }));
});

test("a grant on behalf of humans of a group refuses a human outside it, and the agent for itself", async () => {
  refused(
    await onBehalf("triage-bot", w.human("00u-out", { groups: ["sales"] }), {
      resource: BILLING,
      scope: "billing:refund",
    }),
    "invalid_scope",
  );
  refused(await w.self("triage-bot", { resource: BILLING, scope: "billing:refund" }), "invalid_scope");
});

test("the same subject token continues the task it opened; another one opens another", async () => {
  const human = w.human("00u-cont");
  const first = decodeJwt(tokenOf(await onBehalf("triage-bot", human, { resource: BILLING, scope: "billing:refund" })));
  const second = decodeJwt(tokenOf(await onBehalf("triage-bot", human, { audience: "ledger", scope: "ledger:read" })));
  const other = decodeJwt(
    tokenOf(await onBehalf("triage-bot", w.human("00u-cont"), { resource: BILLING, scope: "billing:refund" })),
  );
  assert.equal(second["txn"], first["txn"]);
  assert.notEqual(other["txn"], first["txn"]);
});

test("a hand-over lets the addressee act under the whole path, within what was handed over, and nobody else", async () => {
  const human = w.human("00u-hand");
  const given = tokenOf(await onBehalf("triage-bot", human, { resource: handOver, scope: "billing:read_invoice" }));
  assert.equal(decodeJwt(given).aud, handOver);
  const claims = decodeJwt(
    tokenOf(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" })),
  );
  assert.deepEqual(claims["act"], { sub: "agent|summary-bot", act: { sub: "agent|triage-bot" } });
  assert.equal(claims["txn"], decodeJwt(given)["txn"]);
  assert.equal(claims.sub, "okta|00u-hand");
  // summary-bot holds ledger:read itself, but was not handed it.
  refused(await redeem("summary-bot", given, { audience: "ledger", scope: "ledger:read" }), "invalid_scope");
  refused(await redeem("release-bot", given, { resource: BILLING, scope: "billing:read_invoice" }), "invalid_request");
});

test("an agent may not hand over what it does not hold, nor to an agent it may not delegate to", async () => {
  refused(await onBehalf("triage-bot", w.human("a1"), { resource: handOver, scope: "ledger:write" }), "invalid_scope");
  refused(
    await onBehalf("triage-bot", w.human("a2"), {
      resource: `${w.server.issuer}/agents/release-bot`,
      scope: "billing:refund",
    }),
    "invalid_target",
  );
});

test("a task handle continues the agent's node with fresh authentication; strangers and ended tasks are refused", async () => {
  const given = tokenOf(
    await onBehalf("triage-bot", w.human("00u-handle"), { resource: handOver, scope: "billing:read_invoice" }),
  );
  const { txn, jti } = decodeJwt(given) as { txn: string; jti: string };
  tokenOf(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" }));
  w.clock.advance(120);
  tokenOf(await byHandle("summary-bot", txn, { resource: BILLING, scope: "billing:read_invoice" }));
  tokenOf(await byHandle("summary-bot", `${txn}.${jti}`, { resource: BILLING, scope: "billing:read_invoice" }));
  refused(await byHandle("summary-bot", txn, { audience: "ledger", scope: "ledger:read" }), "invalid_scope");
  refused(await byHandle("release-bot", txn, { resource: BILLING, scope: "billing:read_invoice" }), "invalid_request");
  refused(
    await byHandle("triage-bot", `${txn}.${jti}`, { resource: BILLING, scope: "billing:read_invoice" }),
    "invalid_request",
  );
});

test("an expired hand-over token is refused although its node lives on", async () => {
  const given = tokenOf(
    await onBehalf("triage-bot", w.human("00u-exp"), { resource: handOver, scope: "billing:read_invoice" }),
  );
  tokenOf(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" }));
  w.clock.advance(60);
  refused(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" }), "invalid_request");
});

test("an explicit task has a ceiling and a deadline, and its end refuses everything after it", async () => {
  const bearer = { authorization: `Bearer ${w.workload("triage-bot")}` };
  const opened = await w.request("POST", "/v1/tasks", {
    headers: bearer,
    body: {
      purpose: "triage ticket 4711",
      scopes: ["billing:read_invoice"],
      subject_token: w.human("00u-task"),
      subject_token_type: ID_TOKEN_TYPE,
    },
  });
  assert.equal(opened.status, 201, opened.text);
  const txn = opened.body["txn"] as string;
  assert.deepEqual(opened.body["scopes"], ["billing:read_invoice"]);
  const token = tokenOf(await byHandle("triage-bot", txn, { resource: BILLING, scope: "billing:read_invoice" }));
  refused(await byHandle("triage-bot", txn, { resource: BILLING, scope: "billing:refund" }), "invalid_scope");
  const introspect = () => w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.equal((await introspect()).body["active"], true);
  const ended = await w.request("POST", `/v1/tasks/${txn}/complete`, { headers: bearer });
  assert.equal(ended.status, 200, ended.text);
  assert.deepEqual((await introspect()).body, { active: false });
  refused(await byHandle("triage-bot", txn, { resource: BILLING, scope: "billing:read_invoice" }), "invalid_request");
});

test("client_credentials with private_key_jwt: an agent for itself; a replayed assertion is invalid_client", async () => {
  const assertion = w.privateKeyJwt();
  const ask = () =>
    w.post("/token", {
      grant_type: "client_credentials",
      client_assertion: assertion,
      client_assertion_type: ASSERTION_TYPE,
      resource: BILLING,
      scope: "billing:refund",
    });
  const claims = decodeJwt(tokenOf(await ask()));
  assert.equal(claims.sub, "agent|keyed-bot");
  const again = await ask();
  assert.equal(again.status, 401);
  assert.equal(again.body["error"], "invalid_client");
});

test("jwt-bearer with a workload's token (MCP workload identity): the same answer without client authentication", async () => {
  const ask = (assertion: string) =>
    w.post("/token", { grant_type: JWT_BEARER, assertion, resource: BILLING, scope: "billing:read_invoice" });
  const answer = await ask(w.workload("release-bot"));
  assert.equal(decodeJwt(tokenOf(answer)).sub, "agent|release-bot");
  assert.equal(answer.body["issued_token_type"], undefined);
  refused(await ask(w.workload("release-bot", { aud: "https://elsewhere.example" })), "invalid_grant");
});

test("a killed agent gets nothing, its tokens and those below it are dead, others live; restore revives no old token", async () => {
  const given = tokenOf(
    await onBehalf("triage-bot", w.human("00u-kill"), { resource: handOver, scope: "billing:read_invoice" }),
  );
  const below = tokenOf(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" }));
  const other = tokenOf(await w.self("release-bot", { resource: BILLING, scope: "billing" }));
  const active = async (token: string) =>
    (await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET })).body["active"];
  assert.equal(await active(below), true);
  const killed = await w.operator("POST", "/v1/kill", { agent: "triage-bot", reason: "prompt injection" });
  assert.equal(killed.status, 200, killed.text);
  assert.equal(await active(below), false);
  assert.equal(await active(other), true);
  refused(
    await onBehalf("triage-bot", w.human("00u-kill2"), { resource: BILLING, scope: "billing:refund" }),
    "invalid_request",
  );
  refused(await redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice" }), "invalid_request");
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "triage-bot", reason: "false alarm" })).status, 200);
  assert.equal(await active(below), false);
  tokenOf(await onBehalf("triage-bot", w.human("00u-kill3"), { resource: BILLING, scope: "billing:refund" }));
});
