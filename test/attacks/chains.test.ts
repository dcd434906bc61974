import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ACCESS_TOKEN_TYPE, ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, usualTrust } from "../support/world.ts";
import { actorsOf, asserted, BILLING, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { badToken, granted, refusedNow } from "./refusals.ts";

/** Agents that may each hand over to the next: one more than a chain may hold. */
const LINE = Array.from({ length: 9 }, (_, i) => `hop-${i + 1}`);
const lineAgents = LINE.map(
  (name) =>
    `\n  ${name}: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }] }`,
).join("");
const lineGrants = LINE.map(
  (name, i) => `  - { agent: ${name}, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }
  - { agent: ${name}, delegate_to: [${[LINE[i + 1], ...(i === 0 ? [] : ["hop-1"])].filter(Boolean).join(", ")}] }\n`,
).join("");

const w = await chainWorld(
  { after },
  { trust: (issuers) => usualTrust(issuers).replace("\nresources:", `${lineAgents}\nresources:`) + lineGrants },
);
const to = (name: string) => ({ resource: w.agentAudience(name), scope: "billing:read_invoice" });
/** An explicit task of triage-bot for a human. */
async function taskFor(seconds: number, human = w.human()): Promise<string> {
  const opened = await w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${w.workload("triage-bot")}` },
    body: { purpose: "chains", deadline: w.now() + seconds, subject_token: human, subject_token_type: ID_TOKEN_TYPE },
  });
  assert.equal(opened.status, 201, opened.text);
  return opened.body["txn"] as string;
}

test("A-CHN-01 exchange after exchange, asking for the longest life, ends at the task's deadline", async () => {
  const txn = await taskFor(150);
  const deadline = w.now() + 150;
  const given = granted(await w.byHandle("triage-bot", txn, { ...to("summary-bot"), ttl: "59" }));
  w.clock.advance(49);
  // Ten seconds are left of the parent; the child has its own life.
  granted(await w.redeem("summary-bot", given, { ...READ_INVOICE, ttl: "59" }));
  for (; w.now() < deadline; w.clock.advance(20)) {
    const { iat, exp } = claimsOf(await w.byHandle("summary-bot", txn, { ...READ_INVOICE, ttl: "59" }));
    assert.equal(iat, w.now());
    assert.equal(exp, Math.min(w.now() + 59, deadline));
  }
  await refusedNow(w, badToken("task_expired"), () => w.byHandle("summary-bot", txn, READ_INVOICE));
  await refusedNow(w, badToken("task_expired"), () => w.byHandle("triage-bot", txn, READ_INVOICE));
});

test("A-CHN-01 a life above 59 s is refused, not cut (INV-01)", async () => {
  for (const ttl of ["60", "3600", "0", "-1", "59.5", "1e1", "059"]) {
    const send = () => w.self("release-bot", { ...READ_INVOICE, ttl });
    await refusedNow(w, { error: "invalid_request", reason: "ttl_out_of_range" }, send, `ttl=${ttl}`);
  }
});

test("A-CHN-02 a child that asks for one scope, audience or addressee more than its parent is refused as a whole", async () => {
  const given = await w.handed();
  const scope = { error: "invalid_scope", reason: "scope_above_ceiling" } as const;
  // summary-bot holds both at the ledger for itself; it was not handed them.
  await refusedNow(w, scope, () => w.redeem("summary-bot", given, { audience: "ledger", scope: "ledger:read" }));
  await refusedNow(w, scope, () =>
    w.redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice billing:refund" }),
  );
  const foreign = { error: "invalid_scope", reason: "scope_unknown" } as const;
  await refusedNow(w, foreign, () =>
    w.redeem("summary-bot", given, { resource: BILLING, scope: "billing:read_invoice ledger:read" }),
  );
  const target = { error: "invalid_target", reason: "delegation_not_granted" } as const;
  await refusedNow(w, target, () => w.redeem("summary-bot", given, to("lonely-bot")));
  assert.equal(
    claimsOf(await w.redeem("summary-bot", given, { resource: BILLING, scope: "billing" })).scope,
    "billing:read_invoice",
  );
});

test("A-CHN-02 nobody hands over what it does not hold at that moment", async () => {
  const send = (scope: string) => () =>
    w.onBehalf("triage-bot", w.human(), { resource: w.agentAudience("summary-bot"), scope });
  await refusedNow(
    w,
    { error: "invalid_scope", reason: ["scope_not_granted", "on_behalf_of_mismatch"] },
    send("ledger:write"),
  );
  await refusedNow(w, { error: "invalid_scope", reason: "not_transferable" }, send("ephor:read"));
  granted(await send("ledger:read")());
});

test("A-CHN-03 a child cannot reach a sibling's audience, nor use the sibling's token", async () => {
  const human = w.human();
  const first = granted(await w.onBehalf("triage-bot", human, to("summary-bot")));
  const sibling = granted(
    await w.onBehalf("triage-bot", human, { resource: w.agentAudience("summary-bot"), scope: "ledger:read" }),
  );
  granted(await w.redeem("summary-bot", first, READ_INVOICE));
  await refusedNow(w, { error: "invalid_scope", reason: "scope_above_ceiling" }, () =>
    w.redeem("summary-bot", first, { audience: "ledger", scope: "ledger:read" }),
  );
  granted(await w.redeem("summary-bot", sibling, { audience: "ledger", scope: "ledger:read" }));
  await refusedNow(w, badToken("subject_not_addressed"), () =>
    w.redeem("lonely-bot", sibling, { audience: "ledger", scope: "ledger:read" }),
  );
  // Two nodes of one agent stay two: the handle alone does not say which, and neither widens the other.
  await refusedNow(w, badToken("task_ambiguous"), () => w.byHandle("summary-bot", claimsOf(first).txn, READ_INVOICE));
  const handle = `${claimsOf(first).txn}.${claimsOf(first).jti}`;
  await refusedNow(w, { error: "invalid_scope", reason: "scope_above_ceiling" }, () =>
    w.byHandle("summary-bot", handle, { audience: "ledger", scope: "ledger:read" }),
  );
});

test("A-CHN-04 a subject token with may_act is for the agent that it names and for no other", async () => {
  const mayAct = (name: string) => ({ may_act: { iss: w.workloads.url, sub: `system:serviceaccount:agents:${name}` } });
  await refusedNow(w, badToken("may_act_mismatch"), () =>
    w.onBehalf("summary-bot", w.human("h4", mayAct("triage-bot")), READ_INVOICE),
  );
  for (const may_act of [
    {},
    [],
    null,
    "agent|summary-bot",
    { sub: "agent|summary-bot", iss: w.workloads.url },
    { client_id: ["summary-bot"] },
  ]) {
    await refusedNow(
      w,
      badToken("may_act_mismatch"),
      () => w.onBehalf("summary-bot", w.human("h4", { may_act }), READ_INVOICE),
      JSON.stringify(may_act),
    );
  }
  granted(await w.onBehalf("summary-bot", w.human("h4", mayAct("summary-bot")), READ_INVOICE));
  granted(await w.onBehalf("summary-bot", w.human("h4", { may_act: { client_id: "summary-bot" } }), READ_INVOICE));
});

test("A-CHN-05 an actor token of another agent than the authenticated client is refused", async () => {
  const send = (name: string, form = {}) =>
    w.onBehalf("triage-bot", w.human(), { ...READ_INVOICE, ...asserted(w.workload(name)), ...form });
  await refusedNow(w, badToken("client_mismatch"), () => send("summary-bot"));
  await refusedNow(w, badToken("client_mismatch"), () =>
    w.onBehalf("triage-bot", w.human(), { ...READ_INVOICE, ...asserted(w.privateKeyJwt()) }),
  );
  await refusedNow(w, badToken("client_mismatch"), () =>
    w.onBehalf("triage-bot", w.human(), { ...READ_INVOICE, client_id: "summary-bot" }),
  );
  granted(await send("triage-bot", { client_id: "triage-bot" }));
});

test("A-CHN-06 a subject of one chain and an actor of another do not make a third (splice)", async () => {
  const one = await w.handed(w.human("splice-1"));
  const two = await w.handed(w.human("splice-2"));
  const member = granted(await w.redeem("summary-bot", two, READ_INVOICE));
  // A token of ours never proves an actor: whoever holds one of chain two is not thereby in chain one.
  for (const actor_token of [two, member]) {
    for (const actor_token_type of [ACCESS_TOKEN_TYPE, JWT_TYPE]) {
      const send = () => w.redeem("summary-bot", one, { ...READ_INVOICE, actor_token, actor_token_type });
      await refusedNow(w, badToken(["token_issuer_unknown", "chain_spliced"]), send);
    }
  }
  // A node of chain two under the name of chain one.
  const spliced = `${claimsOf(one).txn}.${claimsOf(two).jti}`;
  await refusedNow(w, badToken("node_unknown"), () => w.byHandle("summary-bot", spliced, READ_INVOICE));
  assert.equal(claimsOf(await w.redeem("summary-bot", one, READ_INVOICE)).sub, "okta|splice-1");
});

test("A-CHN-07 subject and actor exchanged for each other are refused", async () => {
  const swapped = (subject: string, subject_token_type: string, actor: string) => () =>
    w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token: subject,
      subject_token_type,
      actor_token: actor,
      actor_token_type: JWT_TYPE,
      ...READ_INVOICE,
    });
  await refusedNow(w, badToken("actor_not_workload"), swapped(w.workload("triage-bot"), JWT_TYPE, w.human()));
  const given = await w.handed();
  await refusedNow(w, badToken("token_issuer_unknown"), swapped(w.workload("summary-bot"), JWT_TYPE, given));
  granted(await swapped(w.human(), ID_TOKEN_TYPE, w.workload("triage-bot"))());
});

test("A-CHN-08 an agent in the middle cannot drop itself by presenting what it saw of those before it", async () => {
  const human = w.human("00u-held");
  const workload = w.workload("triage-bot");
  const own = granted(
    await w.onBehalf("triage-bot", human, { actor_token: workload, resource: BILLING, scope: "billing:refund" }),
  );
  const given = granted(await w.onBehalf("triage-bot", human, to("summary-bot")));
  const held = granted(await w.redeem("summary-bot", given, READ_INVOICE));
  await refusedNow(w, badToken("subject_bound_elsewhere"), () => w.onBehalf("summary-bot", human, READ_INVOICE));
  await refusedNow(w, badToken("client_mismatch"), () =>
    w.self("summary-bot", {
      token: workload,
      actor_token: w.workload("summary-bot"),
      actor_token_type: JWT_TYPE,
      ...READ_INVOICE,
    }),
  );
  await refusedNow(w, badToken("subject_not_addressed"), () => w.redeem("summary-bot", own, READ_INVOICE));
  // Its own token for the tool server is no subject token either: it would be a way around its hand-over's end.
  await refusedNow(w, badToken("subject_not_addressed"), () => w.redeem("summary-bot", held, READ_INVOICE));
  await refusedNow(w, badToken("subject_not_addressed"), () => w.redeem("triage-bot", given, READ_INVOICE));
  await refusedNow(w, badToken("task_not_member"), () => w.byHandle("lonely-bot", claimsOf(given).txn, READ_INVOICE));
  assert.deepEqual(actorsOf(claimsOf(held)), ["agent|summary-bot", "agent|triage-bot"]);
});

test("A-CHN-09 a chain of eight actors works and a ninth is refused", async () => {
  let token = granted(await w.onBehalf("hop-1", w.human("deep"), to("hop-2")));
  for (let i = 1; i < 7; i++) token = granted(await w.redeem(LINE[i] as string, token, to(LINE[i + 1] as string)));
  const eighth = claimsOf(await w.redeem("hop-8", token, READ_INVOICE));
  assert.deepEqual(
    actorsOf(eighth),
    LINE.slice(0, 8)
      .toReversed()
      .map((name) => `agent|${name}`),
  );
  const answer = await w.redeem("hop-8", token, to("hop-9"));
  // Whether the hand-over or its redemption is refused, the ninth gets nothing.
  if (answer.status !== 200) assert.equal(answer.body["error"], "invalid_request");
  else
    await refusedNow(w, { error: "invalid_request", reason: "chain_depth" }, () =>
      w.redeem("hop-9", granted(answer), READ_INVOICE),
    );
});

test("A-CHN-10 a chain does not come back to an agent that is in it", async () => {
  const given = granted(await w.onBehalf("hop-1", w.human(), to("hop-2")));
  await refusedNow(w, { error: "invalid_target", reason: "chain_loop" }, () => w.redeem("hop-2", given, to("hop-1")));
  await refusedNow(w, { error: "invalid_target", reason: ["chain_loop", "delegation_not_granted"] }, () =>
    w.redeem("hop-2", given, to("hop-2")),
  );
  granted(await w.redeem("hop-2", given, to("hop-3")));
});

test("A-CHN-11 claims of an outside token that look like ours are not copied", async () => {
  const foreign = {
    act: { sub: "agent|release-bot" },
    scope: "billing:refund ledger:write",
    txn: "01J00000000000000000000000",
    chain_id: "7",
    client_id: "release-bot",
    once: false,
    cnf: undefined,
    purpose: "theirs",
    agent: "release-bot",
    path: ["release-bot"],
  };
  const human = claimsOf(await w.onBehalf("triage-bot", w.human("h11", foreign), READ_INVOICE));
  const self = claimsOf(await w.self("release-bot", { token: w.workload("release-bot", foreign), ...READ_INVOICE }));
  assert.deepEqual(Object.keys(human).sort(), [
    "act",
    "aud",
    "client_id",
    "exp",
    "iat",
    "iss",
    "jti",
    "scope",
    "sub",
    "txn",
  ]);
  assert.deepEqual(Object.keys(self).sort(), ["aud", "client_id", "exp", "iat", "iss", "jti", "scope", "sub", "txn"]);
  assert.deepEqual(human.act, { sub: "agent|triage-bot" });
  for (const claims of [human, self]) {
    assert.notEqual(claims.txn, foreign.txn);
    assert.equal(claims.scope, "billing:read_invoice");
  }
});

test("A-CHN-12 there is no impersonation: a human's token without an actor, or an answer without act, is not to be had", async () => {
  const bare = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human(),
    subject_token_type: ID_TOKEN_TYPE,
    ...READ_INVOICE,
  };
  await refusedNow(w, { error: "invalid_request", reason: "actor_missing" }, () => w.post("/token", bare));
  await refusedNow(w, { error: "invalid_request", reason: "actor_missing" }, () =>
    w.post("/token", { ...bare, client_id: "triage-bot" }),
  );
  for (const type of ["id_token", "refresh_token", "saml2", "txn_token"]) {
    const send = () =>
      w.onBehalf("triage-bot", w.human(), {
        ...READ_INVOICE,
        requested_token_type: `urn:ietf:params:oauth:token-type:${type}`,
      });
    await refusedNow(w, { error: "invalid_request", reason: "requested_token_type_unsupported" }, send, type);
  }
  const claims = claimsOf(
    await w.onBehalf("triage-bot", w.human(), { ...READ_INVOICE, requested_token_type: JWT_TYPE }),
  );
  assert.deepEqual(claims.act, { sub: "agent|triage-bot" });
});

test("A-CHN-13 a kill of the root is the death of the grandchild, everywhere", async () => {
  const first = granted(await w.onBehalf("hop-1", w.human(), to("hop-2")));
  const second = granted(await w.redeem("hop-2", first, to("hop-3")));
  const grandchild = granted(await w.redeem("hop-3", second, READ_INVOICE));
  const other = granted(await w.onBehalf("hop-3", w.human(), READ_INVOICE));
  assert.equal(await w.isActive(grandchild), true);
  assert.equal((await w.kill({ agent: "hop-1" })).status, 200);
  assert.equal(await w.isActive(grandchild), false);
  assert.equal(await w.isActive(other), true);
  const { txn, jti } = claimsOf(second);
  await refusedNow(w, badToken("killed"), () => w.redeem("hop-3", second, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("hop-3", txn, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("hop-3", `${txn}.${jti}`, to("hop-4")));
  await refusedNow(w, badToken("killed"), () => w.redeem("hop-2", first, READ_INVOICE));
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "hop-1", reason: "test" })).status, 200);
  assert.equal(await w.isActive(grandchild), false);
  await refusedNow(w, badToken("killed"), () => w.byHandle("hop-3", txn, READ_INVOICE));
});

test("A-CHN-14 a hand-over's end stretches nothing: its node works on until the task's deadline, the token itself does not", async () => {
  const txn = await taskFor(120);
  const deadline = w.now() + 120;
  const given = granted(await w.byHandle("triage-bot", txn, { ...to("summary-bot"), ttl: "20" }));
  granted(await w.redeem("summary-bot", given, READ_INVOICE));
  w.clock.advance(20);
  await refusedNow(w, badToken("token_expired"), () => w.redeem("summary-bot", given, READ_INVOICE));
  w.clock.advance(80);
  assert.equal(claimsOf(await w.byHandle("summary-bot", txn, { ...READ_INVOICE, ttl: "59" })).exp, deadline);
});
