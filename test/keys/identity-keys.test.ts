import assert from "node:assert/strict";
import { test } from "node:test";
import { createLocalJWKSet, errors, jwtVerify } from "jose";
import { TemporarilyUnavailableError } from "../../src/core/oauth/errors.ts";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import { Permit, type PermitAction } from "../../src/core/permit.ts";
import type { Keys } from "../../src/keys/keys.ts";
import type { HandClock } from "../support/hand-clock.ts";
import { keysWorld, type KeysWorld, permitFor, claimsAt, read, signAt } from "./keys-world.ts";

const SUB = "resource|aws-deploy";
const AUDIENCE = "sts.amazonaws.com";
const CLAIMS = { iss: "https://sts.acme.example", sub: SUB, aud: AUDIENCE, jti: "01J" };

function permit(clock: HandClock, { action = "identity.sign" as PermitAction, target = SUB } = {}): Permit {
  return new Permit({ action, target, actor: "bot", eventId: "evt_1", lapsesAtMs: clock.monotonicMs() + 1000 });
}

const claims = (clock: HandClock, life = 60) => ({ ...CLAIMS, iat: clock.seconds(), exp: clock.seconds() + life });

async function identityToken(keys: Keys, clock: HandClock): Promise<string> {
  await keys.identity.ready();
  return keys.identity.sign(permit(clock), claims(clock));
}

function identityRows(world: KeysWorld): Promise<{ kid: string; status: string; algorithm: string }[]> {
  return world.admin(`select kid, status, algorithm from ephor.keys where "use" = 'identity' order by status`);
}

/** As a cloud does it. */
function verifiedBy(keys: Keys, token: string, clock: HandClock) {
  return jwtVerify(token, createLocalJWKSet(keys.jwks()), {
    audience: AUDIENCE,
    issuer: CLAIMS.iss,
    algorithms: ["RS256"],
    currentDate: new Date(clock.nowMs()),
  });
}

test("a database of a version without identity keys gets them, one pair over all replicas that need them at once", async (t) => {
  const world = await keysWorld(t);
  // The first start makes what earlier versions made; identity keys come with the first tick, or with the first need.
  const replicas = await Promise.all([world.replica(), world.replica(), world.replica()]);
  assert.deepEqual(await identityRows(world), []);
  const [one, two, three] = replicas as [Keys, Keys, Keys];
  await Promise.all([one.tick(), two.identity.ready(), two.identity.ready(), three.tick()]);
  const rows = await identityRows(world);
  assert.deepEqual(
    rows.map(({ status, algorithm }) => [status, algorithm]),
    [
      ["active", "RS256"],
      ["next", "RS256"],
    ],
  );
  for (const keys of replicas) {
    const published = keys.jwks().keys.filter((key) => key.alg === "RS256");
    assert.deepEqual(published.map((key) => key.kid).sort(), rows.map((row) => row.kid).sort());
    for (const key of published) {
      assert.deepEqual(Object.keys(key).sort(), ["alg", "e", "kid", "kty", "n", "use"]);
      assert.equal(Buffer.from(key.n ?? "", "base64url").length * 8, 2048);
    }
  }
  assert.ok(!one.recordJwks().keys.some((key) => key.alg === "RS256"));
  const token = await identityToken(one, world.clock);
  for (const keys of replicas) assert.equal((await verifiedBy(keys, token, world.clock)).payload.sub, SUB);
  // Another start finds them, and makes none.
  await (await world.replica()).tick();
  assert.equal((await identityRows(world)).length, 2);
});

test("INV-22 an identity key lies sealed, and opens as nothing else", async (t) => {
  const world = await keysWorld(t);
  await (await world.replica()).tick();
  await world.admin(
    `update ephor.keys a set sealed = b.sealed from ephor.keys b
     where a."use" = 'identity' and b."use" = 'identity' and a.status = 'active' and b.status = 'next'`,
  );
  await assert.rejects(world.replica(), { name: "DecryptError" });
});

