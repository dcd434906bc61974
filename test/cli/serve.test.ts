import assert from "node:assert/strict";
import { spawn, type ChildProcess } from "node:child_process";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test, type TestContext } from "node:test";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { startEmbedded, type Embedded } from "../../src/db/embedded.ts";
import { withDatabase } from "../support/database.ts";
import { freePort } from "../support/world.ts";

const launcher = fileURLToPath(new URL("../../scripts/ephor.mjs", import.meta.url));

let server: Embedded;
let serverFolder: string;
let databases = 0;

before(async () => {
  serverFolder = await mkdtemp(join(tmpdir(), "ephor-serve-pg-"));
  // A server that would lose what it has at a power cut is refused, and the test run's own is one.
  server = await startEmbedded({ dataDirectory: serverFolder, durable: true });
});
after(async () => {
  await server.stop();
  await rm(serverFolder, { recursive: true, force: true });
});

/** An empty database. */
async function emptyDatabase(): Promise<string> {
  const name = `serve_${++databases}`;
  const client = new pg.Client({ connectionString: server.adminUrl });
  await client.connect();
  await client.query(`create database ${name}`);
  await client.end();
  return withDatabase(server.adminUrl, name);
}

interface Serving {
  readonly child: ChildProcess;
  readonly url: string;
  readonly folder: string;
  /** What it has said so far on standard error. */
  talk(): string;
  out(): string;
  /** Resolves when it has said this. */
  says(pattern: RegExp): Promise<void>;
  /** Resolves with its exit code. */
  ended: Promise<number | null>;
}

/** Starts `ephor serve` in a process of its own, in a folder of its own. */
async function serve(t: TestContext, args: string[] = [], env: Record<string, string> = {}): Promise<Serving> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-serve-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const port = await freePort();
  const child = spawn(process.execPath, [launcher, "serve", ...args], {
    cwd: folder,
    env: { PATH: process.env["PATH"], EPHOR_LISTEN: `127.0.0.1:${port}`, ...env },
  });
  let talk = "";
  let out = "";
  child.stdout.on("data", (chunk: Buffer) => (out += chunk.toString()));
  const ended = new Promise<number | null>((resolve) => child.on("close", resolve));
  const listeners = new Set<() => void>();
  child.stderr.on("data", (chunk: Buffer) => {
    talk += chunk.toString();
    for (const look of listeners) look();
  });
  t.after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const says = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(talk)) return;
        listeners.delete(look);
        resolve();
      };
      listeners.add(look);
      void ended.then(() => reject(new Error(`it ended: ${talk}`)));
      look();
    });
  return { child, url: `http://127.0.0.1:${port}`, folder, talk: () => talk, out: () => out, says, ended };
}

test("serve says where it listens and where the operator key is, not the key; a second one finds the port taken; SIGTERM ends it with 0", async (t) => {
  const database = await emptyDatabase();
  const running = await serve(t, [], { DATABASE_URL: database });
  await running.says(/operator key/);
  const key = (await readFile(join(running.folder, "ephor-data", "operator-key"), "utf8")).trim();
  assert.ok(running.talk().includes(`listens on ${running.url}`));
  assert.ok(running.talk().includes(`${running.url}/docs`));
  assert.ok(running.talk().includes(join("ephor-data", "operator-key")));
  assert.ok(!running.talk().includes(key));
  const answer = await fetch(`${running.url}/v1/agents`, { headers: { authorization: `Bearer ${key}` } });
  assert.equal(answer.status, 200);
  const second = await serve(t, [], { DATABASE_URL: database, EPHOR_LISTEN: running.url.slice("http://".length) });
  assert.equal(await second.ended, 1);
  assert.match(second.talk(), /is taken/);
  running.child.kill("SIGTERM");
  assert.equal(await running.ended, 0);
  assert.equal(running.out(), "");
});

