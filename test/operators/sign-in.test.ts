import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { isIP } from "node:net";
import { createSignIn } from "../../src/operators/sign-in.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { OUR_ISSUER } from "../federation/open-federation.ts";
import { mintWith } from "../support/oidc-issuer.ts";
import { CALLBACK, CLIENT, refusedFor, signInStage } from "./sign-in-stage.ts";

const s = await signInStage({ after });
const { okta, other, signIn } = s;

beforeEach(async () => {
  await Promise.all([okta.reset(), other.reset()]);
  s.put({});
});

test("the browser is sent to the provider with PKCE, state and nonce, and keeps what nobody else can make (OIDC Core §3.1.2.1, RFC 7636 §4.3)", async () => {
  const begun = await s.begin();
  assert.equal(begun.location.origin + begun.location.pathname, `${okta.url}/authorize`);
  const { state, nonce, code_challenge: challenge, ...rest } = Object.fromEntries(begun.location.searchParams);
  assert.deepEqual(rest, {
    response_type: "code",
    client_id: CLIENT,
    redirect_uri: CALLBACK,
    scope: "openid profile email",
    code_challenge_method: "S256",
  });
  for (const value of [state, nonce, challenge]) assert.match(value ?? "", /^[A-Za-z0-9_-]{43}$/);
  const again = await s.begin();
  for (const name of ["state", "nonce", "code_challenge"]) assert.notEqual(again.param(name), begun.param(name));
  const [pair = "", ...attributes] = begun.setCookie.split("; ");
  assert.deepEqual(attributes.toSorted(), ["HttpOnly", "Max-Age=600", "Path=/", "SameSite=Lax", "Secure"]);
  assert.match(pair, /^__Host-ephor-sign-in=[A-Za-z0-9_-]+\.[A-Za-z0-9_-]{43}$/);
  const kept = Buffer.from(pair.split("=")[1]?.split(".")[0] ?? "", "base64url").toString("utf8");
  assert.ok(kept.includes(state ?? "") && !kept.includes(nonce ?? ""));
  const form = new URLSearchParams({ code: "x", state: state ?? "" });
  await refusedFor(s.complete(form, begun), "sign_in_refused");
  const { seen } = await okta.requests();
  const verifier = new URLSearchParams(seen.find(({ path }) => path === "/token")?.body).get("code_verifier") ?? "";
  assert.match(verifier, /^[A-Za-z0-9_-]{43}$/);
  assert.ok(!kept.includes(verifier));
  assert.deepEqual(signIn.issuers(), ["okta", "other"]);
});

test("whoever comes back is the person whom the issuer names, by the very `sub` that tasks have", async () => {
  const { person, returnTo, cookie } = await s.walk({ claims: { acr: "mfa", at_hash: "x" } });
  assert.deepEqual(person, {
    issuer: "okta",
    sub: "okta|00u1ab",
    authTime: s.now(),
    email: "dana@acme.example",
    claims: { sub: "00u1ab", groups: ["support"], email: "dana@acme.example", email_verified: true, acr: "mfa" },
  });
  assert.equal(returnTo, "/console/approvals/apr_1");
  assert.match(cookie, /^__Host-ephor-sign-in=; .*Max-Age=0/);
  const { token, seen } = await okta.requests();
  assert.equal(token, 1);
  const form = new URLSearchParams(seen.find(({ path }) => path === "/token")?.body);
  assert.deepEqual([...form.keys()].toSorted(), ["client_id", "code", "code_verifier", "grant_type", "redirect_uri"]);
});

test("an address that the issuer does not call verified is nobody's (A-OIDC-25)", async () => {
  for (const isVerified of [false, undefined, "true", 1]) {
    const { person } = await s.walk({ claims: { email_verified: isVerified } });
    assert.equal(person.email, undefined);
    assert.ok(!Object.hasOwn(person.claims, "email"));
  }
});

test("a time that the issuer does not say is not guessed", async () => {
  const { person } = await s.walk({ claims: { auth_time: undefined } });
  assert.equal(person.authTime, undefined);
});

test("only a page of ours is gone back to", async () => {
  for (const good of ["/console", "/console/approvals/apr_1", "/console/approvals?status=all"])
    assert.equal((await s.walk({ returnTo: good })).returnTo, good);
  const bad = [
    "https://evil.example",
    "//evil.example",
    "/console//evil.example",
    "/consoles",
    "/v1/kill",
    "/console/\\evil",
    "/console/\r\nx",
    `/console/${"a".repeat(600)}`,
  ];
  for (const path of bad) assert.equal((await s.walk({ returnTo: path })).returnTo, "/console", path);
});

