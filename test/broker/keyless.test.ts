import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, test } from "node:test";
import { createRemoteJWKSet, decodeJwt, decodeProtectedHeader, jwtVerify, type JWTPayload } from "jose";
import { eventually } from "../support/event-receiver.ts";
import { startFakeAuthorizationServer } from "../support/fake-authorization-server.ts";
import { fakeSts } from "../support/fake-sts.ts";
import type { IamPolicy } from "../support/iam-policy.ts";
import { holdLock } from "../support/held-lock.ts";
import { runningClock } from "../support/hand-clock.ts";
import { ACCESS_TOKEN_TYPE, BILLING_SECRET, JWT_TYPE, TOKEN_EXCHANGE, world, type Answer } from "../support/world.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const ROLE = "arn:aws:iam::111122223333:role/ephor-deploy";
const POOL = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/ephor";
const ENVIRONMENT = { id: "AKIAENVIRONMENT00001", secret: "environment/Secret+Key/0123456789abcdef0" };
const ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

const w = await world(
  { after },
  { clock: runningClock(), env: { AWS_ACCESS_KEY_ID: ENVIRONMENT.id, AWS_SECRET_ACCESS_KEY: ENVIRONMENT.secret } },
);
const { issuer } = w.server;
/** The role's trust policy of the example, for this issuer. */
const trust = JSON.parse(
  readFileSync(new URL("../../examples/aws-keyless/iam-trust-policy.json", import.meta.url), "utf8").replaceAll(
    "sts.acme.example",
    issuer.slice("http://".length),
  ),
) as IamPolicy;
const BROKER = "arn:aws:iam::111122223333:user/ephor";
const sts = await fakeSts(
  { after },
  {
    keys: { [ENVIRONMENT.id]: { secretAccessKey: ENVIRONMENT.secret, arn: BROKER } },
    roles: {
      [ROLE]: { trust },
      [`${ROLE}-keys`]: { trust: { Statement: { Effect: "Allow", Principal: { AWS: BROKER }, Action: "sts:*" } } },
    },
    // No keys given: they are found by discovery, as AWS does.
    providers: { [issuer]: { clientIds: ["sts.amazonaws.com"] } },
    nowMs: () => w.clock.nowMs(),
  },
);

const remoteKeys = createRemoteJWKSet(new URL(`${issuer}/.well-known/jwks.json`), { cooldownDuration: 0 });
/** As a cloud reads one: signature by the published keys, issuer, audience, times. */
async function verified(token: string, audience: string): Promise<JWTPayload> {
  const currentDate = new Date(w.clock.nowMs());
  return (await jwtVerify(token, remoteKeys, { issuer, audience, algorithms: ["RS256"], typ: "JWT", currentDate }))
    .payload;
}

/** What a cloud trusts one resource for: `sub` and `aud`. */
let trusted = { sub: "resource|azure", audience: "api://AzureADTokenExchange" };
/** What happens while the cloud is asked. */
let meanwhile = async (): Promise<void> => {};
const cloud = await startFakeAuthorizationServer(async ({ path }, form) => {
  await meanwhile();
  // A public client may revoke what it holds (RFC 7009 §2.1).
  if (path === "/revoke" && form.get("client_assertion") === null) return true;
  const token = form.get("client_assertion") ?? form.get("subject_token") ?? "";
  const payload = await verified(token, trusted.audience).catch(() => undefined);
  const isClient = form.get("client_assertion") === null || form.get("client_assertion_type") === ASSERTION_TYPE;
  return payload?.sub === trusted.sub && isClient;
});
after(() => cloud.stop());

const aws = (name: string, rest: string): string => `
  ${name}:
    credential: { aws: { role_arn: "${ROLE}", region: eu-west-1, endpoint: "${sts.url}", ${rest} } }`;
const oauth = (name: string, rest: string): string => `
  ${name}:
    credential: { oauth: { internal: true, token_url: "${cloud.tokenUrl}", revocation_url: "${cloud.revocationUrl}", ${rest} } }`;
