/** INV-29 over every route: who was refused and who was granted what is one row, and says all it must. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { REASONS } from "../../src/core/oauth/reasons.ts";
import { routes } from "../../src/http/routes/all.ts";
import type { Route } from "../../src/http/route.ts";
import { BILLING_SECRET, type Answer } from "../support/world.ts";
import { asserted, chainWorld, claimsOf, READ_INVOICE } from "./chain-world.ts";
import { assertNothingLeaked, eventOf, granted } from "./refusals.ts";

const w = await chainWorld({ after });
const ULID = /^[0-9A-HJKMNP-TV-Z]{26}$/;
const UNKNOWN = "01J00000000000000000000000";
/** But those at which a resource's token or a signed event is the proof: their own tests look at what is recorded. */
const UNGUARDED: ReadonlySet<unknown> = new Set(["none", "holder", "transmitter", "channel"]);
const guarded = routes.filter((route) => !UNGUARDED.has(route.auth));
let network = 0;

const pathOf = (route: Route, name = "zzz"): string =>
  (route.auth === "client" && route.query?.safeParse({}).success === false
    ? `${route.path}?stream_id=${UNKNOWN}`
    : route.path
  )
    .replace(/\{(?:name|resource)\}/, name)
    .replace(/\{(?:txn|id|stream_id|decision)\}/, UNKNOWN);

/** Whoever asks a client's route is judged after its shape. */
const bodyOf = (route: Route): object =>
  route.auth === "client" && route.body?.safeParse({}).success === false
    ? { stream_id: UNKNOWN, status: "enabled" }
    : {};

function ask(
  route: Route,
  authorization: string | undefined,
  o: { body?: unknown; path?: string } = {},
): Promise<Answer> {
  network += 1;
  return w.request(route.method, o.path ?? pathOf(route), {
    headers: { "x-forwarded-for": `10.200.${network}.1`, ...(authorization === undefined ? {} : { authorization }) },
    ...(route.body === undefined ? {} : { body: o.body ?? bodyOf(route) }),
  });
}

/** The one row of an answer, well formed. */
async function row(
  answer: Answer,
  label: string,
): Promise<{ decision: string; reason: string | null; agent: string | null; body: Record<string, unknown> }> {
  const event = await eventOf(w, answer, label);
  const body = JSON.parse(event.body) as Record<string, unknown>;
  assert.equal(body["requestId"], answer.headers.get("x-request-id"), label);
  assert.match(String(body["replica"]), ULID, label);
  assert.equal(new Date(String(body["at"])).getTime(), Math.floor(w.clock.nowMs()), label);
  assert.equal(typeof body["trust_version"], "number", `${label}: no trust version in ${event.body}`);
  assert.ok(["granted", "refused", "noted"].includes(event.decision), label);
  if (event.decision === "refused") assert.ok((REASONS as readonly string[]).includes(event.reason), label);
  if (event.agent !== null) assert.equal(body["agent"], event.agent, label);
  return { ...event, body };
}

async function refusedRow(
  answer: Answer,
  label: string,
): Promise<{ reason: string | null; agent: string | null; body: Record<string, unknown> }> {
  const event = await row(answer, label);
  assert.equal(event.decision, "refused", label);
  return event;
}

test("INV-29 every guarded route records whoever does not prove himself, once, with reason and route", async () => {
  assert.ok(guarded.length > 20);
  for (const route of guarded) {
    for (const [kind, authorization] of Object.entries({
      nobody: undefined,
      garbage: "Bearer garbage",
      key: `Bearer ${w.operatorKey}x`,
      basic: "Basic eDp5",
    })) {
      const label = `${route.method} ${route.path} ${kind}`;
      const answer = await ask(route, authorization);
      assert.equal(answer.status, 401, `${label}: ${answer.text}`);
      const { body, agent } = await refusedRow(answer, label);
      assert.equal(agent, null, label);
      assert.ok(String(body["route"]).endsWith(route.path), `${label}: ${String(body["route"])}`);
    }
  }
});

test("INV-29 every guarded route records an agent without the right, once and by its name; and one with it", async () => {
  const watcher = `Bearer ${granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor", ttl: "59" }))}`;
  for (const route of guarded.filter((one) => typeof one.auth === "object")) {
    const label = `${route.method} ${route.path}`;
    const scope = (route.auth as { scope: string }).scope;
    const mayAsk = scope === "read" || scope === "audit";
    const answer = await ask(route, watcher);
    // These leave a second one, which says what was read.
    if (["/v1/audit/export", "/v1/audit/{event}/recording"].includes(route.path)) continue;
    const event = await row(answer, label);
    assert.equal(event.decision, mayAsk ? "granted" : "refused", `${label}: ${answer.text}`);
    assert.equal(event.agent, "watch-bot", label);
    if (!mayAsk) assert.deepEqual([answer.status, event.reason], [403, "insufficient_scope"], label);
    assert.match(String(event.body["jti"]), ULID, label);
  }
});

test("INV-29 an agent at its own routes is recorded by its name, also when what it sends is malformed", async () => {
  for (const route of guarded.filter((one) => one.auth === "agent")) {
    const label = `${route.method} ${route.path}`;
    for (const path of [undefined, ...(route.params ? [route.path.replace("{txn}", "no-txn")] : [])]) {
      const answer = await ask(route, `Bearer ${w.workload("release-bot")}`, path === undefined ? {} : { path });
      assert.ok(answer.status >= 400 && answer.status < 500, `${label}: ${answer.status}`);
      assert.equal((await refusedRow(answer, label)).agent, "release-bot", label);
    }
  }
  assert.equal((await w.kill({ agent: "lonely-bot" })).status, 200);
  const killed = await ask(
    guarded.find((one) => one.path === "/v1/tasks") as Route,
    `Bearer ${w.workload("lonely-bot")}`,
  );
  const event = await refusedRow(killed, "killed");
  assert.deepEqual([event.reason, event.agent], ["killed", "lonely-bot"]);
});

