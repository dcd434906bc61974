import assert from "node:assert/strict";
import { randomUUID, type KeyObject } from "node:crypto";
import { after, test } from "node:test";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import {
  ASSERTION_TYPE,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TASK_TYPE,
  world,
  type Answer,
  type World,
} from "../support/world.ts";
import { signed } from "./bad-tokens.ts";
import { BILLING, doorGrants, doorsOf, everyDoor, type Door } from "./doors.ts";
import { assertFace, assertNothingLeaked, assertRefused, eventOf, granted, refusedNow } from "./refusals.ts";

// What several replicas, and those after a restart, must know of an issuer and of tokens that were used: A-OIDC-02, 23, 24.

/** Issuers with fixed keys: one whose tokens open one task each, one that will go. */
const key = makeKeyPair("P-256");
const SINGLE = "https://single.acme.example";
const LEAVING = "https://leaving.acme.example";
const issuerYaml = (w: World, url: string, more = ""): string =>
  `{ url: "${url}", audience: "${w.server.issuer}", jwks: { keys: [${JSON.stringify({ ...key.publicKey.export({ format: "jwk" }), kid: "k" })}] }${more} }`;
const trustOf = (w: World): string => `
issuers: { single: ${issuerYaml(w, SINGLE, ", single_use: true")} }
agents:
  single-bot: { owner: dana@acme.example, trust: [{ issuer: single, claims: { sub: single } }] }
grants:
${doorGrants("single-bot")}
`;
const leavingYaml = (w: World, o: { issuer?: boolean; rule?: string } = {}): string => `
${o.issuer === false ? "" : `issuers: { leaving: ${issuerYaml(w, LEAVING)} }`}
agents:
  leaving-bot: { owner: dana@acme.example, trust: [${o.issuer === false ? '{ issuer: cluster, claims: { sub: "x" } }' : `{ issuer: leaving, claims: ${o.rule ?? "{ sub: leaving }"} }`}] }
grants:
${doorGrants("leaving-bot")}
`;
const token = (w: World, iss: string, claims: Record<string, unknown> = {}): string =>
  signed(
    key.privateKey,
    '{"alg":"ES256","kid":"k"}',
    JSON.stringify({
      iss,
      sub: iss === SINGLE ? "single" : "leaving",
      aud: w.server.issuer,
      jti: randomUUID(),
      iat: w.now(),
      exp: w.now() + 600,
      ...claims,
    }),
  );

const w = await world({ after });
await w.apply(trustOf(w), "single.yaml");
const second = await w.replica();
const doors = doorsOf(w);
const replicas = ["", second.url];

test("A-OIDC-02 an issuer that was removed a moment ago: refused at every grant and replica from the answer on", async () => {
  const gone: Record<
    string,
    { yaml: string; reason: readonly ("token_issuer_unknown" | "token_issuer_disabled" | "no_rule_matches")[] }
  > = {
    "the issuer removed": {
      yaml: leavingYaml(w, { issuer: false }),
      reason: ["token_issuer_unknown", "token_issuer_disabled"],
    },
    "the rule changed": { yaml: leavingYaml(w, { rule: "{ sub: somebody-else }" }), reason: ["no_rule_matches"] },
  };
  for (const [label, { yaml, reason }] of Object.entries(gone)) {
    await w.apply(leavingYaml(w), "leaving.yaml");
    for (const base of replicas) await everyDoor(w, doors, base).grant(() => token(w, LEAVING), "before");
    const held = token(w, LEAVING, { exp: w.now() + 3_600 });
    for (const base of replicas) granted(await (doors[0] as Door).send(held, {}, { base }), "known to be good");
    w.clock.advance(61);
    await w.apply(yaml, "leaving.yaml");
    // At once, on the replica that was not told: the same token, and fresh ones at all doors at the same time.
    const answers = await Promise.all(
      [...replicas]
        .reverse()
        .flatMap((base) =>
          doors.flatMap((door) => [door.send(held, {}, { base }), door.send(token(w, LEAVING), {}, { base })]),
        ),
    );
    for (const [at, answer] of answers.entries()) {
      const door = doors[Math.floor(at / 2) % doors.length] as Door;
      assertFace(answer, { error: door.error, label: `${label}: ${door.name}` });
    }
    for (const base of replicas) await everyDoor(w, doors, base).refuse(reason, () => token(w, LEAVING), label);
  }
});

