import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { answering, ephor, json, type Answering } from "./command-line.ts";

const TOKEN = {
  access_token: "at.at.at",
  token_type: "Bearer",
  expires_in: 45,
  scope: "billing:read",
  issued_token_type: "x",
};
const ARGS = ["exchange", "--resource", "https://billing.acme.example", "--scope", "billing:read"];

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ephor-cli-"));
  t.after(() => rmSync(path, { recursive: true, force: true }));
  return path;
}

function file(t: TestContext, text: string): string {
  const path = join(folder(t), "token");
  writeFileSync(path, text, { mode: 0o600 });
  return path;
}

/** A token that says for whom it is; nobody here checks its signature. */
function jwt(aud: string | string[]): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString("base64url");
  return `${part({ alg: "RS256" })}.${part({ aud })}.c2ln`;
}

const granting = (t: TestContext): Promise<Answering> => answering(t, (response) => json(response, 200, TOKEN));
const formOf = (server: Answering): Record<string, string> =>
  Object.fromEntries(new URLSearchParams(server.seen.at(-1)?.body));

test("the token of EPHOR_TOKEN_FILE is exchanged, and the access token alone is printed", async (t) => {
  const server = await granting(t);
  const ran = await ephor([...ARGS, "--purpose", "q3 invoices", "--ttl", "20"], {
    ...server.env,
    EPHOR_TOKEN_FILE: file(t, "w.w.w\n"),
  });
  assert.deepEqual(ran, { code: 0, out: "at.at.at\n", talk: "" });
  assert.deepEqual(formOf(server), {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: "w.w.w",
    subject_token_type: "urn:ietf:params:oauth:token-type:jwt",
    resource: "https://billing.acme.example",
    scope: "billing:read",
    purpose: "q3 invoices",
    ttl: "20",
  });
  assert.equal(server.seen[0]?.headers.authorization, undefined);
});

test("--json prints the whole answer", async (t) => {
  const server = await granting(t);
  const ran = await ephor([...ARGS, "--json"], { ...server.env, EPHOR_TOKEN: "w.w.w" });
  assert.deepEqual(JSON.parse(ran.out), TOKEN);
});

test("a human's token is the subject, the workload's the actor; a bare resource name is an audience", async (t) => {
  const server = await granting(t);
  const subject = file(t, "human.human.human");
  const args = ["exchange", "--resource", "billing", "--scope", "billing:read", "--scope", "billing:refund"];
  for (const option of [
    ["--subject-token-file", subject],
    ["--on-behalf-of", `token-file:${subject}`],
  ]) {
    await ephor([...args, ...option, "--subject-token-type", "id_token"], { ...server.env, EPHOR_TOKEN: "w.w.w" });
    assert.deepEqual(formOf(server), {
      grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
      subject_token: "human.human.human",
      subject_token_type: "urn:ietf:params:oauth:token-type:id_token",
      actor_token: "w.w.w",
      actor_token_type: "urn:ietf:params:oauth:token-type:jwt",
      audience: "billing",
      scope: "billing:read billing:refund",
    });
  }
});

test("--task continues a task; --to hands it over, addressed by the server's own issuer", async (t) => {
  const server = await answering(t, (response, { path }) =>
    json(response, 200, path.startsWith("/.well-known/") ? { issuer: "https://sts.acme.example" } : TOKEN),
  );
  const ran = await ephor(
    ["exchange", "--to", "summary-bot", "--scope", "billing:read", "--task", "01M8279N8XTW819WGGT5B8QV91"],
    {
      ...server.env,
      EPHOR_TOKEN: "w.w.w",
    },
  );
  assert.equal(ran.code, 0);
  assert.equal(formOf(server)["resource"], "https://sts.acme.example/agents/summary-bot");
  assert.equal(formOf(server)["subject_token_type"], "urn:ephor:params:oauth:token-type:task");
});

