import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, afterEach, test } from "node:test";
import { decodeJwt } from "jose";
import {
  asBilling,
  asOperator,
  eventClaims,
  eventually,
  kill,
  makeStream,
  PUSH,
  SESSION_REVOKED,
  STREAM_UPDATED,
  VERIFICATION,
  type EventClaims,
} from "../support/event-receiver.ts";
import { startUpstream, type SeenRequest, type UpstreamReply } from "../support/upstream-server.ts";
import { usualTrust, world } from "../support/world.ts";

/** What the receiver answers, one after the other; then 202. */
let answers: UpstreamReply[] = [];
const receiver = await startUpstream(() => answers.shift() ?? { status: 202 });
after(receiver.stop);
const OWN = `${receiver.url}/mcp`;
// The receiver is the resource itself: the trust file names its host.
const w = await world(
  { after },
  { trust: (issuers) => usualTrust(issuers).replace("https://billing.acme.example", OWN) },
);
const SECRET = `Bearer ${randomUUID()}`;
const delivery = { method: PUSH, endpoint_url: `${receiver.url}/events`, authorization_header: SECRET };

afterEach(async () => {
  answers = [];
  for (const headers of [asBilling(), asOperator(w)]) {
    const { body } = await w.request("GET", "/ssf/stream", { headers });
    if (!Array.isArray(body)) continue;
    for (const { stream_id: id } of body as { stream_id: string }[])
      await w.request("DELETE", `/ssf/stream?stream_id=${id}`, { headers });
  }
  receiver.forget();
});

const issued = async (): Promise<string> => {
  const answer = await w.self("release-bot", { resource: OWN, scope: "billing" });
  assert.equal(answer.status, 200, answer.text);
  return decodeJwt(answer.body["access_token"] as string)["txn"] as string;
};
const pushed = (count: number): Promise<readonly SeenRequest[]> =>
  eventually(`${count} pushes`, () => (receiver.seen.length >= count ? receiver.seen : undefined));
const claims = ({ body }: SeenRequest, audience = OWN): Promise<EventClaims> => eventClaims(w, body, audience);
const metrics = async (): Promise<string> => (await w.request("GET", "/metrics")).text;

test("RFC 8935: a kill is pushed within a second, signed, with the receiver's authorization header, which is shown nowhere", async () => {
  const stream = await makeStream(w, asBilling(), { delivery });
  assert.deepEqual(stream["delivery"], { method: PUSH, endpoint_url: `${receiver.url}/events` });
  const txn = await issued();
  const began = performance.now();
  await kill(w, { txn });
  const [one] = await pushed(1);
  assert.ok(performance.now() - began < 1_500);
  assert.equal(one?.method, "POST");
  assert.equal(one?.path, "/events");
  assert.equal(one?.headers["content-type"], "application/secevent+jwt");
  assert.equal(one?.headers.accept, "application/json");
  assert.equal(one?.headers.authorization, SECRET);
  const told = await claims(one as SeenRequest);
  assert.deepEqual(told.sub_id, { format: "complex", session: { format: "opaque", id: txn } });
  assert.ok(SESSION_REVOKED in told.events);

  const id = String(stream["stream_id"]);
  const read = await w.request("GET", `/ssf/stream?stream_id=${id}`, { headers: asBilling() });
  const stored = await w.admin("select to_jsonb(s) as s from ephor.ssf_streams s");
  const audit = JSON.stringify(await w.events({ type: "ssf.stream" }));
  const word = SECRET.slice(7);
  for (const text of [read.text, JSON.stringify(stored), audit, w.lines.join("\n"), await metrics()])
    assert.ok(!text.includes(word));
  assert.match(audit, /"has_secret":true/);
});

