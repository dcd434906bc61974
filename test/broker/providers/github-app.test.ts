import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createHash, createPublicKey, generateKeyPairSync } from "node:crypto";
import { inspect } from "node:util";
import { after, beforeEach, test } from "node:test";
import { parse } from "yaml";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import type { LeaseFacts, LeaseHandle, Minted, MintOrder } from "../../../src/broker/provider.ts";
import { createGithubAppProvider } from "../../../src/broker/providers/github-app.ts";
import { gitHost } from "../../../src/broker/providers/github-app-api.ts";
import type { GithubAppSettings } from "../../../src/broker/providers/github-app-settings.ts";
import { secretText } from "../../../src/broker/secret-text.ts";
import { createEgress } from "../../../src/system/egress.ts";
import { startFakeGithub } from "../../support/fake-github.ts";
import type { SeenRequest, UpstreamReply } from "../../support/upstream-server.ts";

const NOW = Date.UTC(2026, 10, 22, 12) / 1000;
const CANARY = "canary-github-text";

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const pkcs1 = rsa.privateKey.export({ type: "pkcs1", format: "pem" }).toString();
const pkcs8 = rsa.privateKey.export({ type: "pkcs8", format: "pem" }).toString();

let githubNow = NOW;
const github = await startFakeGithub({
  ids: ["123456", "Iv23liExample"],
  publicKey: createPublicKey(rsa.privateKey),
  installationId: 7,
  installation: {
    owner: "acme",
    repositories: ["Widgets", "gadgets", ...Array.from({ length: 98 }, (_, i) => `r-${i}`)],
    permissions: { contents: "write", issues: "write", administration: "write" },
  },
  now: () => githubNow,
});
const egress = createEgress();
after(() => {
  egress.close();
  github.stop();
});
beforeEach(() => {
  github.forget();
  github.meddle = undefined;
  githubNow = NOW;
});

const provider = createGithubAppProvider();

const LEASE: LeaseFacts = {
  id: "lease_01JD9Z0000000000000000000",
  resource: "widgets-repo",
  agent: "release-bot",
  owner: "dana@acme.example",
  path: ["release-bot"],
  sub: "okta|00u1",
  txn: "01JD9Z0000000000000000000A",
  jti: "01JD9Z0000000000000000000B",
};

function settingsOf(rest: object = {}): GithubAppSettings {
  return provider.settings.parse({
    app_id: 123456,
    installation_id: 7,
    secret: "github-key",
    repositories: ["widgets"],
    permissions: { contents: "read" },
    api_url: github.url,
    internal: true,
    ...rest,
  });
}

interface Ask {
  readonly settings?: object;
  readonly policies?: readonly string[];
  readonly key?: string;
  readonly signal?: AbortSignal;
}

async function mint({ settings = {}, policies = [], key = pkcs1, signal }: Ask = {}): Promise<Minted> {
  const order: MintOrder<GithubAppSettings> = {
    settings: settingsOf(settings),
    lease: LEASE,
    secrets: new Map([["github-key", secretText(key)]]),
    policies,
    issuedAt: NOW,
    endsAt: NOW + 45,
    upstream: { egress },
  };
  return await provider.mint(order, signal ?? new AbortController().signal);
}

async function destroy(handle: LeaseHandle<GithubAppSettings>["handle"]): Promise<void> {
  const lease = { settings: settingsOf(), lease: LEASE, secrets: new Map(), handle, upstream: { egress } };
  await provider.destroy?.(lease, new AbortController().signal);
}

/** Neither the app's key nor anything that GitHub said. */
async function fails(promise: Promise<unknown>, problem: string, code?: string): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof ProviderError, String(error));
    assert.deepEqual([error.problem, error.code], [problem, code]);
    const shown = inspect(error, { depth: 9, showHidden: true });
    for (const canary of [CANARY, "ghs_", "PRIVATE KEY", "eyJ"]) assert.ok(!shown.includes(canary), shown);
    return true;
  });
}

