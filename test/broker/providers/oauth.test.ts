import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import { createEgress } from "../../../src/system/egress.ts";
import { startFakeAuthorizationServer } from "../../support/fake-authorization-server.ts";
import type { UpstreamReply } from "../../support/upstream-server.ts";
import { ANSWER_SECONDS, CANARY, LEASE, NOW, failure, provider, stage, type Ask } from "./oauth-stage.ts";

const server = await startFakeAuthorizationServer(() => true);
const egress = createEgress();
const { mint, destroy } = stage(egress);
after(() => {
  egress.close();
  server.stop();
});
beforeEach(() => {
  server.forget();
  server.meddle = undefined;
});

const settings = (rest: object = {}): object => ({
  token_url: server.tokenUrl,
  revocation_url: server.revocationUrl,
  internal: true,
  client_id: "crm",
  secret: "crm-client",
  grant: "client_credentials",
  ...rest,
});
const CLIENT: Ask = { secrets: { "crm-client": "client-secret" } };

/** The name of Dana's secret, as an operator computes it in a shell. */
const mark = (sub: string): string => createHash("sha256").update(sub).digest("hex").slice(0, 32);
const DANAS = `crm-refresh-${mark(LEASE.sub)}`;
const PER_USER = { grant: "refresh_token", refresh_secret: "crm-refresh-{user}" };
const withRefresh = (token: string, name = DANAS): Ask => ({ secrets: { ...CLIENT.secrets, [name]: token } });

/** Changes the answers of the token endpoint. */
function meddleWithToken(change: (body: Record<string, unknown>) => object | string): void {
  server.meddle = ({ path }, reply) =>
    path === "/token" ? { ...reply, body: change(reply.body as Record<string, unknown>) } : undefined;
}

/** Access tokens that are good after `act` and were not before. */
async function leftAfter(act: () => Promise<unknown>): Promise<string[]> {
  const before = new Set(server.live.keys());
  await act();
  return [...server.live.keys()].filter((token) => !before.has(token));
}

test("client_credentials sends the grant, scope, resource and audience of the settings", async () => {
  const rest = { scope: "read write", resource: ["https://crm.example/api", "urn:crm"], audience: "crm" };
  const { credential, handle, marks, upstreamExpiresAt, rotated } = await mint(settings(rest), CLIENT);
  assert.deepEqual(
    [...server.lastForm()],
    [
      ["grant_type", "client_credentials"],
      ["scope", "read write"],
      ["resource", "https://crm.example/api"],
      ["resource", "urn:crm"],
      ["audience", "crm"],
    ],
  );
  assert.equal(server.seen[0]?.headers.accept, "application/json");
  const token = String(credential["access_token"]);
  assert.ok(server.live.has(token));
  assert.deepEqual(credential, {
    access_token: token,
    token_type: "Bearer",
    expires_at: NOW + 45,
    scope: "read write",
  });
  assert.deepEqual(handle, { access_token: token });
  assert.deepEqual(marks, [{ kind: "token_sha256", value: createHash("sha256").update(token).digest("hex") }]);
  assert.equal(upstreamExpiresAt, NOW + ANSWER_SECONDS + 3600);
  assert.equal(rotated, undefined);
});

test("a token that ends before the lease says so", async () => {
  meddleWithToken((body) => ({ ...body, expires_in: 20 }));
  const { credential, upstreamExpiresAt } = await mint(settings(), CLIENT);
  assert.equal(credential["expires_at"], NOW + 20);
  assert.equal(upstreamExpiresAt, NOW + 20 + ANSWER_SECONDS);
});

test("RFC 8693 §2.1 token_exchange sends a token of ours as the subject", async () => {
  const audiences: string[] = [];
  const webIdentity = async (audience: string): Promise<string> => {
    audiences.push(audience);
    return "our.web.identity";
  };
  const rest = { grant: "token_exchange", web_identity: { audience: "https://crm.example" }, scope: "read" };
  await mint(settings(rest), { ...CLIENT, webIdentity });
  assert.deepEqual(
    [...server.lastForm()],
    [
      ["grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"],
      ["subject_token", "our.web.identity"],
      ["subject_token_type", "urn:ietf:params:oauth:token-type:jwt"],
      ["requested_token_type", "urn:ietf:params:oauth:token-type:access_token"],
      ["scope", "read"],
    ],
  );
  assert.deepEqual(audiences, ["https://crm.example"]);
  await failure(mint(settings(rest), CLIENT), "credentials_refused", "web_identity_unavailable");
});

