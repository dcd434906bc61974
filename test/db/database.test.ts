import assert from "node:assert/strict";
import { test } from "node:test";
import { openDatabase } from "../../src/db/database.ts";
import { DatabaseUnreachableError } from "../../src/db/errors.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { testDatabase } from "../support/database.ts";

test("a session that the server ends in the same breath as its first answer fails its request, and never the process", async (t) => {
  const database = await testDatabase(t);
  const proxy = await databaseProxy(t, database.url);
  const db = openDatabase({ url: proxy.url });
  t.after(() => db.close());
  const own = db.dedicated("own");
  for (const ask of [() => db.query("select 1 as one"), () => own.call("one", "select 1 as one", [])]) {
    proxy.endAfter("pg_is_in_recovery");
    for (let i = 0; i < 3; i++) await assert.rejects(ask(), DatabaseUnreachableError);
    proxy.restore();
    assert.deepEqual(await ask(), [{ one: 1 }]);
  }
});