test("serve with the embedded database keeps what it has over a restart, and stops PostgreSQL", async (t) => {
  const first = await serve(t);
  await first.says(/operator key made/);
  first.child.kill("SIGINT");
  assert.equal(await first.ended, 0);
  const second = spawn(process.execPath, [launcher, "serve"], {
    cwd: first.folder,
    env: { PATH: process.env["PATH"], EPHOR_LISTEN: first.url.slice("http://".length) },
  });
  t.after(() => second.kill("SIGKILL"));
  let talk = "";
  const ended = new Promise<number | null>((resolve) => second.on("close", resolve));
  await new Promise<void>((resolve, reject) => {
    second.stderr.on("data", (chunk: Buffer) => {
      talk += chunk.toString();
      if (/operator key in /.test(talk)) resolve();
    });
    void ended.then(() => reject(new Error(`it ended: ${talk}`)));
  });
  second.kill("SIGTERM");
  assert.equal(await ended, 0);
});

test("serve --workers shares port, database and keys; a worker that dies is replaced; all end together", async (t) => {
  const database = await emptyDatabase();
  const running = await serve(t, ["--workers", "2"], { DATABASE_URL: database });
  await running.says(/2 workers serve/);
  assert.equal(running.talk().match(/operator key made/g)?.length, 1);
  const kids = new Set<string>();
  for (let i = 0; i < 8; i++) {
    const answer = await fetch(`${running.url}/.well-known/jwks.json`, { headers: { connection: "close" } });
    kids.add(JSON.stringify(await answer.json()));
  }
  assert.equal(kids.size, 1);
  const pids = await childrenOf(running.child.pid ?? 0);
  assert.equal(pids.length, 2);
  process.kill(pids[0] ?? 0, "SIGKILL");
  await running.says(/another one takes its place/);
  running.child.kill("SIGTERM");
  assert.equal(await running.ended, 0);
  for (const pid of pids) assert.throws(() => process.kill(pid, 0));
});

async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8");
  return text.trim().split(/\s+/).map(Number);
}

test("a configuration that is wrong stops the start with 2 and every mend, quoting no value", async (t) => {
  const running = await serve(t, ["--workers", "0"], { EPHOR_TOKENS_TTL: "61s", EPHOR_ISSUR: "https://x.example" });
  assert.equal(await running.ended, 2);
  assert.match(running.talk(), /--workers/);
  assert.match(running.talk(), /EPHOR_TOKENS_TTL/);
  assert.match(running.talk(), /EPHOR_ISSUR: is no setting\. Did you mean EPHOR_ISSUER/);
  assert.ok(!running.talk().includes("x.example"));
});

test("a database that is not there stops the start with 1, without its password", async (t) => {
  const running = await serve(t, [], { DATABASE_URL: "postgres://ephor:s3cr3t-pw@127.0.0.1:9/ephor" });
  assert.equal(await running.ended, 1);
  assert.match(running.talk(), /DATABASE_URL/);
  assert.ok(!running.talk().includes("s3cr3t-pw"));
});

test("the configured trust file is applied at the first start, and one that is refused stops it with its line", async (t) => {
  const database = await emptyDatabase();
  const folder = await mkdtemp(join(tmpdir(), "ephor-serve-trust-"));
  t.after(() => rm(folder, { recursive: true, force: true }));
  const [trust, config] = [join(folder, "trust.yaml"), join(folder, "ephor.yaml")];
  await writeFile(config, "trust: ./trust.yaml\n");
  await writeFile(trust, "agents:\n  lonely-bot: {}\n");
  const env = { DATABASE_URL: database, EPHOR_DATA: join(folder, "data") };
  const refused = await serve(t, ["--config", config], env);
  assert.equal(await refused.ended, 1);
  assert.match(refused.talk(), /line 2.*lonely-bot/s);
  await writeFile(trust, "resources:\n  billing: { resource: https://billing.acme.example, actions: [read] }\n");
  const running = await serve(t, ["--config", config, "--apply-on-start"], env);
  await running.says(/operator key/);
  const key = (await readFile(join(folder, "data", "operator-key"), "utf8")).trim();
  const answer = await fetch(`${running.url}/v1/resources/billing`, { headers: { authorization: `Bearer ${key}` } });
  assert.equal(answer.status, 200);
  running.child.kill("SIGTERM");
  assert.equal(await running.ended, 0);
});
