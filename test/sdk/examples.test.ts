/** The examples, run as they are written: each in a process of its own, against a real server over HTTP. */
import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { createRemoteJWKSet, jwtVerify } from "jose";
import { signFrame, startFeedServer } from "../support/feed-server.ts";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, settled, world } from "../support/world.ts";

const root = resolve(dirname(fileURLToPath(import.meta.url)), "../..");
const BILLING = "https://billing.acme.example";
const METADATA = "/.well-known/oauth-protected-resource";

const feed = await startFeedServer({ after });
const w = await world({ after }, { clock: runningClock(), env: { EPHOR_ISSUER: feed.url } });
feed.behind(w.url);
const folder = await mkdtemp(join(tmpdir(), "ephor-examples-"));
after(() => rm(folder, { recursive: true, force: true }));
const secretFile = join(folder, "billing.secret");
await writeFile(secretFile, `${BILLING_SECRET}\n`, { mode: 0o600 });

/** Runs a file of examples/ as its README says; `ephor/…` is the source here, the build in an installed package. */
function start(file: string, env: Record<string, string>): ChildProcess & { text(): string } {
  const child = spawn(
    process.execPath,
    ["--import", "tsx", "--conditions=ephor-source", join(root, "examples", file)],
    { cwd: root, env: { PATH: process.env["PATH"] ?? "", ...env }, stdio: ["ignore", "pipe", "pipe"] },
  );
  let text = "";
  child.stdout.on("data", (chunk: Buffer) => (text += chunk.toString()));
  child.stderr.on("data", (chunk: Buffer) => (text += chunk.toString()));
  after(() => child.kill("SIGKILL"));
  return Object.assign(child, { text: () => text });
}

async function startServer(file: string, env: Record<string, string>): Promise<{ url: string; child: ChildProcess }> {
  const child = start(file, { PORT: "0", EPHOR_ISSUER: feed.url, RESOURCE: BILLING, ...env });
  const deadline = performance.now() + 30_000;
  for (;;) {
    const url = /listening on (http:\S+)/.exec(child.text())?.[1];
    if (url !== undefined) return { url, child };
    if (child.exitCode !== null || performance.now() > deadline) assert.fail(child.text());
    await new Promise((go) => setTimeout(go, 20));
  }
}

const tokenOf = async (agent = "release-bot", resource = BILLING, scope = "billing:read_invoice"): Promise<string> => {
  const answer = await settled(() => w.self(agent, { resource, scope }));
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};
const get = async (
  url: string,
  token?: string,
): Promise<{ status: number; challenge: string | null; body: Record<string, unknown> }> => {
  const headers: Record<string, string> = token === undefined ? {} : { authorization: `Bearer ${token}` };
  const answer = await fetch(url, { headers });
  const body = (await answer.json()) as Record<string, unknown>;
  return { status: answer.status, challenge: answer.headers.get("www-authenticate"), body };
};
const kill = async (target: object): Promise<void> => {
  const answer = await w.operator("POST", "/v1/kill", { ...target, reason: "test" });
  assert.equal(answer.status, 200, answer.text);
};
const txnOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString()) as { txn: string }).txn;
const frame = (claims: object): string =>
  signFrame(feed.key, {
    iss: feed.url,
    aud: BILLING,
    seq: 1,
    as_of: Date.now() / 1000,
    next_by: Date.now() / 1000 + 1,
    dead: [],
    ...claims,
  });

