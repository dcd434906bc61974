import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createMetrics } from "../../src/system/metrics.ts";
import { mintWith, startIssuer } from "../support/oidc-issuer.ts";
import { agentEntry, issuerEntry, openFederation, OUR_ISSUER, refusedFor } from "./open-federation.ts";

const ci = await startIssuer(undefined, { algorithms: ["RS256", "ES256", "Ed25519"] });
const stranger = await startIssuer();
after(async () => {
  await ci.stop();
  await stranger.stop();
});

const SUBJECT = { use: "subject" } as const;

test("a good token of a configured issuer is verified, whatever asymmetric algorithm signed it", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  for (const algorithm of ["RS256", "ES256", "Ed25519"] as const) {
    const token = ci.mint({ aud: OUR_ISSUER, sub: "job-7", jti: "j1" }, { now: now(), algorithm });
    const verified = await federation.verify(token, SUBJECT);
    assert.equal(verified.issuer.name, "ci");
    assert.equal(verified.sub, "job-7");
    assert.equal(verified.workloadId, "job-7");
    assert.equal(verified.identifies, "workloads");
    assert.equal(verified.exp, now() + 300);
    assert.equal(verified.header.alg, algorithm);
    assert.equal(verified.profile, "generic");
  }
});

test("A-OIDC-01 a token of an issuer that is not configured is refused and its server sees no connection", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  await stranger.forgetRequests();
  await refusedFor(
    federation.verify(stranger.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT),
    "token_issuer_unknown",
  );
  assert.equal((await stranger.requests()).total, 0);
});

test("A-OIDC-02 a token of an issuer that was removed a moment ago is refused, and so is one that was being verified", async (t) => {
  const { federation, now, remove, put } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const token = ci.mint({ aud: OUR_ISSUER }, { now: now() });
  await federation.verify(token, SUBJECT);
  remove("issuers", "ci");
  await refusedFor(federation.verify(token, SUBJECT), "token_issuer_unknown");
  put({ issuers: [issuerEntry(ci)] });
  // The keys are gone with the entry, so this one waits for a fetch.
  const underWay = federation.verify(token, SUBJECT);
  remove("issuers", "ci");
  await refusedFor(underWay, "token_issuer_disabled");
});

test("a token whose issuer's entry is edited while its keys are fetched is judged by the entry as it is then", async (t) => {
  const { federation, now, put } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const token = ci.mint({ aud: OUR_ISSUER }, { now: now() });
  const underWay = federation.verify(token, SUBJECT);
  put({ issuers: [issuerEntry(ci, { maxTokenAgeSeconds: 3_600 })] });
  assert.equal((await underWay).issuer.maxTokenAgeSeconds, 3_600);

  put({ issuers: [issuerEntry(ci, { algorithms: ["ES256"] })] });
  const refused = federation.verify(token, SUBJECT);
  await refusedFor(refused, "token_alg");
  put({ issuers: [issuerEntry(ci)] });
  const nowRefused = federation.verify(token, SUBJECT);
  put({ issuers: [issuerEntry(ci, { algorithms: ["ES256"] })] });
  await refusedFor(nowRefused, "token_alg");
});

test("A-OIDC-03 a key id that two issuers share never lends one the other's key, in either order", async (t) => {
  const a = await startIssuer(t, { algorithms: ["ES256"], kid: "k1" });
  const b = await startIssuer(t, { algorithms: ["ES256"], kid: "k1" });
  const issuers = [issuerEntry(a, { name: "a" }), issuerEntry(b, { name: "b" })];
  for (const first of [a, b]) {
    const { federation, now } = openFederation(t, { issuers });
    const other = first === a ? b : a;
    const good = (issuer: typeof a): string => issuer.mint({ aud: OUR_ISSUER }, { now: now(), algorithm: "ES256" });
    await federation.verify(good(first), SUBJECT);
    const forged = mintWith(other.key({ kid: "k1" }), { iss: first.url, aud: OUR_ISSUER }, { now: now() });
    await refusedFor(federation.verify(forged, SUBJECT), "token_signature");
    await federation.verify(good(other), SUBJECT);
    await refusedFor(federation.verify(forged, SUBJECT), "token_signature");
  }
});

test("a logout token or another security event is no proof of a session", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { identifies: "humans" })] });
  const events = { "http://schemas.openid.net/event/backchannel-logout": {} };
  await refusedFor(federation.verify(ci.mint({ aud: OUR_ISSUER, events }, { now: now() }), SUBJECT), "token_typ");
});

