import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { createTrustIndex } from "../../src/core/trust/compiled.ts";
import { operatorKeyHash } from "../../src/operators/operator-key.ts";
import { createSessions, type Sessions } from "../../src/operators/sessions.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { indexOf } from "../core/trust/objects.ts";
import { testDatabase, type TestDatabase } from "../support/database.ts";
import { handClock } from "../support/hand-clock.ts";
import { START } from "../support/world.ts";

const KEY = { kind: "key", operatorId: "operator", key: "the key" } as const;

async function world(t: TestContext, isSecure: boolean): Promise<TestDatabase & { sessions: Sessions }> {
  const database = await testDatabase(t);
  await database.admin("insert into ephor.operators values ('operator', 'key', $1, 1, null)", [
    operatorKeyHash("the key"),
  ]);
  const trust = createTrustIndex();
  const clock = createDatabaseClock(handClock(START));
  return { ...database, sessions: createSessions({ db: database.db, clock, trust: () => trust, isSecure }) };
}

test("A-ADM-04 where browsers reach us by https the cookie is `__Host-`, Secure, and a plain one is not looked at", async (t) => {
  const { sessions } = await world(t, true);
  const cookie = await sessions.open(KEY, undefined);
  assert.match(cookie, /^__Host-ephor=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Strict; Secure$/);
  const [pair = ""] = cookie.split(";");
  assert.deepEqual((await sessions.find(pair))?.who, { kind: "key", operatorId: "operator" });
  assert.equal(await sessions.find(pair.replace("__Host-", "")), undefined);
  assert.equal(await sessions.find(undefined), undefined);
  assert.match(await sessions.close(pair, "this"), /^__Host-ephor=; .*Secure; Max-Age=0$/);
  assert.equal(await sessions.find(pair), undefined);
});

test("the proof of a form is the session's own, and neither it nor its cookie is told by the other", async (t) => {
  const { sessions, admin } = await world(t, false);
  const [one = "", two = ""] = [await sessions.open(KEY, undefined), await sessions.open(KEY, undefined)].map(
    (cookie) => cookie.split(";")[0],
  );
  const [first, second] = [await sessions.find(one), await sessions.find(two)];
  assert.ok(first && second);
  assert.notEqual(first.csrf, second.csrf);
  assert.equal((await sessions.find(one))?.csrf, first.csrf);
  assert.equal(await sessions.find(`ephor=${first.csrf}`), undefined);
  const stored = JSON.stringify(await admin("select * from ephor.sessions"));
  for (const secret of [one.slice(6), two.slice(6), first.csrf, "the key"]) assert.ok(!stored.includes(secret));
});

test("a person whose issuer signs nobody in is nobody", async (t) => {
  const { sessions } = await world(t, false);
  const person = { issuer: "okta", sub: "okta|a", authTime: START, email: undefined, claims: { sub: "a" } };
  const cookie = await sessions.open({ kind: "person", person, issuerUrl: "https://okta.example" }, undefined);
  assert.equal(await sessions.find(cookie.split(";")[0]), undefined);
});

test("a session ends when the name of its issuer is given to another issuer, of an operator too: its people are others", async (t) => {
  const { db } = await testDatabase(t);
  const trust = createTrustIndex();
  let version = 0;
  const give = (url: string): void => {
    const none = { agents: [], resources: [], grants: [], channels: [] };
    const okta = { name: "okta", audience: [], internal: true, singleUse: false, clientId: "c", url } as const;
    const [dana] = indexOf({ operators: { dana: { sign_in: { issuer: "okta", claims: { sub: "a" } } } } }).operators();
    const upserts = { ...none, issuers: [{ ...okta, identifies: "humans" as const }], operators: dana ? [dana] : [] };
    trust.apply({ version: ++version, deletes: [], upserts });
  };
  const clock = createDatabaseClock(handClock(START));
  const sessions = createSessions({ db, clock, trust: () => trust, isSecure: false });
  const person = { issuer: "okta", sub: "okta|a", authTime: START, email: undefined, claims: { sub: "a" } };
  give("https://okta.example");
  const [cookie] = (
    await sessions.open({ kind: "person", person, issuerUrl: "https://okta.example" }, undefined)
  ).split(";");
  assert.equal((await sessions.find(cookie))?.operator?.name, "dana");
  give("https://okta.example");
  assert.equal((await sessions.find(cookie))?.operator?.name, "dana");
  give("https://another.example");
  assert.equal(await sessions.find(cookie), undefined);
});