test("tool-server-hono follows the feed: serves, refuses what is killed within a second, refuses all when it is cut off", async () => {
  let beat = { seq: 1, dead: [] as object[] };
  feed.greet(() => [frame(beat)]);
  const heart = setInterval(() => feed.send(frame(beat)), 300);
  after(() => clearInterval(heart));
  const { url, child } = await startServer("tool-server-hono/server.mjs", {
    RESOURCE_NAME: "billing",
    RESOURCE_SECRET_FILE: secretFile,
  });
  const [mine, other] = [await tokenOf(), await tokenOf()];
  const served = await get(`${url}/invoices/7`, mine);
  assert.deepEqual(served.body, { invoice: "7", for: "agent|release-bot", through: ["release-bot"] });
  const nobody = await get(`${url}/invoices/7`);
  assert.equal(nobody.status, 401);
  assert.match(nobody.challenge ?? "", /^Bearer scope="billing:read_invoice", resource_metadata="https:/);
  assert.deepEqual((await get(url + METADATA)).body["authorization_servers"], [feed.url]);

  await kill({ txn: txnOf(mine) });
  beat = { seq: 2, dead: [{ txn: txnOf(mine) }] };
  feed.send(frame(beat));
  // A second has room for fifty such calls, and a server that is held up answers seldom.
  for (let calls = 1; (await get(`${url}/invoices/7`, mine)).status === 200; calls += 1) {
    assert.ok(calls < 50, "it is still served");
    await new Promise((go) => setTimeout(go, 20));
  }
  assert.deepEqual((await get(`${url}/invoices/7`, mine)).body["error"], "invalid_token");
  assert.equal((await get(`${url}/invoices/7`, other)).status, 200);

  clearInterval(heart);
  feed.cut(true);
  const cut = performance.now();
  for (let asked = cut; (await get(`${url}/invoices/7`, other)).status === 200; asked = performance.now())
    assert.ok(asked - cut < 5_500);
  assert.equal((await get(`${url}/invoices/7`, other)).status, 503);
  feed.cut(false);
  const stopped = new Promise((go) => child.once("exit", go));
  child.kill("SIGTERM");
  assert.equal(await stopped, 0);
});

test("tool-server-express with introspect refuses a killed token at once; it serves an agent until its task is killed", async () => {
  const { url } = await startServer("tool-server-express/server.mjs", {
    RESOURCE_NAME: "billing",
    RESOURCE_SECRET_FILE: secretFile,
    REVOCATION: "introspect",
  });
  const mine = await tokenOf();
  assert.equal((await get(`${url}/invoices/7`, mine)).status, 200);
  assert.equal((await get(`${url}/invoices/7`, `${mine}x`)).status, 401);
  const tokenFile = join(folder, "platform-token");
  await writeFile(tokenFile, w.workload("release-bot"), { mode: 0o600 });
  const agent = { EPHOR_URL: feed.url, EPHOR_TOKEN_FILE: tokenFile, RESOURCE: BILLING, TOOL_URL: url };
  const ended = (child: ChildProcess): Promise<unknown> => new Promise((go) => child.once("exit", go));

  const short = start("agent/agent.mjs", agent);
  assert.equal(await ended(short), 0, short.text());
  assert.match(short.text(), /^200 \{"invoice":"7","for":"agent\|release-bot"/);

  await kill({ txn: txnOf(mine) });
  assert.equal((await get(`${url}/invoices/7`, mine)).status, 401);
});

test("tool-server-express without a secret serves a killed token until it expires, as documented, and so does bare jose", async () => {
  const { url } = await startServer("tool-server-express/server.mjs", {});
  const mine = await tokenOf();
  const other = await w.self("keyed-bot", {
    grant_type: "client_credentials",
    subject_token: undefined as never,
    subject_token_type: undefined,
    client_assertion: w.privateKeyJwt(),
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    resource: BILLING,
    scope: "billing:refund",
  });
  assert.equal((await get(`${url}/invoices/7`, String(other.body["access_token"]))).status, 403);
  await kill({ txn: txnOf(mine) });
  assert.equal((await get(`${url}/invoices/7`, mine)).status, 200);
  const keys = createRemoteJWKSet(new URL(`${feed.url}/.well-known/jwks.json`));
  const rules = { issuer: feed.url, audience: BILLING, typ: "at+jwt", algorithms: ["ES256"] };
  assert.equal((await jwtVerify(mine, keys, rules)).payload.client_id, "release-bot");
  const later = { ...rules, currentDate: new Date(Date.now() + 60_000) };
  await assert.rejects(jwtVerify(mine, keys, later), { code: "ERR_JWT_EXPIRED" });
});

test("an agent that is killed while it works says so and ends with 5", async () => {
  const { url } = await startServer("tool-server-express/server.mjs", {});
  const tokenFile = join(folder, "doomed-token");
  await writeFile(tokenFile, w.workload("release-bot"), { mode: 0o600 });
  const child = start("agent/agent.mjs", {
    EPHOR_URL: feed.url,
    EPHOR_TOKEN_FILE: tokenFile,
    RESOURCE: BILLING,
    TOOL_URL: url,
    ROUNDS: "60",
    TTL: "2",
  });
  const deadline = performance.now() + 30_000;
  while (!/^200 /m.test(child.text())) {
    assert.ok(performance.now() < deadline, child.text());
    await new Promise((go) => setTimeout(go, 20));
  }
  await kill({ agent: "release-bot" });
  const exit = await new Promise((go) => child.once("exit", go));
  assert.equal(exit, 5, child.text());
  assert.match(child.text(), /stopped: the agent was killed/);
});
