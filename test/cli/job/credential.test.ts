import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { after, test } from "node:test";
import { CANARY, stage } from "./stage.ts";

const s = await stage({ after });
const { w } = s;
const ask = (args: readonly string[], input?: string) => s.run(["credential", ...args], {}, input);

test("ephor credential speaks AWS's credential_process, a shell's eval, and JSON", async () => {
  const aws = await ask(["aws-prod", "--format", "aws"]);
  assert.equal(aws.code, 0, aws.talk);
  const process = JSON.parse(aws.out) as Record<string, unknown>;
  assert.deepEqual(Object.keys(process), ["Version", "AccessKeyId", "SecretAccessKey", "SessionToken", "Expiration"]);
  assert.equal(process["Version"], 1);
  assert.ok(s.sts.sessions.has(process["AccessKeyId"] as string));
  const env = await ask(["crm-key", "--format", "env"]);
  assert.equal(env.out, `export CRM_KEY='${CANARY}'\n`);
  const json = JSON.parse((await ask(["crm-key"])).out) as Record<string, unknown>;
  assert.deepEqual([json["kind"], json["credential"]], ["static", { value: CANARY }]);
});

test("a format that is not for the kind is wrong usage, a missing grant is denied, nobody is unauthenticated", async () => {
  assert.equal((await ask(["crm-key", "--format", "aws"])).code, 2);
  assert.equal((await ask(["crm-key", "--format", "yaml"])).code, 2);
  assert.equal((await ask(["billing", "--format", "json"])).code, 3);
  assert.equal((await s.run(["credential", "crm-key"], { EPHOR_TOKEN_FILE: "" })).code, 5);
});

test("git's helper protocol: get answers its own host over https, store and erase do nothing (git-credential(1))", async () => {
  const asked = (host: string, protocol = "https") => `protocol=${protocol}\nhost=${host}\n\n`;
  const good = await ask(["widgets", "get", "--format", "git"], asked(s.gitHost));
  assert.match(good.out, /^username=x-access-token\npassword=ghs_[\w-]+\npassword_expiry_utc=\d+\n$/);
  assert.equal((await ask(["widgets", "get", "--format", "git"], asked("github.com"))).out, "");
  assert.equal((await ask(["widgets", "get", "--format", "git"], asked("evil.example", "http"))).out, "");
  const leases = await w.admin("select count(*)::int as n from ephor.leases");
  for (const operation of ["store", "erase"]) {
    const quiet = await ask(["widgets", operation, "--format", "git"], asked(s.gitHost));
    assert.deepEqual([quiet.code, quiet.out], [0, ""]);
  }
  assert.deepEqual(await w.admin("select count(*)::int as n from ephor.leases"), leases);
});

test("what does not know its host is shown to the one that is named, and to none without", async () => {
  const input = "protocol=https\nhost=git.acme.example\n\n";
  const named = await ask(["crm-key", "get", "--format", "git", "--host", "git.acme.example"], input);
  assert.match(named.out, new RegExp(`password=${CANARY}`));
  const other = await ask(["crm-key", "get", "--format", "git", "--host", "git.other.example"], input);
  assert.equal(other.out, "");
  assert.equal((await ask(["crm-key", "get", "--format", "git"], input)).code, 2);
});

test("docker's helper protocol: get answers its registry, list is empty, another registry is not found", async () => {
  const good = await ask(
    ["crm-key", "get", "--format", "docker", "--host", "registry.acme.example"],
    "registry.acme.example\n",
  );
  assert.deepEqual(JSON.parse(good.out), {
    ServerURL: "registry.acme.example",
    Username: "ephor",
    Secret: CANARY,
  });
  const ghcr = await ask(["widgets", "get", "--format", "docker"], "https://ghcr.io");
  assert.equal((JSON.parse(ghcr.out) as { Username: string }).Username, "x-access-token");
  const other = await ask(["widgets", "get", "--format", "docker"], "https://registry.other.example");
  assert.deepEqual([other.code, other.out], [1, ""]);
  assert.equal((await ask(["widgets", "list", "--format", "docker"])).out, "{}\n");
});

test("kubectl's exec plugin answers an ExecCredential in the version that was asked for", async () => {
  const ended = await s.run(["credential", "crm-key", "--format", "kubectl"], {
    KUBERNETES_EXEC_INFO: '{"apiVersion":"client.authentication.k8s.io/v1beta1","kind":"ExecCredential"}',
  });
  const answer = JSON.parse(ended.out) as { apiVersion: string; kind: string; status: Record<string, string> };
  assert.deepEqual([answer.apiVersion, answer.kind], ["client.authentication.k8s.io/v1beta1", "ExecCredential"]);
  assert.equal(answer.status["token"], CANARY);
  assert.ok(Date.parse(answer.status["expirationTimestamp"] ?? "") > Date.now());
});

const hasPsql = spawnSync("psql", ["--version"]).status === 0;

test(
  "psql reads a service file from a pipe, so that the password is in no file and no argument",
  { skip: !hasPsql },
  async () => {
    const line = `PGSERVICEFILE=<("$0" "$1" credential orders-db --format psql) psql -X -At service=orders-db -c 'select 40 + 2'`;
    const child = spawn("bash", ["-c", line, process.execPath, s.program], {
      env: s.env,
      stdio: ["ignore", "pipe", "inherit"],
    });
    let out = "";
    child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
    await once(child, "close");
    assert.equal(out, "42\n");
  },
);

test("ephor secret takes a value from standard input only, and shows none (A-SEC-08)", async () => {
  const env = { EPHOR_OPERATOR_KEY: w.operatorKey };
  const set = await s.run(["secret", "set", "new-key", "--owner", "dana@acme.example"], env, `${CANARY}-two\n`);
  assert.equal(set.code, 0, set.talk);
  assert.ok(!`${set.out}${set.talk}`.includes(CANARY));
  const shown = await s.run(["secret", "show", "new-key", "--json"], env);
  assert.deepEqual((JSON.parse(shown.out) as { owner: string; version: number }).owner, "dana@acme.example");
  const list = await s.run(["secret", "list"], env);
  assert.match(list.out, /^new-key +v1 /m);
  assert.ok(!`${shown.out}${list.out}`.includes(CANARY));
  assert.equal((await s.run(["secret", "set", "new-key"], env, "")).code, 2);
  assert.equal((await s.run(["secret", "set", "new-key", "a-value"], env, "x")).code, 2);
  assert.equal((await s.run(["secret", "remove", "new-key"], env)).code, 0);
  assert.equal((await s.run(["secret", "show", "new-key"], env)).code, 1);
  assert.equal((await s.run(["secret", "list"], { EPHOR_OPERATOR_KEY: "" })).code, 5);
});
