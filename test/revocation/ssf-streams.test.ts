import assert from "node:assert/strict";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import {
  asBilling,
  asLedger,
  asOperator,
  BILLING,
  eventually,
  kill,
  makeStream,
  POLL,
  poll,
  PUSH,
  STREAM_UPDATED,
} from "../support/event-receiver.ts";
import { world } from "../support/world.ts";
import { startEdge } from "../http/edge-server.ts";

/** Names of hosts for pushes; nothing is ever sent to them here. */
const HOSTS: Readonly<Record<string, string>> = { "public.example": "93.184.216.34", "inside.example": "10.0.0.7" };
const w = await world(
  { after },
  {
    resolve: async (host) => {
      const address = HOSTS[host];
      if (address === undefined) throw new Error("not known");
      return [{ address, family: 4 }];
    },
  },
);
const push = (url: string, more: object = {}): object => ({ delivery: { method: PUSH, endpoint_url: url, ...more } });
const create = (headers: Record<string, string>, body: object = {}) =>
  w.request("POST", "/ssf/stream", { headers, body });
/** Every kill so far was taken into every stream. */
const takenIn = () =>
  eventually("kills to be taken in", async () =>
    (await w.admin("select 1 from ephor.ssf_streams s, ephor.gate g where s.taken < g.epoch")).length === 0
      ? true
      : undefined,
  );
const remove = (id: unknown, headers: Record<string, string>) =>
  w.request("DELETE", `/ssf/stream?stream_id=${String(id)}`, { headers });
const lastEvent = async () =>
  (await w.events({ type: "ssf.stream" }))[0] as { reason?: string; agent: string; body: Record<string, unknown> };

test("GET /.well-known/ssf-configuration names what is served, and nothing that is not (SSF 1.0 §7.1)", async () => {
  const { status, body } = await w.request("GET", "/.well-known/ssf-configuration");
  assert.equal(status, 200);
  const { issuer } = w.server;
  assert.deepEqual(body, {
    spec_version: "1_0",
    issuer,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    delivery_methods_supported: [PUSH, POLL],
    configuration_endpoint: `${issuer}/ssf/stream`,
    status_endpoint: `${issuer}/ssf/status`,
    verification_endpoint: `${issuer}/ssf/verify`,
    critical_subject_members: ["session", "application"],
    authorization_schemes: [{ spec_urn: "urn:ietf:rfc:7617" }, { spec_urn: "urn:ietf:rfc:6749" }],
    default_subjects: "ALL",
  });
  for (const path of ["/ssf/subjects:add", "/ssf/subjects:remove"])
    assert.equal((await w.request("POST", path, { headers: asBilling(), body: {} })).status, 404);
});

test("a receiver has one stream, as it wanted it, and reads, changes, replaces and ends it (SSF 1.0 §8.1.1)", async () => {
  const made = await makeStream(w, asBilling(), {
    description: "our SIEM",
    events_requested: ["x:unknown"],
    unknown: 1,
  });
  const { stream_id: id } = made;
  const view = {
    stream_id: id,
    iss: w.server.issuer,
    aud: BILLING,
    events_supported: ["https://schemas.openid.net/secevent/caep/event-type/session-revoked"],
    events_requested: ["x:unknown"],
    events_delivered: [],
    delivery: { method: POLL, endpoint_url: `${w.server.issuer}/ssf/poll/${String(id)}` },
    min_verification_interval: 30,
    description: "our SIEM",
  };
  assert.deepEqual(made, view);
  assert.equal((await create(asBilling())).status, 409);
  assert.equal((await lastEvent()).reason, "stream_exists");
  const read = await w.request("GET", `/ssf/stream?stream_id=${String(id)}`, { headers: asBilling() });
  assert.deepEqual(read.body, view);
  assert.deepEqual((await w.request("GET", "/ssf/stream", { headers: asBilling() })).body, [view]);

  const change = (method: string, body: object) =>
    w.request(method, "/ssf/stream", { headers: asBilling(), body: { stream_id: id, ...body } });
  assert.deepEqual((await change("PATCH", { description: "theirs", aud: BILLING })).body, {
    ...view,
    description: "theirs",
  });
  assert.equal((await change("PATCH", { aud: "https://other.example" })).status, 400);
  assert.equal((await change("PATCH", { events_delivered: ["all"] })).status, 400);
  const { description: _, events_requested: __, ...bare } = view;
  assert.deepEqual((await change("PUT", {})).body, { ...bare, events_delivered: view.events_supported });

  assert.equal((await remove(id, asBilling())).status, 204);
  assert.equal((await remove(id, asBilling())).status, 404);
  assert.deepEqual((await w.request("GET", "/ssf/stream", { headers: asBilling() })).body, []);
  const changes = (await w.events({ type: "ssf.stream", decision: "granted" })).map(
    (event) => (event["body"] as Record<string, unknown>)["change"],
  );
  assert.deepEqual(changes, ["deleted", "updated", "updated", "created"]);
});