test("A-OIDC-02 a suspended agent, and one past its review: refused at every grant and replica, and back again", async () => {
  await w.apply(leavingYaml(w), "leaving.yaml");
  const status = (value: string): Promise<Answer> =>
    w.operator("PUT", "/v1/agents/leaving-bot/status", { status: value, reason: "drill" });
  for (const base of replicas) await everyDoor(w, doors, base).grant(() => token(w, LEAVING), "active");
  assert.equal((await status("suspended")).status, 200);
  for (const base of [...replicas].reverse())
    await everyDoor(w, doors, base).refuse("agent_suspended", () => token(w, LEAVING), "suspended");
  await w.apply(leavingYaml(w).replace("owner: dana@", "purpose: other, owner: dana@"), "leaving.yaml");
  await everyDoor(w, doors).refuse("agent_suspended", () => token(w, LEAVING), "an apply does not lift it");
  assert.equal((await status("active")).status, 200);
  for (const base of [...replicas].reverse())
    await everyDoor(w, doors, base).grant(() => token(w, LEAVING), "active again");
  const today = new Date(w.clock.nowMs()).toISOString().slice(0, 10);
  await w.apply(leavingYaml(w).replace("owner: dana@", `review_by: ${today}, owner: dana@`), "leaving.yaml");
  for (const base of replicas)
    await everyDoor(w, doors, base).refuse("agent_review_overdue", () => token(w, LEAVING), "overdue");
});

/** Sends the same fifty times over the replicas at once. @returns the answers */
const fifty = (send: (base: string) => Promise<Answer>): Promise<Answer[]> =>
  Promise.all(Array.from({ length: 50 }, (_, i) => send(replicas[i % replicas.length] as string)));

/** A machine that stalls fences a replica for a moment, which then releases nothing, and says nothing else. */
const isDecided = ({ status }: Answer): boolean => status !== 503;

/** One of them is served, unless its replica was fenced when it was about to be. @returns the refused ones */
function servedOnce(answers: readonly Answer[], label = ""): Answer[] {
  const decided = answers.filter(isDecided);
  const refusals = decided.filter(({ status }) => status !== 200);
  assert.ok(decided.length > 0, label);
  const served = decided.length - refusals.length;
  assert.ok(served === 1 || (served === 0 && decided.length < answers.length), `${label}: ${served} were served`);
  return refusals;
}

test("A-OIDC-23 a single-use token fifty times in parallel on two replicas, at each door: exactly one is served", async () => {
  for (const door of doors) {
    w.clock.advance(61);
    const once = token(w, SINGLE);
    const answers = await fifty((base) => door.send(once, {}, { base }));
    const refusals = servedOnce(answers, door.name);
    // Beside a human's token it is spent as a proof, else as the subject.
    const reason = door.name === "actor_token" ? "replayed" : "single_use_spent";
    for (const answer of refusals.slice(0, 10))
      await assertRefused(w, answer, { error: door.error, reason, label: door.name });
    for (const answer of refusals) assertFace(answer, { error: door.error, label: door.name });
    const [row] = await w.admin<{ count: string }>(
      "select count(*) from ephor.hops where actor = 'single-bot' and iat = $1",
      [w.now()],
    );
    assert.equal(Number(row?.count), 1, door.name);
    granted(await door.send(token(w, SINGLE)), "another token of the same job");
  }
});

test("A-OIDC-23 a single-use token that was spent at one door is spent at all of them, wherever they are", async () => {
  for (const first of doors) {
    for (const other of doors) {
      w.clock.advance(61);
      const once = token(w, SINGLE);
      granted(await first.send(once));
      const reason =
        other.name === "actor_token" || first.name === "actor_token"
          ? (["replayed", "single_use_spent"] as const)
          : "single_use_spent";
      await refusedNow(
        w,
        { error: other.error, reason },
        () => other.send(once, {}, { base: second.url }),
        `${first.name}, then ${other.name}`,
      );
    }
  }
});

test("A-OIDC-23 two single-use tokens in one request are both spent", async () => {
  const [subjectDoor, actorDoor] = doors as [Door, Door];
  w.clock.advance(61);
  const [actor, asserted, subject] = [token(w, SINGLE), token(w, SINGLE), token(w, SINGLE)];
  granted(await actorDoor.send(actor, { client_assertion: asserted, client_assertion_type: ASSERTION_TYPE }));
  for (const spent of [actor, asserted]) {
    await refusedNow(w, { error: "invalid_request", reason: "replayed" }, () =>
      subjectDoor.send(spent, {}, { base: second.url }),
    );
  }
  const beside = token(w, SINGLE);
  granted(await subjectDoor.send(subject, { actor_token: beside, actor_token_type: JWT_TYPE }));
  await refusedNow(
    w,
    { error: "invalid_request", reason: "replayed" },
    () => subjectDoor.send(beside),
    "the actor's beside a subject of its own",
  );
});