test("RFC 8693 §2.2.1 token_exchange takes only what can be sent as an access token", async () => {
  const ask: Ask = { ...CLIENT, webIdentity: async () => "our.web.identity" };
  const rest = { grant: "token_exchange", web_identity: { audience: "x" } };
  for (const type of ["urn:ietf:params:oauth:token-type:refresh_token", "urn:ietf:params:oauth:token-type:id_token"]) {
    meddleWithToken((body) => ({ ...body, issued_token_type: type }));
    await failure(mint(settings(rest), ask), "answer_malformed", "issued_token_type");
  }
  meddleWithToken((body) => ({ ...body, issued_token_type: undefined }));
  await failure(mint(settings(rest), ask), "answer_malformed", "issued_token_type");
  meddleWithToken((body) => ({ ...body, issued_token_type: "urn:ietf:params:oauth:token-type:jwt" }));
  await mint(settings(rest), ask);
});

test("RFC 7523 §2.1 jwt_bearer sends a token of ours as the assertion", async () => {
  const rest = { grant: "jwt_bearer", web_identity: { audience: "x" } };
  await mint(settings(rest), { ...CLIENT, webIdentity: async () => "our.web.identity" });
  assert.deepEqual(
    [...server.lastForm()],
    [
      ["grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"],
      ["assertion", "our.web.identity"],
    ],
  );
});

test("refresh_token uses that of the lease's human, and hands over the one that came in its place", async () => {
  server.refreshTokens.add("dana-1");
  const { handle, rotated } = await mint(settings({ ...PER_USER, scope: "read" }), withRefresh("dana-1"));
  assert.deepEqual(
    [...server.lastForm()],
    [
      ["grant_type", "refresh_token"],
      ["refresh_token", "dana-1"],
      ["scope", "read"],
    ],
  );
  assert.equal(rotated?.secret, DANAS);
  const next = rotated?.value.use((text) => text) ?? "";
  assert.ok(server.refreshTokens.has(next));
  assert.ok(!JSON.stringify(rotated).includes(next));
  // The human's own: the end of a lease must not end it.
  assert.deepEqual(Object.keys(handle), ["access_token"]);
  await destroy(settings(PER_USER), handle, CLIENT);
  assert.ok(server.refreshTokens.has(next));
  await mint(settings(PER_USER), withRefresh(next));
});

test("an upstream that keeps the refresh token, by saying it again or not, rotates nothing", async () => {
  for (const refresh_token of ["dana-2", undefined]) {
    server.meddle = () => ({ status: 200, body: { access_token: "a", token_type: "Bearer", refresh_token } });
    const { rotated, handle } = await mint(settings(PER_USER), withRefresh("dana-2"));
    assert.equal(rotated, undefined);
    assert.deepEqual(handle, { access_token: "a" });
  }
});

test("no other human's refresh token is used, and without one nothing is sent", async () => {
  const ask = { ...withRefresh("dana-3"), sub: "okta|00u2" };
  await failure(mint(settings(PER_USER), ask), "secret_malformed", "refresh_token_missing");
  await failure(mint(settings(PER_USER), withRefresh("two\nlines")), "secret_malformed");
  await failure(mint(settings(PER_USER), withRefresh("")), "secret_malformed");
  assert.equal(server.seen.length, 0);
});

test("a plain name is one refresh token for everybody", async () => {
  server.refreshTokens.add("shared-1");
  const rest = { grant: "refresh_token", refresh_secret: "crm-refresh" };
  const { rotated } = await mint(settings(rest), withRefresh("shared-1", "crm-refresh"));
  assert.equal(rotated?.secret, "crm-refresh");
});

test("a refresh token that is spent or taken back is told of, and another try helps nobody", async () => {
  const error = await failure(mint(settings(PER_USER), withRefresh("gone")), "credentials_refused", "invalid_grant");
  assert.equal(error.isTransient, false);
});

test("a rotated refresh token is handed over although the mint fails: the old one is dead", async () => {
  const broken: [(body: Record<string, unknown>) => object, string?][] = [
    [(body) => ({ ...body, token_type: "mac" }), "token_type"],
    [(body) => ({ ...body, access_token: undefined }), "http_200"],
    [(body) => ({ ...body, expires_in: -1 })],
  ];
  for (const [index, [change, code]] of broken.entries()) {
    const token = `dana-4-${index}`;
    server.refreshTokens.add(token);
    let sent: unknown;
    meddleWithToken((body) => {
      sent = body["refresh_token"];
      return change(body);
    });
    const { rotated } = await failure(mint(settings(PER_USER), withRefresh(token)), "answer_malformed", code);
    assert.equal(rotated?.secret, DANAS);
    const next = rotated.value.use((text) => text);
    assert.equal(next, sent);
  }
});

