import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, decodeJwt, jwtVerify } from "jose";
import { feedEntries } from "../../src/revocation/feed-entries.ts";
import { BILLING_SECRET, usualTrust, world } from "../support/world.ts";

const w = await world({ after }, { trust: usualTrust });
const BILLING = "https://billing.acme.example";
const basic = (secret = BILLING_SECRET): Record<string, string> => ({
  authorization: `Basic ${Buffer.from(`billing:${secret}`).toString("base64")}`,
});
const issue = async (agent = "release-bot"): Promise<{ token: string; jti: string; txn: string }> => {
  const answer = await w.self(agent, { resource: BILLING, scope: "billing" });
  assert.equal(answer.status, 200, answer.text);
  const token = answer.body["access_token"] as string;
  const { jti, txn } = decodeJwt(token) as { jti: string; txn: string };
  return { token, jti, txn };
};
const kill = async (order: object): Promise<void> => {
  const answer = await w.operator("POST", "/v1/kill", { ...order, reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};

interface Claims {
  seq: number;
  as_of: number;
  next_by: number;
  dead: Record<string, unknown>[];
  aud: string;
}

/** Verified by the record keys, as a receiver does. */
async function claims(jws: unknown): Promise<Claims> {
  const jwks = (await w.request("GET", "/.well-known/ephor-record-keys")).body as never;
  const { payload } = await jwtVerify(String(jws), createLocalJWKSet(jwks), {
    typ: "ephor-feed+jwt",
    issuer: w.server.issuer,
    audience: BILLING,
    currentDate: new Date(w.clock.nowMs()),
  });
  return payload as unknown as Claims;
}

async function frame(place?: number): Promise<Claims> {
  const path = `/v1/revocations${place === undefined ? "" : `?after=${place}`}`;
  const answer = await w.request("GET", path, { headers: basic() });
  assert.equal(answer.status, 200, answer.text);
  const read = await claims(answer.body["frame"]);
  assert.equal(read.seq, answer.body["seq"]);
  return read;
}

test("GET /v1/revocations tells a resource what died after its place, signed by a record key, and nothing of others", async () => {
  const start = await frame();
  assert.deepEqual(start.dead, []);
  assert.ok(start.next_by > start.as_of && start.next_by - start.as_of <= 5);
  const [one, two] = [await issue(), await issue()];
  await kill({ txn: one.txn });
  const told = await frame(start.seq);
  assert.deepEqual(told.dead, [{ txn: one.txn }]);
  assert.ok(told.seq > start.seq);
  assert.deepEqual((await frame(told.seq)).dead, []);
  // From the beginning: every token that lives by its times and is dead all the same.
  assert.deepEqual((await frame()).dead, [{ jti: one.jti }]);
  const introspected = await w.post("/introspect", {
    token: two.token,
    client_id: "billing",
    client_secret: BILLING_SECRET,
  });
  assert.equal(introspected.body["active"], true);
});

test("an agent is told by its name with a bound in time; what hits nothing of the audience is not told", async () => {
  const { token } = await issue();
  const before = await frame();
  await kill({ agent: "watch-bot" });
  assert.deepEqual((await frame(before.seq)).dead, []);
  await kill({ agent: "release-bot" });
  const told = await frame(before.seq);
  const iat = decodeJwt(token).iat as number;
  assert.deepEqual(
    told.dead.map(({ agent }) => agent),
    ["release-bot"],
  );
  assert.ok((told.dead[0]?.["iat_lte"] as number) >= iat);
  for (const agent of ["watch-bot", "release-bot"]) await w.operator("POST", "/v1/restore", { agent, reason: "over" });
});

test("the feed takes a resource's introspection credential or its agent's token, and nobody else (CONTRACT §6)", async () => {
  const refused: Record<string, string>[] = [
    {},
    basic("wrong"),
    { authorization: `Bearer ${w.operatorKey}` },
    { authorization: `Bearer ${w.workload("lonely-bot")}` },
  ];
  for (const headers of refused) {
    const answer = await w.request("GET", "/v1/revocations", { headers });
    assert.equal(answer.status, 401, answer.text);
    assert.ok(!("frame" in answer.body));
  }
  const authorization = `Bearer ${w.workload("billing-svc")}`;
  const ledger = await w.request("GET", "/v1/revocations", { headers: { authorization } });
  assert.equal(ledger.status, 200, ledger.text);
  assert.equal(decodeJwt(ledger.body["frame"] as string).aud, "https://ledger.acme.example");
});

interface Stream {
  stop(): void;
  next(): Promise<Claims>;
}

async function openStream(lastEventId?: number): Promise<Stream> {
  const stop = new AbortController();
  const place: Record<string, string> = lastEventId === undefined ? {} : { "last-event-id": String(lastEventId) };
  const response = await fetch(`${w.url}/v1/revocations`, {
    headers: { ...basic(), accept: "text/event-stream", ...place },
    signal: stop.signal,
  });
  assert.equal(response.status, 200);
  assert.match(response.headers.get("content-type") ?? "", /^text\/event-stream/);
  const reader = response.body?.getReader() as ReadableStreamDefaultReader<Uint8Array>;
  let text = "";
  return {
    stop: () => stop.abort(),
    async next() {
      while (!text.includes("\n\n")) text += new TextDecoder().decode((await reader.read()).value);
      const event = text.slice(0, text.indexOf("\n\n"));
      text = text.slice(event.length + 2);
      assert.match(event, /^id: \d+\nevent: frame\ndata: /);
      return await claims(event.split("data: ")[1]);
    },
  };
}

test("INV-25 a killed token that a replica issued whose clock is a moment ahead is covered too, whatever the kill names", async () => {
  const ahead = async (): Promise<{ iat: number; jti: string; txn: string }> => {
    const { jti, txn } = await issue();
    const iat = w.now() + 2;
    await w.admin("update ephor.hops set iat = $1 where jti = $2", [iat, jti]);
    return { iat, jti, txn };
  };
  for (const order of [
    { agent: "release-bot" },
    { subject: "agent|release-bot" },
    { resource: "billing" },
    { all: true },
  ]) {
    const { seq } = await frame();
    const { iat } = await ahead();
    await kill(order);
    const [entry] = (await frame(seq)).dead;
    assert.equal(entry?.["iat_lte"], iat, JSON.stringify(entry));
    assert.equal((await w.operator("POST", "/v1/restore", { ...order, reason: "test" })).status, 200);
  }
});

test("as server-sent events: a kill arrives, a reader that comes back gets what it missed", async () => {
  const stream = await openStream();
  const first = await stream.next();
  const { jti, txn } = await issue();
  await kill({ txn });
  let told = await stream.next();
  while (told.dead.length === 0) told = await stream.next();
  assert.deepEqual(told.dead, [{ txn }]);
  stream.stop();
  const missed = await issue();
  await kill({ jti: missed.jti });
  const back = await openStream(told.seq);
  told = await back.next();
  while (told.dead.length === 0) told = await back.next();
  assert.deepEqual(told.dead, [{ jti: missed.jti }]);
  back.stop();
  // A place that we never gave: everything that still matters.
  const anew = await openStream(first.seq + 1_000_000);
  const all = new Set((await anew.next()).dead.map((entry) => entry["jti"]));
  assert.ok(all.has(jti) && all.has(missed.jti));
  anew.stop();
});

test("owners, issuers and tokens with descendants are told as the tokens that they hit; everything as the audience", () => {
  const audience = { name: "billing", identifier: BILLING };
  const hit = (key: string, ...jtis: string[]) => ({ aud: BILLING, key, jtis, last_iat: 8 });
  const others = { aud: "other", key: "agent:x", jtis: ["C"], last_iat: 8 };
  assert.deepEqual(feedEntries([hit("owner:dana", "A", "B"), hit("jti:A", "B"), others], audience, 9), [
    { jti: "A" },
    { jti: "B" },
  ]);
  assert.deepEqual(feedEntries([hit("subject:okta|1", "A"), hit("agent:x", "A")], audience, 9), [
    { sub: "okta|1", iat_lte: 9 },
    { agent: "x", iat_lte: 9 },
  ]);
  assert.deepEqual(feedEntries([hit("all", "A")], audience, 9), [{ aud: BILLING, iat_lte: 9 }]);
  assert.deepEqual(feedEntries([hit("resource:billing", "A")], audience, 9), [{ aud: BILLING, iat_lte: 9 }]);
});