test("a sign-in begins only at issuers that sign people in", async () => {
  for (const name of ["ci", "silent", "nobody", "__proto__"])
    assert.equal(await signIn.begin(name, { returnTo: "/console", fresh: false }), undefined);
});

test("a wrong, missing or repeated state, and a cookie that is missing, changed, doubled or of another sign-in, is refused and nothing is sent", async () => {
  const begun = await s.begin();
  const query = await s.approve(begun);
  const changed = (name: string, value: string | undefined): URLSearchParams => {
    const made = new URLSearchParams(query);
    if (value === undefined) made.delete(name);
    else made.set(name, value);
    return made;
  };
  await refusedFor(s.complete(changed("state", "x".repeat(43)), begun), "sign_in_state");
  await refusedFor(s.complete(changed("state", undefined), begun), "sign_in_state");
  await refusedFor(s.complete(`${query}&state=${begun.param("state")}`, begun), "parameter_repeated");
  await refusedFor(s.complete(`${query}&code=x`, begun), "parameter_repeated");
  await refusedFor(s.complete(query), "sign_in_state");
  await refusedFor(s.complete(query, await s.begin()), "sign_in_state", "another tab's");
  const flipped = begun.cookies.replace(/.$/, (last) => (last === "A" ? "B" : "A"));
  const rewritten = begun.cookies.replace("sign-in=e", "sign-in=f");
  assert.notEqual(rewritten, begun.cookies);
  for (const cookies of [
    flipped,
    rewritten,
    begun.cookies.slice(0, -8),
    `${begun.cookies}; ${begun.cookies}`,
    "__Host-ephor-sign-in=",
  ])
    await refusedFor(s.complete(query, { cookies }), "sign_in_state", cookies);
  // Without https the cookie has another name, and the other one counts for nothing.
  await refusedFor(s.complete(query, { cookies: begun.cookies.replace("__Host-", "") }), "sign_in_state");
  assert.equal((await okta.requests()).token, 0);
  assert.equal((await s.complete(query, begun)).person.sub, "okta|00u1ab", "it was good all the while");
});

test("a sign-in ends once: the same cookie with the same or another code is replayed, at every replica", async () => {
  const begun = await s.begin();
  const query = await s.approve(begun);
  const another = await s.approve(begun);
  await s.complete(query, begun);
  await refusedFor(s.complete(query, begun), "replayed");
  await refusedFor(s.complete(another, begun), "replayed");
  await refusedFor(s.replica().complete(another.toString(), begun.cookies), "replayed");
  assert.equal((await okta.requests()).token, 1);
});

test("of several at once one gets in", async () => {
  const begun = await s.begin();
  const query = (await s.approve(begun)).toString();
  const all = await Promise.allSettled(
    [s.replica(), s.replica(), signIn, signIn].map((one) => one.complete(query, begun.cookies)),
  );
  assert.equal(all.filter(({ status }) => status === "fulfilled").length, 1);
});

test("another replica ends what one began, and one with another secret knows nothing of it", async () => {
  const begun = await s.begin();
  const query = (await s.approve(begun)).toString();
  const stranger = createSignIn({
    db: { query: async () => assert.fail("nothing is to be asked") },
    clock: createDatabaseClock(s.federation.clock),
    trust: () => s.federation.trust,
    federation: s.federation.federation,
    egress: { send: async () => assert.fail("nothing is to be sent") },
    issuerUrl: OUR_ISSUER,
    secret: () => new Uint8Array(32),
  });
  await refusedFor(stranger.complete(query, begun.cookies), "sign_in_state");
  assert.equal((await s.replica().complete(query, begun.cookies)).person.sub, "okta|00u1ab");
});

test("a sign-in that took longer than ten minutes is too late, and one of just under is not", async () => {
  const [late, inTime] = [await s.begin(), await s.begin()];
  s.federation.clock.advance(599);
  assert.ok(await s.complete(await s.approve(inTime), inTime));
  s.federation.clock.advance(1);
  await refusedFor(s.complete(await s.approve(late), late), "sign_in_expired");
});

test("a code that the provider does not take is a sign-in that is refused: another one's, a used one, none, its own refusal", async () => {
  const begun = async (): Promise<[Awaited<ReturnType<typeof s.begin>>, URLSearchParams]> => {
    const one = await s.begin();
    return [one, await s.approve(one)];
  };
  // A code that was made for another sign-in has another challenge (RFC 7636 §4.6).
  const [mine, query] = await begun();
  const [, theirs] = await begun();
  query.set("code", theirs.get("code") ?? "");
  await refusedFor(s.complete(query, mine), "sign_in_refused");
  const [one, used] = await begun();
  await s.complete(used, one);
  const two = await s.begin();
  used.set("state", two.param("state"));
  await refusedFor(s.complete(used, two), "sign_in_refused");
  const three = await s.begin();
  await refusedFor(s.complete(new URLSearchParams({ state: three.param("state") }), three), "sign_in_refused");
  const four = await s.begin();
  const denied = new URLSearchParams({
    error: "access_denied",
    error_description: "<b>no</b>",
    state: four.param("state"),
  });
  await refusedFor(s.complete(denied, four), "sign_in_refused");
});

