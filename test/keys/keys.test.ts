import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { test } from "node:test";
import { createLocalJWKSet, jwtVerify } from "jose";
import { TemporarilyUnavailableError } from "../../src/core/oauth/errors.ts";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import { openDatabase } from "../../src/db/database.ts";
import { listen } from "../../src/db/notify.ts";
import { isFirstStart, type Keys, WrongKekError } from "../../src/keys/keys.ts";
import { RETIRED_VERIFIES_SECONDS } from "../../src/keys/key-ring.ts";
import { DecryptError } from "../../src/vault/decrypt-error.ts";
import { AUDIENCE, claimsAt, keysWorld, newKek, permitFor, read, signAt } from "./keys-world.ts";

function throwsUnavailable(work: () => unknown, reason: Reason): void {
  assert.throws(work, (error: unknown) => error instanceof TemporarilyUnavailableError && error.reason === reason);
}

function kids(set: { keys: readonly { kid: string }[] }): string[] {
  return set.keys.map((key) => key.kid).sort();
}

/** Ten minutes with the room's regular work, as a running replica spends them. */
async function tenMinutes(world: { clock: { advance(seconds: number): void } }, ...replicas: Keys[]): Promise<void> {
  world.clock.advance(600);
  for (const replica of replicas) await replica.reload();
}

for (const algorithm of ["ES256", "RS256", "EdDSA"] as const) {
  test(`a token signed with ${algorithm} verifies here, and with jose by the published keys`, async (t) => {
    const world = await keysWorld(t);
    const keys = await world.replica({ algorithm });
    const token = signAt(keys, world.clock);
    assert.equal(keys.verifier.verify(read(token)), true);
    const { protectedHeader } = await jwtVerify(token, createLocalJWKSet(keys.jwks()), {
      audience: AUDIENCE,
      typ: "at+jwt",
      algorithms: [algorithm],
      currentDate: new Date(world.clock.nowMs()),
    });
    assert.deepEqual(Object.keys(protectedHeader).sort(), ["alg", "kid", "typ"]);
  });
}

test("A-CLI-10 the published keys hold public members only, and are named by their RFC 7638 thumbprint", async (t) => {
  const world = await keysWorld(t);
  for (const algorithm of ["ES256", "RS256", "EdDSA"] as const) {
    const keys = await world.replica({ algorithm });
    for (const jwk of [...keys.jwks().keys, ...keys.recordJwks().keys]) {
      const allowed = new Set(["kty", "crv", "x", "y", "n", "e", "kid", "use", "alg"]);
      assert.ok(Object.keys(jwk).every((name) => allowed.has(name)));
      assert.equal(jwk.use, "sig");
    }
    const ec = keys.recordJwks().keys[0];
    assert.ok(ec);
    const canonical = JSON.stringify({ crv: ec.crv, kty: ec.kty, x: ec.x, y: ec.y });
    assert.equal(ec.kid, createHash("sha256").update(canonical).digest("base64url"));
  }
});

test("INV-15 INV-22 no private member of any key lies in the database in the clear", async (t) => {
  const world = await keysWorld(t);
  await world.replica();
  const rows = await world.admin<{ row: object }>("select to_jsonb(k) as row from ephor.keys k");
  assert.equal(rows.length, 5);
  for (const { row } of rows) {
    const { sealed, public_jwk: publicJwk } = row as { sealed: object; public_jwk: object | null };
    assert.deepEqual(Object.keys(sealed).sort(), ["ct", "iv", "kek", "tag", "v", "wrapped"]);
    assert.ok(!Object.hasOwn(publicJwk ?? {}, "d"));
  }
});

