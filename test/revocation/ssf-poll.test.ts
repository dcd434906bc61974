import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import {
  asBilling,
  asLedger,
  asOperator,
  BILLING,
  eventClaims,
  eventually,
  kill,
  makeStream,
  poll,
  SESSION_REVOKED,
  STREAM_UPDATED,
  VERIFICATION,
} from "../support/event-receiver.ts";
import { BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE, ID_TOKEN_TYPE, world } from "../support/world.ts";

const w = await world({ after });

const issued = async (
  agent = "release-bot",
  resource = BILLING,
): Promise<{ jti: string; txn: string; token: string }> => {
  const answer = await w.self(agent, { resource, scope: "billing" });
  assert.equal(answer.status, 200, answer.text);
  const token = answer.body["access_token"] as string;
  return { token, ...(decodeJwt(token) as { jti: string; txn: string }) };
};

const stream = (await makeStream(w, asBilling()))["stream_id"];
const all = (await makeStream(w, asOperator(w)))["stream_id"];
const allAudience = `${w.server.issuer}/ssf/${String(all)}`;
const ours = { stream, headers: asBilling() };
const operators = { stream: all, headers: asOperator(w) };

/** Polls until events are there, and verifies them. */
async function events(of: typeof ours, audience = BILLING) {
  const { sets } = await eventually("an event", async () => {
    const found = await poll(w, of);
    return Object.keys(found.sets).length > 0 ? found : undefined;
  });
  return await Promise.all(
    Object.entries(sets).map(async ([jti, set]) => {
      const claims = await eventClaims(w, set, audience);
      assert.equal(claims.jti, jti);
      return claims;
    }),
  );
}

async function taken(of: typeof ours, audience = BILLING) {
  const found = await events(of, audience);
  await poll(w, { ...of, body: { ack: found.map(({ jti }) => jti), maxEvents: 0 } });
  return found;
}

/** Restores, and forgets what was told meanwhile. */
async function over(restore: object): Promise<void> {
  assert.equal((await w.operator("POST", "/v1/restore", { ...restore, reason: "over" })).status, 200);
}

test("RFC 8936: an event is sent until it is acknowledged, with the same jti, and not after", async () => {
  const { txn } = await issued();
  const id = await kill(w, { txn, reason: "it went mad" });
  const [first] = await events(ours);
  assert.deepEqual(first?.sub_id, { format: "complex", session: { format: "opaque", id: txn } });
  assert.equal(first?.txn, id);
  assert.deepEqual(first?.events[SESSION_REVOKED], {
    event_timestamp: w.now(),
    initiating_entity: "admin",
    reason_admin: { en: "it went mad" },
  });
  const [again] = await events(ours);
  assert.equal(again?.jti, first?.jti);
  assert.equal(again?.iat, first?.iat);
  // An acknowledgement of something else changes nothing.
  assert.deepEqual(Object.keys((await poll(w, { ...ours, body: { ack: ["unknown"] } })).sets), [first?.jti]);
  const done = await poll(w, { ...ours, body: { ack: [first?.jti] } });
  assert.deepEqual(done, { sets: {}, moreAvailable: false });
  await taken(operators, allAudience);
});

test("a resource's stream carries what hits its audience, an operator's carries every kill (CONTRACT §6)", async () => {
  await issued();
  await kill(w, { agent: "watch-bot" });
  assert.deepEqual(
    (await taken(operators, allAudience)).map(({ sub_id }) => sub_id),
    [{ format: "iss_sub", iss: w.server.issuer, sub: "agent|watch-bot" }],
  );
  assert.deepEqual((await poll(w, ours)).sets, {});
  await kill(w, { agent: "release-bot" });
  const expected = [{ format: "iss_sub", iss: w.server.issuer, sub: "agent|release-bot" }];
  assert.deepEqual(
    (await taken(operators, allAudience)).map(({ sub_id }) => sub_id),
    expected,
  );
  assert.deepEqual(
    (await taken(ours)).map(({ sub_id }) => sub_id),
    expected,
  );
  await over({ agent: ["watch-bot", "release-bot"] });
});

test("INV-25 a kill of a token that a replica issued whose clock is a moment ahead is told to its resource", async () => {
  const { jti } = await issued();
  await w.admin("update ephor.hops set iat = $1 where jti = $2", [w.now() + 2, jti]);
  await w.admin("update ephor.hops set exp = $1 where jti <> $2", [w.now(), jti]);
  await kill(w, { agent: "release-bot" });
  assert.deepEqual(
    (await taken(ours)).map(({ sub_id }) => sub_id),
    [{ format: "iss_sub", iss: w.server.issuer, sub: "agent|release-bot" }],
  );
  await over({ agent: "release-bot" });
  await taken(operators, allAudience);
});

