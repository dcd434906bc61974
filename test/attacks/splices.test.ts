/** What the catalogue does not list: names given anew, trust that changes under way, guessed handles, tokens in wrong places. */
import assert from "node:assert/strict";
import { createHash, createPublicKey } from "node:crypto";
import { after, test } from "node:test";
import { BILLING_SECRET, ID_TOKEN_TYPE, usualTrust, type Answer } from "../support/world.ts";
import { holdGate } from "../support/held-lock.ts";
import { asserted, BILLING, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { badToken, granted, refused, refusedNow } from "./refusals.ts";

const w = await chainWorld({ after });
const BILLING_HASH = `sha256:${createHash("sha256").update(BILLING_SECRET).digest("hex")}`;
const agents = (...names: string[]): string =>
  names
    .map(
      (name) =>
        `  ${name}: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }] }\n`,
    )
    .join("");
const onBehalf = (agent: string, what: string): string =>
  `  - { agent: ${agent}, ${what}, on_behalf_of: { issuer: okta } }\n`;
const READS = "resource: billing, actions: [read_invoice]";
/** Gives of `first-<n>` and `second-<n>`, the first of which hands over to the second. */
const pair = (n: string): string =>
  `agents:\n${agents(`first-${n}`, `second-${n}`)}grants:\n${onBehalf(`first-${n}`, READS)}${onBehalf(`second-${n}`, READS)}  - { agent: first-${n}, delegate_to: [second-${n}] }\n`;
const to = (name: string) => ({ resource: w.agentAudience(name), scope: "billing:read_invoice" });
const openTask = (agent: string, human: string): Promise<Answer> =>
  w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${w.workload(agent)}` },
    body: { purpose: "x", subject_token: human, subject_token_type: ID_TOKEN_TYPE },
  });

test("an agent that is removed and added again under its name inherits nothing: no token, task, hand-over or human", async () => {
  await w.apply(pair("a"), "a.yaml");
  const human = w.human("heir");
  const unused = granted(await w.onBehalf("first-a", human, to("second-a")));
  const given = granted(await w.onBehalf("first-a", human, to("second-a")));
  const { txn } = claimsOf(given);
  const held = granted(await w.redeem("second-a", given, READ_INVOICE));
  const own = granted(await w.onBehalf("first-a", human, READ_INVOICE));
  await w.apply(`agents:\n${agents("first-a")}grants:\n${onBehalf("first-a", READS)}`, "a.yaml");
  assert.equal(await w.isActive(held), false);
  assert.equal(await w.isActive(own), true);
  await w.apply(pair("a"), "a.yaml");
  assert.equal(await w.isActive(held), false);
  await refusedNow(w, badToken("killed"), () => w.redeem("second-a", given, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("second-a", `${txn}.${claimsOf(given).jti}`, READ_INVOICE));
  // Handed to the one who had the name before, and never used.
  await refusedNow(w, badToken("killed"), () => w.redeem("second-a", unused, READ_INVOICE));
  granted(await w.redeem("second-a", granted(await w.onBehalf("first-a", human, to("second-a"))), READ_INVOICE));

  await w.apply(`agents:\n${agents("second-a")}grants:\n${onBehalf("second-a", READS)}`, "a.yaml");
  await w.apply(pair("a"), "a.yaml");
  assert.equal(await w.isActive(own), false);
  await refusedNow(w, badToken("killed"), () => w.onBehalf("first-a", human, READ_INVOICE));
  await refusedNow(w, badToken("killed"), () => w.byHandle("first-a", txn, READ_INVOICE));
  await refusedNow(w, badToken("subject_bound_elsewhere"), () => w.onBehalf("second-a", human, READ_INVOICE));
  granted(await w.onBehalf("first-a", w.human("heir"), READ_INVOICE));
});

test("a resource that is removed and added again accepts nothing issued for the one before", async () => {
  const resource = (extra = ""): string =>
    `resources:\n  books: { resource: "https://books.acme.example", actions: [read], introspection: { agent: billing-svc } }\ngrants:\n  - { agent: release-bot, resource: books, actions: [read] }\n${extra}`;
  await w.apply(resource(), "books.yaml");
  const asker = asserted(w.workload("billing-svc"));
  const isActive = async (token: string): Promise<unknown> =>
    (await w.post("/introspect", { token, ...asker })).body["active"];
  const old = granted(await w.self("release-bot", { audience: "books", scope: "books:read" }));
  assert.equal(await isActive(old), true);
  assert.equal((await w.operator("POST", "/v1/apply", { source: "books.yaml", file: "grants: []\n" })).status, 200);
  await w.apply(resource(), "books.yaml");
  assert.equal(await isActive(old), false);
  assert.equal(await isActive(granted(await w.self("release-bot", { audience: "books", scope: "books:read" }))), true);
});

test("a grant that anybody on the path loses, or his suspension, refuses those below from the answer on", async () => {
  await w.apply(pair("b"), "b.yaml");
  const given = granted(await w.onBehalf("first-b", w.human(), to("second-b")));
  granted(await w.redeem("second-b", given, READ_INVOICE));
  const handle = `${claimsOf(given).txn}.${claimsOf(given).jti}`;
  const status = (value: string): Promise<Answer> =>
    w.operator("PUT", "/v1/agents/first-b/status", { status: value, reason: "test" });
  assert.equal((await status("suspended")).status, 200);
  await refusedNow(w, badToken("agent_suspended"), () => w.byHandle("second-b", handle, READ_INVOICE));
  assert.equal((await status("active")).status, 200);
  granted(await w.byHandle("second-b", handle, READ_INVOICE));
  await w.apply(pair("b").replace(onBehalf("first-b", READS), ""), "b.yaml");
  await refusedNow(w, { error: "invalid_scope", reason: "scope_not_granted" }, () =>
    w.byHandle("second-b", handle, READ_INVOICE),
  );
  await w.apply(pair("b"), "b.yaml");
  granted(await w.byHandle("second-b", handle, READ_INVOICE));
});

test("trust that changed between the proof and the decision counts as it is now", async () => {
  await w.apply(pair("c"), "c.yaml");
  const asked = async (change: () => Promise<unknown>, mint: () => Promise<Answer>): Promise<Answer> => {
    const gate = await holdGate(w.databaseUrl);
    // The change is first at the gate; the request has decided by what was before.
    const changed = change();
    await gate.waiting(1);
    const answer = mint();
    await gate.waiting(2);
    await gate.release();
    await changed;
    return await answer;
  };
  const without = (): Promise<void> => w.apply(pair("c").replace(onBehalf("first-c", READS), ""), "c.yaml");
  const patient = { withinMs: 5_000 };
  await refusedNow(w, { error: "invalid_scope", reason: "scope_not_granted", ...patient }, () =>
    asked(without, () => w.onBehalf("first-c", w.human(), READ_INVOICE)),
  );
  await w.apply(pair("c"), "c.yaml");
  const suspend = () => w.operator("PUT", "/v1/agents/first-c/status", { status: "suspended", reason: "test" });
  await refusedNow(w, { ...badToken("agent_suspended"), ...patient }, () =>
    asked(suspend, () => w.onBehalf("first-c", w.human(), READ_INVOICE)),
  );
  await w.operator("PUT", "/v1/agents/first-c/status", { status: "active", reason: "test" });
  // The rule that made this workload the agent.
  const otherRule = (): Promise<void> => w.apply(pair("c").replace("agents:first-c", "agents:moved"), "c.yaml");
  await refusedNow(w, { ...badToken("no_rule_matches"), ...patient }, () =>
    asked(otherRule, () => w.onBehalf("first-c", w.human(), READ_INVOICE)),
  );
  await w.apply(pair("c"), "c.yaml");
  granted(
    await asked(
      () => w.apply(pair("d"), "d.yaml"),
      () => w.onBehalf("first-c", w.human(), READ_INVOICE),
    ),
  );
});

test("A-OIDC-02 a human's token that was read before its issuer was changed is judged by what the issuer is now", async () => {
  const change = (audience: string): Promise<Answer> =>
    w.operator("POST", "/v1/apply", { source: "trust.yaml", file: trustWith(`audience: "${audience}"`) });
  const gate = await holdGate(w.databaseUrl);
  const changed = change("api://other");
  await gate.waiting(1);
  const mint = w.onBehalf("triage-bot", w.human(), READ_INVOICE);
  const task = openTask("triage-bot", w.human());
  await gate.waiting(2);
  await gate.release();
  assert.equal((await changed).status, 200, (await changed).text);
  const answer = await mint;
  assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
  assert.equal((await task).status, 400, (await task).text);
  assert.equal((await change("api://ephor")).status, 200);
  granted(await w.onBehalf("triage-bot", w.human(), READ_INVOICE));
});

test("a task handle is no secret and nothing to guess: strangers, cripples and strange spellings hear the same", async () => {
  const given = await w.handed();
  const { txn, jti } = claimsOf(given);
  granted(await w.redeem("summary-bot", given, READ_INVOICE));
  const other = claimsOf(await w.handed());
  const faces = new Set<string>();
  const tries: [string, string, Parameters<typeof badToken>[0]][] = [
    ["lonely-bot", txn, "task_not_member"],
    ["lonely-bot", `${txn}.${jti}`, "task_not_member"],
    ["triage-bot", `${txn}.${jti}`, "task_not_member"],
    ["summary-bot", `${txn}.${txn}`, "task_not_member"],
    ["summary-bot", `${other.txn}.${jti}`, "node_unknown"],
    ["summary-bot", `${txn}.${other.jti}`, "node_unknown"],
    ["summary-bot", "01J00000000000000000000000", ["task_not_member", "task_unknown"]],
    ["summary-bot", txn.toLowerCase(), "task_unknown"],
    ["summary-bot", `${txn}.`, "task_unknown"],
    ["summary-bot", `${txn}.${jti}.${jti}`, "task_unknown"],
    ["summary-bot", `${txn}%`, "task_unknown"],
    ["summary-bot", ` ${txn}`, "task_unknown"],
    ["summary-bot", given, "task_unknown"],
  ];
  for (const [agent, handle, reason] of tries) {
    faces.add(
      (await refusedNow(w, badToken(reason), () => w.byHandle(agent, handle, READ_INVOICE), `${agent} ${handle}`)).text,
    );
  }
  assert.equal(faces.size, 1);
  granted(await w.byHandle("summary-bot", txn, READ_INVOICE));
});

test("a human's token that opened a task belongs to that agent, at /v1/tasks as at /token", async () => {
  const first = w.human("owner-1");
  assert.equal((await openTask("triage-bot", first)).status, 201);
  await refusedNow(w, badToken("subject_bound_elsewhere"), () => w.onBehalf("summary-bot", first, READ_INVOICE));
  assert.equal((await openTask("summary-bot", first)).status, 400);
  granted(await w.onBehalf("triage-bot", first, READ_INVOICE));
  const second = w.human("owner-2");
  granted(await w.onBehalf("triage-bot", second, READ_INVOICE));
  assert.equal((await openTask("summary-bot", second)).status, 400);
  assert.equal((await openTask("triage-bot", second)).status, 201);
});

test("no name or identifier of ours can be taken by trust: not `agent` as an issuer, not our own addresses as a resource", async () => {
  const put = (path: string, body: unknown): Promise<Answer> => w.operator("PUT", path, body);
  for (const name of ["agent", "ephor", "operator", "resource"]) {
    assert.equal(
      (
        await put(`/v1/issuers/${name}`, {
          url: w.humans.url.replace("127.0.0.1", "localhost"),
          audience: "x",
          identifies: "humans",
          internal: true,
        })
      ).status,
      422,
      name,
    );
  }
  for (const path of ["", "/v1", "/agents/summary-bot", "/mcp/x", "/token", "/V1"]) {
    for (const resource of [
      w.server.issuer + path,
      `${w.server.issuer}${path}/`,
      (w.server.issuer + path).replace("http:", "HTTP:"),
    ]) {
      assert.equal((await put("/v1/resources/evil", { resource, actions: ["read"] })).status, 422, resource);
    }
  }
  assert.equal((await put("/v1/resources/ephor", { resource: "https://x.example", actions: ["read"] })).status, 422);
  // Another spelling of a resource that is there.
  for (const resource of [
    `${BILLING}/`,
    "HTTPS://billing.acme.example",
    "https://BILLING.acme.example",
    "https://billing.acme.example:443",
  ]) {
    assert.equal((await put("/v1/resources/evil", { resource, actions: ["read"] })).status, 422, resource);
  }
  // Our own tokens as an outside issuer's.
  assert.equal(
    (await put("/v1/issuers/ourselves", { url: w.server.issuer, audience: BILLING, internal: true })).status,
    422,
  );
});

test("a workload that several agents' rules match is nobody, unless it says who; saying another is refused", async () => {
  await w.apply(
    `agents:\n${agents("twin-a").replace("agents:twin-a", "agents:twin")}${agents("twin-b").replace("agents:twin-b", "agents:twin")}grants:\n  - { agent: twin-a, ${READS} }\n`,
    "twins.yaml",
  );
  await refused(w, badToken("several_agents_match"), () => w.self("twin", READ_INVOICE));
  assert.equal(claimsOf(await w.self("twin", { ...READ_INVOICE, client_id: "twin-a" })).sub, "agent|twin-a");
  await refusedNow(w, { error: "invalid_scope", reason: "scope_not_granted" }, () =>
    w.self("twin", { ...READ_INVOICE, client_id: "twin-b" }),
  );
  await refused(w, badToken(["no_rule_matches", "client_mismatch"]), () =>
    w.self("twin", { ...READ_INVOICE, client_id: "release-bot" }),
  );
});

/** The usual file again, with another audience for its humans. */
function trustWith(audience: string): string {
  const jwk = createPublicKey(w.agentKey).export({ format: "jwk" });
  return usualTrust({ workloads: w.workloads, humans: w.humans })
    .replace('audience: "api://ephor"', audience)
    .replace("AGENT_KEY", JSON.stringify(jwk))
    .replace("BILLING_HASH", BILLING_HASH)
    .replaceAll("OUR_ISSUER", w.server.issuer);
}