test("a stream that is not the caller's is none, at every endpoint; the refusal is recorded", async () => {
  const { stream_id: id } = await makeStream(w, asBilling());
  const asked: [string, string, object?][] = [
    ["GET", `/ssf/stream?stream_id=${String(id)}`],
    ["DELETE", `/ssf/stream?stream_id=${String(id)}`],
    ["GET", `/ssf/status?stream_id=${String(id)}`],
    ["PATCH", "/ssf/stream", { stream_id: id }],
    ["PUT", "/ssf/stream", { stream_id: id }],
    ["POST", "/ssf/status", { stream_id: id, status: "disabled" }],
    ["POST", "/ssf/verify", { stream_id: id }],
    ["POST", `/ssf/poll/${String(id)}`, { returnImmediately: true }],
  ];
  for (const [method, path, body] of asked) {
    const answer = await w.request(method, path, { headers: asLedger(w), body });
    assert.equal(answer.status, 404, `${method} ${path}`);
    const event = await lastEvent();
    assert.equal(event.reason, "stream_unknown");
    assert.equal(event.agent, "resource:ledger");
    const stranger = await w.request(method, path, { headers: asBilling("wrong"), body });
    assert.equal(stranger.status, 401, `${method} ${path}`);
    assert.equal((await w.request(method, path, { body })).status, 401, `${method} ${path}`);
  }
  // An operator sees and stops anybody's stream; its events are the receiver's.
  const headers = asOperator(w);
  assert.equal((await w.request("GET", `/ssf/stream?stream_id=${String(id)}`, { headers })).status, 200);
  const polled = await w.request("POST", `/ssf/poll/${String(id)}`, { headers, body: { returnImmediately: true } });
  assert.equal(polled.status, 404);
  assert.equal((await remove(id, headers)).status, 204);
});

test("who may not introspect gets no stream: an agent without a resource, a stranger, a wrong operator key", async () => {
  for (const authorization of [
    `Bearer ${w.workload("lonely-bot")}`,
    `Bearer ${w.operatorKey.slice(0, -2)}xx`,
    "Basic bm9ib2R5Om5vYm9keQ==",
  ]) {
    const answer = await create({ authorization });
    assert.equal(answer.status, 401, answer.text);
  }
  const malformed = await create(asBilling(), { delivery: { method: "urn:example:carrier-pigeon" } });
  assert.equal(malformed.status, 400);
  assert.equal((await create(asBilling(), { delivery: { method: PUSH } })).status, 400);
});

test("an endpoint passes the rules of what we connect to, when it is configured (INV-21)", async () => {
  const refused = [
    "http://public.example/events",
    "https://user:secret@public.example/",
    "https://inside.example/events",
    "https://unknown.example/events",
    "https://10.0.0.7/events",
    "https://169.254.169.254/latest",
    "https://[::1]/events",
    "https://100.100.100.200/",
    "http://127.0.0.1:9/events",
    "ftp://public.example/",
  ];
  for (const url of refused) {
    const answer = await create(asBilling(), push(url));
    assert.equal(answer.status, 400, url);
    assert.equal(answer.body["code"], "malformed");
    assert.equal((await lastEvent()).reason, "stream_endpoint_refused", url);
  }
  // Only an operator may send us inside.
  const inside = push("https://inside.example/events", { internal: true });
  assert.equal((await create(asBilling(), inside)).status, 400);
  assert.equal((await create(asOperator(w), push("https://169.254.169.254/", { internal: true }))).status, 400);
  const operators = await create(asOperator(w), inside);
  assert.equal(operators.status, 201, operators.text);
  await remove(operators.body["stream_id"], asOperator(w));
  const header = await create(asBilling(), push("https://public.example/", { authorization_header: "a\r\nb: c" }));
  assert.equal(header.status, 400);
  assert.ok(!header.text.includes("b: c"));
  const good = await create(asBilling(), push("https://public.example/events"));
  assert.equal(good.status, 201, good.text);
  await remove(good.body["stream_id"], asBilling());
});

