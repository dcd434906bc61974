/** The use of a once-only token while its database goes away: nothing is active twice, whatever was lost (INV-24). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { onceWorld, claimsOf, type OnceWorld } from "../sts/once-world.ts";
import { testDatabase } from "../support/database.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { holdGate } from "../support/held-lock.ts";
import type { Answer } from "../support/world.ts";

/** The service is back by then, in real ms. */
const BACK_MS = 15_000;

/** Uses the token until somebody can decide. */
async function decided(w: OnceWorld, token: string): Promise<Answer> {
  const deadline = performance.now() + BACK_MS;
  for (;;) {
    const answer = await w.consume(token);
    if (answer.status === 200) return answer;
    assert.equal(answer.status, 503, answer.text);
    assert.ok(performance.now() < deadline, "not back");
    await new Promise((go) => setTimeout(go, 50));
  }
}

test("a use whose answer from the database is lost is 503; it counts, and no later one is active", async (t) => {
  const database = await testDatabase(t);
  const wire = await databaseProxy(t, database.url);
  const w = await onceWorld(t, { database: { ...database, url: wire.url } });
  const token = await w.once({ ttl: "59" });
  wire.muteFrom(`once:${String(claimsOf(token)["jti"])}`);
  const lost = await w.consume(token);
  assert.equal(lost.status, 503, lost.text);
  assert.equal(lost.body["active"], undefined);
  assert.ok(Number(lost.headers.get("retry-after")) > 0);
  wire.restore();
  assert.deepEqual((await decided(w, token)).body, { active: false });
  assert.deepEqual((await w.introspect(token)).body, { active: false });
  assert.deepEqual(await w.recorded("token.consume", token), ["granted", "refused replayed"]);
});

test("a use that does not reach the database is 503 and spends nothing: asked again, it is active once", async (t) => {
  const database = await testDatabase(t);
  const wire = await databaseProxy(t, database.url);
  const w = await onceWorld(t, { database: { ...database, url: wire.url } });
  const token = await w.once({ ttl: "59" });
  wire.cut();
  const cut = await w.consume(token);
  assert.equal(cut.status, 503, cut.text);
  wire.restore();
  assert.equal((await decided(w, token)).body["active"], true);
  assert.deepEqual((await decided(w, token)).body, { active: false });
});

test("a session that is ended while a use is decided has decided nothing: 503, and asked again it is active once", async (t) => {
  const w = await onceWorld(t);
  for (let round = 0; round < 3; round++) {
    const token = await usable(w);
    const gate = await holdGate(w.databaseUrl);
    const using = w.consume(token);
    await gate.waiting(1);
    await w.admin(
      "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and application_name = 'ephor gate'",
    );
    assert.equal((await using).status, 503);
    await gate.release();
    assert.equal((await decided(w, token)).body["active"], true);
    assert.deepEqual((await decided(w, token)).body, { active: false });
  }
  const verdict = await w.operator("GET", "/v1/audit/verify");
  assert.equal(verdict.body["ok"], true, verdict.text);
});

/** A token, as soon as the gate has a session again. */
async function usable(w: OnceWorld): Promise<string> {
  const deadline = performance.now() + BACK_MS;
  for (;;) {
    const token = await w.once().catch(() => undefined);
    if (token !== undefined) return token;
    assert.ok(performance.now() < deadline, "not back");
  }
}
