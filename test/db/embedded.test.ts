import assert from "node:assert/strict";
import { execFileSync, spawn, type ChildProcess } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { after, test, type TestContext } from "node:test";
import { setTimeout as pause } from "node:timers/promises";
import pg from "pg";
import { EmbeddedDatabaseError } from "../../src/db/embedded-account.ts";
import { isAlive, placeOf } from "../../src/db/embedded-cluster.ts";
import { readPostmaster } from "../../src/db/embedded-postmaster.ts";
import { startEmbedded, type Embedded } from "../../src/db/embedded.ts";

const isRoot = process.getuid?.() === 0;

const running = new Map<TestContext, Embedded[]>();

function folder(t: TestContext): string {
  const path = mkdtempSync(join(tmpdir(), "ephor-embedded-"));
  chmodSync(path, 0o755);
  running.set(t, []);
  t.after(async () => {
    for (const embedded of running.get(t) ?? []) await embedded.stop();
    rmSync(path, { recursive: true, force: true });
  });
  return path;
}

/** A cluster that was made once for this file; most tests are not about making one, which takes a second. */
let made: Promise<string> | undefined;
after(async () => {
  if (made) rmSync(await made, { recursive: true, force: true });
});

async function makeOnce(): Promise<string> {
  const base = mkdtempSync(join(tmpdir(), "ephor-embedded-base-"));
  chmodSync(base, 0o755);
  const embedded = await startEmbedded({ dataDirectory: join(base, "postgres"), durable: false });
  await embedded.stop();
  return base;
}

/** A data directory with such a cluster in it. */
async function readyFolder(t: TestContext, ...parts: string[]): Promise<string> {
  made ??= makeOnce();
  const data = join(folder(t), ...parts, "postgres");
  mkdirSync(dirname(data), { recursive: true });
  execFileSync("cp", ["-a", join(await made, "postgres"), data]);
  return data;
}

async function start(t: TestContext, dataDirectory: string, durable = false): Promise<Embedded> {
  const embedded = await startEmbedded({ dataDirectory, durable });
  running.get(t)?.push(embedded);
  return embedded;
}

async function ask<T extends object>(url: string, sql: string): Promise<T[]> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<T>(sql)).rows;
  } finally {
    await client.end();
  }
}

