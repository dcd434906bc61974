import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createLocalJWKSet, decodeProtectedHeader, jwtVerify, type JSONWebKeySet } from "jose";
import { signJws } from "../../src/system/jws-signature.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, world, type Answer, type World } from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const { granted, refused } = await faces(w);

const self = (form: Record<string, string> = {}) =>
  w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice", ...form });
const carried = () =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human("00u-9068", { acr: "urn:mfa", amr: ["mfa"], groups: ["support"], roles: ["x"] }),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:refund",
  });
/** The check of RFC 9068 §4 by jose. */
const verified = async (of: World, token: string, algorithm: string) => {
  const jwks = (await of.request("GET", "/.well-known/jwks.json")).body as unknown as JSONWebKeySet;
  return await jwtVerify(token, createLocalJWKSet(jwks), {
    issuer: of.server.issuer,
    audience: BILLING,
    typ: "at+jwt",
    algorithms: [algorithm],
    requiredClaims: ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"],
    currentDate: new Date(of.clock.nowMs()),
  });
};
/** At our own API, where we are the resource server. */
const atApi = (token: string, scheme = "Bearer"): Promise<Answer> =>
  w.request("GET", "/v1/agents", { headers: { authorization: `${scheme} ${token}` } });
const forApi = async (): Promise<string> =>
  granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:read" })).token;

test("the header is typ at+jwt, an asymmetric alg, and the kid of a published key (RFC 9068 §2.1)", async () => {
  const { token } = granted(await self());
  const { protectedHeader } = await verified(w, token, "ES256");
  assert.deepEqual(Object.keys(protectedHeader).sort(), ["alg", "kid", "typ"]);
});

test("iss, exp, aud, sub, client_id, iat and jti are there, and scope for the request's (RFC 9068 §2.2, §2.2.3)", async () => {
  const { claims } = granted(await self());
  assert.equal(claims.iss, w.server.issuer);
  assert.equal(claims.aud, BILLING);
  assert.equal(claims.sub, "agent|release-bot");
  assert.equal(claims["client_id"], "release-bot");
  assert.equal(claims.iat, w.now());
  assert.equal(claims.exp, w.now() + 45);
  assert.match(String(claims.jti), /^[0-9A-HJKMNP-TV-Z]{26}$/);
  assert.equal(claims["scope"], "billing:read_invoice");
});

test("a token lives 1 to 59 seconds: ttl asks for less or more, and 60 is refused (RFC 9068 §2.2 exp)", async () => {
  for (const ttl of [1, 59]) {
    const { claims, body } = granted(await self({ ttl: String(ttl) }));
    assert.equal(Number(claims.exp) - Number(claims.iat), ttl);
    assert.equal(body["expires_in"], ttl);
  }
  for (const ttl of ["0", "60", "-1", "3600", "4.5", "1e1", "045", "forever"]) {
    await refused(await self({ ttl }), "invalid_request", "ttl_out_of_range", { label: ttl });
  }
});

test("every token has a jti of its own, also for the same request again (RFC 9068 §2.2, §5)", async () => {
  const token = w.workload("release-bot");
  const ids = new Set<unknown>();
  for (let i = 0; i < 5; i++) ids.add(granted(await self({ token })).claims.jti);
  assert.equal(ids.size, 5);
});

test("sub is the human where one is behind it, else the client, in name spaces that cannot meet (RFC 9068 §2.2, §5)", async () => {
  assert.equal(granted(await carried()).claims.sub, "okta|00u-9068");
  assert.equal(granted(await self()).claims.sub, "agent|release-bot");
});

test("the human's claims stay with us: no acr, amr, groups, roles, e-mail or name in the token (RFC 9068 §2.2.1, §2.2.3.1, §6)", async () => {
  const { claims } = granted(await carried());
  assert.deepEqual(Object.keys(claims).sort(), [
    "act",
    "aud",
    "client_id",
    "exp",
    "iat",
    "iss",
    "jti",
    "scope",
    "sub",
    "txn",
  ]);
});

test("a configured RS256 or EdDSA signs tokens that verify by the published keys (RFC 9068 §2.1)", async (t) => {
  for (const algorithm of ["RS256", "EdDSA"]) {
    const other = await world(t, { env: { EPHOR_KEYS_ALGORITHM: algorithm } });
    const { token } = granted(await other.self("release-bot", { resource: BILLING, scope: "billing" }));
    assert.equal(decodeProtectedHeader(token).alg, algorithm);
    await verified(other, token, algorithm);
    await assert.rejects(verified(w, token, algorithm), { code: "ERR_JWKS_NO_MATCHING_KEY" });
  }
});

test("as a resource server we take our token from the Authorization header, and 401 without one has no error (RFC 9068 §4, RFC 6750 §3.1)", async () => {
  const token = await forApi();
  assert.equal((await atApi(token)).status, 200);
  assert.equal((await w.request("GET", `/v1/agents?access_token=${token}`)).status, 401);
  const bare = await w.request("GET", "/v1/agents");
  assert.equal(bare.status, 401);
  assert.doesNotMatch(bare.headers.get("www-authenticate") ?? "", /error=/);
});

test("as a resource server we refuse another audience, an expired token and one of another kind with invalid_token (RFC 9068 §4)", async () => {
  const forBilling = granted(await self()).token;
  const jwt = await forApi();
  const [header, payload] = jwt.split(".");
  const unsigned = `${Buffer.from('{"typ":"at+jwt","alg":"none"}').toString("base64url")}.${payload}.`;
  const expired = await forApi();
  w.clock.advance(45);
  const bad: [string, string][] = [
    ["another audience", forBilling],
    ["expired", expired],
    ["unsigned", unsigned],
    ["signature of another token", `${header}.${payload}.${forBilling.split(".")[2]}`],
    ["no token", "x"],
  ];
  for (const [label, token] of bad) {
    const answer = await atApi(token);
    assert.equal(answer.status, 401, label);
    assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer .*error="invalid_token"/, label);
  }
  assert.equal((await atApi(await forApi())).status, 200);
});

test("as a resource server we refuse a good signature under another typ, issuer or key (RFC 9068 §4)", async () => {
  const token = await forApi();
  const claims = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as Record<string, unknown>;
  const foreign = signJws("ES256", w.agentKey, {
    encodedHeader: Buffer.from(JSON.stringify(decodeProtectedHeader(token))).toString("base64url"),
    claims,
  });
  assert.equal((await atApi(foreign)).status, 401);
  const workloads = w.workloads.mint({ ...claims }, { now: w.now(), algorithm: "ES256", header: { typ: "at+jwt" } });
  assert.equal((await atApi(workloads)).status, 401);
  assert.equal((await atApi(token)).status, 200);
});

test("403 insufficient_scope names the scope that the request needs (RFC 9068 §4, RFC 6750 §3.1)", async () => {
  const token = granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:audit" })).token;
  const answer = await atApi(token);
  assert.equal(answer.status, 403);
  assert.match(answer.headers.get("www-authenticate") ?? "", /scope="ephor:read".*error="insufficient_scope"/);
  assert.equal((await atApi(await forApi())).status, 200);
});