const AZURE = `client_id: c, auth_method: web_identity, grant: client_credentials, web_identity: { audience: "api://AzureADTokenExchange" }`;
const WITH_SECRET = `client_id: c, secret: idp-client, grant: token_exchange, web_identity: { audience: "x" }`;
const NAMES = ["aws-deploy", "aws-deploy2", "aws-aud", "aws-env", "azure", "azure2", "gcp", "idp"];
await w.apply(`
resources:${aws("aws-deploy", "web_identity: {}, tags: { team: platform }")}${aws("aws-deploy2", "web_identity: {}")}
${aws("aws-aud", "web_identity: { audience: elsewhere }")}
${aws("aws-env", "environment: true").replace(ROLE, `${ROLE}-keys`)}
${oauth("azure", AZURE)}${oauth("azure2", AZURE)}${oauth("idp", WITH_SECRET)}
${oauth("gcp", `auth_method: none, grant: token_exchange, web_identity: { audience: "https:${POOL}" }, audience: "${POOL}"`)}
grants:
${NAMES.map((name) => `  - { agent: release-bot, resource: ${name}, actions: [vend] }`).join("\n")}
  - { agent: triage-bot, resource: aws-deploy, actions: [vend], on_behalf_of: { issuer: okta } }
`);

async function vend(resource: string, answer?: Answer): Promise<Answer> {
  const order = { audience: resource, scope: `${resource}:vend` };
  const minted = answer ?? (await w.self("release-bot", order));
  assert.equal(minted.status, 200, minted.text);
  const authorization = `Bearer ${String(minted.body["access_token"])}`;
  return w.request("POST", `/credentials/${resource}`, { headers: { authorization } });
}

async function vended(resource: string): Promise<Record<string, unknown>> {
  const answer = await vend(resource);
  assert.equal(answer.status, 200, answer.text);
  return answer.body;
}

/** The token that went to AWS last. */
const sentToAws = (): string => String(sts.calls.at(-1)?.params["WebIdentityToken"]);

test("discovery has what AWS, Google Cloud and Azure look for, and its key set the key that signs for them", async () => {
  const { body } = await w.request("GET", "/.well-known/openid-configuration");
  assert.equal(body["issuer"], issuer);
  assert.equal(body["jwks_uri"], `${issuer}/.well-known/jwks.json`);
  assert.deepEqual(body["response_types_supported"], ["code"]);
  assert.deepEqual(body["subject_types_supported"], ["public"]);
  assert.deepEqual(body["id_token_signing_alg_values_supported"], ["ES256", "RS256"]);
  assert.deepEqual(body["claims_supported"], ["iss", "sub", "aud", "iat", "exp", "jti"]);
  const first = (await w.request("GET", "/.well-known/jwks.json")).body as { keys: { alg: string }[] };
  assert.equal(first.keys.filter((key) => key.alg === "RS256").length, 2);
  await vended("aws-deploy");
  const { keys } = (await w.request("GET", "/.well-known/jwks.json")).body as { keys: { alg: string; kid: string }[] };
  const kid = decodeProtectedHeader(sentToAws()).kid;
  assert.equal(keys.find((key) => key.kid === kid)?.alg, "RS256");
});