test("500, then 202: sent again with the same jti when its time has come, not before; 400 is final", async () => {
  await makeStream(w, asBilling(), { delivery });
  answers = [{ status: 500 }];
  await kill(w, { txn: await issued() });
  const [failed] = await pushed(1);
  await eventually(
    "the retry to be planned",
    async () => (await w.admin("select 1 from ephor.ssf_streams where retry_at_ms > 0"))[0],
  );
  // The clock stands still: what comes behind it waits too, for events come in order. Another stream's two pushes show that
  // what is due was looked for meanwhile.
  for (const path of ["/first", "/second"]) {
    const other = await makeStream(w, asOperator(w), {
      delivery: { method: PUSH, endpoint_url: receiver.url + path, internal: true },
    });
    await kill(w, { txn: await issued() });
    await eventually("the other stream's push", () => receiver.seen.find((one) => one.path === path));
    await w.request("DELETE", `/ssf/stream?stream_id=${String(other["stream_id"])}`, { headers: asOperator(w) });
  }
  const ours = (): readonly SeenRequest[] => receiver.seen.filter(({ path }) => path === "/events");
  const ourPushes = (count: number): Promise<readonly SeenRequest[]> =>
    eventually(`${count} pushes`, () => (ours().length >= count ? ours() : undefined));
  assert.equal(ours().length, 1);
  w.clock.advance(2);
  const [, again] = await ourPushes(4);
  const [first, second] = [await claims(failed as SeenRequest), await claims(again as SeenRequest)];
  assert.equal(second.jti, first.jti);

  answers = [{ status: 400, body: { err: "invalid_key", description: "SECRET-WORDS" } }];
  await kill(w, { txn: await issued() });
  await ourPushes(5);
  await kill(w, { txn: await issued() });
  const [refused, next] = (await ourPushes(6)).slice(4);
  assert.notEqual((await claims(next as SeenRequest)).jti, (await claims(refused as SeenRequest)).jti);
  assert.ok(w.lines.some((line) => line.includes("ssf_event_refused") && line.includes("invalid_key")));
  assert.ok(!w.lines.some((line) => line.includes("SECRET-WORDS")));
  assert.match(await metrics(), /ephor_ssf_events_total\{method="push",outcome="refused"\} 1/);
});

test("Retry-After is honoured, up to ten minutes", async () => {
  await makeStream(w, asBilling(), { delivery });
  for (const [header, seconds] of [
    ["90", 90],
    ["86400", 600],
    ["soon", 1],
  ] as const) {
    answers = [{ status: 429, headers: { "retry-after": header } }];
    receiver.forget();
    await kill(w, { txn: await issued() });
    await pushed(1);
    const row = await eventually(
      "the retry to be planned",
      async () =>
        (
          await w.admin<{ ms: number }>("select retry_at_ms as ms from ephor.ssf_streams where retry_at_ms > $1", [
            w.clock.nowMs(),
          ])
        )[0],
    );
    assert.equal(Number(row.ms) - w.clock.nowMs(), seconds * 1_000, header);
    w.clock.advance(seconds);
    await pushed(2);
    await eventually(
      "the stream to be idle",
      async () => (await w.admin("select 1 from ephor.ssf_streams where claim is null and attempts = 0"))[0],
    );
  }
});

test("two replicas push one at a time: each event arrives once, in order; a restarted one goes on with the same event", async () => {
  const other = await w.replica();
  await makeStream(w, asBilling(), { delivery });
  const txns: string[] = [];
  for (let i = 0; i < 6; i++) txns.push(await issued());
  for (const txn of txns) await kill(w, { txn });
  const seen = await pushed(6);
  const sessions = await Promise.all(
    seen.map(async (one) => ((await claims(one)).sub_id["session"] as { id: string }).id),
  );
  assert.deepEqual(sessions, txns);
  await eventually("nothing to be left", async () =>
    (await w.admin("select 1 from ephor.ssf_events")).length === 0 ? true : undefined,
  );
  assert.equal(receiver.seen.length, 6);

  answers = [{ status: 503 }];
  await kill(w, { txn: await issued() });
  await pushed(7);
  await eventually(
    "the retry to be planned",
    async () => (await w.admin("select 1 from ephor.ssf_streams where attempts = 1"))[0],
  );
  await other.server.close();
  await w.replica();
  w.clock.advance(5);
  const [failed, again] = (await pushed(8)).slice(6);
  assert.equal((await claims(again as SeenRequest)).jti, (await claims(failed as SeenRequest)).jti);
});