test("a stream begins with the next kill, and without session-revoked among the requested events it carries none", async () => {
  await kill(w, { agent: "watch-bot" });
  const all = await makeStream(w, asOperator(w), { events_requested: ["x:other"] });
  await kill(w, { agent: "lonely-bot" });
  const headers = asOperator(w);
  const of = { stream: all["stream_id"], headers };
  await takenIn();
  await w.request("POST", "/ssf/status", { headers, body: { stream_id: of.stream, status: "paused" } });
  const { sets } = await poll(w, of);
  assert.equal(Object.keys(sets).length, 1);
  await poll(w, { ...of, body: { ack: Object.keys(sets) } });
  assert.deepEqual((await w.admin("select 1 from ephor.ssf_events")).length, 0);
  await remove(of.stream, headers);
});

test("kills of the canary are told to nobody (CONTRACT §6)", async () => {
  const headers = asOperator(w);
  const stream = (await makeStream(w, headers))["stream_id"];
  for (const actor of ["ephor-canary", "operator:x"])
    await w.admin(
      `with g as (update ephor.gate set epoch = epoch + 1 returning epoch)
       insert into ephor.kills (id, position, at_ms, actor, reason, keys, receipt)
       select $1, epoch, $2, $3, 'r', array['txn:' || $3], '{}' from g`,
      [`kill_${actor}`, w.clock.nowMs(), actor],
    );
  await takenIn();
  const { sets } = await poll(w, { stream, headers });
  const txns = Object.values(sets).map((set) => decodeJwt(set)["txn"]);
  assert.deepEqual(txns, ["kill_operator:x"]);
  await remove(stream, headers);
});

test("a receiver that is too far behind is told so, and its stream is disabled", async () => {
  const headers = asOperator(w);
  const stream = (await makeStream(w, headers))["stream_id"];
  await w.admin(
    `insert into ephor.ssf_events (stream, jti, kind, subject, event, at)
     select $1, 'x' || i, 'session-revoked', '{"format":"opaque","id":"x"}', '{}', 1 from generate_series(1, 10000) i`,
    [stream],
  );
  await kill(w, { agent: "billing-svc" });
  const { sets } = await eventually("its end", async () => {
    const found = await poll(w, { stream, headers, body: { maxEvents: 2 } });
    return found.moreAvailable ? undefined : found;
  });
  assert.deepEqual(
    Object.values(sets).map((set) => (decodeJwt(set)["events"] as Record<string, unknown>)[STREAM_UPDATED]),
    [{ status: "disabled", reason: "backlog" }],
  );
  const event = (await w.events({ type: "ssf.stream", decision: "granted" }))[0] as { agent: string };
  assert.equal(event.agent, "ephor");
  await remove(stream, headers);
});

test("the metadata is also where SSF 1.0 §7.2 inserts the issuer's path", async (t) => {
  const issuer = "https://sts.example/base";
  const edge = await startEdge(t, { deps: { issuer } });
  for (const path of ["/.well-known/ssf-configuration/base", "/base/.well-known/ssf-configuration"]) {
    const reply = await edge.send("GET", path);
    assert.equal(reply.status, 200, path);
    const body = reply.json() as Record<string, unknown>;
    assert.equal(body["configuration_endpoint"], `${issuer}/ssf/stream`);
  }
  assert.equal((await edge.send("GET", "/.well-known/ssf-configuration/other")).status, 404);
});
