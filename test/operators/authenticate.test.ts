import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { InvalidTokenError } from "../../src/core/oauth/errors.ts";
import { createOperators, type Operators } from "../../src/operators/authenticate.ts";
import { isOperatorKeyShaped, makeOperatorKey, operatorKeyHash } from "../../src/operators/operator-key.ts";
import { testDatabase, type TestDatabase } from "../support/database.ts";

const key = makeOperatorKey().use((bytes) => Buffer.from(bytes).toString());

async function world(t: TestContext): Promise<TestDatabase & { operators: Operators }> {
  const database = await testDatabase(t);
  await database.admin("insert into ephor.operators values ('operator', 'key', $1, 1, null)", [operatorKeyHash(key)]);
  return { ...database, operators: createOperators({ db: database.db }) };
}

async function refuses(asking: Promise<unknown>): Promise<void> {
  await assert.rejects(asking, (error: unknown) => {
    assert.ok(error instanceof InvalidTokenError);
    assert.equal(error.reason, "operator_key_wrong");
    assert.deepEqual(error.facts, {});
    return true;
  });
}

test("the operator key names the operator, the scheme in any case", async (t) => {
  const { operators } = await world(t);
  assert.deepEqual(await operators.authenticate(`Bearer ${key}`), { id: "operator" });
  assert.deepEqual(await operators.authenticate(`bearer ${key}`), { id: "operator" });
});

test("INV-26 every other header is refused alike", async (t) => {
  const { operators } = await world(t);
  const other = makeOperatorKey().use((bytes) => Buffer.from(bytes).toString());
  const headers = [
    undefined,
    "",
    "Bearer",
    "Bearer ",
    key,
    `Bearer ${other}`,
    `Bearer ${key.slice(0, -1)}`,
    `Bearer ${key}A`,
    `Bearer ${key} `,
    `Bearer ${key.toUpperCase()}`,
    `Bearer ${key}, Bearer ${key}`,
    `DPoP ${key}`,
    `Basic ${Buffer.from(`operator:${key}`).toString("base64")}`,
    `Bearer ${operatorKeyHash(key)}`,
  ];
  for (const header of headers) await refuses(operators.authenticate(header));
});

test("a disabled key, and one of another kind, is refused", async (t) => {
  const { admin, operators } = await world(t);
  await admin("update ephor.operators set disabled_at = 2");
  await refuses(operators.authenticate(`Bearer ${key}`));
  await admin("update ephor.operators set disabled_at = null, kind = 'session'");
  await refuses(operators.authenticate(`Bearer ${key}`));
});

test("without any key in the database nothing is accepted, the empty key neither", async (t) => {
  const { admin, operators } = await world(t);
  await admin("delete from ephor.operators");
  await refuses(operators.authenticate(`Bearer ${key}`));
  await refuses(operators.authenticate("Bearer "));
  await admin("insert into ephor.operators values ('operator', 'key', $1, 1, null)", [operatorKeyHash("")]);
  await refuses(operators.authenticate("Bearer "));
  await refuses(operators.authenticate(undefined));
});

test("INV-15 the database holds the hash of the key only", async (t) => {
  const { admin } = await world(t);
  const [row] = await admin("select * from ephor.operators");
  assert.ok(!JSON.stringify(row).includes(key));
});

test("an operator key is told from an access token by its prefix", async (t) => {
  const { operators } = await world(t);
  assert.equal(operators.isOperatorKey(`Bearer ${key}`), true);
  assert.equal(operators.isOperatorKey("Bearer ephor_op_x"), true);
  assert.equal(operators.isOperatorKey("Bearer eyJ.eyJ.c2ln"), false);
  assert.equal(operators.isOperatorKey(undefined), false);
});

test("an operator key has the prefix and at least 43 base64url characters", () => {
  assert.match(key, /^ephor_op_[A-Za-z0-9_-]{43}$/);
  assert.equal(isOperatorKeyShaped(`ephor_op_${"a".repeat(43)}`), true);
  assert.equal(isOperatorKeyShaped(`ephor_op_${"a".repeat(256)}`), true);
  for (const text of [
    `ephor_op_${"a".repeat(42)}`,
    `ephor_op_${"a".repeat(257)}`,
    `ephor_op_${"a".repeat(42)}=`,
    `ephor_op_${"a".repeat(43)}\n`,
    `ephor_${"a".repeat(50)}`,
    ` ephor_op_${"a".repeat(43)}`,
  ]) {
    assert.equal(isOperatorKeyShaped(text), false);
  }
});