test("GitHub Actions is asked for a token for this server, with the job's bearer", async (t) => {
  const github = await answering(t, (response) => json(response, 200, { value: "gh.gh.gh" }));
  const server = await granting(t);
  const ran = await ephor(ARGS, {
    ...server.env,
    ACTIONS_ID_TOKEN_REQUEST_URL: `${github.url}/token?api-version=2`,
    ACTIONS_ID_TOKEN_REQUEST_TOKEN: "job-bearer",
  });
  assert.equal(ran.code, 0);
  assert.equal(github.seen[0]?.path, `/token?api-version=2&audience=${encodeURIComponent(server.url)}`);
  assert.equal(github.seen[0]?.headers.authorization, "Bearer job-bearer");
  assert.equal(formOf(server)["subject_token"], "gh.gh.gh");
});

test("a GitHub job without id-token: write is told so; its bearer goes to no http host", async (t) => {
  const server = await granting(t);
  for (const env of [
    { ACTIONS_ID_TOKEN_REQUEST_URL: "https://127.0.0.1:9/" },
    { ACTIONS_ID_TOKEN_REQUEST_URL: "http://github.example/", ACTIONS_ID_TOKEN_REQUEST_TOKEN: "job-bearer" },
  ]) {
    const ran = await ephor(ARGS, { ...server.env, ...env });
    assert.equal(ran.code, 5);
    assert.doesNotMatch(ran.talk, /job-bearer/);
  }
  assert.equal(server.seen.length, 0);
});

test("a token that lies about for AWS is used only when its aud is the one for Ephor", async (t) => {
  const server = await granting(t);
  const foreign = await ephor(ARGS, { ...server.env, AWS_WEB_IDENTITY_TOKEN_FILE: file(t, jwt("sts.amazonaws.com")) });
  assert.equal(foreign.code, 5);
  assert.equal(server.seen.length, 0);
  const ours = await ephor(ARGS, { ...server.env, AWS_WEB_IDENTITY_TOKEN_FILE: file(t, jwt(["x", server.url])) });
  assert.equal(ours.code, 0);
  const named = await ephor([...ARGS, "--token-file", file(t, jwt("sts.amazonaws.com"))], server.env);
  assert.equal(named.code, 0);
});

test("without any token it ends with 5 and asks nobody", async (t) => {
  const server = await granting(t);
  const ran = await ephor(ARGS, server.env);
  assert.equal(ran.code, 5);
  assert.equal(server.seen.length, 0);
});

const REFUSALS: [string, number, number][] = [
  ["invalid_scope", 400, 3],
  ["invalid_target", 400, 3],
  ["access_denied", 403, 3],
  ["authorization_pending", 400, 4],
  ["invalid_request", 400, 5],
  ["invalid_client", 401, 5],
  ["temporarily_unavailable", 503, 1],
];
for (const [error, status, exit] of REFUSALS) {
  test(`exchange ends with ${exit} when the server answers ${status} ${error}`, async (t) => {
    const server = await answering(t, (response) =>
      json(response, status, { error, error_description: "Why.", access_token: "at.at.at" }),
    );
    const ran = await ephor(ARGS, { ...server.env, EPHOR_TOKEN: "workload-token" });
    assert.equal(ran.code, exit);
    assert.equal(ran.out, "");
    assert.match(ran.talk, new RegExp(error));
    assert.doesNotMatch(ran.talk, /at\.at\.at|workload-token/);
  });
}

test("an answer without a token is no success", async (t) => {
  const server = await answering(t, (response) => json(response, 200, { scope: "billing:read" }));
  assert.equal((await ephor(ARGS, { ...server.env, EPHOR_TOKEN: "w.w.w" })).code, 1);
});

for (const args of [
  ["exchange", "--resource", "billing"],
  ["exchange", "--scope", "billing:read"],
  [...ARGS, "--to", "summary-bot"],
  [...ARGS, "--ttl", "60"],
  [...ARGS, "--ttl", "0"],
  [...ARGS, "--ttl", "1.5"],
  [...ARGS, "--purpose", "x".repeat(201)],
  [...ARGS, "--subject-token-type", "saml2"],
  [...ARGS, "--task", "a", "--on-behalf-of", "b"],
  [...ARGS, "--as", "bot", "--token-file", "x"],
  [...ARGS, "surplus"],
]) {
  test(`wrong usage asks nobody: ephor ${args.join(" ").slice(0, 100)}`, async (t) => {
    const server = await granting(t);
    assert.equal((await ephor(args, { ...server.env, EPHOR_TOKEN: "w.w.w" })).code, 2);
    assert.equal(server.seen.length, 0);
  });
}
