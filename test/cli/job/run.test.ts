import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { request } from "node:http";
import { after, test } from "node:test";
import { CANARY, stage, type Started } from "./stage.ts";

const s = await stage({ after });
const { w } = s;

const node = (script: string): string[] => ["--", process.execPath, "-e", script];
const task = (purpose: string, ...args: string[]): string[] => ["run", "--task", purpose, ...args];

async function taskOf(purpose: string): Promise<Record<string, unknown>> {
  const [row] = await w.admin("select * from ephor.tasks where purpose = $1", [purpose]);
  assert.ok(row, `no task for ${purpose}`);
  return row;
}

/** Ends by what the worker does every second of real time. */
async function leasesEnded(txn: unknown): Promise<Record<string, unknown>[]> {
  for (let round = 0; round < 200; round++) {
    const rows = await w.admin("select * from ephor.leases where txn = $1", [txn]);
    if (rows.every((row) => row["status"] === "ended")) return rows;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new assert.AssertionError({ message: "leases did not end" });
}

test("ephor run returns the command's exit code, and its environment holds handles and no token (CONTRACT §9)", async () => {
  const script = "console.log(JSON.stringify(process.env)); process.exit(7)";
  const token = await readFile(s.env["EPHOR_TOKEN_FILE"] as string, "utf8");
  const ended = await s.run(
    task("look around", "--credential", "aws-prod", "--credential", "crm-key", ...node(script)),
    {
      MY_GITLAB_ID_TOKEN: token,
      ACTIONS_ID_TOKEN_REQUEST_TOKEN: "canary-actions",
      AWS_ACCESS_KEY_ID: "AKIAOLD",
      AWS_PROFILE: "old",
      KEPT: "yes",
    },
  );
  assert.equal(ended.code, 7, ended.talk);
  const env = JSON.parse(ended.out) as Record<string, string>;
  assert.equal(env["KEPT"], "yes");
  const gone = [
    "EPHOR_TOKEN_FILE",
    "EPHOR_OPERATOR_KEY",
    "EPHOR_URL",
    "MY_GITLAB_ID_TOKEN",
    "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
  ];
  for (const name of [...gone, "AWS_ACCESS_KEY_ID", "AWS_PROFILE"]) assert.equal(env[name], undefined, name);
  assert.ok(!ended.out.includes(CANARY) && !ended.out.includes(token));
  const opened = await taskOf("look around");
  assert.notEqual(opened["ended_at"], null);
  assert.equal((await leasesEnded(opened["txn"])).length, 2);
  await assert.rejects(readFile(env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] as string), { code: "ENOENT" });
});

test("ephor run ends with 125 and starts nothing where a grant is missing, the command is, or nobody is proved", async () => {
  const marker = node("console.log('started')");
  const refused = await s.run(task("not granted", "--credential", "billing", ...marker));
  assert.deepEqual([refused.code, refused.out], [125, ""]);
  assert.match(refused.talk, /refused/);
  const missing = await s.run(task("no such command", "--", "/no/such/command"));
  assert.deepEqual([missing.code, missing.out], [125, ""]);
  assert.notEqual((await taskOf("no such command"))["ended_at"], null);
  const nobody = await s.run(task("nobody", ...marker), { EPHOR_TOKEN_FILE: "" });
  assert.deepEqual([nobody.code, nobody.out], [125, ""]);
  const unnamed = await s.run(["run", "--task", "nothing"]);
  assert.equal(unnamed.code, 2);
});

/** Writes what it finds in its environment, and goes on until its input ends. */
const WAITS =
  "console.log(JSON.stringify(process.env)); process.stdin.resume(); process.stdin.on('end', () => process.exit(0))";

async function waiting(started: Started): Promise<Record<string, string>> {
  return JSON.parse(await started.line()) as Record<string, string>;
}

/** A request to the local door with any headers. */
function ask(url: string, headers: Record<string, string>): Promise<{ status: number; body: string }> {
  return new Promise((resolve, reject) => {
    const sent = request(url, { headers, agent: false }, (response) => {
      let body = "";
      response.on("data", (chunk: Buffer) => (body += chunk.toString()));
      response.on("end", () => resolve({ status: response.statusCode ?? 0, body }));
    });
    sent.on("error", reject);
    sent.end();
  });
}

test("the local door answers the command's own processes and no other: token, Host, Origin, descent", async () => {
  const started = s.start(task("keep out", "--credential", "aws-prod", ...node(WAITS)));
  const env = await waiting(started);
  const url = env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] as string;
  const token = await readFile(env["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"] as string, "utf8");
  assert.equal(new URL(url).hostname, "127.0.0.1");
  const refusals: Record<string, string>[] = [
    {},
    { authorization: "wrong" },
    { authorization: token, host: "evil.example" },
    { authorization: token, origin: "https://evil.example" },
    { authorization: token, "sec-fetch-site": "cross-site" },
    // The right token, from a process that is not the command's: this one.
    { authorization: token },
  ];
  for (const headers of refusals) {
    const answer = await ask(url, headers);
    assert.equal(answer.status, 403, JSON.stringify(headers));
    assert.ok(!answer.body.includes("AccessKeyId"));
  }
  started.child.stdin?.end();
  const ended = await started.ended;
  assert.equal(ended.code, 0);
  assert.match(ended.talk, /sent away/);
});