test("A-OIDC-23 a single-use token that opened a task by POST /v1/tasks opens none at /token, and the reverse", async () => {
  const [subjectDoor, actorDoor] = doors as [Door, Door];
  const open = (bearer: string, more: Record<string, unknown> = {}): Promise<Answer> =>
    w.request("POST", "/v1/tasks", {
      body: { purpose: "drill", ...more },
      headers: { authorization: `Bearer ${bearer}` },
    });
  for (const more of [{}, { subject_token: w.human("00u-task"), subject_token_type: ID_TOKEN_TYPE }]) {
    w.clock.advance(61);
    const once = token(w, SINGLE);
    const opened = await open(once, more);
    assert.equal(opened.status, 201, opened.text);
    await refusedNow(w, { error: "invalid_request", reason: ["single_use_spent", "replayed"] }, () =>
      subjectDoor.send(once),
    );
    w.clock.advance(61);
    await refusedNow(w, { error: "invalid_request", reason: "replayed" }, () => actorDoor.send(once));
    assert.equal((await open(once)).status, 400);
    granted(
      await subjectDoor.send(token(w, SINGLE), {
        subject_token: String(opened.body["txn"]),
        subject_token_type: TASK_TYPE,
        actor_token: token(w, SINGLE),
        actor_token_type: JWT_TYPE,
      }),
      "its task goes on with a fresh one",
    );
  }
  const once = token(w, SINGLE);
  granted(await subjectDoor.send(once));
  const again = await open(once);
  assert.equal(again.status, 400);
  assert.equal((await eventOf(w, again)).reason, "single_use_spent");
});

test("A-OIDC-23 a single-use token that came with a DPoP key continues its own task by that key, and serves no other", async () => {
  const [subjectDoor, actorDoor] = doors as [Door, Door];
  const [mine, other] = [makeKeyPair("P-256"), makeKeyPair("P-256")];
  w.clock.advance(61);
  const nonce =
    (await subjectDoor.send(token(w, SINGLE), {}, { headers: { dpop: proof(mine) } })).headers.get("dpop-nonce") ?? "";
  assert.notEqual(nonce, "");
  const once = token(w, SINGLE);
  const first = granted(await subjectDoor.send(once, {}, { headers: { dpop: proof(mine, nonce) } }));
  const { txn } = claimsOf(first);
  assert.equal(
    claimsOf(granted(await subjectDoor.send(once, {}, { base: second.url, headers: { dpop: proof(mine, nonce) } })))[
      "txn"
    ],
    txn,
    "the same key",
  );
  const byHandle = {
    subject_token: String(txn),
    subject_token_type: TASK_TYPE,
    actor_token: once,
    actor_token_type: JWT_TYPE,
  };
  granted(
    await subjectDoor.send(once, byHandle, { headers: { dpop: proof(mine, nonce) } }),
    "as the actor of its own task",
  );
  const spent = { error: "invalid_request", reason: ["single_use_spent", "replayed"] } as const;
  await refusedNow(
    w,
    spent,
    () => subjectDoor.send(once, {}, { headers: { dpop: proof(other, nonce) } }),
    "another key",
  );
  await refusedNow(w, spent, () => subjectDoor.send(once), "no key");
  await refusedNow(
    w,
    spent,
    () => subjectDoor.send(once, byHandle, { headers: { dpop: proof(other, nonce) } }),
    "another key, as the actor",
  );
  await refusedNow(
    w,
    spent,
    () => actorDoor.send(once, {}, { headers: { dpop: proof(mine, nonce) } }),
    "for a human, in another task",
  );
});

/** A DPoP proof for POST /token (RFC 9449 §4.2). */
function proof(pair: { publicKey: KeyObject; privateKey: KeyObject }, nonce?: string): string {
  const header = { typ: "dpop+jwt", alg: "ES256", jwk: pair.publicKey.export({ format: "jwk" }) };
  const claims = {
    jti: randomUUID(),
    htm: "POST",
    htu: `${w.server.issuer}/token`,
    iat: w.now(),
    ...(nonce === undefined ? {} : { nonce }),
  };
  return signed(pair.privateKey, JSON.stringify(header), JSON.stringify(claims));
}

test("A-OIDC-23 the same jti under another signature is the same token", async () => {
  w.clock.advance(61);
  const claims = { jti: randomUUID(), iat: w.now(), exp: w.now() + 600 };
  const [door] = doors as [Door];
  granted(await door.send(token(w, SINGLE, claims)));
  // ECDSA: each signing gives another signature.
  await refusedNow(
    w,
    { error: "invalid_request", reason: "single_use_spent" },
    () => door.send(token(w, SINGLE, claims)),
    "signed again",
  );
  w.clock.advance(61);
  await refusedNow(
    w,
    { error: "invalid_request", reason: "single_use_spent" },
    () => door.send(token(w, SINGLE, { ...claims, exp: w.now() + 500 })),
    "and with another exp",
  );
  const nameless = token(w, SINGLE, { jti: undefined });
  granted(await door.send(nameless), "without jti its bytes are its name");
  w.clock.advance(61);
  await refusedNow(
    w,
    { error: "invalid_request", reason: "single_use_spent" },
    () => door.send(nameless, {}, { base: second.url }),
    "once",
  );
});