const tokenOf = ({ credential }: Minted): string => String(credential["token"]);

/** Whether GitHub takes it. */
async function works(token: string): Promise<boolean> {
  const headers = { authorization: `Bearer ${token}`, "user-agent": "test" };
  return (await fetch(`${github.url}/installation/repositories`, { headers })).status === 200;
}

/** Changes the answer to the request for a token. */
function meddleWithToken(change: (body: Record<string, unknown>) => object): void {
  github.meddle = ({ method }, reply) =>
    method === "POST" ? { ...reply, body: change(reply.body as Record<string, unknown>) } : undefined;
}

test("the app proves itself by a JWT that its public key verifies, as GitHub asks for it", async () => {
  await mint();
  assert.deepEqual(github.appJwts.at(-1), {
    header: { typ: "JWT", alg: "RS256" },
    claims: { iat: NOW - 60, exp: NOW + 300, iss: "123456" },
  });
  await mint({ key: pkcs8, settings: { app_id: "Iv23liExample" } });
  assert.equal(github.appJwts.at(-1)?.claims["iss"], "Iv23liExample");
});

test("GitHub's clock may be a minute behind ours or minutes ahead, and not more", async () => {
  for (const drift of [-60, 240]) {
    githubNow = NOW + drift;
    await mint();
  }
  for (const drift of [-61, 301]) {
    githubNow = NOW + drift;
    await fails(mint(), "credentials_refused", "http_401");
  }
});

test("it asks for the repositories and permissions of the settings and no more", async () => {
  const minted = await mint();
  const [request] = github.seen;
  assert.equal(request?.path, "/app/installations/7/access_tokens");
  assert.equal(request?.headers.accept, "application/vnd.github+json");
  assert.equal(request?.headers["x-github-api-version"], "2022-11-28");
  assert.deepEqual(JSON.parse(request?.body ?? ""), { repositories: ["widgets"], permissions: { contents: "read" } });
  assert.deepEqual(minted.credential, {
    token: tokenOf(minted),
    username: "x-access-token",
    expires_at: NOW + 45,
    permissions: ["contents:read", "metadata:read"],
    repositories: ["acme/Widgets"],
    git_host: new URL(github.url).host,
  });
  assert.ok(await works(tokenOf(minted)));
});

test("all_repositories asks for none by name, and still for permissions", async () => {
  const minted = await mint({ settings: { repositories: undefined, all_repositories: true } });
  assert.deepEqual(JSON.parse(github.seen[0]?.body ?? ""), { permissions: { contents: "read" } });
  assert.ok(!("repositories" in minted.credential));
});

test("the handle is the token, its mark the token's SHA-256, its own end GitHub's hour", async () => {
  const { handle, marks, upstreamExpiresAt, credential } = await mint();
  const token = String(credential["token"]);
  assert.deepEqual(handle, { token });
  assert.deepEqual(marks, [{ kind: "token_sha256", value: createHash("sha256").update(token).digest("hex") }]);
  assert.equal(upstreamExpiresAt, NOW + 3600);
  assert.equal(provider.residualSeconds(settingsOf()), 0);
});

test("destroy deletes the token with itself, so that GitHub refuses it; a second time is fine", async () => {
  const minted = await mint();
  const other = await mint();
  await destroy(minted.handle);
  assert.equal(await works(tokenOf(minted)), false);
  assert.equal(await works(tokenOf(other)), true);
  await destroy(minted.handle);
});

test("destroy after a crash between mint and record asks nothing: nobody has that token", async () => {
  await destroy(undefined);
  assert.equal(github.seen.length, 0);
});

test("destroy needs none of the vault's secrets", () => {
  assert.deepEqual(provider.secrets(settingsOf()), ["github-key"]);
  assert.deepEqual(provider.secretsToDestroy?.(settingsOf()), []);
});