test("AWS: a session without any key of AWS, by a token of a minute for this resource, with its names", async () => {
  const human = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human(),
    subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    audience: "aws-deploy",
    scope: "aws-deploy:vend",
  });
  const before = w.now();
  const answer = await vend("aws-deploy", human);
  assert.equal(answer.status, 200, answer.text);
  const call = sts.calls.at(-1);
  assert.equal(call?.action, "AssumeRoleWithWebIdentity");
  assert.equal(call?.headers.authorization, undefined);
  const { txn } = decodeJwt(String(human.body["access_token"])) as { txn: string };

  const token = sentToAws();
  const header = decodeProtectedHeader(token);
  assert.deepEqual([header.typ, header.alg], ["JWT", "RS256"]);
  const payload = await verified(token, "sts.amazonaws.com");
  const names = ["iss", "sub", "aud", "iat", "exp", "jti"];
  const own = ["https://aws.amazon.com/tags", "https://aws.amazon.com/source_identity"];
  assert.deepEqual(Object.keys(payload).sort(), [...names, ...own].sort());
  assert.equal(payload.sub, "resource|aws-deploy");
  assert.equal(payload.aud, "sts.amazonaws.com");
  assert.equal((payload.exp ?? 0) - (payload.iat ?? 0), 60);
  assert.ok((payload.iat ?? 0) >= before - 1 && (payload.iat ?? 0) <= w.now());
  const tags = {
    "ephor:agent": ["triage-bot"],
    "ephor:human": ["okta.00u1ab"],
    "ephor:txn": [txn],
    team: ["platform"],
  };
  assert.deepEqual(payload["https://aws.amazon.com/tags"], {
    principal_tags: tags,
    transitive_tag_keys: ["ephor:agent", "ephor:human", "ephor:txn"],
  });
  assert.equal(payload["https://aws.amazon.com/source_identity"], "triage-bot");

  const { access_key_id: id } = answer.body["credential"] as { access_key_id: string };
  const session = sts.sessions.get(id);
  assert.equal(session?.sourceIdentity, "triage-bot");
  assert.equal(session?.tags["ephor:human"], "okta.00u1ab");
  const ask = { action: "s3:GetObject", resource: "*" };
  assert.ok(sts.allows(id, { ...ask, at: w.now() + 1 }));
  assert.ok(!sts.allows(id, { ...ask, at: w.now() + 61 }));
  // Each vend has a token of its own.
  await vended("aws-deploy");
  assert.notEqual(decodeJwt(sentToAws()).jti, payload.jti);
});

test("AWS: another resource's token does not take up the role, nor one for another audience", async () => {
  for (const [resource, sub] of [
    ["aws-deploy2", "resource|aws-deploy2"],
    ["aws-aud", "resource|aws-aud"],
  ] as const) {
    const answer = await vend(resource);
    assert.deepEqual([answer.status, answer.body["code"]], [403, "access_denied"], answer.text);
    assert.equal(decodeJwt(sentToAws()).sub, sub);
    assert.ok(!answer.text.includes(sentToAws()));
  }
});

test("environment: true takes up the role with the keys that Ephor was started with", async () => {
  await vended("aws-env");
  const call = sts.calls.at(-1);
  assert.deepEqual([call?.action, call?.signer], ["AssumeRole", ENVIRONMENT.id]);
  assert.ok(!w.lines.join("").includes(ENVIRONMENT.secret));
});

test("environment: true is refused where Ephor was started without keys of AWS", async (t) => {
  const bare = await world(t, { clock: runningClock() });
  await bare.apply(`
resources:
  aws-env: { credential: { aws: { role_arn: "${ROLE}", region: eu-west-1, endpoint: "${sts.url}", environment: true } } }
grants: [{ agent: release-bot, resource: aws-env, actions: [vend] }]`);
  const calls = sts.calls.length;
  const minted = await bare.self("release-bot", { audience: "aws-env", scope: "aws-env:vend" });
  const headers = { authorization: `Bearer ${String(minted.body["access_token"])}` };
  const answer = await bare.request("POST", "/credentials/aws-env", { headers });
  assert.deepEqual([answer.status, answer.body["code"]], [403, "access_denied"], answer.text);
  assert.equal(sts.calls.length, calls);
});