test("a token without a usable sub is refused", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const verify = (sub: unknown): Promise<unknown> =>
    federation.verify(ci.mint({ aud: OUR_ISSUER, sub }, { now: now() }), SUBJECT);
  await refusedFor(verify(undefined), "token_claim_missing");
  for (const sub of ["", 7, null, ["a"], "s".repeat(2_049)]) await refusedFor(verify(sub), "token_claim_type");
});

test("a person's token is no actor, no client and no workload's assertion", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { identifies: "humans" })] });
  const token = ci.mint({ aud: OUR_ISSUER, auth_time: now() - 10 }, { now: now() });
  const verified = await federation.verify(token, SUBJECT);
  assert.equal(verified.identifies, "humans");
  assert.equal(verified.authTime, now() - 10);
  for (const use of ["actor", "client", "assertion"] as const)
    await refusedFor(federation.verify(token, { use }), "actor_not_workload");
  await refusedFor(async () => federation.matchAgent(verified), "actor_not_workload");
});

test("A-TX-07 an ID token is no access token and the other way round; jwt takes both", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { identifies: "humans" })] });
  const idToken = ci.mint({ aud: OUR_ISSUER, nonce: "n" }, { now: now() });
  const accessToken = ci.mint({ aud: OUR_ISSUER, scope: "openid" }, { now: now(), header: { typ: "at+jwt" } });
  const untyped = ci.mint({ aud: OUR_ISSUER, scope: "openid" }, { now: now() });
  const as = (token: string, type: string): Promise<unknown> =>
    federation.verify(token, { use: "subject", tokenType: `urn:ietf:params:oauth:token-type:${type}` });
  for (const [token, type] of [
    [idToken, "id_token"],
    [accessToken, "access_token"],
    [untyped, "access_token"],
    [idToken, "jwt"],
    [accessToken, "jwt"],
  ] as const) {
    await as(token, type);
  }
  await refusedFor(as(idToken, "access_token"), "token_typ");
  await refusedFor(as(accessToken, "id_token"), "token_typ");
  for (const type of ["saml2", "refresh_token", "id-jag"])
    await refusedFor(as(idToken, type), "token_type_unsupported", type);
});

test("a token bound to a key is refused without a proof by that key, or when its binding cannot be checked", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const verify = (cnf: unknown, proofJkt?: string): Promise<unknown> =>
    federation.verify(ci.mint({ aud: OUR_ISSUER, cnf }, { now: now() }), { use: "subject", proofJkt });
  await verify({ jkt: "abc" }, "abc");
  await refusedFor(verify({ jkt: "abc" }), "token_bound");
  await refusedFor(verify({ jkt: "abc" }, "abd"), "token_bound");
  for (const cnf of [{}, { "x5t#S256": "abc" }, { jwk: {} }, { jkt: "abc", jwk: {} }, "abc", null])
    await refusedFor(verify(cnf, "abc"), "token_bound");
});

test("a token's name is by issuer and jti, or by header and payload, never by its signature", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const keyOf = async (claims: object, options: object = {}): Promise<string> =>
    (await federation.verify(ci.mint({ aud: OUR_ISSUER, ...claims }, { now: now(), ...options }), SUBJECT)).key;
  assert.equal(await keyOf({ jti: "a" }), await keyOf({ jti: "a", sub: "other" }));
  assert.notEqual(await keyOf({ jti: "a" }), await keyOf({ jti: "b" }));
  const nameless = { jti: undefined };
  // ECDSA signs the same content differently each time.
  assert.equal(await keyOf(nameless, { algorithm: "ES256" }), await keyOf(nameless, { algorithm: "ES256" }));
  assert.notEqual(await keyOf(nameless), await keyOf({ ...nameless, sub: "other" }));
  await refusedFor(
    federation.verify(ci.mint({ aud: OUR_ISSUER, jti: 7 }, { now: now() }), SUBJECT),
    "token_claim_type",
  );
});

test("A-OIDC-25 claims are handed on as they were sent", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { identifies: "humans" })] });
  const claims = { email_verified: "true", count: 1, groups: ["a"], act: { sub: "x" } };
  const verified = await federation.verify(ci.mint({ aud: OUR_ISSUER, ...claims }, { now: now() }), SUBJECT);
  for (const [name, value] of Object.entries(claims)) assert.deepEqual(verified.claims[name], value);
});