test("INV-12 a caller who stops waiting leaves no access token behind, and loses no refresh token", async () => {
  server.refreshTokens.add("dana-5");
  const cut = new AbortController();
  server.meddle = ({ path }) => {
    if (path === "/token") cut.abort();
    return undefined;
  };
  const ask = { ...withRefresh("dana-5"), signal: cut.signal };
  const left = await leftAfter(async () => {
    const { rotated } = await failure(mint(settings(PER_USER), ask), "unreachable", "aborted");
    assert.ok(server.refreshTokens.has(rotated?.value.use((text) => text) ?? ""));
  });
  assert.deepEqual(left, []);
  server.forget();
  await failure(mint(settings(), { ...CLIENT, signal: cut.signal }), "unreachable", "aborted");
  assert.equal(server.seen.length, 0);
});

test("which secrets: the client's, each human's own, those a mint replaces, and those an end needs", () => {
  const of = (rest: object) => provider.settings.parse(settings(rest));
  assert.deepEqual(provider.secrets(of({})), ["crm-client"]);
  assert.deepEqual(provider.secrets(of(PER_USER)), ["crm-client"]);
  assert.deepEqual(provider.secrets(of(PER_USER), LEASE), ["crm-client", DANAS]);
  assert.deepEqual(provider.secrets(of(PER_USER), { ...LEASE, sub: "agent|triage-bot" }), [
    "crm-client",
    `crm-refresh-${mark("agent|triage-bot")}`,
  ]);
  const shared = of({ grant: "refresh_token", refresh_secret: "crm-refresh" });
  assert.deepEqual(provider.secrets(shared), ["crm-client", "crm-refresh"]);
  assert.deepEqual(provider.rotates?.(of({}), LEASE), []);
  assert.deepEqual(provider.rotates?.(of(PER_USER), LEASE), [DANAS]);
  assert.deepEqual(provider.secretsToDestroy?.(of(PER_USER)), ["crm-client"]);
  assert.deepEqual(provider.secretsToDestroy?.(of({ revocation_url: undefined })), []);
});

test("RFC 7009 §2.1 destroy revokes the access token; a second time is fine", async () => {
  const { handle } = await mint(settings(), CLIENT);
  const other = await mint(settings(), CLIENT);
  const left = [...server.live.keys()].filter((token) => token !== handle["access_token"]);
  await destroy(settings(), handle, CLIENT);
  assert.deepEqual(
    [...server.lastForm("/revoke")],
    [
      ["token", handle["access_token"]],
      ["token_type_hint", "access_token"],
    ],
  );
  assert.match(server.seen.at(-1)?.headers.authorization ?? "", /^Basic /);
  assert.deepEqual([...server.live.keys()], left);
  assert.ok(server.live.has(String(other.credential["access_token"])));
  await destroy(settings(), handle, CLIENT);
});

test("destroy without a handle, or without a revocation_url, sends nothing", async () => {
  const { handle } = await mint(settings(), CLIENT);
  server.forget();
  await destroy(settings(), undefined, CLIENT);
  await destroy(settings({ revocation_url: undefined }), handle);
  assert.equal(server.seen.length, 0);
});

test("destroy takes nothing but a success for one", async () => {
  const { handle } = await mint(settings(), CLIENT);
  const answers: [UpstreamReply | undefined, string, string][] = [
    [{ status: 400, body: { error: "unsupported_token_type" } }, "order_refused", "unsupported_token_type"],
    [{ status: 401, body: { error: "invalid_client" } }, "credentials_refused", "invalid_client"],
    [{ status: 401, body: CANARY }, "credentials_refused", "http_401"],
    [{ status: 503, headers: { "retry-after": "5" }, body: CANARY }, "unavailable", "http_503"],
    [{ status: 302, headers: { location: "https://canary.example/" } }, "answer_malformed", "egress_redirect"],
    [{ status: 202 }, "answer_malformed", "http_202"],
  ];
  for (const [reply, problem, code] of answers) {
    server.meddle = () => reply;
    await failure(destroy(settings(), handle, CLIENT), problem, code);
  }
});