test("destroy does not take a busy, broken or refusing GitHub for a confirmation", async () => {
  const { handle } = await mint();
  for (const [status, problem] of [
    [403, "unavailable"],
    [429, "unavailable"],
    [500, "unavailable"],
    [404, "order_refused"],
    [200, "answer_malformed"],
  ] as const) {
    github.meddle = () => ({ status, body: { message: CANARY } });
    await fails(destroy(handle), problem, `http_${status}`);
  }
  github.meddle = () => ({ status: 302, headers: { location: github.url } });
  await fails(destroy(handle), "answer_malformed", "egress_redirect");
});

test("session policies leave the common part, all of them", async () => {
  const settings = {
    repositories: ["widgets", "gadgets"],
    permissions: { contents: "write", issues: "read" },
    session_policies: {
      reader: { permissions: { contents: "read", issues: "read" } },
      contents: { permissions: { contents: "write" } },
      gadgets: { repositories: ["Gadgets"] },
      widgets: { repositories: ["widgets"] },
    },
  };
  await mint({ settings, policies: ["reader", "contents", "gadgets"] });
  assert.deepEqual(JSON.parse(github.seen[0]?.body ?? ""), {
    repositories: ["gadgets"],
    permissions: { contents: "read" },
  });
  github.forget();
  await fails(mint({ settings, policies: ["gadgets", "widgets"] }), "cannot_bound", "nothing_left");
  await fails(mint({ settings, policies: ["unknown"] }), "cannot_bound", "session_policy_unknown");
  await fails(mint({ settings, policies: ["toString"] }), "cannot_bound", "session_policy_unknown");
  assert.equal(github.seen.length, 0);
});

test("policies with no permission in common ask for nothing: GitHub would take that for all", async () => {
  const session_policies = { a: { permissions: { contents: "read" } }, b: { permissions: { issues: "read" } } };
  const settings = { permissions: { contents: "read", issues: "read" }, session_policies };
  await fails(mint({ settings, policies: ["a", "b"] }), "cannot_bound", "nothing_left");
  assert.equal(github.seen.length, 0);
});

test("INV-12 a token that is wider than the order is deleted and never comes out", async () => {
  const before = new Set(github.live);
  const wider: Record<string, (body: Record<string, unknown>) => object> = {
    "a permission more": (body) => ({ ...body, permissions: { contents: "read", issues: "read" } }),
    "a higher level": (body) => ({ ...body, permissions: { contents: "write" } }),
    "an unknown level": (body) => ({ ...body, permissions: { contents: "owner" } }),
    "metadata beyond read": (body) => ({ ...body, permissions: { contents: "read", metadata: "write" } }),
    "a repository more": (body) => ({
      ...body,
      repositories: [...(body["repositories"] as object[]), { name: "gadgets", full_name: "acme/gadgets" }],
    }),
    "all repositories": (body) => ({ ...body, repository_selection: "all" }),
    "no list of repositories": (body) => ({ ...body, repositories: undefined }),
  };
  for (const change of Object.values(wider)) {
    meddleWithToken(change);
    await fails(mint(), "order_refused", "answer_wider");
  }
  assert.deepEqual(new Set(github.live), before);
  meddleWithToken((body) => ({ ...body, permissions: {} }));
  await mint();
});

test("INV-12 a token in an answer that is otherwise malformed is deleted", async () => {
  const before = new Set(github.live);
  for (const change of [
    (body: object) => ({ ...body, expires_at: "soon" }),
    (body: object) => ({ ...body, expires_at: new Date(NOW * 1000).toISOString() }),
    (body: object) => ({ ...body, expires_at: undefined }),
    (body: object) => ({ ...body, permissions: undefined }),
    (body: object) => ({ ...body, permissions: [CANARY] }),
  ]) {
    meddleWithToken(change);
    await fails(mint(), "answer_malformed");
  }
  assert.deepEqual(new Set(github.live), before);
});