test("many replicas that start at once on an empty database make one set of keys", async (t) => {
  const world = await keysWorld(t);
  assert.equal(await isFirstStart(world.db), true);
  const replicas = await Promise.all(Array.from({ length: 5 }, () => world.replica()));
  assert.equal(await isFirstStart(world.db), false);
  const counted = await world.admin<{ use: string; status: string; n: number }>(
    `select "use", status, count(*)::int as n from ephor.keys group by 1, 2 order by 1, 2`,
  );
  assert.deepEqual(
    counted.map(({ use, status, n }) => `${use} ${status} ${n}`),
    ["nonce active 1", "record active 1", "record next 1", "token active 1", "token next 1"],
  );
  const [first, ...others] = replicas as [Keys, ...Keys[]];
  const token = signAt(first, world.clock);
  for (const other of others) {
    assert.deepEqual(kids(other.jwks()), kids(first.jwks()));
    assert.deepEqual(other.nonceSecret(), first.nonceSecret());
    assert.equal(other.verifier.verify(read(token)), true);
  }
});

test("a replica with another key-encryption key does not start on a database that has keys", async (t) => {
  const world = await keysWorld(t);
  await world.replica();
  await assert.rejects(world.replica({ kek: newKek("k2") }), WrongKekError);
});

test("signing uses the permit up: a second token, or one after it lapsed, is not signed", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  const permit = permitFor(world.clock);
  const claims = claimsAt(world.clock);
  keys.signer.sign(permit, { typ: "at+jwt", claims });
  throwsUnavailable(() => keys.signer.sign(permit, { typ: "at+jwt", claims }), "permit_lapsed");
  const slow = permitFor(world.clock);
  world.clock.advance(1.001);
  throwsUnavailable(() => keys.signer.sign(slow, { typ: "at+jwt", claims }), "permit_lapsed");
});

test("a permit for another action or audience signs nothing, and is not used up by the attempt", async (t) => {
  const world = await keysWorld(t);
  const { signer } = await world.replica();
  const claims = claimsAt(world.clock);
  assert.throws(
    () => signer.sign(permitFor(world.clock, { action: "secret.open" }), { typ: "at+jwt", claims }),
    TypeError,
  );
  const permit = permitFor(world.clock, { target: `${AUDIENCE}/` });
  assert.throws(() => signer.sign(permit, { typ: "at+jwt", claims }), TypeError);
  assert.equal(permit.spend(world.clock.monotonicMs()), true);
});

test("INV-01 a life of 59 seconds is signed; 60, none, a negative or no number is not, whoever built the claims", async (t) => {
  const world = await keysWorld(t);
  const { signer } = await world.replica();
  signer.sign(permitFor(world.clock), { typ: "at+jwt", claims: claimsAt(world.clock, 59) });
  for (const life of [60, 0, -1, Number.NaN, Number.POSITIVE_INFINITY]) {
    const claims = claimsAt(world.clock, life);
    assert.throws(() => signer.sign(permitFor(world.clock), { typ: "at+jwt", claims }), RangeError);
  }
});

test("INV-05 the signer signs tokens only, the attestor everything on its list but tokens", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  const claims = claimsAt(world.clock);
  for (const typ of ["ephor-head+jwt", "JWT", "token-introspection+jwt"]) {
    assert.throws(() => keys.signer.sign(permitFor(world.clock), { typ: typ as "at+jwt", claims }), TypeError);
  }
  for (const typ of ["at+jwt", "txntoken+jwt", "toString", "JWT"]) {
    assert.throws(() => keys.attestor.sign(typ as "ephor-head+jwt", claims), TypeError);
  }
});

test("INV-05 introspection answers and security events are signed by token keys, records by record keys", async (t) => {
  const world = await keysWorld(t);
  const { attestor, verifier, jwks, recordJwks } = await world.replica();
  for (const typ of ["token-introspection+jwt", "secevent+jwt"] as const) {
    const jws = read(attestor.sign(typ, { iss: "x" }));
    assert.equal(jws.header.typ, typ);
    assert.ok(kids(jwks()).includes(jws.header.kid as string));
    assert.deepEqual([verifier.verify(jws), verifier.verifyRecord(jws)], [true, false]);
  }
  for (const typ of ["ephor-feed+jwt", "ephor-receipt+jwt", "ephor-approval+jwt", "ephor-head+jwt"] as const) {
    const jws = read(attestor.sign(typ, { iss: "x" }));
    assert.ok(kids(recordJwks()).includes(jws.header.kid as string));
    assert.deepEqual([verifier.verify(jws), verifier.verifyRecord(jws)], [false, true]);
  }
});

