import assert from "node:assert/strict";
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { decodeJwt } from "jose";
import { ephor, type Ran } from "../cli/command-line.ts";
import { runningClock } from "../support/hand-clock.ts";
import { world, type World } from "../support/world.ts";

/** Beside the example's: an agent of a cluster and people, under names that the example does not have. */
const trust: NonNullable<Parameters<typeof world>[1]>["trust"] = ({ workloads, humans }) => `
issuers:
  cluster: { url: "${workloads.url}", audience: "OUR_ISSUER", internal: true }
  people: { url: "${humans.url}", audience: "api://ephor", identifies: humans, internal: true }
agents:
  triage-bot:
    owner: dana@acme.example
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:triage-bot" } }]
resources:
  billing: { resource: https://billing.acme.example, actions: [read_invoice] }
grants:
  - { agent: triage-bot, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: people } }
`;

/*
 * The command line against a real server: the README's first screen, and what an operator does on a bad day. The steps follow
 * one another.
 */
let w: World;
let cleanups: (() => unknown)[] = [];
let env: Record<string, string>;

before(async () => {
  // The command line signs with this machine's clock.
  w = await world({ after: (fn) => void cleanups.push(fn) }, { clock: runningClock(), trust });
  env = { EPHOR_URL: w.url, EPHOR_DATA: w.data };
});
after(async () => {
  for (const cleanUp of cleanups.toReversed()) await cleanUp();
  cleanups = [];
});

const run = (args: string[], more: Record<string, string> = {}): Promise<Ran> => ephor(args, { ...env, ...more });
const example = new URL("../../examples/github-actions/trust.yaml", import.meta.url).pathname;

test("apply --dry-run changes nothing; apply does; again there is nothing to change", async () => {
  const planned = await run(["apply", "-f", example, "--source", "example", "--dry-run", "--json"]);
  assert.equal(planned.code, 0, planned.talk);
  assert.equal((JSON.parse(planned.out) as { applied: boolean }).applied, false);
  assert.doesNotMatch((await run(["agents"])).out, /notes-bot/);
  assert.equal((await run(["apply", "-f", example, "--source", "example"])).code, 0);
  assert.match((await run(["agents"])).out, /notes-bot +active +dana@acme\.example +example/);
  assert.match((await run(["resources"])).out, /releases +verify +https:\/\/releases\.acme\.example/);
  assert.match((await run(["apply", "-f", example, "--source", "example"])).out, /nothing to change/);
});

test("agents key makes agent, key and grant at once; the private half never leaves, and is made once", async () => {
  const made = await run([
    "agents",
    "key",
    "laptop-bot",
    "--owner",
    "you@example.com",
    "--may",
    "releases:read_release",
  ]);
  assert.equal(made.code, 0, made.talk);
  const path = made.out.trim();
  assert.equal(path, join(w.data, "agents", "laptop-bot.jwk"));
  assert.equal(statSync(path).mode & 0o777, 0o600);
  const { d, x } = JSON.parse(readFileSync(path, "utf8")) as { d: string; x: string };
  const { body } = await w.operator("GET", "/v1/agents/laptop-bot");
  assert.ok(JSON.stringify(body).includes(x) && !JSON.stringify(body).includes(d));
  assert.ok(!made.talk.includes(d));
  assert.equal((await run(["agents", "key", "laptop-bot"])).code, 0);
  assert.equal((JSON.parse(readFileSync(path, "utf8")) as { x: string }).x, x);
});

test("--may adds to what was given before, and touches no grant that says more", async () => {
  const grant = async (): Promise<unknown> => (await w.operator("GET", "/v1/grants/laptop-bot-releases")).body["spec"];
  const may = (action: string): Promise<Ran> => run(["agents", "key", "laptop-bot", "--may", `releases:${action}`]);
  const actions = ["read_release", "publish_release"];
  assert.equal((await may("publish_release")).code, 0);
  assert.equal((await may("read_release")).code, 0);
  assert.deepEqual(await grant(), { agent: "laptop-bot", resource: "releases", actions });

  const narrow = { agent: "laptop-bot", resource: "releases", actions, when: 'task.purpose == "drill"' };
  assert.equal((await w.operator("PUT", "/v1/grants/laptop-bot-releases", narrow)).status, 200);
  const refused = await may("create_release");
  assert.equal(refused.code, 1);
  assert.match(refused.talk, /grant laptop-bot-releases already .* nothing was changed/);
  assert.deepEqual(await grant(), narrow);
  const plain = { agent: "laptop-bot", resource: "releases", actions: ["read_release"] };
  assert.equal((await w.operator("PUT", "/v1/grants/laptop-bot-releases", plain)).status, 200);
});

