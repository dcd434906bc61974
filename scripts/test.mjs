#!/usr/bin/env node
// The test runner behind `npm test`: one PostgreSQL for the whole run, every test file in a process of its own.
//
//   npm test                         all of test/**/*.test.ts; programs that tests start run from the build, made before
//   npm test -- test/db test/sts     only what lies under these paths
//   npm test -- --test-name-pattern=kill    options of `node --test` are handed on
//
// DATABASE_URL names a PostgreSQL to use (a login that may create databases and roles; the tests make and drop databases
// named `ephor_…` on it). Without it the bundled one is started in a temporary folder. TEST_CONCURRENCY sets how many
// files run at once.
import { spawn } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, rmSync, statSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { register } from "tsx/esm/api";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const TEMPLATE = "ephor_template";
/** No file takes this long: a test that hangs ends the run, in ms. */
const HANG_MS = 600_000;

process.exitCode = await main(process.argv.slice(2));

async function main(args) {
  const options = args.filter((arg) => arg.startsWith("-"));
  const paths = args.filter((arg) => !arg.startsWith("-"));
  const files = findTests(paths);
  if (files.length === 0) {
    console.error(`No test file under ${paths.length > 0 ? paths.join(", ") : "test"}: nothing was tested.`);
    return 1;
  }
  const started = Date.now();
  const isWhole = paths.length === 0;
  const building = isWhole ? build() : undefined;
  const database = await openServer();
  try {
    await building;
    console.log(
      `${files.length} test files, ${database.words}, ready after ${((Date.now() - started) / 1000).toFixed(1)} s\n`,
    );
    return await runTests(files, options, {
      EPHOR_TEST_DATABASE_URL: database.url,
      ...(isWhole && { EPHOR_TEST_BUILD: "1" }),
    });
  } finally {
    await database.close();
  }
}

function findTests(paths) {
  const folder = join(root, "test");
  const all = readdirSync(folder, { recursive: true })
    .map((name) => join(folder, name))
    .filter((path) => path.endsWith(".test.ts") && statSync(path).isFile())
    .sort();
  if (paths.length === 0) return all;
  const prefixes = paths.map((path) => resolve(path));
  return all.filter((file) =>
    prefixes.some((prefix) => file === prefix || file.startsWith(prefix + "/") || isStem(file, prefix)),
  );
}

/** `test/db/emb` finds test/db/embedded.test.ts; `test/db` does not find test/db2. */
function isStem(file, prefix) {
  return file.startsWith(prefix) && !existsSync(prefix);
}

async function openServer() {
  register();
  const given = process.env.DATABASE_URL;
  if (given) {
    const version = await prepareTemplate(given);
    return { url: given, words: `PostgreSQL ${version} of DATABASE_URL`, close: () => dropTemplate(given) };
  }
  const { startEmbedded } = await import("../src/db/embedded.ts");
  const folder = mkdtempSync(join(tmpdir(), "ephor-test-"));
  const embedded = await startEmbedded({ dataDirectory: join(folder, "postgres"), durable: false });
  const close = async () => {
    await embedded.stop();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    const version = await prepareTemplate(embedded.adminUrl);
    return { url: embedded.adminUrl, words: `bundled PostgreSQL ${version}`, close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** Makes the migrated database that the tests' databases are copies of. Returns the server's version. */
async function prepareTemplate(url) {
  const { migrate } = await import("../src/db/migrate.ts");
  await dropTemplate(url);
  await onServer(url, (client) => client.query(`create database ${TEMPLATE}_new`));
  await migrate({ adminUrl: url.replace(/^(\w+:\/\/[^/]*\/)[^?]*/, `$1${TEMPLATE}_new`), allowUnsafe: true });
  return await onServer(url, async (client) => {
    await client.query(`alter database ${TEMPLATE}_new rename to ${TEMPLATE}`);
    const { rows } = await client.query("show server_version");
    return rows[0].server_version;
  });
}

async function dropTemplate(url) {
  await onServer(url, async (client) => {
    for (const name of [TEMPLATE, `${TEMPLATE}_new`])
      await client.query(`drop database if exists ${name} with (force)`);
  });
}

async function onServer(url, work) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/** The package as it is published: hundreds of processes start from it in half the time that the sources take. */
async function build() {
  const tsc = join(root, "node_modules", "typescript", "bin", "tsc");
  const child = spawn(process.execPath, [tsc, "-p", "tsconfig.build.json"], { cwd: root, stdio: "inherit" });
  const code = await new Promise((done) => child.on("close", done));
  if (code !== 0) throw new Error("The sources do not compile: nothing was tested.");
}

/**
 * Runs the files and gives the exit code: 0 only if at least one test ran and none failed.
 *
 * @param settings what `test/support` reads
 */
async function runTests(files, options, settings) {
  const concurrency = process.env.TEST_CONCURRENCY ?? Math.min(4, Math.max(2, availableParallelism()));
  const args = [
    "--import",
    "tsx",
    "--test",
    `--test-concurrency=${concurrency}`,
    `--test-timeout=${HANG_MS}`,
    `--test-reporter=${join(root, "scripts", "test-reporter.mjs")}`,
    "--test-reporter-destination=stdout",
    ...options,
    ...files.map((file) => relative(root, file)),
  ];
  const child = spawn(process.execPath, args, {
    cwd: root,
    env: testEnvironment(settings),
    stdio: ["ignore", "pipe", "inherit"],
  });
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => child.kill(signal));
  let tail = "";
  child.stdout.on("data", (chunk) => {
    process.stdout.write(chunk);
    tail = (tail + chunk).slice(-1_000);
  });
  const code = await new Promise((done) => child.on("close", (exitCode) => done(exitCode ?? 1)));
  const ran = Number(/^# tests (\d+)$/m.exec(tail)?.[1] ?? 0);
  if (ran > 0) return code;
  console.error("No test ran: that is a failure.");
  return 1;
}

/** What the tests see: none of this shell's Ephor or PostgreSQL settings, so that a run means the same everywhere. */
function testEnvironment(settings) {
  const kept = Object.entries(process.env).filter(
    ([name]) => !/^(EPHOR_(?!TEST_|VECTORS$)|PG|DATABASE_URL$|NODE_OPTIONS$)/.test(name),
  );
  return { ...Object.fromEntries(kept), ...settings };
}