test("INV-29 whatever an operator changes is one row with his name and the request's id", async () => {
  const held = claimsOf(await w.self("release-bot", READ_INVOICE));
  const agent = {
    owner: "dana@acme.example",
    trust: [{ issuer: "cluster", claims: { sub: "system:serviceaccount:agents:new" } }],
  };
  const changes: [string, string, unknown, string][] = [
    ["PUT", "/v1/agents/new-bot", agent, "trust.apply"],
    ["PUT", "/v1/agents/new-bot/status", { status: "suspended", reason: "test" }, "agent.status"],
    ["DELETE", "/v1/agents/new-bot", undefined, "trust.apply"],
    ["PUT", "/v1/issuers/new-issuer", { url: "https://issuer.example", audience: "a" }, "trust.apply"],
    ["PUT", "/v1/resources/new-tool", { resource: "https://tool.example", actions: ["go"] }, "trust.apply"],
    ["PUT", "/v1/grants/new-grant", { agent: "release-bot", resource: "new-tool", actions: ["go"] }, "trust.apply"],
    ["POST", "/v1/apply", { source: "inv-29.yaml", file: "agents: {}\n" }, "trust.apply"],
    ["POST", "/v1/kill", { jti: held.jti, reason: "test" }, "kill"],
    ["POST", "/v1/kill", { agent: "summary-bot", reason: "test" }, "kill"],
    ["POST", "/v1/restore", { agent: "summary-bot", reason: "test" }, "restore"],
  ];
  for (const [method, path, body, type] of changes) {
    const answer = await w.operator(method, path, body);
    assert.ok(answer.status === 200 || answer.status === 201, `${method} ${path}: ${answer.text}`);
    const event = await row(answer, path);
    assert.deepEqual([event.decision, event.body["type"]], ["granted", type], path);
    assert.match(String(event.agent), /^operator:/, path);
  }
});

test("INV-29 an agent that manages trust and reaches for its own rights is refused under its name", async () => {
  await w.apply(
    `agents:
  clerk: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:clerk" } }] }
grants:
  - { agent: clerk, resource: ephor, actions: [trust] }
`,
    "clerk.yaml",
  );
  const clerk = granted(await w.self("clerk", { resource: `${w.server.issuer}/v1`, scope: "ephor:trust" }));
  const put = (name: string, body: unknown): Promise<Answer> =>
    w.request("PUT", `/v1/grants/${name}`, { headers: { authorization: `Bearer ${clerk}` }, body });
  const own = await put("mine", { agent: "clerk", resource: "billing", actions: ["refund"] });
  assert.equal(own.status, 403, own.text);
  const rows = await w.admin<{ type: string; decision: string; agent: string }>(
    "select type, decision, agent from ephor.events where strpos(body, $1) > 0 order by id",
    [`"requestId":"${own.headers.get("x-request-id")}"`],
  );
  assert.deepEqual(
    rows.map((event) => [event.type, event.decision, event.agent]),
    [
      ["admin.request", "granted", "clerk"],
      ["trust.apply", "refused", "clerk"],
    ],
  );
  const other = await put("theirs", { agent: "release-bot", resource: "billing", actions: ["refund"] });
  assert.equal(other.status, 201, other.text);
});

test("INV-29 the OAuth endpoints record grants and refusals with agent, subject, chain, token id and trust version", async () => {
  const issued = await w.onBehalf("triage-bot", w.human("h29"), READ_INVOICE);
  const event = await row(issued, "token");
  const { jti, txn } = claimsOf(issued);
  assert.equal(event.decision, "granted");
  const { agent, sub, resource, path } = event.body;
  assert.deepEqual(
    { agent, sub, resource, path, jti: event.body["jti"], txn: event.body["txn"] },
    { agent: "triage-bot", sub: "okta|h29", resource: "billing", path: ["triage-bot"], jti, txn },
  );

  const refused = await refusedRow(
    await w.onBehalf("triage-bot", w.human("h29"), { audience: "ledger", scope: "ledger:write" }),
    "scope",
  );
  assert.deepEqual(
    [refused.agent, refused.body["sub"], refused.body["scope"], refused.body["jti"]],
    ["triage-bot", "okta|h29", "ledger:write", undefined],
  );
  await w.kill({ jti });
  const live = granted(await w.self("release-bot", READ_INVOICE));
  assert.equal(
    (await refusedRow(await w.introspect(live, { client_secret: "wrong" }), "introspect")).reason,
    "client_secret_wrong",
  );
  const revoked = await w.post("/revoke", { token: live, client_id: "billing", client_secret: BILLING_SECRET });
  const revocation = await row(revoked, "revoke");
  assert.deepEqual(
    [revocation.decision, revocation.body["type"], revocation.body["jti"]],
    ["granted", "token.revoke", claimsOf(live).jti],
  );
  const byAgent = await refusedRow(await w.post("/introspect", { ...asserted(w.workload("billing-svc")) }), "no token");
  assert.deepEqual([byAgent.reason, byAgent.agent], ["parameter_missing", "billing-svc"]);
});

test("INV-29 no row holds a token, and each is in a stream without a gap", async () => {
  await assertNothingLeaked(w);
  const gaps = await w.admin(
    "select stream from ephor.events group by stream having count(*) <> max(seq) or min(seq) <> 1",
  );
  assert.deepEqual(gaps, []);
});
