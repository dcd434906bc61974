import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { CANARY, stage } from "../cli/job/stage.ts";

/** The tools themselves, where this machine has them. */
const has = (tool: string, ...args: string[]): boolean => spawnSync(tool, args).status === 0;
const hasAws = has("aws", "--version");
const hasKubectl = has("kubectl", "version", "--client");
const hasOpenssl = has("openssl", "version");
const hasPsql = has("psql", "--version");

const s = await stage({ after });
const folder = mkdtempSync(join(tmpdir(), "ephor-tools-"));
after(() => rmSync(folder, { recursive: true, force: true }));

test(
  "aws: the command line finds its credentials by the container endpoint and by a profile",
  { skip: !hasAws },
  async () => {
    const call = `aws sts get-caller-identity --output text --query Arn --endpoint-url ${s.sts.url}`;
    const ended = await s.run([
      "run",
      "--task",
      "aws-tool",
      "--credential",
      "aws-prod",
      "--",
      "sh",
      "-c",
      `${call} && AWS_PROFILE=aws-prod ${call}`,
    ]);
    assert.equal(ended.code, 0, ended.talk);
    const lines = ended.out.trim().split("\n");
    assert.equal(lines.length, 2);
    // The session is named by the lease: `ephor who lease_…` leads from CloudTrail to the human.
    for (const line of lines) assert.match(line, /assumed-role\/deploy\/lease_[0-9A-Z]{26}$/);
  },
);

test(
  "psql: an interactive tool is connected as the lease's role, by variables and by service",
  { skip: !hasPsql },
  async () => {
    const ask = "-X -At -c 'select 40 + 2'";
    const ended = await s.run([
      "run",
      "--task",
      "psql-tool",
      "--credential",
      "orders-db",
      "--",
      "sh",
      "-c",
      `psql ${ask} && psql service=orders-db ${ask}`,
    ]);
    assert.equal(ended.code, 0, ended.talk);
    assert.equal(ended.out, "42\n42\n");
  },
);

test("kubectl: the exec plugin is asked for the cluster's token", { skip: !hasKubectl || !hasOpenssl }, async () => {
  const [key, cert] = [join(folder, "key.pem"), join(folder, "cert.pem")];
  execFileSync(
    "openssl",
    `req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout ${key} -out ${cert}`.split(
      " ",
    ),
    { stdio: "ignore" },
  );
  const seen: (string | undefined)[] = [];
  const cluster = createServer({ key: readFileSync(key), cert: readFileSync(cert) }, (req, res) => {
    seen.push(req.headers.authorization);
    res.setHeader("content-type", "application/json");
    res.end(JSON.stringify({ major: "1", minor: "32", gitVersion: "v1.32.0", platform: "linux/amd64" }));
  });
  after(() => cluster.close());
  cluster.listen(0, "127.0.0.1");
  await once(cluster, "listening");
  const config = join(folder, "kubeconfig");
  const user = {
    exec: {
      apiVersion: "client.authentication.k8s.io/v1",
      command: process.execPath,
      args: [s.program, "credential", "crm-key", "--format", "kubectl"],
      interactiveMode: "Never",
    },
  };
  const url = `https://127.0.0.1:${(cluster.address() as AddressInfo).port}`;
  writeFileSync(
    config,
    JSON.stringify({
      apiVersion: "v1",
      kind: "Config",
      clusters: [{ name: "c", cluster: { server: url, "certificate-authority": cert } }],
      users: [{ name: "u", user }],
      contexts: [{ name: "x", context: { cluster: "c", user: "u" } }],
      "current-context": "x",
    }),
  );
  const ended = await s.run(
    ["run", "--task", "kubectl-tool", "--credential", "crm-key", "--", "kubectl", "get", "--raw", "/version"],
    { KUBECONFIG: config },
  );
  assert.equal(ended.code, 0, ended.talk);
  assert.deepEqual([...new Set(seen)], [`Bearer ${CANARY}`]);
});

test("git: a private repository is cloned through the helper, and not without", async () => {
  const target = join(folder, "clone");
  const clone = ["git", "clone", "--quiet", s.repository, target];
  const ended = await s.run(["run", "--task", "git-tool", "--credential", "widgets", "--", ...clone]);
  assert.equal(ended.code, 0, ended.talk);
  assert.match(execFileSync("git", ["-C", target, "log", "--format=%s"], { encoding: "utf8" }), /^first$/m);
  assert.ok(!readFileSync(join(target, ".git/config"), "utf8").includes("ghs_"));
  const without = await s.run([..."run --task git-bare --".split(" "), "git", "ls-remote", s.repository], {
    GIT_TERMINAL_PROMPT: "0",
  });
  assert.notEqual(without.code, 0);
});
