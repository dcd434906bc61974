import assert from "node:assert/strict";
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { randomBytes } from "node:crypto";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { type PrivateFileFault, PrivateFileError } from "../../src/system/private-file.ts";
import { openKek } from "../../src/vault/kek.ts";
import { type KekFault, KekRefusedError } from "../../src/vault/kek-text.ts";

const goodKey = randomBytes(32).toString("base64url");
const aad = new Uint8Array([1]);

async function folder(t: TestContext): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), "ephor-kek-"));
  t.after(() => rm(path, { recursive: true }));
  return path;
}

function surroundings(variables: Record<string, string> = {}, nothingSealed = true) {
  return { readEnvironment: (name: string) => variables[name], mayCreate: async () => nothingSealed };
}

async function refusesWith(
  opening: Promise<unknown>,
  code: KekFault | PrivateFileFault,
  secret = goodKey,
): Promise<void> {
  await assert.rejects(opening, (error: unknown) => {
    assert.ok(error instanceof KekRefusedError || error instanceof PrivateFileError);
    assert.equal(error.code, code);
    assert.ok(!`${error.message}${JSON.stringify(error)}`.includes(secret));
    return true;
  });
}

test("a missing key file is made at the first start, for this account alone, and is the same at the next", async (t) => {
  const path = join(await folder(t), "data", "kek");
  const first = await openKek(`file:${path}`, surroundings());
  assert.equal((await stat(path)).mode & 0o777, 0o600);
  assert.match(await readFile(path, "utf8"), /^[A-Za-z0-9_-]{43}$/);
  const second = await openKek(`file:${path}`, surroundings({}, false));
  assert.equal(second.id, first.id);
  const dataKey = randomBytes(32);
  assert.deepEqual(Buffer.from(await second.unwrap(await first.wrap(dataKey, aad), aad)), dataKey);
});

test("of many processes that make the key file at once all hold the same key, and no draft is left", async (t) => {
  const path = await folder(t);
  const opened = await Promise.all(
    Array.from({ length: 8 }, () => openKek(`file:${join(path, "kek")}`, surroundings())),
  );
  assert.equal(new Set(opened.map((key) => key.id)).size, 1);
  assert.deepEqual(await readdir(path), ["kek"]);
});

test("A-SEC-05 a missing key file is not made where values are sealed already", async (t) => {
  const path = await folder(t);
  await refusesWith(openKek(`file:${join(path, "kek")}`, surroundings({}, false)), "missing");
  assert.deepEqual(await readdir(path), []);
});

for (const [what, content, code] of [
  ["empty", "", "empty"],
  ["of the wrong length", goodKey.slice(1), "length"],
  ["ending with a line break", `${goodKey}\n`, "line_break"],
  ["ending with a Windows line break", `${goodKey}\r\n`, "line_break"],
  ["with a character of another alphabet", `${goodKey.slice(0, 42)}+`, "characters"],
  ["spelled so that bits are left over", `${goodKey.slice(0, 42)}B`, "characters"],
  ["an example", "A".repeat(43), "example"],
] as const) {
  test(`A-SEC-05 a key ${what} stops the start, in a file and in a variable`, async (t) => {
    const path = join(await folder(t), "kek");
    await writeFile(path, content, { mode: 0o600 });
    await refusesWith(openKek(`file:${path}`, surroundings()), code);
    await refusesWith(openKek("env:KEK", surroundings({ KEK: content })), code);
  });
}

for (const mode of [0o644, 0o640, 0o604, 0o620, 0o602]) {
  test(`A-SEC-05 a key file with mode ${mode.toString(8)} stops the start`, async (t) => {
    const path = join(await folder(t), "kek");
    await writeFile(path, goodKey);
    await chmod(path, mode);
    await refusesWith(openKek(`file:${path}`, surroundings()), "readable_by_others");
    await chmod(path, 0o600);
    await openKek(`file:${path}`, surroundings());
    await chmod(path, 0o400);
    await openKek(`file:${path}`, surroundings());
  });
}

test("a key file behind a link is judged by what it leads to", async (t) => {
  const path = await folder(t);
  await writeFile(join(path, "real"), goodKey, { mode: 0o600 });
  await symlink("real", join(path, "kek"));
  await openKek(`file:${join(path, "kek")}`, surroundings());
  await chmod(join(path, "real"), 0o644);
  await refusesWith(openKek(`file:${join(path, "kek")}`, surroundings()), "readable_by_others");
});

test("a folder and an overlong file are no key files", async (t) => {
  const path = await folder(t);
  await refusesWith(openKek(`file:${path}`, surroundings()), "not_a_file");
  await writeFile(join(path, "kek"), "A".repeat(5000), { mode: 0o600 });
  await refusesWith(openKek(`file:${join(path, "kek")}`, surroundings()), "too_large");
});

test("a key in a variable is the same key as in a file", async (t) => {
  const path = join(await folder(t), "kek");
  await writeFile(path, goodKey, { mode: 0o600 });
  const fromFile = await openKek(`file:${path}`, surroundings());
  const fromVariable = await openKek("env:EPHOR_KEK_VALUE", surroundings({ EPHOR_KEK_VALUE: goodKey }));
  assert.equal(fromVariable.id, fromFile.id);
  assert.ok(!goodKey.includes(fromFile.id));
});

test("a variable that is not set stops the start", async () => {
  await refusesWith(openKek("env:KEK", surroundings()), "missing");
});

for (const [source, code] of [
  ["file:", "malformed"],
  ["env:", "malformed"],
  ["env:A B", "malformed"],
  ["ephor-data/kek", "malformed"],
  ["", "malformed"],
  [goodKey, "malformed"],
] as const) {
  test(`kek source "${source === goodKey ? "(the key itself)" : source}" stops the start: ${code}`, async () => {
    await refusesWith(openKek(source, surroundings()), code);
  });
}