test("keys in the trust file need no connection", async (t) => {
  const jwks = { keys: [{ ...ci.key().publicJwk, kty: "RSA", kid: ci.key().kid }] };
  const { federation, now } = openFederation(t, {
    issuers: [issuerEntry("https://cluster.example", { jwks, internal: false })],
  });
  const mint = (options: object): string =>
    ci.mint({ iss: "https://cluster.example", aud: OUR_ISSUER }, { now: now(), ...options });
  await federation.verify(mint({}), SUBJECT);
  await refusedFor(federation.verify(mint({ algorithm: "ES256" }), SUBJECT), "token_key_unknown");
});

test("a workload token is the one agent whose rule fits; several are refused unless one is named", async (t) => {
  const rule = { issuer: "ci", claims: { sub: "job-7" } };
  const world = openFederation(t, {
    issuers: [issuerEntry(ci)],
    agents: [agentEntry("release-bot", [rule]), agentEntry("other-bot", [{ issuer: "ci", claims: { sub: "job-8" } }])],
  });
  const verified = await world.federation.verify(
    ci.mint({ aud: OUR_ISSUER, sub: "job-7" }, { now: world.now() }),
    SUBJECT,
  );
  assert.equal(world.federation.matchAgent(verified).name, "release-bot");
  assert.equal(world.federation.matchAgent(verified, "release-bot").name, "release-bot");
  await refusedFor(async () => world.federation.matchAgent(verified, "other-bot"), "client_mismatch");
  const nobody = await world.federation.verify(
    ci.mint({ aud: OUR_ISSUER, sub: "job-9" }, { now: world.now() }),
    SUBJECT,
  );
  await refusedFor(async () => world.federation.matchAgent(nobody), "no_rule_matches");
  await refusedFor(async () => world.federation.matchAgent(nobody, "release-bot"), "no_rule_matches");
  world.put({ agents: [agentEntry("twin-bot", [rule])] });
  await refusedFor(async () => world.federation.matchAgent(verified), "several_agents_match");
  assert.equal(world.federation.matchAgent(verified, "twin-bot").name, "twin-bot");
});

test("a suspended agent and one whose review is overdue are refused, however well they prove themselves", async (t) => {
  const rule = { issuer: "ci", claims: { sub: "job-7" } };
  const { federation, now, put, clock } = openFederation(t, {
    issuers: [issuerEntry(ci)],
    agents: [agentEntry("bot", [rule], { status: "suspended" })],
  });
  const verified = await federation.verify(ci.mint({ aud: OUR_ISSUER, sub: "job-7" }, { now: now() }), SUBJECT);
  await refusedFor(async () => federation.matchAgent(verified), "agent_suspended");
  put({ agents: [agentEntry("bot", [rule], { reviewBy: now() + 10 })] });
  assert.equal(federation.matchAgent(verified).name, "bot");
  clock.advance(10);
  await refusedFor(async () => federation.matchAgent(verified), "agent_review_overdue");
});

test("a remembered signature is not computed again, and everything else is judged every time", async (t) => {
  const metrics = createMetrics({ version: "0" });
  const { federation, clock, now, put, remove } = openFederation(t, { issuers: [issuerEntry(ci)] }, { metrics });
  const token = ci.mint({ aud: OUR_ISSUER }, { now: now() });
  const hits = async (): Promise<number | undefined> => (await metrics.signatureMemoHits.get()).values[0]?.value;
  await federation.verify(token, SUBJECT);
  assert.equal(await hits(), 0);
  await federation.verify(token, SUBJECT);
  assert.equal(await hits(), 1);
  await refusedFor(federation.verify(token, { use: "subject", tokenType: "urn:x" }), "token_type_unsupported");
  // A changed entry forgets the signature, and its new audience counts at once.
  put({ issuers: [issuerEntry(ci, { audience: ["api://new"] })] });
  await refusedFor(federation.verify(token, SUBJECT), "token_audience");
  put({ issuers: [issuerEntry(ci)] });
  clock.advance(330);
  await refusedFor(federation.verify(token, SUBJECT), "token_expired");
  assert.equal(await hits(), 1);
  remove("issuers", "ci");
  await refusedFor(federation.verify(token, SUBJECT), "token_issuer_unknown");
});

test("A-OIDC-07 an issuer that is not marked internal is never fetched from inside", async (t) => {
  await ci.forgetRequests();
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { internal: false })] });
  await refusedFor(
    federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now() }), SUBJECT),
    "token_issuer_unreachable",
  );
  assert.equal((await ci.requests()).total, 0);
});