test("A-OIDC-23 a token of an issuer that does not say single_use works again while it is valid, in the task it opened", async () => {
  w.clock.advance(61);
  await w.apply(leavingYaml(w), "leaving.yaml");
  const again = token(w, LEAVING);
  const answers = await fifty((base) => (doors[0] as Door).send(again, {}, { base }));
  const decided = answers.filter(isDecided);
  assert.ok(decided.length > 0);
  for (const answer of decided) granted(answer);
  const rows = await w.admin<{ txn: string }>(
    "select distinct txn from ephor.hops where actor = 'leaving-bot' and iat = $1",
    [w.now()],
  );
  assert.equal(rows.length, 1, "one task");
});

test("A-OIDC-23 a human's token belongs to the first agent of fifty requests by two", async () => {
  w.clock.advance(61);
  const human = w.human("00u-race");
  const [, actorDoor] = doors as [Door, Door];
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_, i) => {
      const agent = i % 4 < 2 ? w.workload("summary-bot") : token(w, LEAVING);
      return actorDoor
        .send(agent, { subject_token: human }, { base: replicas[i % 2] as string })
        .then((answer) => [i % 4 < 2 ? "summary-bot" : "leaving-bot", answer] as const);
    }),
  );
  const decided = answers.filter(([, answer]) => isDecided(answer));
  const winners = new Set(decided.filter(([, { status }]) => status === 200).map(([agent]) => agent));
  assert.equal(winners.size, 1);
  for (const [agent, answer] of decided) {
    if (winners.has(agent)) granted(answer);
    else await assertRefused(w, answer, { error: "invalid_request", reason: "subject_bound_elsewhere" });
  }
});

/** A client assertion of an agent's own key: works once, everywhere (A-CLI-04). */
const byAssertion = (at: World, assertion: string, base: string): Promise<Answer> =>
  at.post(`${base}/token`, {
    grant_type: "client_credentials",
    client_assertion: assertion,
    client_assertion_type: ASSERTION_TYPE,
    resource: BILLING,
    scope: "billing:read_invoice",
  });

test("A-OIDC-23 a private_key_jwt fifty times in parallel on two replicas: exactly one is served", async () => {
  w.clock.advance(61);
  const assertion = w.privateKeyJwt();
  const answers = await fifty((base) => byAssertion(w, assertion, base));
  const refusals = servedOnce(answers);
  for (const answer of refusals) assertFace(answer, { error: "invalid_client" });
  assert.equal((await eventOf(w, refusals[0] as Answer)).reason, "replayed");
});

test("A-OIDC-24 what was spent stays spent after all replicas were restarted, for as long as it could be presented", async () => {
  const before = await world({ after });
  await before.apply(trustOf(before), "single.yaml");
  const [door, actorDoor] = doorsOf(before) as [Door, Door];
  const once = token(before, SINGLE);
  const asActor = token(before, SINGLE);
  const assertion = before.privateKeyJwt({ exp: before.now() + 300 });
  const human = before.human("00u-restart");
  granted(await door.send(once));
  granted(await actorDoor.send(asActor));
  granted(await byAssertion(before, assertion, ""));
  granted(await actorDoor.send(before.workload("summary-bot"), { subject_token: human }));
  await before.server.close();
  const [one, two] = [await before.replica(), await before.replica()];
  // To the last second of their lives, and the skew of thirty that the first ones have behind it.
  for (const seconds of [1, 200, 98, 300, 29]) {
    before.clock.advance(seconds);
    const [left, right] = seconds === 1 ? [one, two] : [two, one];
    await refusedNow(
      before,
      { error: "invalid_request", reason: "single_use_spent" },
      () => door.send(once, {}, { base: left.url }),
      `${seconds}`,
    );
    await refusedNow(
      before,
      { error: "invalid_request", reason: "replayed" },
      () => actorDoor.send(asActor, {}, { base: right.url }),
      `${seconds}`,
    );
    if (before.now() < Number(claimsOf(assertion)["exp"])) {
      await refusedNow(
        before,
        { error: "invalid_client", reason: "replayed" },
        () => byAssertion(before, assertion, left.url),
        `${seconds}`,
      );
    }
    const another = (): Promise<Answer> =>
      actorDoor.send(token(before, SINGLE), { subject_token: human }, { base: right.url });
    await refusedNow(
      before,
      { error: "invalid_request", reason: "subject_bound_elsewhere" },
      another,
      "the human's token is the first agent's",
    );
  }
  granted(await door.send(token(before, SINGLE), {}, { base: two.url }), "a fresh one");
});

function claimsOf(jwt: string): Record<string, unknown> {
  return JSON.parse(Buffer.from(jwt.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>;
}

test("no refusal of this file leaked a token", async () => {
  await assertNothingLeaked(w);
});