test("a token that could not be deleted either is told of", async () => {
  github.meddle = ({ method }, reply) =>
    method === "DELETE"
      ? { status: 502, body: CANARY }
      : { ...reply, body: { ...(reply.body as object), permissions: { issues: "write" } } };
  await fails(mint(), "order_refused", "left_behind");
  assert.deepEqual(
    github.seen.map(({ method }) => method),
    ["POST", "DELETE", "DELETE"],
  );
});

test("a caller who stops waiting leaves no token behind", async () => {
  const before = new Set(github.live);
  const cut = new AbortController();
  github.meddle = ({ method }) => {
    if (method === "POST") cut.abort();
    return undefined;
  };
  await fails(mint({ signal: cut.signal }), "unreachable", "aborted");
  assert.deepEqual(new Set(github.live), before);
  github.forget();
  await fails(mint({ signal: cut.signal }), "unreachable", "aborted");
  assert.equal(github.seen.length, 0);
});

test("what GitHub refuses is told by our own words and its status", async () => {
  await fails(mint({ settings: { permissions: { contents: "admin" } } }), "order_refused", "http_422");
  await fails(mint({ settings: { repositories: ["others"] } }), "order_refused", "http_422");
  await fails(mint({ settings: { installation_id: 8 } }), "order_refused", "http_404");
  await fails(mint({ settings: { app_id: 1 } }), "credentials_refused", "http_401");
  const answers: [UpstreamReply, string, string?][] = [
    [{ status: 403, body: { message: CANARY } }, "order_refused", "http_403"],
    [{ status: 403, headers: { "retry-after": "60" }, body: { message: CANARY } }, "unavailable", "http_403"],
    [{ status: 403, headers: { "x-ratelimit-remaining": "0" }, body: CANARY }, "unavailable", "http_403"],
    [{ status: 429, body: CANARY }, "unavailable", "http_429"],
    [{ status: 503, body: CANARY }, "unavailable", "http_503"],
    [{ status: 200, body: { token: "x" } }, "answer_malformed", "http_200"],
    [{ status: 201, body: `{"token":"${CANARY}","token":"${CANARY}"}` }, "answer_malformed"],
    [
      { status: 201, headers: { "content-type": "application/json" }, body: `{"token":"a","token":"b"}` },
      "answer_malformed",
    ],
    [{ status: 201, body: { token: `${CANARY} \n` } }, "answer_malformed"],
    [{ status: 201, body: [] }, "answer_malformed"],
    [{ status: 307, headers: { location: `${github.url}/${CANARY}` } }, "answer_malformed", "egress_redirect"],
  ];
  for (const [reply, problem, code] of answers) {
    github.meddle = () => reply;
    await fails(mint(), problem, code);
  }
});

test("a GitHub that is not there is unreachable, and one inside is not asked unless the operator says so", async () => {
  await fails(mint({ settings: { api_url: "http://127.0.0.1:1" } }), "unreachable", "egress_network");
  const settings = { api_url: github.url.replace("http:", "https:"), internal: false };
  await fails(mint({ settings }), "unreachable", "egress_address");
  assert.equal(github.seen.length, 0);
});

test("a secret that is no RSA private key of a fair size is refused before anything is sent", async () => {
  const pem = { type: "pkcs8", format: "pem" } as const;
  const keys = [
    "",
    CANARY,
    createPublicKey(rsa.privateKey).export({ type: "spki", format: "pem" }).toString(),
    rsa.privateKey.export({ ...pem, cipher: "aes-256-cbc", passphrase: "x" }).toString(),
    generateKeyPairSync("ec", { namedCurve: "prime256v1" }).privateKey.export(pem).toString(),
    generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey.export(pem).toString(),
    '{"kty":"RSA"}',
    '{"kty":',
  ];
  for (const key of keys) await fails(mint({ key }), "secret_malformed");
  assert.equal(github.seen.length, 0);
});

test("an answer with a hundred repositories is read", async () => {
  const repositories = ["widgets", "gadgets", ...Array.from({ length: 98 }, (_, i) => `r-${i}`)];
  const minted = await mint({ settings: { repositories } });
  assert.equal((minted.credential["repositories"] as string[]).length, 100);
});