test("a token with a changed signature, payload, algorithm or key name does not verify, also when its original is remembered", async (t) => {
  const world = await keysWorld(t);
  const { verifier, signer, jwks } = await world.replica();
  const token = signer.sign(permitFor(world.clock), { typ: "at+jwt", claims: claimsAt(world.clock) });
  const good = read(token);
  assert.equal(verifier.verify(good), true);
  for (let at = 0; at < good.signature.length; at++) {
    const signature = Uint8Array.from(good.signature);
    signature[at] = (signature[at] as number) ^ 1;
    assert.equal(verifier.verify({ ...good, signature }), false);
  }
  assert.equal(verifier.verify({ ...good, signingInput: `${good.signingInput}A` }), false);
  assert.equal(verifier.verify({ ...good, header: { ...good.header, alg: "RS256" } }), false);
  const otherKid = kids(jwks()).find((kid) => kid !== good.header.kid) as string;
  assert.equal(verifier.verify({ ...good, header: { ...good.header, kid: otherKid } }), false);
  assert.equal(verifier.verify({ ...good, header: { alg: "ES256" } }), false);
});

test("A-SEC-06 rotation waits until the next key has been published for ten minutes", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  const started = world.clock.seconds();
  assert.deepEqual(await keys.rotate(), { rotated: false, because: "too_soon", readyAt: started + 600 });
  world.clock.advance(599);
  assert.equal((await keys.rotate()).rotated, false);
  world.clock.advance(1);
  const before = kids(keys.jwks());
  const outcome = await keys.rotate();
  assert.ok(outcome.rotated);
  assert.ok(before.includes(outcome.active));
  assert.ok(!before.includes(outcome.next));
  assert.equal(read(signAt(keys, world.clock)).header.kid, outcome.active);
  assert.equal((await keys.rotate()).rotated, false);
});

test("A-SEC-06 INV-23 a token of a retired key verifies until it expires, then the key verifies nothing, then it is unpublished", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  await tenMinutes(world, keys);
  const token = signAt(keys, world.clock);
  const outcome = await keys.rotate();
  assert.ok(outcome.rotated);
  world.clock.advance(58);
  assert.equal(await keys.verifier.prove(read(token)), true);
  world.clock.advance(RETIRED_VERIFIES_SECONDS - 58);
  assert.equal(await keys.verifier.prove(read(token)), false);
  assert.ok(kids(keys.jwks()).includes(outcome.retired));
  world.clock.advance(900 - RETIRED_VERIFIES_SECONDS);
  assert.ok(!kids(keys.jwks()).includes(outcome.retired));
});

test("INV-23 a replica that starts after a rotation verifies tokens of the retired key, and cannot sign with it", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  await tenMinutes(world, keys);
  const token = signAt(keys, world.clock);
  const outcome = await keys.rotate();
  assert.ok(outcome.rotated);
  const late = await world.replica();
  assert.equal(late.verifier.verify(read(token)), true);
  const [row] = await world.admin<{ sealed: unknown }>("select sealed from ephor.keys where kid = $1", [
    outcome.retired,
  ]);
  // Made active again by hand, the row does not open as a private key.
  await world.admin("update ephor.keys set status = 'active' where kid = $1", [outcome.retired]);
  await assert.rejects(world.replica(), DecryptError);
  assert.ok(row);
});

test("two replicas that rotate at once rotate once", async (t) => {
  const world = await keysWorld(t);
  const [one, two] = [await world.replica(), await world.replica()];
  await tenMinutes(world, one, two);
  const outcomes = await Promise.all([one.rotate(), two.rotate(), one.rotate()]);
  assert.equal(outcomes.filter((outcome) => outcome.rotated).length, 1);
  const active = await world.admin(`select kid from ephor.keys where "use" = 'token' and status = 'active'`);
  const next = await world.admin(`select kid from ephor.keys where "use" = 'token' and status = 'next'`);
  assert.deepEqual([active.length, next.length], [1, 1]);
});