test("an identity key signs for a permit for that subject, once, for a minute at most, and never an azp", async (t) => {
  const world = await keysWorld(t);
  const { clock } = world;
  const keys = await world.replica();
  await keys.identity.ready();
  const sign = (by: Permit, what: object = {}) => keys.identity.sign(by, { ...claims(clock), ...what });
  const token = read(sign(permit(clock)));
  assert.deepEqual(Object.keys(token.header).sort(), ["alg", "kid", "typ"]);
  assert.deepEqual([token.header.typ, token.header.alg], ["JWT", "RS256"]);
  assert.throws(() => sign(permit(clock, { target: "resource|other" })), TypeError);
  for (const action of ["token.issue", "credential.vend", "credential.release", "lease.end", "secret.open"] as const)
    assert.throws(() => sign(permit(clock, { action })), TypeError, action);
  assert.throws(() => sign(permit(clock), { exp: clock.seconds() + 61 }), RangeError);
  assert.throws(() => sign(permit(clock), { exp: clock.seconds() }), RangeError);
  assert.throws(() => sign(permit(clock), { exp: Number.NaN }), RangeError);
  assert.throws(() => sign(permit(clock), { azp: AUDIENCE }), TypeError);
  const spent = permit(clock);
  sign(spent);
  throwsUnavailable(() => sign(spent), "permit_lapsed");
  const late = permit(clock);
  clock.advance(1.001);
  throwsUnavailable(() => sign(late), "permit_lapsed");
  clock.advance(20);
  const unspent = permit(clock);
  throwsUnavailable(() => sign(unspent), "keys_stale");
  await keys.identity.ready();
  sign(unspent);
});

test("A-JWT-13 an identity key signs no access token, and what it signs verifies nowhere here", async (t) => {
  const world = await keysWorld(t);
  const { clock } = world;
  const keys = await world.replica();
  const token = read(await identityToken(keys, clock));
  assert.equal(keys.verifier.verify(token), false);
  assert.equal(await keys.verifier.prove(token), false);
  assert.equal(keys.verifier.verifyRecord(token), false);
  assert.throws(
    () => keys.signer.sign(permitFor(clock), { typ: "JWT" as "at+jwt", claims: claimsAt(clock) }),
    TypeError,
  );
  assert.throws(() => keys.attestor.sign("JWT" as "ephor-head+jwt", CLAIMS), TypeError);
  // RS256 tokens of ours are signed by token keys all the same.
  const rsa = await world.replica({ algorithm: "RS256" });
  clock.advance(600);
  await rsa.tick();
  const own = read(signAt(rsa, clock));
  assert.equal(own.header.alg, "RS256");
  assert.ok((await identityRows(world)).every((row) => row.kid !== own.header.kid));
});

test("identity keys rotate like token keys: once over all replicas, after notice, and the old one stays published", async (t) => {
  const world = await keysWorld(t);
  const { clock } = world;
  const [one, two] = [await world.replica(), await world.replica()];
  const token = await identityToken(one, clock);
  const first = read(token).header.kid as string;
  const early = await one.rotate({ use: "identity" });
  assert.ok(!early.rotated && early.because === "too_soon");
  clock.advance(600);
  await Promise.all([one.reload(), two.reload()]);
  const outcomes = await Promise.all([one.rotate({ use: "identity" }), two.rotate({ use: "identity" })]);
  assert.equal(outcomes.filter((outcome) => outcome.rotated).length, 1);
  await Promise.all([one.reload(), two.reload()]);
  const fresh = claims(clock);
  const old = { ...fresh, iat: fresh.iat - 600, exp: fresh.exp - 600 };
  assert.deepEqual(read(token).payload, old);
  for (const keys of [one, two]) {
    const signed = await identityToken(keys, clock);
    assert.notEqual(read(signed).header.kid, first);
    await verifiedBy(keys, signed, clock);
    // Signed a moment before the rotation, it still counts at a cloud.
    assert.ok(keys.jwks().keys.some((key) => key.kid === first));
  }
  clock.advance(901);
  await one.reload();
  assert.ok(!one.jwks().keys.some((key) => key.kid === first));
  await assert.rejects(
    jwtVerify(token, createLocalJWKSet(one.jwks()), { currentDate: new Date(old.iat * 1000) }),
    errors.JWKSNoMatchingKey,
  );
});

test("tick rotates identity keys by the schedule of token keys", async (t) => {
  const world = await keysWorld(t);
  const keys = await world.replica();
  await keys.tick();
  const first = read(await identityToken(keys, world.clock)).header.kid;
  world.clock.advance(30 * 86_400 - 1);
  await keys.tick();
  assert.equal(read(await identityToken(keys, world.clock)).header.kid, first);
  world.clock.advance(1);
  await keys.tick();
  assert.notEqual(read(await identityToken(keys, world.clock)).header.kid, first);
});

function throwsUnavailable(work: () => unknown, reason: Reason): void {
  assert.throws(work, (error: unknown) => error instanceof TemporarilyUnavailableError && error.reason === reason);
}
