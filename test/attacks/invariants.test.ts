/**
 * The invariants of security.md 2.4 that this version serves, from outside. Those that have files of their own:
 *
 * INV-04 A-CHN-04 … A-CHN-08 in chains.test.ts; INV-05 cross-use.test.ts; INV-07 and INV-24 also over processes and faults in
 * test/postgres; INV-08, INV-09 kills.test.ts and test/authz/gate.test.ts; INV-11 and INV-12 under faults in test/postgres and
 * test/process; INV-13, INV-14 test/audit and test/postgres; INV-15 canary.test.ts; INV-21 test/federation/jwks-cache.test.ts
 * and test/system/egress.test.ts; INV-22 test/vault; INV-26 also A-CLI-02 in clients.test.ts; INV-27 also test/http;
 * INV-29 records.test.ts; INV-30 test/config.test.ts, test/registry/check.test.ts and test/process.
 */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import fc from "fast-check";
import { ID_TOKEN_TYPE, usualTrust, type Answer } from "../support/world.ts";
import { mintWith } from "../support/oidc-issuer.ts";
import type { HandClock } from "../support/hand-clock.ts";
import { holdGate } from "../support/held-lock.ts";
import { actorsOf, asserted, chainWorld, claimsOf, READ_INVOICE, type ChainWorld } from "./chain-world.ts";
import { badToken, granted, refused, refusedNow } from "./refusals.ts";

const NAMES = ["node-a", "node-b", "node-c", "node-d", "node-e"];
const ACTIONS = ["one", "two", "three", "four"];
const agents = NAMES.map(
  (name) =>
    `\n  ${name}: { owner: dana@acme.example, trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:${name}" } }] }`,
).join("");
const lattice = (ttl: Record<string, number>): string =>
  NAMES.map(
    (
      name,
    ) => `  - { agent: ${name}, resource: lattice, actions: [${ACTIONS.join(", ")}], on_behalf_of: { issuer: okta }${ttl[name] ? `, ttl: ${ttl[name]}s` : ""} }
  - { agent: ${name}, delegate_to: [${NAMES.filter((other) => other !== name).join(", ")}] }\n`,
  ).join("");
const w = await chainWorld(
  { after },
  {
    trust: (issuers) =>
      usualTrust(issuers)
        .replace(
          "\nresources:",
          `${agents}\nresources:\n  lattice: { resource: https://lattice.acme.example, actions: [${ACTIONS.join(", ")}] }`,
        )
        .concat(lattice({ "node-c": 20, "node-d": 50 })),
  },
);
const RUNS = 25;
const scopesOf = (actions: readonly string[]): string => actions.map((action) => `lattice:${action}`).join(" ");
const to = (name: string, actions: readonly string[] = ACTIONS) => ({
  resource: w.agentAudience(name),
  scope: scopesOf(actions),
});
const openTask = (agent: string, body: Record<string, unknown>): Promise<Answer> =>
  w.request("POST", "/v1/tasks", {
    headers: { authorization: `Bearer ${w.workload(agent)}` },
    body: { purpose: "x", subject_token: w.human(), subject_token_type: ID_TOKEN_TYPE, ...body },
  });

test("INV-01 no token lives longer than 59 s, its grants' ttl or its task, whatever is asked", async () => {
  const arbitrary = fc.record({
    agent: fc.constantFrom("node-a", "node-c", "node-d"),
    ttl: fc.option(fc.integer({ min: 1, max: 59 }), { nil: undefined }),
    deadline: fc.integer({ min: 1, max: 120 }),
    later: fc.integer({ min: 0, max: 130 }),
  });
  await fc.assert(
    fc.asyncProperty(arbitrary, async ({ agent, ttl, deadline, later }) => {
      const end = w.now() + deadline;
      const opened = await openTask(agent, { deadline: end });
      assert.equal(opened.status, 201, opened.text);
      w.clock.advance(later);
      const answer = await w.byHandle(agent, opened.body["txn"] as string, {
        audience: "lattice",
        scope: "lattice:one",
        ttl: ttl?.toString(),
      });
      assert.equal(answer.status, w.now() < end ? 200 : 400, answer.text);
      if (answer.status !== 200) return;
      const { iat, exp } = claimsOf(answer) as { iat: number; exp: number };
      const cap = { "node-a": 59, "node-c": 20, "node-d": 50 }[agent] ?? 0;
      assert.equal(exp - iat, Math.min(ttl ?? 45, cap, end - w.now()));
      assert.equal(answer.body["expires_in"], exp - iat);
    }),
    { numRuns: RUNS },
  );
});