test("Azure: the token is the client assertion, carries nothing of AWS's, and another one revokes at the end", async () => {
  trusted = { sub: "resource|azure", audience: "api://AzureADTokenExchange" };
  const { lease } = await vended("azure");
  const assertion = String(cloud.lastForm().get("client_assertion"));
  const names = ["aud", "exp", "iat", "iss", "jti", "sub"];
  assert.deepEqual(Object.keys(await verified(assertion, trusted.audience)).sort(), names);
  assert.equal(cloud.live.size, 1);
  const refused = await vend("azure2");
  assert.deepEqual([refused.status, refused.body["code"]], [403, "access_denied"], refused.text);
  w.clock.advance(60);
  await until(() => cloud.live.size === 0);
  const last = String(cloud.lastForm("/revoke").get("client_assertion"));
  assert.notEqual(decodeJwt(last).jti, decodeJwt(assertion).jti);
  assert.equal((await verified(last, trusted.audience)).sub, "resource|azure");
  const events = await w.events({ type: "identity.sign", limit: "50" });
  const bodies = events.map((event) => event["body"] as { lease: string; agent: string; jti: string });
  // One event for each token, before it was signed.
  for (const token of [assertion, last]) {
    const { jti } = decodeJwt(token);
    assert.equal(bodies.find((body) => body.jti === jti)?.lease, lease);
  }
  assert.deepEqual(new Set(bodies.map((body) => body.agent)), new Set(["release-bot", "triage-bot", "ephor"]));
});

test("Google Cloud: the token is the subject token for the pool's provider, and carries nothing of AWS's", async () => {
  trusted = { sub: "resource|gcp", audience: `https:${POOL}` };
  await vended("gcp");
  const form = cloud.lastForm();
  assert.equal(form.get("audience"), POOL);
  const payload = await verified(String(form.get("subject_token")), `https:${POOL}`);
  assert.deepEqual(Object.keys(payload).sort(), ["aud", "exp", "iat", "iss", "jti", "sub"]);
  trusted = { ...trusted, sub: "resource|azure" };
  assert.equal((await vend("gcp")).status, 403);
});

const kill = async (): Promise<void> => {
  const answer = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};
/** What a test that failed left dead. */
const revive = (): Promise<Answer> => w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "over" });
const restore = async (): Promise<void> => {
  const answer = await revive();
  assert.equal(answer.status, 200, answer.text);
};

/** Tokens that the cloud was asked for; a kill also ends leases of before there. */
const asks = (): number => cloud.seen.filter(({ path }) => path === "/token").length;

test("a kill after the intent stops the signing, and nothing reaches the upstream", async (t) => {
  await w.operator("PUT", "/v1/secrets/idp-client", { value: "client-secret" });
  const minted = await w.self("release-bot", { audience: "idp", scope: "idp:vend" });
  const lock = await holdLock(w.databaseUrl, "lock table ephor.secret_versions in access exclusive mode");
  t.after(lock.release);
  t.after(revive);
  const asked = vend("idp", minted);
  // The worker that rotates looks there too: that somebody waits for the lock does not say who.
  await eventually("the intent", async () => (await w.events({ type: "credential.vend", resource: "idp" }))[0]);
  await lock.waiting(1);
  await kill();
  const before = asks();
  await lock.release();
  const answer = await asked;
  assert.equal(answer.status, 401, answer.text);
  assert.equal(asks(), before);
  // The kill ends older leases too, for which the worker may sign.
  const [event] = await w.events({ type: "identity.sign", decision: "refused", limit: "1" });
  assert.deepEqual([event?.["agent"], event?.["reason"]], ["release-bot", "killed"]);
  await restore();
});

test("a kill does not stop the token that takes back what was made", async (t) => {
  trusted = { sub: "resource|azure", audience: "api://AzureADTokenExchange" };
  t.after(() => Object.assign(cloud, { meddle: undefined }));
  t.after(revive);
  meanwhile = async () => {
    meanwhile = async () => {};
    await kill();
  };
  // What cannot be vended, so that the provider itself revokes it.
  cloud.meddle = (request, reply) =>
    request.path === "/token" ? { ...reply, body: { ...(reply.body as object), token_type: "DPoP" } } : undefined;
  const before = asks();
  const answer = await vend("azure");
  assert.ok(answer.status >= 400, answer.text);
  assert.equal(asks(), before + 1);
  await until(() => cloud.live.size === 0);
  await restore();
});