test("a rotation is seen by another replica as soon as it is notified", async (t) => {
  const world = await keysWorld(t);
  const [one, two] = [await world.replica(), await world.replica()];
  await tenMinutes(world, one, two);
  let listening = (): void => {};
  let heard = (): void => {};
  const ready = new Promise<void>((resolve) => (listening = resolve));
  const told = new Promise<void>((resolve) => (heard = resolve));
  const listener = listen(world.db.options, [two.channel], (channel) =>
    channel === two.channel ? heard() : listening(),
  );
  t.after(() => listener.close());
  await ready;
  const outcome = await one.rotate();
  assert.ok(outcome.rotated);
  await told;
  await two.reload();
  assert.equal(read(signAt(two, world.clock)).header.kid, outcome.active);
});

test("tick rotates by the schedule, once over all replicas, and record keys by their own", async (t) => {
  const world = await keysWorld(t);
  const [one, two] = [await world.replica(), await world.replica()];
  const first = read(signAt(one, world.clock)).header.kid;
  world.clock.advance(30 * 86_400 - 1);
  await Promise.all([one.tick(), two.tick()]);
  assert.equal(read(signAt(one, world.clock)).header.kid, first);
  world.clock.advance(1);
  await Promise.all([one.tick(), two.tick()]);
  await Promise.all([one.reload(), two.reload()]);
  const second = read(signAt(one, world.clock)).header.kid;
  assert.notEqual(second, first);
  assert.equal(read(signAt(two, world.clock)).header.kid, second);
  const records = await world.admin(`select kid from ephor.keys where "use" = 'record'`);
  assert.equal(records.length, 2);
});

test("record keys stay published and verify for ever", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  const head = keys.attestor.sign("ephor-head+jwt", { at: 1 });
  world.clock.advance(365 * 86_400);
  await keys.tick();
  const newer = keys.attestor.sign("ephor-head+jwt", { at: 2 });
  assert.notEqual(read(newer).header.kid, read(head).header.kid);
  world.clock.advance(20 * 365 * 86_400);
  const later = await world.replica();
  assert.equal(later.verifier.verifyRecord(read(head)), true);
  assert.equal(later.recordJwks().keys.length, 3);
});

test("a compromised key verifies nothing from now on, and is unpublished, without waiting", async (t) => {
  const world = await keysWorld(t);
  const [one, two] = [await world.replica(), await world.replica()];
  const token = signAt(one, world.clock);
  const outcome = await one.rotate({ compromised: true });
  assert.ok(outcome.rotated);
  await two.reload();
  for (const keys of [one, two, await world.replica()]) {
    assert.equal(keys.verifier.verify(read(token)), false);
    assert.ok(!kids(keys.jwks()).includes(outcome.retired));
    assert.equal(keys.verifier.verify(read(signAt(one, world.clock))), true);
  }
});

test("a key that is not known yet is looked for once a second at most, whatever strangers send", async (t) => {
  const world = await keysWorld(t);
  const [one, two] = [await world.replica(), await world.replica()];
  await one.rotate({ compromised: true });
  await one.rotate({ compromised: true });
  const token = read(signAt(one, world.clock));
  assert.equal(two.verifier.verify(token), false);
  assert.equal(await two.verifier.prove(token), true);
  await one.rotate({ compromised: true });
  await one.rotate({ compromised: true });
  const newer = read(signAt(one, world.clock));
  assert.equal(await two.verifier.prove(newer), false);
  world.clock.advance(1);
  assert.equal(await two.verifier.prove(newer), true);
});

test("a replica that has not read the keys for 20 seconds neither signs nor verifies until it does", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  const token = signAt(keys, world.clock);
  world.clock.advance(20);
  signAt(keys, world.clock);
  world.clock.advance(0.001);
  const permit = permitFor(world.clock);
  const order = { typ: "at+jwt", claims: claimsAt(world.clock) } as const;
  throwsUnavailable(() => keys.signer.sign(permit, order), "keys_stale");
  throwsUnavailable(() => keys.verifier.verify(read(token)), "keys_stale");
  throwsUnavailable(() => keys.attestor.sign("token-introspection+jwt", {}), "keys_stale");
  keys.attestor.sign("ephor-head+jwt", {});
  await keys.fresh();
  keys.signer.sign(permit, order);
  assert.equal(keys.verifier.verify(read(token)), true);
});