test("INV-02 what a child gets is within what it was handed, scope by scope, at any depth", async () => {
  const subset = fc.uniqueArray(fc.constantFrom(...ACTIONS), { minLength: 1, maxLength: 4 });
  await fc.assert(
    fc.asyncProperty(subset, subset, subset, async (first, second, asked) => {
      const one = granted(await w.onBehalf("node-a", w.human(), to("node-b", first)));
      const two = await w.redeem("node-b", one, to("node-c", second));
      assert.equal(two.status, second.every((action) => first.includes(action)) ? 200 : 400, two.text);
      const [holder, token, held] =
        two.status === 200 ? (["node-c", granted(two), second] as const) : (["node-b", one, first] as const);
      const answer = await w.redeem(holder, token, { audience: "lattice", scope: scopesOf(asked) });
      assert.equal(answer.status, asked.every((action) => held.includes(action)) ? 200 : 400, answer.text);
      if (answer.status !== 200) assert.equal(answer.body["error"], "invalid_scope");
      const all = claimsOf(await w.redeem(holder, token, { audience: "lattice", scope: "lattice" }));
      assert.deepEqual(all.scope.split(" ").toSorted(), held.map((action) => `lattice:${action}`).toSorted());
    }),
    { numRuns: RUNS },
  );
});

test("INV-03 a chain is the list of those who were handed it, newest first, and nobody is in it twice", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.constantFrom(...NAMES), { minLength: 1, maxLength: 7 }), async (steps) => {
      const path = ["node-a"];
      let token: string | undefined;
      const human = w.human("walker");
      const act = (form: Record<string, string>): Promise<Answer> =>
        token === undefined ? w.onBehalf("node-a", human, form) : w.redeem(path.at(-1) as string, token, form);
      for (const next of steps) {
        const answer = await act(to(next, ["one"]));
        assert.equal(answer.status, path.includes(next) ? 400 : 200, answer.text);
        if (answer.status !== 200) continue;
        token = granted(answer);
        path.push(next);
      }
      const claims = claimsOf(await act({ audience: "lattice", scope: "lattice:one" }));
      assert.deepEqual(
        actorsOf(claims),
        path.toReversed().map((name) => `agent|${name}`),
      );
      assert.deepEqual([claims.sub, claims["client_id"]], ["okta|walker", path.at(-1)]);
    }),
    { numRuns: RUNS },
  );
});

test("INV-06 a workload token counts only if its issuer, key, algorithm, audience, times and every claim of the rule do", async () => {
  const sub = "system:serviceaccount:agents:release-bot";
  const good =
    (claims = {}, options = {}) =>
    () =>
      w.workloads.mint({ sub, aud: w.server.issuer, ...claims }, { now: w.now(), ...options });
  const foreign = () =>
    mintWith(
      w.humans.key(),
      { iss: w.workloads.url, sub, aud: w.server.issuer },
      { now: w.now(), kid: w.workloads.key().kid },
    );
  const cases: [string, () => string, Parameters<typeof badToken>[0]][] = [
    ["unknown issuer", good({ iss: "https://other.example" }), "token_issuer_unknown"],
    [
      "issuer of humans",
      () => w.humans.mint({ sub, aud: "api://ephor" }, { now: w.now() }),
      ["actor_missing", "actor_not_workload", "token_typ"],
    ],
    ["another's key", foreign, ["token_signature", "token_key_unknown"]],
    ["audience", good({ aud: "https://other.example" }), "token_audience"],
    ["two audiences", good({ aud: [w.server.issuer, "https://other.example"] }), "token_audience"],
    ["no audience", good({ aud: undefined }), ["token_audience", "token_claim_missing"]],
    ["expired", good({}, { now: w.now() - 1_000, ttl: 300 }), "token_expired"],
    ["not yet", good({ nbf: w.now() + 3_600 }), "token_not_yet_valid"],
    ["no end", good({ exp: undefined }), "token_claim_missing"],
    ["claim absent", good({ sub: undefined }), ["token_claim_missing", "no_rule_matches"]],
    ["claim of another value", good({ sub: `${sub}2` }), "no_rule_matches"],
    ["claim of another type", good({ sub: [sub] }), ["token_claim_type", "no_rule_matches"]],
    ["claim in another case", good({ sub: sub.toUpperCase() }), "no_rule_matches"],
  ];
  for (const [label, mint, reason] of cases)
    await refused(w, badToken(reason), () => w.self("release-bot", { token: mint(), ...READ_INVOICE }), label);
  granted(await w.self("release-bot", { token: good()(), ...READ_INVOICE }));
});