test("A-JWT-13 a web-identity token proves nothing to Ephor itself", async () => {
  await vended("aws-deploy");
  const token = sentToAws();
  const introspected = await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
  assert.equal(introspected.text, '{"active":false}');
  for (const [method, path] of [
    ["POST", "/credentials/aws-deploy"],
    ["GET", "/v1/agents"],
    ["POST", "/v1/tasks"],
  ] as const) {
    const answer = await w.request(method, path, { headers: { authorization: `Bearer ${token}` } });
    assert.equal(answer.status, 401, `${method} ${path} ${answer.text}`);
  }
  for (const type of [JWT_TYPE, ACCESS_TOKEN_TYPE]) {
    const form = { grant_type: TOKEN_EXCHANGE, subject_token: token, subject_token_type: type, audience: "billing" };
    const answer = await w.post("/token", form);
    assert.deepEqual([answer.status, answer.body["error"]], [400, "invalid_request"], answer.text);
  }
});

test("A-JWT-13 nobody can make Ephor an issuer that it trusts itself", async () => {
  const us = (url: string) => `issuers: { us: { url: "${url}", audience: "x", internal: true } }`;
  const answer = await w.operator("POST", "/v1/apply", { source: "us.yaml", file: us(issuer) });
  assert.equal(answer.status, 422, answer.text);
  assert.ok(answer.text.includes("is this server itself"), answer.text);
  const neighbour = { source: "us.yaml", file: us(`${issuer}/other`) };
  assert.equal((await w.operator("POST", "/v1/apply", neighbour)).status, 200);
});

test("two replicas sign with one key, and what was signed before a rotation still verifies", async () => {
  const other = await w.replica();
  await vended("aws-deploy");
  const before = sentToAws();
  const order = { audience: "aws-deploy", scope: "aws-deploy:vend" };
  const minted = await w.self("release-bot", order);
  const headers = { authorization: `Bearer ${String(minted.body["access_token"])}` };
  const answer = await w.request("POST", `${other.url}/credentials/aws-deploy`, { headers });
  assert.equal(answer.status, 200, answer.text);
  const kidOf = (token: string) => decodeProtectedHeader(token).kid;
  assert.equal(kidOf(sentToAws()), kidOf(before));
  w.clock.advance(601);
  const rotated = await w.operator("POST", "/v1/keys/rotate", { reason: "test" });
  assert.equal(rotated.status, 200, rotated.text);
  await vended("aws-deploy");
  assert.notEqual(kidOf(sentToAws()), kidOf(before));
  // Its minute is over; its key is still found.
  const { iat = 0 } = decodeJwt(before);
  const read = { issuer, audience: "sts.amazonaws.com", currentDate: new Date(iat * 1000) };
  await jwtVerify(before, remoteKeys, read);
  const [event] = await w.events({ type: "keys.rotate", limit: "1" });
  const body = event?.["body"] as { identity_retired?: string } | undefined;
  assert.equal(body?.identity_retired, kidOf(before));
});

test("INV-15 no web-identity token is in an answer, the log, the ledger or the database", async () => {
  const tokens = [
    ...sts.calls.map((call) => call.params["WebIdentityToken"]),
    ...cloud.seen.flatMap(({ body }) => {
      const form = new URLSearchParams(body);
      return [form.get("client_assertion"), form.get("subject_token")];
    }),
  ].filter((token) => typeof token === "string");
  assert.ok(tokens.length > 10);
  const events = JSON.stringify(await w.admin("select body from ephor.events"));
  const leases = JSON.stringify(await w.admin("select * from ephor.leases"));
  const places = events + leases + w.lines.join("");
  for (const token of tokens) {
    const [, , signature = ""] = token.split(".");
    assert.ok(signature !== "" && !places.includes(signature));
  }
});

/** The worker looks for leases every second of real time. */
async function until(isSo: () => boolean): Promise<void> {
  for (let round = 0; round < 200; round++) {
    if (isSo()) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new assert.AssertionError({ message: "it did not come about" });
}