test("an ID token of another audience, party, sign-in, time or kind is refused (OIDC Core §3.1.3.7)", async () => {
  const now = s.now();
  const cases: [string, Record<string, unknown>, Parameters<typeof refusedFor>[1]][] = [
    ["another client's", { aud: "0oa2other" }, "token_audience"],
    ["the API's", { aud: "api://ephor" }, "token_audience"],
    ["ours and another's", { aud: [CLIENT, "0oa2other"], azp: CLIENT }, "token_audience"],
    ["none", { aud: undefined }, "token_claim_missing"],
    ["given to another party", { azp: "0oa2other" }, "token_audience"],
    ["another nonce", { nonce: "n".repeat(43) }, "sign_in_nonce"],
    ["no nonce", { nonce: undefined }, "token_claim_missing"],
    ["over", { exp: now - 31, iat: now - 60 }, "token_expired"],
    ["older than this sign-in", { iat: now - 31 }, "token_expired"],
    ["without iat", { iat: undefined }, "token_claim_missing"],
    ["from the future", { iat: now + 31, nbf: now + 31 }, "token_not_yet_valid"],
    ["signed in tomorrow", { auth_time: now + 86_400 }, "token_not_yet_valid"],
    ["a time that is text", { auth_time: String(now) }, "token_claim_type"],
    ["a logout token", { events: { "http://schemas.openid.net/event/backchannel-logout": {} } }, "token_typ"],
    ["nobody", { sub: undefined }, "token_claim_missing"],
    ["a number", { sub: 7 }, "token_claim_type"],
  ];
  for (const [label, claims, reason] of cases) await refusedFor(s.walk({ claims }), reason, label);
  assert.ok(await s.walk({ claims: { aud: [CLIENT], azp: CLIENT, iat: now - 30 } }));
});

test("an ID token that nobody signed, that our client's key signed, or that another issuer signed is refused", async () => {
  const good = { sub: "00u1ab", aud: CLIENT, iss: okta.url };
  const encoded = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  const withToken = async (
    make: (nonce: string) => string,
    reason: Parameters<typeof refusedFor>[1],
  ): Promise<void> => {
    const begun = await s.begin();
    const query = await s.approve(begun, { idToken: make(begun.param("nonce")) });
    await refusedFor(s.complete(query, begun), reason);
  };
  const times = { iat: s.now(), exp: s.now() + 300 };
  const claims = (nonce: string): object => ({ ...good, ...times, nonce });
  await withToken((nonce) => `${encoded({ alg: "none" })}.${encoded(claims(nonce))}.`, "token_malformed");
  await withToken((nonce) => `${encoded({ alg: "none" })}.${encoded(claims(nonce))}.AA`, "token_alg");
  await withToken((nonce) => `${encoded({ alg: "HS256" })}.${encoded(claims(nonce))}.AA`, "token_alg");
  await withToken(
    (nonce) => mintWith({ ...other.key(), kid: okta.key().kid }, { ...good, nonce }, { now: s.now() }),
    "token_signature",
  );
  await withToken((nonce) => okta.mint({ ...good, nonce }, { now: s.now(), header: { typ: "at+jwt" } }), "token_typ");
  await withToken(() => "opaque", "token_malformed");
  const begun = await s.begin();
  await refusedFor(s.complete(await s.approve(begun, { answer: { id_token: undefined } }), begun), "sign_in_refused");
});

test("a mix-up of two issuers is refused: by the name that the answer says (RFC 9207 §2.4), and by the token's own", async () => {
  const begun = await s.begin();
  const query = await s.approve(begun);
  query.set("iss", other.url);
  await refusedFor(s.complete(query, begun), "sign_in_mixed_up");
  assert.deepEqual([(await okta.requests()).token, (await other.requests()).token], [0, 0], "the code went to neither");
  const named = await s.begin();
  const ok = await s.approve(named);
  ok.set("iss", okta.url);
  assert.ok(await s.complete(ok, named));

  // One that always says its name has not sent what does not. The document is kept, so the entry is edited.
  await okta.misbehave("discovery", { members: { authorization_response_iss_parameter_supported: true } });
  s.put({ audience: ["api://ephor-2"] });
  const silent = await s.begin();
  await refusedFor(s.complete(await s.approve(silent), silent), "sign_in_mixed_up");

  // The other issuer's token, good as it is, brought by okta's token endpoint.
  const third = await s.begin();
  const idToken = other.mint({ sub: "00u1ab", aud: CLIENT, nonce: third.param("nonce") }, { now: s.now() });
  const back = await s.approve(third, { idToken });
  back.set("iss", okta.url);
  await refusedFor(s.complete(back, third), "sign_in_mixed_up");
});

