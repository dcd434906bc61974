import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import type { Db } from "../../src/db/database.ts";
import { createOperators } from "../../src/operators/authenticate.ts";
import { ensureOperatorKey, OperatorKeyRefusedError, operatorKeyNotice } from "../../src/operators/first-key.ts";
import { makeOperatorKey } from "../../src/operators/operator-key.ts";
import { PrivateFileError } from "../../src/system/private-file.ts";
import { testDatabase } from "../support/database.ts";

const nowMs = 1_795_348_800_000.5;

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ephor-op-"));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

function newKey(): string {
  return makeOperatorKey().use((bytes) => Buffer.from(bytes).toString());
}

async function works(db: Db, key: string): Promise<boolean> {
  return createOperators({ db })
    .authenticate(`Bearer ${key}`)
    .then(
      () => true,
      () => false,
    );
}

test("the first start makes the key in a file of this account alone, and the next keeps it", async (t) => {
  const { db } = await testDatabase(t);
  const path = join(await folder(t), "data", "operator-key");
  const first = await ensureOperatorKey(db, { path, nowMs });
  assert.equal(first.kind, "created");
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  const key = await readFile(path, "utf8");
  assert.equal(await works(db, key), true);
  assert.deepEqual(await ensureOperatorKey(db, { path, nowMs }), { kind: "kept", path });
  assert.equal(await works(db, key), true);
});

test("a new key is shown to a terminal only", async (t) => {
  const { db } = await testDatabase(t);
  const path = join(await folder(t), "operator-key");
  const outcome = await ensureOperatorKey(db, { path, nowMs });
  const key = await readFile(path, "utf8");
  assert.ok(operatorKeyNotice(outcome, true).includes(key));
  assert.ok(!operatorKeyNotice(outcome, false).includes(key));
  assert.ok(operatorKeyNotice(outcome, false).includes(path));
  assert.ok(!JSON.stringify(outcome).includes(key));
  assert.ok(!operatorKeyNotice(await ensureOperatorKey(db, { path, nowMs }), true).includes(key));
});

test("a replica with a data folder of its own makes no second key", async (t) => {
  const { db, admin } = await testDatabase(t);
  const [one, two] = [await folder(t), await folder(t)];
  await ensureOperatorKey(db, { path: join(one, "operator-key"), nowMs });
  assert.deepEqual(await ensureOperatorKey(db, { path: join(two, "operator-key"), nowMs }), { kind: "elsewhere" });
  assert.deepEqual(await readdir(two), []);
  assert.equal((await admin("select 1 from ephor.operators")).length, 1);
});

test("of replicas that start at once, with folders of their own, one makes the key and the others leave none", async (t) => {
  const { db, admin } = await testDatabase(t);
  const folders = await Promise.all([folder(t), folder(t), folder(t), folder(t)]);
  const outcomes = await Promise.all(
    folders.map((path) => ensureOperatorKey(db, { path: join(path, "operator-key"), nowMs })),
  );
  assert.deepEqual(outcomes.map((outcome) => outcome.kind).sort(), ["created", "elsewhere", "elsewhere", "elsewhere"]);
  const files = (await Promise.all(folders.map((path) => readdir(path)))).flat();
  assert.deepEqual(files, ["operator-key"]);
  assert.equal((await admin("select 1 from ephor.operators")).length, 1);
});

test("processes that start at once in one folder have one key, and it works", async (t) => {
  const { db } = await testDatabase(t);
  const path = join(await folder(t), "operator-key");
  const outcomes = await Promise.all(Array.from({ length: 4 }, () => ensureOperatorKey(db, { path, nowMs })));
  assert.ok(outcomes.every((outcome) => outcome.kind === "created" || outcome.kind === "kept"));
  assert.equal(outcomes.filter((outcome) => outcome.kind === "created").length, 1);
  assert.equal(await works(db, await readFile(path, "utf8")), true);
});