test("a kill that hits only tokens of another resource is told to that one alone", async () => {
  const headers = asLedger(w);
  const ledger = (await makeStream(w, headers))["stream_id"];
  const answer = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human("00u8"),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("summary-bot"),
    actor_token_type: JWT_TYPE,
    resource: "https://ledger.acme.example",
    scope: "ledger:read",
  });
  assert.equal(answer.status, 200, answer.text);
  const { txn } = decodeJwt(answer.body["access_token"] as string) as { txn: string };
  await kill(w, { agent: "summary-bot", txn });
  const told = await taken({ stream: ledger, headers }, "https://ledger.acme.example");
  assert.equal(told.length, 2);
  await taken(operators, allAudience);
  // Each stream has taken the same kills in.
  await eventually("kills to be taken in", async () =>
    (await w.admin("select 1 from ephor.ssf_streams s, ephor.gate g where s.taken < g.epoch")).length === 0
      ? true
      : undefined,
  );
  assert.deepEqual((await poll(w, ours)).sets, {});
  await w.request("DELETE", `/ssf/stream?stream_id=${String(ledger)}`, { headers });
  await over({ agent: "summary-bot" });
});

test("a human is named as their own provider names them (RFC 9493 §3.2.4)", async () => {
  const answer = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human("00u7"),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:refund",
  });
  assert.equal(answer.status, 200, answer.text);
  await kill(w, { subject: "okta|00u7" });
  const expected = [{ format: "iss_sub", iss: w.humans.url, sub: "00u7" }];
  assert.deepEqual(
    (await taken(ours)).map(({ sub_id }) => sub_id),
    expected,
  );
  assert.deepEqual(
    (await taken(operators, allAudience)).map(({ sub_id }) => sub_id),
    expected,
  );
});