test("CONTRACT §2.8 without the database nothing is signed after 20 seconds, and signing resumes when it is back", async (t) => {
  const world = await keysWorld(t);
  const db = openDatabase({ url: world.url, role: "ephor_app" });
  let isAway = false;
  const query: typeof db.query = (sql, params) => (isAway ? openNowhere() : db.query(sql, params));
  const openNowhere = async () => {
    const nowhere = openDatabase({ url: "postgres://127.0.0.1:1/none" });
    return nowhere.query<never>("select 1").finally(() => nowhere.close());
  };
  t.after(() => db.close());
  const keys = await world.replica({ db: { ...db, query } });
  isAway = true;
  world.clock.advance(21);
  await assert.rejects(keys.fresh(), (error: unknown) => error instanceof TemporarilyUnavailableError);
  throwsUnavailable(() => signAt(keys, world.clock), "keys_stale");
  isAway = false;
  await keys.fresh();
  signAt(keys, world.clock);
});

test("a change of algorithm prepares its key at the start, and takes over when that has been published", async (t) => {
  const world = await keysWorld(t);
  const old = await world.replica();
  const token = signAt(old, world.clock);
  const keys = await world.replica({ algorithm: "EdDSA" });
  assert.deepEqual(new Set(keys.jwks().keys.map((key) => key.alg)), new Set(["ES256", "EdDSA"]));
  assert.equal(read(signAt(keys, world.clock)).header.alg, "ES256");
  world.clock.advance(600);
  await keys.tick();
  assert.equal(read(signAt(keys, world.clock)).header.alg, "EdDSA");
  assert.equal(keys.verifier.verify(read(token)), true);
  // A replica of the old configuration follows, and does not turn it back.
  await old.tick();
  await old.tick();
  assert.equal(read(signAt(old, world.clock)).header.alg, "EdDSA");
});

test("INV-22 a signing key whose column was changed stops the start; a running replica goes on until its reading is stale", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  await world.admin(
    `update ephor.keys set sealed = jsonb_set(sealed, '{tag}', '"AAAAAAAAAAAAAAAAAAAAAA"') where "use" = 'token' and status = 'active'`,
  );
  await assert.rejects(world.replica(), DecryptError);
  await assert.rejects(keys.reload(), DecryptError);
  signAt(keys, world.clock);
  world.clock.advance(20.001);
  throwsUnavailable(() => signAt(keys, world.clock), "keys_stale");
});

test("INV-22 columns swapped between two keys stop the start", async (t) => {
  const world = await keysWorld(t);
  await world.replica();
  await world.admin(
    `update ephor.keys a set sealed = b.sealed from ephor.keys b
     where a."use" = 'token' and b."use" = 'token' and a.status = 'active' and b.status = 'next'`,
  );
  await assert.rejects(world.replica(), DecryptError);
});

test("INV-22 a key that somebody writes into the table verifies nothing, whatever public part it shows", async (t) => {
  const world = await keysWorld(t);
  await world.replica();
  const stranger = await keysWorld(t);
  const strangers = await stranger.replica({ kek: world.kek });
  const token = read(signAt(strangers, stranger.clock));
  const [row] = await stranger.admin<{ row: object }>("select to_jsonb(k) as row from ephor.keys k where kid = $1", [
    token.header.kid,
  ]);
  await world.admin(`insert into ephor.keys select * from jsonb_populate_record(null::ephor.keys, $1)`, [
    JSON.stringify({ ...row?.row, status: "retired", retired_at: world.clock.nowMs(), sealed: {} }),
  ]);
  const keys = await world.replica();
  assert.equal(keys.verifier.verify(token), false);
  assert.ok(!kids(keys.jwks()).includes(token.header.kid as string));
});
