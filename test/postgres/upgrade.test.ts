/** A-OPS-10: another version migrates the database and begins to serve, while this one serves. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { claimsOf } from "../attacks/chain-world.ts";
import { replicas, type Replica } from "../support/replicas.ts";
import { BILLING_SECRET, freePort, type Answer } from "../support/world.ts";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** How long somebody's transaction keeps a table that the migration wants. */
const HELD_MS = 8_000;
/** Longest time without a token meanwhile, on a busy machine. Behind a migration that waits it would be all of it. */
const GAP_MS = 5_000;
/** Two versions serve side by side. */
const TOGETHER_MS = 4_000;

/** What the next version does to tables that every request uses. It keeps its locks for a while, as if they were large. */
const MIGRATION = [
  ...["hops", "tasks", "nodes", "kills", "dead_keys", "replay", "replicas", "gate"].map(
    (table) => `ALTER TABLE "ephor"."${table}" ADD COLUMN "of_the_next_version" text;`,
  ),
  'CREATE INDEX "hops_of_the_next_version" ON "ephor"."hops" ("of_the_next_version");',
  "SELECT pg_sleep(1);",
].join("--> statement-breakpoint\n");

const w = await replicas({ after }, { count: 2 });

/** A copy of this tree with one migration more. */
async function nextVersion(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), "ephor-next-"));
  after(() => rm(folder, { recursive: true, force: true }));
  for (const part of ["src", "scripts", "migrations", "openapi", "package.json", "tsconfig.json"])
    await cp(join(ROOT, part), join(folder, part), {
      recursive: true,
      filter: (path) => !path.endsWith("_snapshot.json"),
    });
  await symlink(join(ROOT, "node_modules"), join(folder, "node_modules"));
  const path = join(folder, "migrations", "meta", "_journal.json");
  const journal = JSON.parse(await readFile(path, "utf8")) as { entries: { idx: number; when: number; tag: string }[] };
  const last = journal.entries.at(-1);
  assert.ok(last);
  const entry = { ...last, idx: last.idx + 1, when: last.when + 1, tag: "9999_next" };
  await writeFile(path, JSON.stringify({ ...journal, entries: [...journal.entries, entry] }));
  await writeFile(join(folder, "migrations", "9999_next.sql"), MIGRATION);
  return folder;
}

/** Starts it on the same database; resolves when it serves. */
async function starting(folder: string): Promise<Replica> {
  const port = await freePort();
  const child = spawn(process.execPath, [join(folder, "scripts", "ephor.mjs"), "serve"], {
    cwd: folder,
    env: { ...w.env, EPHOR_LISTEN: `127.0.0.1:${port}` },
    stdio: ["ignore", "ignore", "pipe"],
  });
  let said = "";
  child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  after(async () => {
    child.kill("SIGKILL");
    await ended;
  });
  const deadline = performance.now() + 90_000;
  while (!said.includes("listens on")) {
    assert.equal(child.exitCode, null, said);
    assert.ok(performance.now() < deadline, said);
    await pause(50);
  }
  return { url: `http://127.0.0.1:${port}`, child, said: () => said, ended };
}

interface Token {
  readonly text: string;
  readonly jti: string;
  readonly txn: string;
  readonly bornMs: number;
  /** From when on nobody knows whether it lives, and from when on it does not. */
  isAsked: boolean;
  isKilled: boolean;
}

/** What clients saw, and what they must never see. */
const history = { minted: [] as number[], active: 0, killed: 0, refusedKilled: 0, later: 0, wrong: [] as string[] };
const tokens: Token[] = [];
const serving: Replica[] = [...w.all];
let isOver = false;
/** They live 59 s; what is older says nothing. */
const isYoung = ({ bornMs }: Token): boolean => performance.now() - bornMs < 40_000;
const any = <T>(list: readonly T[]): T | undefined => list[Math.floor(Math.random() * list.length)];

/** Whether an answer says: later. Anything else that is not what was expected is wrong. */
function isLater(answer: Answer, what: string): boolean {
  if (answer.status === 503 && answer.headers.has("retry-after")) history.later++;
  else history.wrong.push(`${what}: ${answer.status} ${answer.text.slice(0, 200)}`);
  return false;
}