test("a fresh sign-in asks for one, and takes no older one for it", async () => {
  const begun = await s.begin({ fresh: true });
  assert.deepEqual([begun.param("max_age"), begun.param("prompt")], ["0", "login"]);
  const at = (authTime: number | undefined) => s.walk({ fresh: true, claims: { auth_time: authTime } });
  const now = s.now();
  assert.equal((await at(now)).person.authTime, now);
  assert.equal((await at(now - 30)).person.authTime, now - 30);
  await refusedFor(at(now - 31), "sign_in_too_old");
  await refusedFor(at(now - 3_600), "sign_in_too_old", "the provider kept its own session");
  await refusedFor(at(undefined), "token_claim_missing");
  assert.ok(await s.walk({ claims: { auth_time: now - 3_600 } }), "not fresh, so any time will do");
});

test("an issuer's subject_max_age is asked for and judged", async () => {
  s.put({ subjectMaxAgeSeconds: 3_600 });
  assert.equal((await s.begin()).param("max_age"), "3600");
  const now = s.now();
  assert.ok(await s.walk({ claims: { auth_time: now - 3_600 } }));
  await refusedFor(s.walk({ claims: { auth_time: now - 3_631 } }), "sign_in_too_old");
  await refusedFor(s.walk({ claims: { auth_time: undefined } }), "token_claim_missing");
});

test("an issuer that was removed, or given to another client, while somebody signed in there lets nobody in", async () => {
  const one = await s.begin();
  const query = await s.approve(one);
  s.put({ clientId: "0oa9new" });
  await refusedFor(s.complete(query, one), "token_issuer_disabled");
  s.put({});
  const two = await s.begin();
  const back = await s.approve(two);
  s.federation.remove("issuers", "okta");
  await refusedFor(s.complete(back, two), "token_issuer_disabled");
  assert.equal((await okta.requests()).token, 0);
});

test("INV-21 endpoints come from the issuer's own document, are fetched once however many ask, and after a failure not again at once", async () => {
  s.put({ audience: ["api://ephor-3"] });
  await Promise.all(Array.from({ length: 20 }, () => s.begin()));
  assert.equal((await okta.requests()).discovery, 1);
  const broken: [string, Record<string, unknown>][] = [
    ["another issuer's", { issuer: other.url }],
    ["no authorization endpoint", { authorization_endpoint: null }],
    ["a script", { authorization_endpoint: "javascript:alert(1)" }],
    ["with a fragment", { authorization_endpoint: `${okta.url}/authorize#x` }],
    ["with a password", { token_endpoint: okta.url.replace("http://", "http://a:b@") }],
  ];
  for (const [label, members] of broken) {
    await okta.reset();
    await okta.misbehave("discovery", { members });
    s.put({ audience: [`api://${label.replaceAll(" ", "-")}`] });
    for (let i = 0; i < 3; i++)
      await refusedFor(signIn.begin("okta", { returnTo: "/console", fresh: false }), "token_issuer_unreachable", label);
    assert.equal((await okta.requests()).discovery, 1, label);
  }
  await okta.misbehave("discovery", null);
  s.federation.clock.advance(30);
  assert.ok(await s.begin());
});

test("INV-21 a token endpoint that redirects, says no JSON, answers without end, or is gone lets nobody in", async () => {
  assert.ok(isIP(new URL(okta.url).hostname));
  const cases: [Parameters<typeof okta.misbehave>[1], Parameters<typeof refusedFor>[1]][] = [
    [{ status: 302, headers: { location: `${other.url}/token` } }, "token_issuer_unreachable"],
    [{ status: 200, body: "<html>" }, "sign_in_refused"],
    [{ status: 200, body: '{"id_token":"a","id_token":"b"}' }, "sign_in_refused"],
    [{ status: 503, body: "{}" }, "token_issuer_unreachable"],
    [{ status: 200, endless: true }, "token_issuer_unreachable"],
  ];
  for (const [how, reason] of cases) {
    const begun = await s.begin();
    const query = await s.approve(begun);
    await okta.misbehave("token", how);
    await refusedFor(s.complete(query, begun), reason, JSON.stringify(how));
    await okta.misbehave("token", null);
  }
  assert.equal((await other.requests()).token, 0);
});