test("INV-07 what works once works once, over two replicas at once and after a restart", async () => {
  const one = await w.replica();
  const assertion = asserted(w.privateKeyJwt());
  const send = (url: string): Promise<Answer> =>
    w.post(`${url}/token`, { grant_type: "client_credentials", ...assertion, ...READ_INVOICE });
  const answers = await Promise.all(Array.from({ length: 20 }, (_, i) => send(i % 2 ? one.url : w.url)));
  assert.deepEqual(answers.map((answer) => answer.status).toSorted(), [200, ...Array.from({ length: 19 }, () => 401)]);
  await one.server.close();
  const restarted = await w.replica();
  assert.equal((await send(restarted.url)).status, 401);
  await restarted.server.close();
});

test("INV-11, INV-12 a grant whose permit lapsed before it could leave is answered 503, and the ledger says that it was withheld", async () => {
  const gate = await holdGate(w.databaseUrl);
  const mint = w.self("release-bot", READ_INVOICE);
  await gate.waiting(1);
  w.clock.advance(2);
  await gate.release();
  const answer = await mint;
  assert.deepEqual(
    [answer.status, answer.body["error"], answer.headers.get("retry-after")],
    [503, "temporarily_unavailable", "1"],
  );
  assert.equal(answer.body["access_token"], undefined);
  const [grant] = await w.admin<{ id: string }>(
    "select id from ephor.events where decision = 'granted' and type = 'token.issue' and strpos(body, $1) > 0",
    [`"requestId":"${answer.headers.get("x-request-id")}"`],
  );
  assert.ok(grant, "the grant was not recorded");
  const withheld = () =>
    w.admin("select 1 from ephor.events where type = 'release.withheld' and strpos(body, $1) > 0", [
      `"of":"${grant.id}"`,
    ]);
  for (let i = 0; i < 200 && (await withheld()).length === 0; i++);
  assert.equal((await withheld()).length, 1);
});

test("INV-23 a rotation of the token keys refuses no token that was good before, and every key in use is published", async () => {
  w.clock.advance(3_600);
  const before = granted(await w.self("release-bot", { ...READ_INVOICE, ttl: "59" }));
  const rotated = await w.operator("POST", "/v1/keys/rotate", { reason: "test" });
  assert.equal(rotated.status, 200, rotated.text);
  const later = granted(await w.self("release-bot", READ_INVOICE));
  const kid = (token: string): string =>
    (JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { kid: string }).kid;
  assert.notEqual(kid(later), kid(before));
  const kids = new Set(
    ((await w.request("GET", "/.well-known/jwks.json")).body["keys"] as { kid: string }[]).map((key) => key.kid),
  );
  assert.ok(kids.has(kid(before)) && kids.has(kid(later)));
  assert.deepEqual([await w.isActive(before), await w.isActive(later)], [true, true]);
  const given = await w.handed();
  w.clock.advance(3_600);
  assert.equal((await w.operator("POST", "/v1/keys/rotate", { reason: "test" })).status, 200);
  await refusedNow(w, badToken(["token_expired", "token_signature"]), () =>
    w.redeem("summary-bot", given, READ_INVOICE),
  );
});

test("INV-25, A-OPS-06 a replica whose clock is off by more than five seconds mints nothing, and a clock set back revives nothing", async (t) => {
  let offset: number | undefined;
  const readTimeMs = (clock: HandClock): number =>
    (offset ??= clock.nowMs() - clock.monotonicMs()) + clock.monotonicMs();
  const skewed = await chainWorld(t, { readTimeMs });
  const self = (): Promise<Answer> => {
    const now = Math.floor(readTimeMs(skewed.clock) / 1_000);
    const token = skewed.workloads.mint(
      { sub: "system:serviceaccount:agents:release-bot", aud: skewed.server.issuer },
      { now },
    );
    return skewed.self("release-bot", { token, ...READ_INVOICE, ttl: "20" });
  };
  const token = granted(await self());
  skewed.clock.jumpWall(4);
  granted(await self());
  for (const jump of [596, -1_200, -3_000]) {
    skewed.clock.jumpWall(jump);
    const answer = await self();
    assert.deepEqual([answer.status, answer.body["error"]], [503, "temporarily_unavailable"], `${jump}`);
    assert.equal((await reasonOf(skewed, answer)).reason, "clock_skew");
    assert.equal(await skewed.isActive(token), true);
  }
  assert.equal((await skewed.request("GET", "/readyz")).status, 503);
  skewed.clock.advance(20);
  assert.equal(await skewed.isActive(token), false);
  skewed.clock.jumpWall(-86_400);
  assert.equal(await skewed.isActive(token), false);
  skewed.clock.jumpWall(3_600 + 86_400);
  granted(await self());
});

