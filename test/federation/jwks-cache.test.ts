import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import { createEgress } from "../../src/system/egress.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import type { Misbehaviour, Page } from "../support/oidc-issuer-protocol.ts";
import { issuerEntry, openFederation, OUR_ISSUER, refusedFor, type OpenFederation } from "./open-federation.ts";

const SUBJECT = { use: "subject" } as const;
const MINUTE = 60;

interface World extends OpenFederation {
  /** Verifies a fresh token signed by this key, by default the newest RS256 one. */
  verify(kid?: string): Promise<unknown>;
}

// Processes cost half a second each, so the tests share them and start from a clean one.
const ci = await startIssuer(undefined, { algorithms: ["RS256"], kid: "first" });
const second = await startIssuer(undefined, { algorithms: ["RS256"], kid: "first" });
after(async () => {
  await ci.stop();
  await second.stop();
});

async function world(t: TestContext): Promise<World> {
  await ci.reset();
  await second.reset();
  const open = openFederation(t, { issuers: [issuerEntry(ci)] });
  const verify = (kid?: string): Promise<unknown> =>
    open.federation.verify(
      ci.mint({ aud: OUR_ISSUER }, { now: open.now(), ...(kid === undefined ? {} : { kid }) }),
      SUBJECT,
    );
  return { ...open, verify };
}

test("keys are fetched at the first token, by discovery, and then kept", async (t) => {
  const { verify } = await world(t);
  assert.equal((await ci.requests()).total, 0);
  for (let i = 0; i < 5; i++) await verify();
  const { discovery, jwks, seen } = await ci.requests();
  assert.deepEqual([discovery, jwks], [1, 1]);
  for (const { headers } of seen)
    assert.deepEqual([headers["authorization"], headers["cookie"]], [undefined, undefined]);
});

test("tokens that arrive together share one fetch", async (t) => {
  const { verify } = await world(t);
  await Promise.all(Array.from({ length: 20 }, () => verify()));
  assert.equal((await ci.requests()).jwks, 1);
});

test("a trust entry with jwks_uri needs no discovery", async (t) => {
  const { now, federation, put } = await world(t);
  put({ issuers: [issuerEntry(ci, { jwksUri: ci.jwksUri })] });
  await federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT);
  assert.deepEqual([(await ci.requests()).discovery, (await ci.requests()).jwks], [0, 1]);
});

test("a key that the issuer rotated in works without a restart, once the cooldown is over", async (t) => {
  const { clock, verify } = await world(t);
  await verify();
  const newKid = await ci.rotate();
  await refusedFor(verify(newKid), "token_key_unknown", "29 s after the last fetch");
  clock.advance(30);
  await verify(newKid);
  assert.equal((await ci.requests()).jwks, 2);
});

test("A-OIDC-04 a key that the issuer took back verifies nothing after the refresh interval, also not from memory", async (t) => {
  const { clock, federation, now, verify } = await world(t);
  const oldKid = ci.key().kid;
  const token = ci.mint({ aud: OUR_ISSUER }, { now: now(), ttl: 3_600, kid: oldKid });
  await federation.verify(token, SUBJECT);
  await ci.rotate();
  await ci.removeKey(oldKid);
  clock.advance(7 * MINUTE);
  await federation.verify(token, SUBJECT);
  clock.advance(3 * MINUTE);
  await refusedFor(federation.verify(token, SUBJECT), "token_key_unknown");
  await verify();
});

test("keys are refreshed in the background shortly before they are too old", async (t) => {
  const { clock, federation, verify } = await world(t);
  await verify();
  const newKid = await ci.rotate();
  clock.advance(8 * MINUTE);
  await verify("first");
  // Nothing waits for the refresh but this, which joins it.
  await federation.warm("ci");
  assert.equal((await ci.requests()).jwks, 2);
  await verify(newKid);
  assert.equal((await ci.requests()).jwks, 2);
});

test("Cache-Control can shorten the time that keys are kept, to a minute at least", async (t) => {
  const { clock, verify } = await world(t);
  const body = { headers: { "cache-control": "public, max-age=1" }, members: {} };
  await ci.misbehave("jwks", body);
  await verify();
  clock.advance(40);
  await verify();
  assert.equal((await ci.requests()).jwks, 1);
  clock.advance(20);
  await verify();
  assert.equal((await ci.requests()).jwks, 2);
});