test("verification and stream-updated are pushed; a paused stream holds, and an operator may pause anybody's", async () => {
  const id = (await makeStream(w, asBilling(), { delivery }))["stream_id"];
  const verify = await w.request("POST", "/ssf/verify", { headers: asBilling(), body: { stream_id: id, state: "s" } });
  assert.equal(verify.status, 204);
  const [one] = await pushed(1);
  assert.deepEqual((await claims(one as SeenRequest)).events, { [VERIFICATION]: { state: "s" } });
  const pause = await w.request("POST", "/ssf/status", {
    headers: asOperator(w),
    body: { stream_id: id, status: "paused" },
  });
  assert.equal(pause.status, 200, pause.text);
  const [, two] = await pushed(2);
  assert.deepEqual((await claims(two as SeenRequest)).events, { [STREAM_UPDATED]: { status: "paused" } });
  await kill(w, { txn: await issued() });
  await eventually("the event to be held", async () => (await w.admin("select 1 from ephor.ssf_events"))[0]);
  assert.equal(receiver.seen.length, 2);
  await w.request("POST", "/ssf/status", { headers: asBilling(), body: { stream_id: id, status: "enabled" } });
  const [, , three] = await pushed(4);
  assert.ok(SESSION_REVOKED in (await claims(three as SeenRequest)).events);
});

test("a change of the endpoint needs its secret again; without it the old one is not sent to another place", async () => {
  const id = (await makeStream(w, asBilling(), { delivery }))["stream_id"];
  const moved = { method: PUSH, endpoint_url: `${receiver.url}/moved` };
  const answer = await w.request("PATCH", "/ssf/stream", {
    headers: asBilling(),
    body: { stream_id: id, delivery: moved },
  });
  assert.equal(answer.status, 200, answer.text);
  await kill(w, { txn: await issued() });
  const [one] = await pushed(1);
  assert.equal(one?.path, "/moved");
  assert.equal(one?.headers.authorization, undefined);
  // What does not name the delivery leaves it.
  const again = { stream_id: id, delivery: { ...moved, authorization_header: SECRET } };
  await w.request("PATCH", "/ssf/stream", { headers: asBilling(), body: again });
  await w.request("PATCH", "/ssf/stream", { headers: asBilling(), body: { stream_id: id, description: "ours" } });
  await kill(w, { txn: await issued() });
  const [, two] = await pushed(2);
  assert.equal(two?.headers.authorization, SECRET);
});

test("a removed resource's stream is disabled; an operator's goes on and is told", async () => {
  await makeStream(w, asBilling(), { delivery });
  const own = await makeStream(w, asOperator(w), {
    delivery: { method: PUSH, endpoint_url: `${receiver.url}/all`, internal: true },
  });
  await kill(w, { trace: undefined, agent: "watch-bot" });
  const [one] = await pushed(1);
  assert.equal(one?.path, "/all");
  assert.equal((await claims(one as SeenRequest, own["aud"] as string)).sub_id["sub"], "agent|watch-bot");
  const trust = usualTrust(w).replaceAll("OUR_ISSUER", w.server.issuer).replace("AGENT_KEY", "");
  await w.apply(
    trust
      .replace(/ {2}billing:\n(?: {4}.*\n)+/, "")
      .split("\n")
      .filter((line) => !line.includes("resource: billing,"))
      .join("\n")
      .replace(/ {2}keyed-bot:\n(?: {4}.*\n)+/, ""),
    "trust.yaml",
  );
  const told = await eventually("the end of the stream", () => receiver.seen.find(({ path }) => path === "/events"));
  assert.deepEqual((await claims(told)).events, {
    [STREAM_UPDATED]: { status: "disabled", reason: "resource_removed" },
  });
  const all = receiver.seen.filter(({ path }) => path === "/all");
  assert.ok(all.length > 1);
});