test("git_host is where the API's repositories are cloned from", () => {
  for (const [api_url, host] of [
    ["https://api.github.com", "github.com"],
    ["https://api.acme.ghe.com/", "acme.ghe.com"],
    ["https://ghe.acme.example/api/v3", "ghe.acme.example"],
    ["https://api.github.com.evil.example", "api.github.com.evil.example"],
    ["https://ghe.acme.example:8443/api/v3", "ghe.acme.example:8443"],
  ] as const)
    assert.equal(gitHost(settingsOf({ api_url })), host);
});

test("a path in api_url comes before GitHub's own", async () => {
  await fails(mint({ settings: { api_url: `${github.url}/api/v3/` } }), "credentials_refused", "http_401");
  assert.equal(github.seen[0]?.path, "/api/v3/app/installations/7/access_tokens");
});

test("settings: what is mistyped, or would give more than it seems, is refused", () => {
  const accepts = (rest: object): boolean => {
    const base = { app_id: 1, installation_id: 7, secret: "k", repositories: ["a"], permissions: { contents: "read" } };
    return provider.settings.safeParse({ ...base, ...rest }).success;
  };
  for (const rest of [
    {},
    { app_id: "123" },
    { app_id: "Iv1.0123456789abcdef" },
    { repositories: undefined, all_repositories: true },
    { repositories: [".github", "a.b_c-D"] },
    { permissions: { contents: "write", organization_custom_properties: "admin" } },
    { session_policies: { less: { repositories: ["A"], permissions: { contents: "read" } } } },
    { api_url: "http://localhost:1", internal: true },
    { api_url: "https://ghe.acme.example/api/v3" },
  ])
    assert.ok(accepts(rest), JSON.stringify(rest));
  for (const rest of [
    { app_id: 0 },
    { app_id: "my-app" },
    { installation_id: "7/../8" },
    { installation_id: 1.5 },
    { repositories: undefined },
    { all_repositories: true },
    { repositories: undefined, all_repositories: false },
    { repositories: [] },
    { repositories: ["acme/a"] },
    { repositories: [".."] },
    { repositories: ["a", "A"] },
    { repositories: Array.from({ length: 101 }, (_, i) => `r${i}`) },
    { permissions: undefined },
    { permissions: {} },
    { permissions: { contents: "none" } },
    { permissions: { Contents: "read" } },
    { session_policies: { more: { permissions: { contents: "write" } } } },
    { session_policies: { more: { permissions: { issues: "read" } } } },
    { session_policies: { more: { repositories: ["b"] } } },
    { session_policies: { none: { permissions: {} } } },
    { api_url: "http://localhost:1" },
    { api_url: "http://ghe.acme.example", internal: true },
    { api_url: "https://user@api.github.com" },
    { api_url: "https://api.github.com?x=y" },
    { permision: {} },
  ])
    assert.ok(!accepts(rest), JSON.stringify(rest));
});

test("settings may be parsed again, as they are when a lease is ended", () => {
  assert.deepEqual(provider.settings.parse(settingsOf()), settingsOf());
});

test("what is sent away is the JWT and the token, never the key", async () => {
  const minted = await mint();
  await destroy(minted.handle);
  const text = (one: SeenRequest): string => JSON.stringify(one);
  assert.equal(github.seen.length, 2);
  for (const line of pkcs1.split("\n").filter((part) => part.length > 20 && !part.startsWith("-")))
    assert.ok(!github.seen.some((one) => text(one).includes(line)));
});

test("the settings of the example are such settings", () => {
  const text = readFileSync(new URL("../../../examples/github-app/trust.yaml", import.meta.url), "utf8");
  const { resources } = parse(text) as { resources: Record<string, { credential: { github_app: object } }> };
  for (const { credential } of Object.values(resources)) provider.settings.parse(credential.github_app);
});