/** Another process that starts the database on the same folder and waits; resolves with the server's process id. */
async function startElsewhere(
  t: TestContext,
  dataDirectory: string,
): Promise<{ child: ChildProcess; pid: number; owned: boolean }> {
  const script = `
    import { startEmbedded } from ${JSON.stringify(new URL("../../src/db/embedded.ts", import.meta.url).href)};
    const embedded = await startEmbedded({ dataDirectory: process.argv[1], durable: false });
    console.log(JSON.stringify({ pid: embedded.pid, owned: embedded.isOwned }));
    process.on("SIGTERM", () => void embedded.stop().then(() => process.exit(0)));
    setInterval(() => undefined, 1_000);
  `;
  const child = spawn(process.execPath, ["--import", "tsx", "--input-type=module", "-e", script, dataDirectory], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  t.after(() => child.kill("SIGKILL"));
  for await (const line of createInterface({ input: child.stdout })) {
    return { child, ...(JSON.parse(line) as { pid: number; owned: boolean }) };
  }
  throw new Error("the other process ended");
}

/** Waits for a condition of the outside world; the time is a bound for a broken run, not a wait. */
async function until(holds: () => boolean | Promise<boolean>): Promise<void> {
  const end = Date.now() + 30_000;
  while (!(await holds())) {
    assert.ok(Date.now() < end, "the awaited did not happen");
    await pause(20);
  }
}

test("the bundled PostgreSQL starts, keeps what it was told over a restart, and stops", async (t) => {
  const data = join(folder(t), "postgres");
  const first = await start(t, data, true);
  assert.equal(first.isOwned, true);
  assert.equal(first.database, "ephor");
  await ask(first.adminUrl, "create table kept as select 7 as n");
  const [settings] = await ask<Record<string, string>>(
    first.adminUrl,
    "select current_user as who, current_setting('fsync') as fsync, current_setting('listen_addresses') as addresses",
  );
  assert.deepEqual(settings, { who: "ephor_owner", fsync: "on", addresses: "" });
  await first.stop();
  await first.stop();
  assert.equal(readPostmaster(placeOf(data)), undefined);

  const second = await start(t, data, true);
  assert.deepEqual(await ask(second.adminUrl, "select n from kept"), [{ n: 7 }]);
});

test("nobody gets in without the password, which lies in a file of mode 0600", async (t) => {
  const data = await readyFolder(t);
  const embedded = await start(t, data);
  const place = placeOf(data);
  assert.equal(statSync(place.passwordFile).mode & 0o777, 0o600);
  assert.equal(statSync(place.root).mode & 0o777, 0o700);
  const wrong = embedded.adminUrl.replace(/:[^:@]+@/, ":wrong@");
  assert.notEqual(wrong, embedded.adminUrl);
  await assert.rejects(ask(wrong, "select 1"), { code: "28P01" });
  assert.ok(!readFileSync(place.logFile, "utf8").includes(readFileSync(place.passwordFile, "utf8").trim()));
});

test("a failing statement leaves none of its text in the server's log", async (t) => {
  const data = await readyFolder(t);
  const embedded = await start(t, data);
  await assert.rejects(ask(embedded.adminUrl, "select 'plain-secret-4711'::int"));
  await assert.rejects(ask(embedded.adminUrl, 'select 1/0 as "plain-secret-4712"'));
  assert.ok(!readFileSync(placeOf(data).logFile, "utf8").includes("plain-secret-4712"));
});

test("two processes that start at once on one folder share one server", async (t) => {
  const data = join(folder(t), "postgres");
  const both = await Promise.all([startElsewhere(t, data), startElsewhere(t, data)]);
  assert.equal(both[0].pid, both[1].pid);
  assert.deepEqual(both.map(({ owned }) => owned).sort(), [false, true]);
  const joined = await start(t, data);
  assert.equal(joined.pid, both[0].pid);
  assert.equal(joined.isOwned, false);
  await joined.stop();
  assert.equal(readPostmaster(placeOf(data))?.pid, both[0].pid, "one who joined must not stop the other's server");
});

test("one who joined a server goes on with its own when the other process stops", async (t) => {
  const data = await readyFolder(t);
  const other = await startElsewhere(t, data);
  const joined = await start(t, data);
  assert.equal(joined.isOwned, false);
  other.child.kill("SIGTERM");
  await until(() => joined.pid !== other.pid);
  assert.equal(joined.isOwned, true);
  assert.deepEqual(await ask(joined.adminUrl, "select 1 as n"), [{ n: 1 }]);
});

test("the server does not outlive a process that was killed", async (t) => {
  const data = await readyFolder(t);
  const other = await startElsewhere(t, data);
  other.child.kill("SIGKILL");
  await until(() => readPostmaster(placeOf(data)) === undefined);
  const next = await start(t, data);
  assert.equal(next.isOwned, true);
  assert.deepEqual(await ask(next.adminUrl, "select 1 as n"), [{ n: 1 }]);
});

test(
  "a server whose process and watcher were both killed is taken over by the next start",
  { skip: process.platform !== "linux" && "finds the watcher in /proc" },
  async (t) => {
    const data = await readyFolder(t);
    const other = await startElsewhere(t, data);
    process.kill(watcherOf(other.pid), "SIGKILL");
    other.child.kill("SIGKILL");
    await until(() => other.child.signalCode !== null);
    const next = await start(t, data);
    assert.equal(next.pid, other.pid);
    assert.equal(next.isOwned, true);
    await next.stop();
    assert.equal(readPostmaster(placeOf(data)), undefined);
  },
);

function watcherOf(pid: number): number {
  const isWatcher = (id: string): boolean => {
    try {
      return readFileSync(`/proc/${id}/cmdline`, "utf8").endsWith(`ephor-watcher\0${pid}\0`);
    } catch {
      return false; // it ended meanwhile
    }
  };
  return Number(readdirSync("/proc").find((name) => /^\d+$/.test(name) && isWatcher(name)));
}

test("a server whose processes were all killed is started again by itself", async (t) => {
  const data = await readyFolder(t);
  const embedded = await start(t, data);
  const before = embedded.pid;
  process.kill(before, "SIGKILL");
  await until(() => embedded.pid !== before);
  assert.deepEqual(await ask(embedded.adminUrl, "select 1 as n"), [{ n: 1 }]);
});

test("a server is ended though its files were removed", async (t) => {
  const data = await readyFolder(t);
  const embedded = await start(t, data);
  const { pid } = embedded;
  rmSync(data, { recursive: true });
  await embedded.stop();
  await until(() => !isAlive(pid));
});

test("a postmaster.pid that names a living process which is no server does not hinder the start", async (t) => {
  const data = await readyFolder(t);
  const first = await start(t, data);
  const file = join(placeOf(data).cluster, "postmaster.pid");
  const left = readFileSync(file, "utf8");
  await first.stop();
  const stranger = spawn("/bin/sleep", ["60"], {
    cwd: "/",
    ...(isRoot ? { uid: statSync(placeOf(data).cluster).uid } : {}),
  });
  t.after(() => stranger.kill("SIGKILL"));
  writeFileSync(file, left.replace(/^\d+/, String(stranger.pid)), { mode: 0o600 });
  if (isRoot) chownSync(file, statSync(placeOf(data).cluster).uid, statSync(placeOf(data).cluster).gid);
  const next = await start(t, data);
  assert.equal(next.isOwned, true);
});

test("a data directory with a path too long for a socket gets its socket elsewhere, and takes it away", async (t) => {
  const data = await readyFolder(t, "x".repeat(120));
  const embedded = await start(t, data);
  assert.ok(Buffer.byteLength(embedded.socketDirectory) < 80);
  assert.deepEqual(await ask(embedded.adminUrl, "select 1 as n"), [{ n: 1 }]);
  const { socketDirectory } = embedded;
  await embedded.stop();
  assert.equal(existsSync(socketDirectory), false);
});

test("a durable start refuses a server that was started not to keep what it writes", async (t) => {
  const data = await readyFolder(t);
  await start(t, data, false);
  await assert.rejects(startEmbedded({ dataDirectory: data, durable: true }), EmbeddedDatabaseError);
});

test("files of another major version are refused and left alone", async (t) => {
  const data = await readyFolder(t);
  const embedded = await start(t, data);
  await embedded.stop();
  writeFileSync(join(placeOf(data).cluster, "PG_VERSION"), "15\n");
  await assert.rejects(startEmbedded({ dataDirectory: data, durable: false }), EmbeddedDatabaseError);
  assert.equal(readFileSync(join(placeOf(data).cluster, "PG_VERSION"), "utf8"), "15\n");
});

test("a data directory that cannot be made is refused with a word about what to do", async (t) => {
  const parent = folder(t);
  writeFileSync(join(parent, "file"), "");
  await assert.rejects(
    startEmbedded({ dataDirectory: join(parent, "file", "postgres"), durable: false }),
    EmbeddedDatabaseError,
  );
});

test(
  "root's own data folder is opened to PostgreSQL's group, to pass and no more",
  { skip: !isRoot && "needs root" },
  async (t) => {
    const own = join(folder(t), "ephor-data");
    mkdirSync(own, { mode: 0o700 });
    await start(t, join(own, "postgres"));
    assert.equal(statSync(own).mode & 0o777, 0o710);
    assert.equal(lstatSync(join(own, "postgres")).isSymbolicLink(), false);
  },
);

test(
  "root with a data directory where PostgreSQL's account cannot go keeps the files elsewhere and links them",
  { skip: !isRoot && "needs root" },
  async (t) => {
    const closed = join(folder(t), "home");
    mkdirSync(join(closed, "ephor-data"), { recursive: true, mode: 0o700 });
    const data = join(closed, "ephor-data", "postgres");
    const events: string[] = [];
    const embedded = await startEmbedded({
      dataDirectory: data,
      durable: false,
      log: (event) => void events.push(event),
    });
    const { root } = placeOf(data);
    t.after(() => rmSync(root, { recursive: true, force: true }));
    assert.ok(lstatSync(data).isSymbolicLink());
    assert.deepEqual(events, ["database_elsewhere", "database_started"]);
    await embedded.stop();
    const again = await start(t, data);
    assert.deepEqual(await ask(again.adminUrl, "select 1 as n"), [{ n: 1 }]);
    assert.equal(placeOf(data).root, root);
    await again.stop();
  },
);

test("root does not remove what lies in a folder it cannot use", { skip: !isRoot && "needs root" }, async (t) => {
  const closed = join(folder(t), "home");
  const data = join(closed, "ephor-data", "postgres");
  mkdirSync(data, { recursive: true, mode: 0o700 });
  writeFileSync(join(data, "precious"), "");
  await assert.rejects(startEmbedded({ dataDirectory: data, durable: false }), EmbeddedDatabaseError);
  assert.ok(existsSync(join(data, "precious")));
});