test("A-OIDC-10 a flood of unknown key ids costs one fetch per 30 s, and good tokens keep working", async (t) => {
  const { clock, federation, now, verify } = await world(t);
  await verify();
  clock.advance(MINUTE);
  await ci.forgetRequests();
  const flood = Array.from({ length: 200 }, (_, i) =>
    refusedFor(
      federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { kid: `k${i}` } }), SUBJECT),
      "token_key_unknown",
    ),
  );
  await Promise.all([...flood, verify()]);
  assert.equal((await ci.requests()).jwks, 1);
  clock.advance(30);
  await refusedFor(
    federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { kid: "z" } }), SUBJECT),
    "token_key_unknown",
  );
  assert.equal((await ci.requests()).jwks, 2);
});

test("A-OIDC-11 an issuer that is down when a new key appears is asked again later, without a restart", async (t) => {
  const { clock, verify } = await world(t);
  const oldKid = ci.key().kid;
  await verify();
  const newKid = await ci.rotate();
  await ci.misbehave("jwks", { status: 500 });
  clock.advance(30);
  await refusedFor(verify(newKid), "token_key_unknown");
  await verify(oldKid);
  await ci.misbehave("jwks", null);
  await refusedFor(verify(newKid), "token_key_unknown", "in the cooldown");
  clock.advance(30);
  await verify(newKid);
});

test("an issuer that was never reached refuses its tokens, and works when it comes up", async (t) => {
  const { clock, federation, verify } = await world(t);
  await ci.misbehave("discovery", { status: 503 });
  await refusedFor(verify(), "token_issuer_unreachable");
  assert.deepEqual(federation.status(), [{ issuer: "ci", state: "unreachable", keys: 0, problem: "status" }]);
  await ci.misbehave("discovery", null);
  await refusedFor(verify(), "token_issuer_unreachable", "in the cooldown");
  assert.equal((await ci.requests()).total, 1);
  clock.advance(30);
  await verify();
});

test("through an outage the last keys are used for an hour and no longer", async (t) => {
  const { clock, federation, verify } = await world(t);
  await verify();
  await ci.misbehave("jwks", { status: 502 });
  clock.advance(59 * MINUTE);
  await verify();
  assert.equal(federation.status()[0]?.state, "stale");
  clock.advance(MINUTE);
  await refusedFor(verify(), "token_issuer_unreachable");
  assert.equal(federation.status()[0]?.state, "unreachable");
});

const LIES: readonly [string, Page, Misbehaviour][] = [
  ["another issuer", "discovery", { members: { issuer: "https://evil.example" } }],
  ["an issuer with a slash more", "discovery", { members: { issuer: "SLASH" } }],
  ["no issuer", "discovery", { members: { issuer: null } }],
  ["a jwks_uri that is a file", "discovery", { members: { jwks_uri: "file:///etc/passwd" } }],
  ["a jwks_uri that is data", "discovery", { members: { jwks_uri: "data:application/json,{}" } }],
  ["no jwks_uri", "discovery", { members: { jwks_uri: null } }],
  ["a jwks_uri on plain http elsewhere", "discovery", { members: { jwks_uri: "http://8.8.8.8/jwks" } }],
  ["a jwks_uri at the metadata service", "discovery", { members: { jwks_uri: "https://169.254.169.254/jwks" } }],
  ["a redirected discovery", "discovery", { status: 302, headers: { location: "http://169.254.169.254/" } }],
  ["a redirected key set", "jwks", { status: 307, headers: { location: "http://localhost:1/jwks" } }],
];

test("A-OIDC-05 A-OIDC-06 an issuer that says otherwise than configured, or leads elsewhere, gives no keys", async (t) => {
  await ci.reset();
  for (const [name, page, lie] of LIES) {
    const how = lie.members?.["issuer"] === "SLASH" ? { members: { issuer: `${ci.url}/` } } : lie;
    const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
    await ci.misbehave(page, how);
    await refusedFor(
      federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT),
      "token_issuer_unreachable",
      name,
    );
    await ci.misbehave(page, null);
  }
});

