/** INV-15, A-SEC-07: sealed secrets and vended credentials, wherever something of them could be kept or shown. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { after, test } from "node:test";
import { CANARY, stage } from "../cli/job/stage.ts";

const s = await stage({ after });
const { w } = s;

/** Members of vended credentials that are secret. */
const SECRET_MEMBERS = ["value", "secret_access_key", "session_token", "token", "password"];

/** A secret as it could be written down. */
const spellings = (secret: string): string[] => [
  secret,
  encodeURIComponent(secret),
  JSON.stringify(secret).slice(1, -1),
  Buffer.from(secret).toString("base64").replace(/=+$/, "").slice(0, -2),
  Buffer.from(secret).toString("base64url").slice(0, -2),
  Buffer.from(secret).toString("hex"),
];

function refuse(what: string, text: string, secrets: ReadonlyMap<string, string>): void {
  for (const [name, secret] of secrets)
    for (const spelled of spellings(secret)) assert.ok(!text.includes(spelled), `${name} is in ${what}`);
}

/** Every row of every table, as `pg_dump` would have it. */
async function dump(): Promise<string> {
  const tables = await w.admin<{ name: string }>(
    "select table_name as name from information_schema.tables where table_schema = 'ephor'",
  );
  assert.ok(tables.length > 10);
  const rows = await Promise.all(
    tables.map(({ name }) => w.admin<{ row: string }>(`select t::text as row from ephor."${name}" t`)),
  );
  return rows
    .flat()
    .map(({ row }) => row)
    .join("\n");
}

async function vendAll(): Promise<Map<string, string>> {
  const secrets = new Map([
    ["static secret and AWS key", CANARY],
    ["operator key", w.operatorKey],
  ]);
  const admin = new URL(w.databaseUrl).password;
  if (admin !== "") secrets.set("database password", admin);
  for (const resource of ["crm-key", "aws-prod", "widgets", "orders-db"]) {
    const ended = await s.run(["credential", resource]);
    assert.equal(ended.code, 0, ended.talk);
    const { credential } = JSON.parse(ended.out) as { credential: Record<string, unknown> };
    for (const member of SECRET_MEMBERS) {
      const value = credential[member];
      if (typeof value === "string") secrets.set(`${resource} ${member}`, value);
    }
  }
  return secrets;
}

test("A-SEC-07 no sealed or vended value is in logs, tables, audit, metrics, errors or what an operator may read", async () => {
  const secrets = await vendAll();
  assert.ok(secrets.size >= 7, [...secrets.keys()].join());
  // Things go wrong with them too.
  await w.admin(
    "update ephor.secret_versions set sealed = jsonb_set(sealed, '{ct}', '\"AAAA\"') where name = 'crm-key'",
  );
  const broken = await s.run(["credential", "crm-key"]);
  assert.notEqual(broken.code, 0);
  await w.operator("PUT", "/v1/secrets/aws-root", { value: `{"access_key_id": "${CANARY}` });
  const malformed = await s.run(["credential", "aws-prod"]);
  assert.notEqual(malformed.code, 0);
  const wrong = await w.operator("PUT", `/v1/secrets/${CANARY}%20`, { value: CANARY, extra: CANARY });
  assert.ok(wrong.status >= 400);
  refuse("the command line's words", `${broken.out}${broken.talk}${malformed.out}${malformed.talk}`, secrets);
  refuse("an error", wrong.text, secrets);
  refuse("the log", w.lines.join("\n"), secrets);
  refuse("a table", await dump(), secrets);
  for (const path of [
    "/v1/audit?limit=1000",
    "/v1/secrets",
    "/v1/resources",
    "/v1/leases",
    "/metrics",
    "/openapi.json",
  ]) {
    const answer = await w.operator("GET", path);
    assert.equal(answer.status, 200, path);
    refuse(path, answer.text, secrets);
  }
});

test("A-SEC-07 none is in the arguments or the environment of ephor run, its command, or on its disk", async (t) => {
  if (process.platform !== "linux") return void t.skip("only Linux shows them");
  await w.operator("PUT", "/v1/secrets/crm-key", { value: CANARY });
  const aws = JSON.stringify({ access_key_id: "AKIAEXAMPLEROOT00001", secret_access_key: CANARY });
  await w.operator("PUT", "/v1/secrets/aws-root", { value: aws });
  const script =
    "const { execFileSync } = require('child_process');" +
    // What the command itself asks for it gets; nothing else holds it.
    `const got = JSON.parse(execFileSync(process.execPath, [${JSON.stringify(s.program)}, 'credential', 'aws-prod']).toString());` +
    "console.log(JSON.stringify({ folder: require('path').dirname(process.env.EPHOR_RUN_HANDLE), got }));" +
    "process.stdin.resume(); process.stdin.on('end', () => process.exit(0))";
  const names = ["aws-prod", "widgets", "orders-db", "crm-key"].flatMap((name) => ["--credential", name]);
  const started = s.start(["run", "--task", "canary", ...names, "--", process.execPath, "-e", script]);
  const { folder, got } = JSON.parse(await started.line()) as {
    folder: string;
    got: { credential: Record<string, string> };
  };
  const secrets = new Map([
    ["static secret and AWS key", CANARY],
    ["session token", got.credential["session_token"] as string],
    ["session key", got.credential["secret_access_key"] as string],
    ["workload token", readFileSync(s.env["EPHOR_TOKEN_FILE"] as string, "utf8")],
  ]);
  const [run] = [started.child.pid as number];
  const children = readFileSync(`/proc/${run}/task/${run}/children`, "utf8").trim().split(" ");
  assert.equal(children.length >= 1, true);
  for (const pid of [String(run), ...children])
    for (const file of ["cmdline", "environ"])
      refuse(`${file} of ${pid}`, readFileSync(`/proc/${pid}/${file}`, "latin1"), secrets);
  const files = readdirSync(folder, { recursive: true, encoding: "utf8", withFileTypes: true }).filter((one) =>
    one.isFile(),
  );
  assert.ok(files.length >= 4);
  for (const { name } of files) refuse(name, readFileSync(`${folder}/${name}`, "utf8"), secrets);
  started.child.stdin?.end();
  const ended = await started.ended;
  assert.equal(ended.code, 0, ended.talk);
  refuse("its words", ended.talk, secrets);
});