test("a refresh token that nobody asked for is revoked with the access token", async () => {
  meddleWithToken((body) => ({ ...body, refresh_token: "uninvited" }));
  server.refreshTokens.add("uninvited");
  const { credential, handle, rotated } = await mint(settings(), CLIENT);
  assert.ok(!JSON.stringify(credential).includes("uninvited"));
  assert.equal(rotated, undefined);
  await destroy(settings(), handle, CLIENT);
  assert.ok(!server.refreshTokens.has("uninvited"));
  assert.ok(!server.live.has(String(credential["access_token"])));
});

test("residual: nothing where it can be revoked, else what the settings bound, else no end", () => {
  const residual = (rest: object): number => provider.residualSeconds(provider.settings.parse(settings(rest)));
  assert.equal(residual({}), 0);
  assert.equal(residual({ revocation_url: undefined, max_expires_in: "10m" }), 600);
  assert.equal(residual({ revocation_url: undefined }), Number.POSITIVE_INFINITY);
});

test("max_expires_in refuses a token that would live longer, or does not say", async () => {
  const rest = { max_expires_in: "10m" };
  const left = await leftAfter(async () => {
    await failure(mint(settings(rest), CLIENT), "cannot_bound", "expires_in_too_long");
    meddleWithToken((body) => ({ ...body, expires_in: 601 }));
    await failure(mint(settings(rest), CLIENT), "cannot_bound", "expires_in_too_long");
    meddleWithToken((body) => ({ ...body, expires_in: undefined }));
    await failure(mint(settings(rest), CLIENT), "cannot_bound", "expires_in_missing");
  });
  assert.deepEqual(left, []);
  meddleWithToken((body) => ({ ...body, expires_in: 600 }));
  await mint(settings(rest), CLIENT);
  meddleWithToken((body) => ({ ...body, expires_in: undefined }));
  assert.equal((await mint(settings(), CLIENT)).upstreamExpiresAt, undefined);
});

test("session policies leave the scopes that all of them have", async () => {
  const rest = {
    scope: "read write admin",
    session_policies: { reader: { scope: "read" }, editor: { scope: "read write" }, admin: { scope: "admin" } },
  };
  await mint(settings(rest), { ...CLIENT, policies: ["editor", "reader"] });
  assert.equal(server.lastForm().get("scope"), "read");
  server.forget();
  await failure(mint(settings(rest), { ...CLIENT, policies: ["editor", "admin"] }), "cannot_bound", "nothing_left");
  const unknown = mint(settings(rest), { ...CLIENT, policies: ["constructor"] });
  await failure(unknown, "cannot_bound", "session_policy_unknown");
  assert.equal(server.seen.length, 0);
});

test("RFC 6749 §5.1 a token with a scope beyond the one asked for is revoked and never comes out", async () => {
  const left = await leftAfter(async () => {
    for (const scope of ["read write", "Read", "read,write", "read  "]) {
      meddleWithToken((body) => ({ ...body, scope }));
      await failure(mint(settings({ scope: "read" }), CLIENT), "order_refused", "answer_wider");
    }
  });
  assert.deepEqual(left, []);
  meddleWithToken((body) => ({ ...body, scope: "read" }));
  assert.equal((await mint(settings({ scope: "read write" }), CLIENT)).credential["scope"], "read");
  meddleWithToken((body) => ({ ...body, scope: "default" }));
  assert.equal((await mint(settings(), CLIENT)).credential["scope"], "default");
});

test("RFC 6749 §5.1 an answer is read strictly, and the token of a bad one revoked", async () => {
  const bad: [(body: Record<string, unknown>) => object, string?][] = [
    [(body) => ({ ...body, token_type: undefined })],
    [(body) => ({ ...body, token_type: "mac" }), "token_type"],
    // Bound to a key, and we gave none (RFC 9449 §5).
    [(body) => ({ ...body, token_type: "DPoP" }), "token_type"],
    [(body) => ({ ...body, token_type: "N_A" }), "token_type"],
    [(body) => ({ ...body, expires_in: "3600" })],
    [(body) => ({ ...body, expires_in: 0 })],
    [(body) => ({ ...body, expires_in: -1 })],
    [(body) => ({ ...body, expires_in: 1.5 })],
    [(body) => ({ ...body, expires_in: 1e12 })],
    [(body) => ({ ...body, scope: ["read"] })],
    [(body) => ({ ...body, refresh_token: 7 })],
  ];
  const left = await leftAfter(async () => {
    for (const [change, code] of bad) {
      meddleWithToken(change);
      await failure(mint(settings(), CLIENT), "answer_malformed", code);
    }
  });
  assert.deepEqual(left, []);
  for (const type of ["bearer", "BEARER"]) {
    meddleWithToken((body) => ({ ...body, token_type: type, expires_in: 1 }));
    await mint(settings(), CLIENT);
  }
});

