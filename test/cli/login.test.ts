import assert from "node:assert/strict";
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { runCli } from "../../src/cli/run.ts";
import { runningClock } from "../support/hand-clock.ts";
import { startHumanIdp } from "../support/human-idp.ts";
import { usualTrust, world } from "../support/world.ts";
import { ephor } from "./command-line.ts";

const idp = await startHumanIdp({ after });
const w = await world({ after }, { trust: usualTrust, clock: runningClock() });
await w.apply(
  `
issuers:
  corp: { url: "${idp.url}", audience: ${idp.clientId}, identifies: humans, client_id: ${idp.clientId}, internal: true, subject_max_age: 8h }
grants:
  - { agent: release-bot, resource: billing, actions: [refund], name: for-humans, on_behalf_of: { issuer: corp } }
`,
  "humans.yaml",
);
const folder = await mkdtemp(join(tmpdir(), "ephor-login-"));
after(() => rm(folder, { recursive: true, force: true }));
const env = { EPHOR_URL: w.url, EPHOR_DATA: folder };

/** Runs a command and lets a browser act on each line of talk. */
async function watched(
  args: readonly string[],
  onTalk: (line: string) => unknown,
): Promise<{ code: number; talk: string }> {
  let talk = "";
  const acts: unknown[] = [];
  const code = await runCli(args, {
    out: () => {},
    talk: (text) => {
      talk += text;
      acts.push(onTalk(text));
    },
    input: { isTerminal: false, read: async () => "", chunks: async function* () {}, readHidden: async () => "" },
    program: [],
    isOutTerminal: false,
    isTalkTerminal: false,
    surroundings: { env },
  });
  await Promise.all(acts);
  return { code, talk };
}

const visit = (address: string | undefined, who: string): Promise<unknown> | undefined =>
  address === undefined ? undefined : idp.browse(address, { login: who, password: "x" }).then((end) => follow(end));
const follow = (end: string): Promise<unknown> | undefined => (end.startsWith("http") ? fetch(end) : undefined);

test("GET /.well-known/ephor-login says where humans sign in, to anybody, and nothing of workloads' issuers", async () => {
  const answer = await w.request("GET", "/.well-known/ephor-login");
  assert.equal(answer.status, 200);
  assert.deepEqual(answer.body["issuers"], [
    { name: "corp", url: idp.url, client_id: idp.clientId, audience: [idp.clientId], subject_max_age: 28_800 },
  ]);
});

test("ephor login by code with PKCE keeps a 0600 token that carries the human (RFC 8252, RFC 7636)", async () => {
  const { code, talk } = await watched(["login", "--no-browser"], (line) =>
    visit(/sign in here: (\S+)/.exec(line)?.[1], "dana"),
  );
  assert.equal(code, 0, talk);
  assert.match(talk, /corp\|dana/);
  const [name] = await readdir(join(folder, "logins"));
  const path = join(folder, "logins", name as string);
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const token = join(folder, "workload");
  await writeFile(token, w.workload("release-bot"));
  const order = ["exchange", "--token-file", token, "--resource", "billing", "--scope", "billing:refund"];
  const carried = await ephor([...order, "--on-behalf-of", "me"], env);
  assert.equal(carried.code, 0, carried.talk);
  const alone = await ephor(order, env);
  assert.equal(alone.code, 3);
  const [event] = await w.events({ limit: "1", type: "token.issue", decision: "granted" });
  assert.equal(event?.["sub"], "corp|dana");
});

test("a login is for its own server, ends when the IdP says, and is forgotten by --logout", async () => {
  const elsewhere = await ephor(["exchange", "--resource", "x", "--scope", "x", "--on-behalf-of", "me"], {
    ...env,
    EPHOR_URL: "http://127.0.0.1:1",
  });
  assert.deepEqual([elsewhere.code, /nobody is logged in/.test(elsewhere.talk)], [5, true]);
  const [name] = await readdir(join(folder, "logins"));
  const path = join(folder, "logins", name as string);
  const kept = JSON.parse(await readFile(path, "utf8")) as object;
  await writeFile(path, JSON.stringify({ ...kept, expires_at: 1 }));
  const late = await ephor(["exchange", "--resource", "x", "--scope", "x", "--on-behalf-of", "me"], env);
  assert.deepEqual([late.code, /is over/.test(late.talk)], [5, true]);
  assert.equal((await ephor(["login", "--logout"], env)).code, 0);
  assert.deepEqual(await readdir(join(folder, "logins")), []);
});

test("an issuer that is not there, and an IdP that refuses, are told and keep nothing", async () => {
  assert.equal((await ephor(["login", "--issuer", "nobody"], env)).code, 2);
  const refused = await watched(["login", "--no-browser"], (line) => {
    const address = /sign in here: (\S+)/.exec(line)?.[1];
    if (address === undefined) return undefined;
    const back = new URL(new URL(address).searchParams.get("redirect_uri") ?? "");
    back.search = new URLSearchParams({ error: "access_denied", state: "another", iss: idp.url }).toString();
    return fetch(back);
  });
  assert.notEqual(refused.code, 0);
  assert.deepEqual(await readdir(join(folder, "logins")), []);
});

test("ephor login --device takes a code that is typed elsewhere (RFC 8628)", async () => {
  const { code, talk } = await watched(["login", "--device"], (line) => visit(/or open (\S+)/.exec(line)?.[1], "sam"));
  assert.equal(code, 0, talk);
  assert.match(talk, /corp\|sam/);
});