test("a key file from before is the key of a new database, and opens nothing at one that has another key", async (t) => {
  const [fresh, used] = [await testDatabase(t), await testDatabase(t)];
  const path = join(await folder(t), "operator-key");
  const key = newKey();
  await writeFile(path, key, { mode: 0o600 });
  assert.deepEqual(await ensureOperatorKey(fresh.db, { path, nowMs }), { kind: "kept", path });
  assert.equal(await works(fresh.db, key), true);
  await ensureOperatorKey(used.db, { path: join(await folder(t), "operator-key"), nowMs });
  assert.deepEqual(await ensureOperatorKey(used.db, { path, nowMs }), { kind: "elsewhere", stalePath: path });
  assert.equal(await works(used.db, key), false);
});

test("a seed file is the key, with or without a line break at its end, and makes no file", async (t) => {
  const { db } = await testDatabase(t);
  const [data, secrets] = [await folder(t), await folder(t)];
  const [path, seedPath] = [join(data, "operator-key"), join(secrets, "seed")];
  const key = newKey();
  await writeFile(seedPath, `${key}\n`, { mode: 0o440 });
  await Promise.all([1, 2, 3].map(() => ensureOperatorKey(db, { path, seedPath, nowMs })));
  assert.equal(await works(db, key), true);
  assert.deepEqual(await ensureOperatorKey(db, { path, seedPath, nowMs }), { kind: "kept", path: seedPath });
  assert.deepEqual(await readdir(data), []);
});

test("another seed replaces the key at once, and a replaced key never comes back", async (t) => {
  const { db } = await testDatabase(t);
  const data = await folder(t);
  const [path, seedPath] = [join(data, "operator-key"), join(data, "seed")];
  const [old, renewed] = [newKey(), newKey()];
  await writeFile(seedPath, old, { mode: 0o600 });
  await ensureOperatorKey(db, { path, seedPath, nowMs });
  await writeFile(seedPath, renewed);
  assert.deepEqual(await ensureOperatorKey(db, { path, seedPath, nowMs }), { kind: "replaced", path: seedPath });
  assert.deepEqual([await works(db, old), await works(db, renewed)], [false, true]);
  await writeFile(seedPath, old);
  await assert.rejects(
    ensureOperatorKey(db, { path, seedPath, nowMs }),
    (error: unknown) => error instanceof OperatorKeyRefusedError && error.code === "superseded",
  );
  assert.deepEqual([await works(db, old), await works(db, renewed)], [false, true]);
});

test("a seed that is no operator key stops the start and is not quoted", async (t) => {
  const { db, admin } = await testDatabase(t);
  const data = await folder(t);
  const [path, seedPath] = [join(data, "operator-key"), join(data, "seed")];
  for (const text of ["", "hunter2hunter2", `ephor_op_${"a".repeat(42)}`, `${newKey()}\n\n`, `${newKey()} `]) {
    await writeFile(seedPath, text, { mode: 0o600 });
    await assert.rejects(ensureOperatorKey(db, { path, seedPath, nowMs }), (error: unknown) => {
      assert.ok(error instanceof OperatorKeyRefusedError);
      assert.equal(error.code, "malformed");
      assert.ok(text.trim() === "" || !error.message.includes(text.trim()));
      return true;
    });
  }
  assert.equal((await admin("select 1 from ephor.operators")).length, 0);
});

test("INV-30 a seed or key file that others can read stops the start, and so does a missing seed", async (t) => {
  const { db } = await testDatabase(t);
  const data = await folder(t);
  const [path, seedPath] = [join(data, "operator-key"), join(data, "seed")];
  const stops = (order: { path: string; seedPath?: string }, code: string) =>
    assert.rejects(
      ensureOperatorKey(db, { ...order, nowMs }),
      (error: unknown) => error instanceof PrivateFileError && error.code === code,
    );
  await stops({ path, seedPath }, "missing");
  await writeFile(seedPath, newKey());
  await chmod(seedPath, 0o644);
  await stops({ path, seedPath }, "readable_by_others");
  await writeFile(path, newKey());
  await chmod(path, 0o640);
  await stops({ path }, "readable_by_others");
});