test("an answer without a readable access token is malformed", async () => {
  for (const change of [
    (body: object) => ({ ...body, access_token: "" }),
    (body: object) => ({ ...body, access_token: `${CANARY} x` }),
    (body: object) => ({ ...body, access_token: `${CANARY}\n` }),
    (body: object) => ({ ...body, access_token: "x".repeat(16 * 1024 + 1) }),
    (body: object) => ({ ...body, access_token: 1 }),
  ]) {
    meddleWithToken(change);
    await failure(mint(settings(), CLIENT), "answer_malformed");
  }
  const json = { "content-type": "application/json" };
  for (const reply of [
    { status: 200, body: [] },
    { status: 200, headers: json, body: "{" },
    { status: 200, headers: json, body: '{"access_token":"a","access_token":"b","token_type":"Bearer"}' },
    { status: 200, headers: { "content-type": "text/html" }, body: '{"access_token":"a","token_type":"Bearer"}' },
    { status: 200, body: "access_token=a&token_type=bearer" },
  ] satisfies UpstreamReply[]) {
    server.meddle = () => reply;
    await failure(mint(settings(), CLIENT), "answer_malformed", "http_200");
  }
});

test("a token that could not be revoked either is told of", async () => {
  server.meddle = ({ path }, reply) =>
    path === "/revoke" ? { status: 503 } : { ...reply, body: { ...(reply.body as object), token_type: "mac" } };
  await failure(mint(settings(), CLIENT), "answer_malformed", "left_behind");
  assert.equal(server.seen.length, 3);
});

test("RFC 6749 §5.2 what the upstream refuses is told by its code where we know it, never by its text", async () => {
  const text = { error_description: CANARY, error_uri: `https://${CANARY}.example` };
  const answers: [UpstreamReply | undefined, string, string][] = [
    [{ status: 400, body: { error: "invalid_scope", ...text } }, "order_refused", "invalid_scope"],
    [{ status: 400, body: { error: "invalid_target", ...text } }, "order_refused", "invalid_target"],
    [{ status: 400, body: { error: "unauthorized_client", ...text } }, "credentials_refused", "unauthorized_client"],
    [{ status: 401, body: { error: "invalid_client", ...text } }, "credentials_refused", "invalid_client"],
    [{ status: 200, body: { error: "invalid_grant", ...text } }, "credentials_refused", "invalid_grant"],
    [{ status: 400, body: { error: CANARY, ...text } }, "order_refused", "http_400"],
    [{ status: 400, body: { error: "__proto__" } }, "order_refused", "http_400"],
    [{ status: 400, body: { error: "temporarily_unavailable" } }, "unavailable", "temporarily_unavailable"],
    [{ status: 503, body: { error: "invalid_grant", ...text } }, "unavailable", "http_503"],
    [{ status: 429, body: CANARY }, "unavailable", "http_429"],
    [{ status: 401, body: CANARY }, "credentials_refused", "http_401"],
    [{ status: 404, body: `<h1>${CANARY}</h1>` }, "order_refused", "http_404"],
    [{ status: 201, body: { access_token: "a", token_type: "Bearer" } }, "answer_malformed", "http_201"],
    [{ status: 302, headers: { location: `https://${CANARY}.example` } }, "answer_malformed", "egress_redirect"],
    [{ status: 200, body: { access_token: "a".repeat(70_000) } }, "answer_malformed", "egress_too_large"],
  ];
  for (const [reply, problem, code] of answers) {
    server.meddle = () => reply;
    await failure(mint(settings(), CLIENT), problem, code);
  }
});

test("an upstream that is not there is unreachable, and one inside is not asked unless the operator says so", async () => {
  await failure(mint(settings({ token_url: "http://127.0.0.1:1/token" }), CLIENT), "unreachable", "egress_network");
  const https = server.tokenUrl.replace("http:", "https:");
  const outside = settings({ token_url: https, revocation_url: undefined, internal: false });
  await failure(mint(outside, CLIENT), "unreachable", "egress_address");
  assert.equal(server.seen.length, 0);
});