test("agents key makes nothing, neither agent nor key, where the server would refuse any of it, and says what", async () => {
  const made = ["agents", "key", "wish-bot", "--owner", "you@example.com"];
  const wrong: readonly (readonly [may: readonly string[], says: RegExp])[] = [
    [["nowhere:read"], / {2}--may nowhere:read: names the resource nowhere, which does not exist/],
    [
      ["releases:no_such_action"],
      / {2}--may releases:no_such_action: is no action of releases – choose from read_release/,
    ],
    [["releases:read_release", "nowhere:read"], /--may nowhere:read: /],
  ];
  for (const [may, says] of wrong) {
    const ran = await run([...made, ...may.flatMap((scope) => ["--may", scope])]);
    assert.deepEqual([ran.code, ran.out], [1, ""], may.join(" "));
    assert.match(ran.talk, /refused, nothing was made or changed/);
    assert.match(ran.talk, says);
    assert.doesNotMatch(ran.talk, /line 1|grants\[/);
  }
  const machine = await run([...made, "--may", "nowhere:read", "--json"]);
  assert.equal((JSON.parse(machine.out) as { errors: unknown[] }).errors.length, 1);
  assert.equal((await w.operator("GET", "/v1/agents/wish-bot")).status, 404);
  assert.equal((await w.operator("GET", "/v1/grants/wish-bot-releases")).status, 404);
  assert.ok(!existsSync(join(w.data, "agents", "wish-bot.jwk")));

  // An agent that is there keeps what it had.
  const more = await run(["agents", "key", "laptop-bot", "--may", "releases:no_such_action"]);
  assert.equal(more.code, 1);
  assert.match(more.talk, / {2}--may releases:no_such_action: is no action/);
  const { body } = await w.operator("GET", "/v1/grants/laptop-bot-releases");
  assert.deepEqual((body["spec"] as { actions: string[] }).actions, ["read_release"]);
  assert.equal((await run([...made, "--may", "releases:read_release", "--may", "billing:read_invoice"])).code, 0);
  assert.equal((await w.operator("GET", "/v1/grants/wish-bot-billing")).status, 200);
});

test("agents key makes no agent without an owner, and changes none that belongs to a file", async () => {
  assert.equal((await run(["agents", "key", "nobody-bot"])).code, 2);
  assert.ok(!existsSync(join(w.data, "agents", "nobody-bot.jwk")));
  const owned = await run(["agents", "key", "release-bot"]);
  assert.equal(owned.code, 1);
  assert.match(owned.talk, /keys: \[/);
});

test("an assertion mints a token by curl's form, once", async () => {
  const assertion = (await run(["agents", "assertion", "laptop-bot"])).out.trim();
  const form = {
    grant_type: "client_credentials",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: assertion,
    resource: "https://releases.acme.example",
    scope: "releases:read_release",
  };
  const first = await w.post("/token", form);
  assert.equal(first.status, 200, first.text);
  assert.equal(decodeJwt(String(first.body["access_token"])).sub, "agent|laptop-bot");
  assert.equal((await w.post("/token", form)).status, 401);
  assert.equal((await run(["agents", "assertion", "other-bot"])).code, 5);
});

let minted: { jti: string; txn: string };
test("exchange --as prints a token; what is not granted ends with 3", async () => {
  const ran = await run([
    "exchange",
    "--as",
    "laptop-bot",
    "--resource",
    "releases",
    "--scope",
    "releases:read_release",
    "--purpose",
    "look",
  ]);
  assert.equal(ran.code, 0, ran.talk);
  const { jti, txn } = decodeJwt(ran.out.trim()) as { jti: string; txn: string };
  minted = { jti, txn };
  const denied = await run([
    "exchange",
    "--as",
    "laptop-bot",
    "--resource",
    "releases",
    "--scope",
    "releases:create_release",
  ]);
  assert.equal(denied.code, 3);
});

test("a workload's token and a human's, from files, make a delegated token", async () => {
  const { writeFileSync } = await import("node:fs");
  const [actor, subject] = [join(w.data, "actor"), join(w.data, "subject")];
  writeFileSync(actor, w.workload("triage-bot"), { mode: 0o600 });
  writeFileSync(subject, w.human(), { mode: 0o600 });
  const ran = await run(
    ["exchange", "--resource", "billing", "--scope", "billing:read_invoice", "--on-behalf-of", `token-file:${subject}`],
    { EPHOR_TOKEN_FILE: actor },
  );
  assert.equal(ran.code, 0, ran.talk);
  const claims = decodeJwt(ran.out.trim());
  assert.equal(claims.sub, "people|00u1ab");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
});

test("who and chain lead from a token to the agent and its owner", async () => {
  const who = await run(["who", minted.jti]);
  assert.match(who.out, /by +laptop-bot\n +owner +you@example\.com/);
  assert.match(
    (await run(["chain", minted.txn])).out,
    new RegExp(`└─ laptop-bot {2}open\n +└─ token ${minted.jti} {2}live`),
  );
  assert.equal((await run(["chain", "01M8273WNX2T4XC9X350BT02B4"])).code, 1);
  assert.match((await run(["audit", "--agent", "laptop-bot", "--decision", "refused"])).out, /scope_not_granted/);
});

test("kill agent stops it, exchange ends with 5; restore lets it work again, and its old token stays dead", async () => {
  const preview = await run(["kill", "agent", "laptop-bot", "--reason", "lost", "--dry-run"]);
  assert.match(preview.out, /nothing was killed/);
  const killed = await run(["kill", "agent", "laptop-bot", "--reason", "lost", "--json"]);
  assert.equal(killed.code, 0, killed.talk);
  const again = ["exchange", "--as", "laptop-bot", "--resource", "releases", "--scope", "releases:read_release"];
  assert.equal((await run(again)).code, 5);
  assert.match((await run(["restore", "agent", "laptop-bot", "--reason", "found"])).out, /restored: laptop-bot/);
  assert.equal((await run(again)).code, 0);
  assert.match((await run(["who", minted.jti])).out, /^jti killed/);
});

test("kill credential and kill chain take ids; one that is unknown ends with 1", async () => {
  const ran = await run([
    "exchange",
    "--as",
    "laptop-bot",
    "--resource",
    "releases",
    "--scope",
    "releases:read_release",
  ]);
  const { jti, txn } = decodeJwt(ran.out.trim()) as { jti: string; txn: string };
  assert.equal((await run(["kill", "credential", jti, "--reason", "leaked"])).code, 0);
  assert.equal((await run(["kill", "chain", txn, "--reason", "leaked"])).code, 0);
  assert.equal((await run(["kill", "agent", "nobody-bot", "--reason", "x"])).code, 1);
});

test("audit verify holds, export has every event, keys list and doctor find nothing wrong", async () => {
  const verified = await run(["audit", "verify", "--json"]);
  assert.equal(verified.code, 0, verified.out);
  const { events } = JSON.parse(verified.out) as { events: number };
  const lines = (await run(["audit", "export"])).out.trimEnd().split("\n");
  // Looking may itself be recorded.
  assert.ok(
    lines.length >= events && lines.every((line) => (JSON.parse(line) as { id?: string }).id?.startsWith("evt_")),
  );
  assert.match((await run(["keys", "list"])).out, /token {3}ES256[\s\S]*record {2}ES256/);
  const healthy = await run(["doctor", "--json"], { EPHOR_ISSUER: w.url });
  assert.equal(healthy.code, 0, healthy.out);
  // Without an anchor a restored copy starts, whatever database it is; that is worth a word, and no failure.
  const anchors = (out: string): unknown[] =>
    (JSON.parse(out) as { findings: { subject: string; state: string }[] }).findings
      .filter(({ subject }) => subject === "anchor")
      .map(({ state }) => state);
  assert.deepEqual(anchors(healthy.out), ["note"]);
  const anchored = await run(["doctor", "--json"], {
    EPHOR_ISSUER: w.url,
    EPHOR_ANCHOR: `file:${join(w.data, "..", "ephor-anchor")}`,
  });
  assert.deepEqual(anchors(anchored.out), []);
});

test("doctor says what is wrong and the mend: a wrong key, a bad setting, a server that is away", async () => {
  const wrongKey = await run(["doctor"], {
    EPHOR_OPERATOR_KEY: "ephor_op_q7Zt0xXbLw3mHc9RfVj2KdPsNa5uYgTe8oEi1BnCr4Mk",
  });
  assert.equal(wrongKey.code, 1);
  assert.match(wrongKey.out, /FAIL {2}operator key/);
  const setting = await run(["doctor"], { EPHOR_TOKENS_TTL: "90s" });
  assert.equal(setting.code, 1);
  assert.match(setting.out, /FAIL {2}configuration {2}EPHOR_TOKENS_TTL/);
  const away = await run(["doctor"], { EPHOR_URL: "http://127.0.0.1:9" });
  assert.equal(away.code, 1);
  assert.match(away.out, /FAIL {2}server/);
});