test("A-OIDC-05 at run time such an issuer's old keys end with their ten minutes", async (t) => {
  const { clock, verify } = await world(t);
  await verify();
  await ci.misbehave("discovery", { members: { issuer: "https://evil.example" } });
  clock.advance(9 * MINUTE);
  await verify();
  clock.advance(MINUTE);
  await refusedFor(verify(), "token_issuer_unreachable");
});

test("A-OIDC-06 a redirect's target sees nothing", async (t) => {
  const { verify } = await world(t);
  let connections = 0;
  const target = createServer().on("connection", () => connections++);
  target.listen(0, "127.0.0.1");
  await once(target, "listening");
  t.after(() => target.close());
  await ci.misbehave("jwks", {
    status: 302,
    headers: { location: `http://127.0.0.1:${(target.address() as AddressInfo).port}/` },
  });
  await refusedFor(verify(), "token_issuer_unreachable");
  assert.equal(connections, 0);
});

const GARBAGE: readonly [string, Misbehaviour][] = [
  ["5 MB", { body: " ".repeat(5_000_000) }],
  ["never-ending", { endless: true }],
  [
    "a gzip bomb",
    { bodyBase64: gzipSync(Buffer.alloc(5_000_000)).toString("base64"), headers: { "content-encoding": "gzip" } },
  ],
  ["HTML", { body: "<html></html>", headers: { "content-type": "text/html" } }],
  ["an empty body", { body: "" }],
  ["a list", { body: "[]" }],
  ["duplicate members", { body: '{"keys":[],"keys":[]}' }],
  ["10,000 keys", { body: JSON.stringify({ keys: Array.from({ length: 10_000 }, () => ({})) }) }],
  ["deep nesting", { body: `{"keys":${"[".repeat(10_000)}` }],
  ["not found", { status: 404, body: '{"keys":[]}' }],
  ["created", { status: 201, body: '{"keys":[]}' }],
];

test("A-OIDC-09 oversized, endless, compressed and senseless key sets leave the old keys as they were", async (t) => {
  const { clock, federation, verify } = await world(t);
  await verify();
  for (const [name, how] of GARBAGE) {
    await ci.misbehave("jwks", how);
    clock.advance(10 * MINUTE);
    await verify();
    assert.equal(federation.status()[0]?.state, "stale", name);
    await ci.misbehave("jwks", null);
    clock.advance(MINUTE);
    await verify();
    await federation.warm("ci");
    assert.equal(federation.status()[0]?.state, "fresh", name);
  }
});

test("A-OIDC-09 one issuer that hangs does not hold up another", async (t) => {
  await ci.reset();
  await ci.misbehave("discovery", { hang: true });
  const egress = createEgress();
  const issuers = [issuerEntry(ci, { name: "hanging" }), issuerEntry(second, { name: "healthy" })];
  const { federation, now } = openFederation(t, { issuers }, { egress });
  const stuck = federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT);
  const refused = refusedFor(stuck, "token_issuer_unreachable");
  await federation.verify(second.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT);
  egress.close();
  await refused;
});

test("a changed trust entry starts with no keys and no remembered signature", async (t) => {
  const { federation, now, put, verify } = await world(t);
  const token = ci.mint({ aud: OUR_ISSUER }, { now: now() });
  await federation.verify(token, SUBJECT);
  // The same issuer, now with keys of its own choosing: another one's.
  put({ issuers: [issuerEntry(ci, { jwksUri: second.jwksUri })] });
  await refusedFor(federation.verify(token, SUBJECT), "token_signature");
  put({ issuers: [issuerEntry(ci)] });
  await verify();
});

test("warm fetches once and tells; status fetches nothing", async (t) => {
  const { clock, federation } = await world(t);
  assert.deepEqual(federation.status(), [{ issuer: "ci", state: "cold", keys: 0 }]);
  assert.deepEqual(await federation.warm("ci"), { issuer: "ci", state: "fresh", keys: 1, ageSeconds: 0 });
  clock.advance(61);
  assert.deepEqual(federation.status(), [{ issuer: "ci", state: "fresh", keys: 1, ageSeconds: 61 }]);
  assert.equal(await federation.warm("nobody"), undefined);
  assert.equal((await ci.requests()).total, 2);
});