test("AWS's own SDK finds its credentials by the container endpoint, and a profile by credential_process", async () => {
  const script = `
    const { defaultProvider } = require("@aws-sdk/credential-provider-node");
    (async () => {
      const first = await defaultProvider()();
      const again = await defaultProvider()();
      const named = await defaultProvider({ profile: "aws-prod" })();
      console.log(JSON.stringify([first, again, named].map((one) => one.accessKeyId)));
    })().catch((error) => { console.error(error); process.exit(9); });`;
  const ended = await s.run(task("aws", "--credential", "aws-prod", ...node(script)));
  assert.equal(ended.code, 0, ended.talk);
  const [first, again, named] = JSON.parse(ended.out) as string[];
  assert.ok(first !== undefined && s.sts.sessions.has(first));
  // One lease for all who ask in time.
  assert.deepEqual([again, named], [first, first]);
  const [lease] = await leasesEnded((await taskOf("aws"))["txn"]);
  assert.equal(lease?.["ended_because"], "task_ended");
});

test("psql's and pg's variables lead to the database as the lease's role, which never reaches the command", async () => {
  const script = `
    const pg = require("pg");
    (async () => {
      const client = new pg.Client({ user: "anybody" });
      client.on("error", () => {});
      await client.connect();
      const { rows } = await client.query("select current_user as role, current_setting('application_name') as lease, 40 + 2 as sum");
      console.log(JSON.stringify({ ...rows[0], env: process.env.PGPASSWORD ?? null }));
      await client.end();
    })().catch((error) => { console.error(error); process.exit(9); });`;
  const ended = await s.run(task("orders", "--credential", "orders-db", ...node(script)), { PGPASSWORD: "old" });
  assert.equal(ended.code, 0, ended.talk);
  const seen = JSON.parse(ended.out) as Record<string, unknown>;
  assert.equal(seen["sum"], 42);
  assert.equal(seen["env"], null);
  const [lease] = await leasesEnded((await taskOf("orders"))["txn"]);
  assert.equal(seen["lease"], lease?.["id"]);
  assert.deepEqual(await w.admin("select 1 from pg_roles where rolname = $1", [seen["role"]]), []);
});

test("git gets a token for the resource's host through the helper, and none for another host", async () => {
  const script = `
    const { spawnSync } = require("node:child_process");
    const fill = (host) => spawnSync("git", ["credential", "fill"], { input: "protocol=https\\nhost=" + host + "\\n\\n", env: { ...process.env, GIT_TERMINAL_PROMPT: "0", GIT_ASKPASS: "true" } });
    const good = fill(${JSON.stringify(s.gitHost)});
    const bad = fill("evil.example");
    console.log(JSON.stringify([good.stdout.toString(), bad.stdout.toString()]));`;
  const ended = await s.run(task("clone", "--credential", "widgets", ...node(script)));
  assert.equal(ended.code, 0, ended.talk);
  const [good, bad] = JSON.parse(ended.out) as string[];
  assert.match(good ?? "", /^username=x-access-token$/m);
  assert.match(good ?? "", /^password=ghs_/m);
  assert.doesNotMatch(bad ?? "", /ghs_/);
});

test("a signal reaches the command, its exit code comes back as a shell has it, and everything it held is dead", async () => {
  const started = s.start(task("to be stopped", "--credential", "orders-db", ...node(WAITS)));
  await waiting(started);
  started.child.kill("SIGTERM");
  const ended = await started.ended;
  assert.equal(ended.code, 143, ended.talk);
  const opened = await taskOf("to be stopped");
  assert.notEqual(opened["ended_at"], null);
  assert.equal((await leasesEnded(opened["txn"]))[0]?.["ended_because"], "task_ended");
});

test("ephor run on behalf of a human carries that human, and --env gives plain values", async () => {
  const file = `${s.env["HOME"]}/human`;
  const { writeFile } = await import("node:fs/promises");
  await writeFile(file, w.human("00u1"));
  await writeFile(`${s.env["HOME"]}/triage`, w.workload("triage-bot"));
  const args = ["--on-behalf-of", `token-file:${file}`, "--token-file", `${s.env["HOME"]}/triage`];
  const ended = await s.run(
    task("for her", ...args, "--credential", "crm-key", "--env", ...node("console.log(process.env.CRM_KEY)")),
  );
  assert.equal(ended.code, 0, ended.talk);
  assert.equal(ended.out.trim(), CANARY);
  assert.equal((await taskOf("for her"))["sub"], "okta|00u1");
});