test("tokens, owners, a resource and all are told by what they hit; a holder's own revocation too", async () => {
  const { jti } = await issued();
  await kill(w, { jti });
  const token = { format: "jwt_id", iss: w.server.issuer, jti };
  assert.deepEqual(
    (await taken(ours)).map(({ sub_id }) => sub_id),
    [token],
  );
  assert.deepEqual(
    (await taken(operators, allAudience)).map(({ sub_id }) => sub_id),
    [token],
  );

  const revoked = await issued();
  const answer = await w.post("/revoke", { token: revoked.token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.equal(answer.status, 200, answer.text);
  const [told] = await taken(ours);
  assert.deepEqual(told?.sub_id, { ...token, jti: revoked.jti });
  assert.equal(told?.events[SESSION_REVOKED]?.["initiating_entity"], "system");
  await taken(operators, allAudience);

  const lives = await issued();
  await kill(w, { owner: "dana@acme.example" });
  assert.ok((await taken(ours)).some(({ sub_id }) => sub_id["jti"] === lives.jti));
  const subs = new Set((await taken(operators, allAudience)).map(({ sub_id }) => sub_id["sub"]));
  assert.ok(subs.has("agent|lonely-bot") && !subs.has("agent|keyed-bot"));
  await over({ owner: "dana@acme.example" });

  await issued();
  const application = { format: "complex", application: { format: "uri", uri: BILLING } };
  await kill(w, { resource: "billing" });
  assert.deepEqual(
    (await taken(ours)).map(({ sub_id }) => sub_id),
    [application],
  );
  assert.deepEqual(
    (await taken(operators, allAudience)).map(({ sub_id }) => sub_id),
    [application],
  );
  await over({ resource: "billing" });
});

test("a poll waits for an event, and answers at once with returnImmediately or maxEvents 0", async () => {
  assert.deepEqual(await poll(w, ours), { sets: {}, moreAvailable: false });
  const waiting = w.request("POST", `/ssf/poll/${String(stream)}`, { headers: asBilling(), body: {} });
  const { txn } = await issued();
  await kill(w, { txn });
  const { sets } = (await waiting).body as { sets: Record<string, string> };
  assert.equal(Object.keys(sets).length, 1);
  assert.deepEqual((await poll(w, { ...ours, body: { returnImmediately: false, maxEvents: 0 } })).sets, {});
  await taken(ours);
  await taken(operators, allAudience);
});

test("maxEvents bounds an answer and moreAvailable says that there is more; setErrs is final", async () => {
  const killed = [await issued(), await issued(), await issued()];
  await kill(w, { txn: killed.map(({ txn }) => txn) });
  await eventually("three events", async () =>
    Object.keys((await poll(w, ours)).sets).length === 3 ? true : undefined,
  );
  const first = await poll(w, { ...ours, body: { maxEvents: 2 } });
  assert.equal(Object.keys(first.sets).length, 2);
  assert.equal(first.moreAvailable, true);
  const [bad = "", good = ""] = Object.keys(first.sets);
  const setErrs = { [bad]: { err: "invalid_audience", description: "SECRET-WORDS" } };
  const rest = await poll(w, { ...ours, body: { ack: [good], setErrs } });
  assert.equal(Object.keys(rest.sets).length, 1);
  assert.ok(!(bad in rest.sets) && !rest.moreAvailable);
  assert.ok(w.lines.some((line) => line.includes("ssf_event_refused") && line.includes("invalid_audience")));
  assert.ok(!w.lines.some((line) => line.includes("SECRET-WORDS")));
  const metrics = (await w.request("GET", "/metrics")).text;
  assert.match(metrics, /ephor_ssf_events_total\{method="poll",outcome="refused"\} 1/);
  await taken(ours);
  await taken(operators, allAudience);
});

test("verification echoes its state, once per interval (SSF 1.0 §8.1.4)", async () => {
  const ask = (): Promise<{ status: number }> =>
    w.request("POST", "/ssf/verify", { headers: asBilling(), body: { stream_id: stream, state: "VGhpcw" } });
  assert.equal((await ask()).status, 204);
  assert.equal((await ask()).status, 429);
  const [told, ...more] = await taken(ours);
  assert.deepEqual(more, []);
  assert.deepEqual(told?.sub_id, { format: "opaque", id: stream });
  assert.deepEqual(told?.events[VERIFICATION], { state: "VGhpcw" });
  w.clock.advance(30);
  assert.equal((await ask()).status, 204);
  await taken(ours);
});

test("a paused stream holds events, a disabled one drops them, and both say so (SSF 1.0 §8.1.2, §8.1.5)", async () => {
  const set = async (status: string): Promise<void> => {
    const body = { stream_id: stream, status, reason: "maintenance" };
    const answer = await w.request("POST", "/ssf/status", { headers: asBilling(), body });
    assert.deepEqual(answer.body, body);
    const [told] = await taken(ours);
    assert.deepEqual(told?.events[STREAM_UPDATED], { status, reason: "maintenance" });
  };
  await set("paused");
  const held = await issued();
  await kill(w, { txn: held.txn });
  await taken(operators, allAudience);
  assert.deepEqual((await poll(w, ours)).sets, {});
  await w.request("POST", "/ssf/status", { headers: asBilling(), body: { stream_id: stream, status: "enabled" } });
  const [released, told] = await taken(ours);
  assert.deepEqual(released?.sub_id["session"], { format: "opaque", id: held.txn });
  assert.deepEqual(told?.events[STREAM_UPDATED], { status: "enabled" });

  await set("disabled");
  const dropped = await issued();
  await kill(w, { txn: dropped.txn });
  await taken(operators, allAudience);
  const refused = await w.request("POST", "/ssf/verify", { headers: asBilling(), body: { stream_id: stream } });
  assert.equal(refused.status, 409);
  await w.request("POST", "/ssf/status", { headers: asBilling(), body: { stream_id: stream, status: "enabled" } });
  const afterwards = await issued();
  await kill(w, { txn: afterwards.txn });
  await taken(operators, allAudience);
  const sessions = (await taken(ours)).map(({ sub_id }) => sub_id["session"] ?? sub_id["id"]);
  assert.deepEqual(sessions, [stream, { format: "opaque", id: afterwards.txn }]);
});

test("what one replica tells, another acknowledges; a stream keeps its place over a restart", async () => {
  const other = await w.replica();
  const { txn } = await issued();
  await kill(w, { txn });
  const [told] = await events(ours);
  const there = await eventually("the event at the other", async () => {
    const found = await poll(w, { ...ours, url: other.url });
    return Object.keys(found.sets).length > 0 ? found : undefined;
  });
  assert.deepEqual(Object.keys(there.sets), [told?.jti]);
  await poll(w, { ...ours, url: other.url, body: { ack: [told?.jti], maxEvents: 0 } });
  assert.deepEqual((await poll(w, ours)).sets, {});
  const last = await issued();
  await kill(w, { txn: last.txn });
  const [open] = await events(ours);
  await other.server.close();
  const restarted = await w.replica();
  assert.deepEqual(Object.keys((await poll(w, { ...ours, url: restarted.url })).sets), [open?.jti]);
  await taken(ours);
  await taken(operators, allAudience);
});

test("a stream of an agent's resource takes the platform's token of that agent", async () => {
  const ledger = await makeStream(w, asLedger(w));
  assert.equal(ledger["aud"], "https://ledger.acme.example");
  assert.deepEqual((await poll(w, { stream: ledger["stream_id"], headers: asLedger(w) })).sets, {});
});