test("INV-26 an unknown agent, a suspended one, a killed one and a wrong key hear the same", async () => {
  await w.kill({ agent: "node-e" });
  await w.operator("PUT", "/v1/agents/node-d/status", { status: "suspended", reason: "test" });
  const send = (token: string): Promise<Answer> => w.self("x", { token, ...READ_INVOICE });
  const answers = [
    await send(w.workload("nobody")),
    await send(w.workload("node-d")),
    await send(w.workload("node-e")),
    await send(w.workload("release-bot", { aud: "https://other.example" })),
    await send(mintWith(w.humans.key(), { iss: w.workloads.url, sub: "x", aud: w.server.issuer }, { now: w.now() })),
  ];
  // node-e gets as far as its scope only where the kill did not cover it: the gate is last.
  const faces = new Set(answers.filter((answer) => answer.body["error"] !== "invalid_scope").map(faceOf));
  assert.equal(faces.size, 1, [...faces].join("\n"));
  const clients = [
    w.privateKeyJwt({ iss: "nobody", sub: "nobody" }),
    w.privateKeyJwt({ iss: "node-a", sub: "node-a" }),
    w.privateKeyJwt({ aud: "https://other.example" }),
    w.workload("node-d"),
    "garbage",
  ].map((proof) => w.post("/token", { grant_type: "client_credentials", ...asserted(proof), ...READ_INVOICE }));
  assert.equal(new Set((await Promise.all(clients)).map(faceOf)).size, 1);
  const tasks = ["nobody", "node-d", "node-e"].map((name) =>
    w.request("GET", "/v1/tasks/01J00000000000000000000000", {
      headers: { authorization: `Bearer ${w.workload(name)}` },
    }),
  );
  assert.equal(new Set((await Promise.all(tasks)).map(faceOf)).size, 1);
});

test("INV-27 a body beyond the bound is refused before it is read, and nesting beyond 32 before its signature", async () => {
  const started = performance.now();
  const huge = await w.post("/token", { grant_type: "x".repeat(3 * 1024 * 1024) });
  assert.equal(huge.status, 413);
  const json = await w.request("POST", "/v1/apply", {
    headers: { authorization: `Bearer ${w.operatorKey}` },
    body: { source: "x", file: "x".repeat(2 * 1024 * 1024) },
  });
  assert.equal(json.status, 413);
  const nested = (depth: number): unknown => JSON.parse("[".repeat(depth) + "]".repeat(depth));
  await refused(w, badToken(["token_malformed", "token_claim_type"]), () =>
    w.self("x", { token: w.workload("release-bot", { deep: nested(33) }), ...READ_INVOICE }),
  );
  granted(await w.self("release-bot", { token: w.workload("release-bot", { deep: nested(20) }), ...READ_INVOICE }));
  const deepBody = await w.request("POST", "/v1/apply", {
    headers: { authorization: `Bearer ${w.operatorKey}`, "content-type": "application/json" },
    body: `{"source":"x","file":${"[".repeat(5_000)}${"]".repeat(5_000)}}`,
  });
  assert.equal(deepBody.status, 400);
  assert.ok(performance.now() - started < 10_000);
});

/** What a stranger sees, without what is different by itself. */
function faceOf(answer: Answer): string {
  const headers = [...answer.headers].filter(([name]) => !["x-request-id", "date", "content-length"].includes(name));
  const { request_id: _id, ...body } = answer.body;
  return JSON.stringify([answer.status, body, headers]);
}

async function reasonOf(world: ChainWorld, answer: Answer): Promise<{ reason: string | null }> {
  const [event] = await world.admin<{ reason: string | null }>(
    "select reason from ephor.events where strpos(body, $1) > 0",
    [`"requestId":"${answer.headers.get("x-request-id")}"`],
  );
  assert.ok(event);
  return event;
}