async function forEver(turn: (replica: Replica) => Promise<unknown>): Promise<void> {
  while (!isOver) {
    await turn(any(serving) as Replica).catch((error: unknown) => history.wrong.push(String(error)));
    await pause(20);
  }
}

async function mint(replica: Replica): Promise<void> {
  const token = w.workload("release-bot", { jti: randomUUID() });
  const answer = await w.self(replica, "release-bot", { token, ttl: "59" });
  if (answer.status !== 200) return void isLater(answer, "exchange");
  const bornMs = performance.now();
  const text = answer.body["access_token"] as string;
  const { jti, txn } = claimsOf(text) as unknown as { jti: string; txn: string };
  history.minted.push(bornMs);
  tokens.push({ text, jti, txn, bornMs, isAsked: false, isKilled: false });
}

async function introspect(replica: Replica): Promise<void> {
  const token = any(tokens.filter(isYoung).slice(-200));
  if (token === undefined) return;
  const wasKilled = token.isKilled;
  const form = { token: token.text, client_id: "billing", client_secret: BILLING_SECRET };
  const answer = await w.post(replica, "/introspect", form);
  if (answer.status !== 200) return void isLater(answer, "introspect");
  if (answer.body["active"] === true) {
    if (wasKilled) history.wrong.push("a killed token is active");
    history.active++;
  } else if (wasKilled) history.refusedKilled++;
  else if (!token.isAsked) history.wrong.push("a valid token is not active");
}

async function kill(replica: Replica): Promise<void> {
  await pause(100);
  const token = any(tokens.filter((one) => !one.isAsked && isYoung(one)));
  if (token === undefined) return;
  token.isAsked = true;
  const target = Math.random() < 0.5 ? { jti: token.jti } : { txn: token.txn };
  const answer = await w.operator(replica, "POST", "/v1/kill", { ...target, reason: "test" });
  if (answer.status !== 200) return void isLater(answer, "kill");
  token.isKilled = true;
  history.killed++;
}

/** Longest time without a token within a span. */
function longestGap(fromMs: number, toMs: number): number {
  const moments = [fromMs, ...history.minted.filter((at) => at > fromMs && at < toMs), toMs];
  return Math.max(...moments.slice(1).map((at, i) => at - (moments[i] as number)));
}

test("A-OPS-10 while the next version migrates tables that every request uses, and serves beside this one, no valid token is refused and no killed one accepted", async () => {
  const folder = await nextVersion();
  // An export or a backup reads what the migration is about to change.
  const reader = new pg.Client({ connectionString: w.database.url });
  await reader.connect();
  after(() => reader.end());
  after(() => void (isOver = true));
  const load = Promise.all([mint, mint, mint, introspect, introspect, introspect, kill].map(forEver));
  await reader.query("begin");
  await reader.query("select count(*) from ephor.hops");
  const next = starting(folder);
  next.catch(() => {});
  const waits = "select 1 from pg_stat_activity where application_name = 'ephor migrate' and wait_event_type = 'Lock'";
  const deadline = performance.now() + 60_000;
  while ((await w.database.admin(waits)).length === 0) {
    assert.ok(performance.now() < deadline, "no migration waits");
    await pause(20);
  }
  const heldFrom = performance.now();
  await pause(HELD_MS);
  const heldTo = performance.now();
  await reader.query("rollback");
  serving.push(await next);
  const migrated = await w.database.admin("select of_the_next_version from ephor.hops limit 1");
  assert.equal(migrated.length, 1);
  await pause(TOGETHER_MS);
  isOver = true;
  await load;
  const { minted, ...seen } = history;
  assert.deepEqual(seen.wrong.slice(0, 10), []);
  const gap = longestGap(heldFrom, heldTo);
  assert.ok(gap < GAP_MS, `no token for ${gap} ms, behind a migration that waited`);
  // All of it was put to the test, on both sides.
  assert.ok(
    minted.some((at) => at > heldTo + TOGETHER_MS / 2),
    "tokens come after the migration",
  );
  assert.ok(
    seen.active > 50 && seen.killed > 5 && seen.refusedKilled > 5,
    JSON.stringify({ ...seen, minted: minted.length }),
  );
});
