import assert from "node:assert/strict";
import { test } from "node:test";
import { MAX_LIFETIME_SECONDS } from "../../src/core/token/lifetime.ts";
import {
  activeAndNext,
  isPublished,
  isRotationDue,
  readyAtMs,
  RETIRED_VERIFIES_SECONDS,
  RING_LIMITS,
  type RingKey,
  verifies,
} from "../../src/keys/key-ring.ts";

const t0 = 1_795_348_800_000;
const day = 86_400;

function key(facts: Partial<RingKey> & { algorithm?: string } = {}): RingKey & { algorithm: string } {
  return {
    kid: "k",
    use: "token",
    status: "active",
    createdAtMs: t0,
    activatedAtMs: t0,
    retiredAtMs: null,
    algorithm: "ES256",
    ...facts,
  };
}

test("INV-23 a retired token key verifies until the last token it can have signed has expired, and not a moment longer", () => {
  const retired = key({ status: "retired", retiredAtMs: t0 });
  assert.ok(RETIRED_VERIFIES_SECONDS >= MAX_LIFETIME_SECONDS + RING_LIMITS.staleSeconds);
  assert.equal(verifies(retired, t0 + RETIRED_VERIFIES_SECONDS * 1000 - 1), true);
  assert.equal(verifies(retired, t0 + RETIRED_VERIFIES_SECONDS * 1000), false);
});

test("a retired token key stays published at least 15 minutes, after it verifies nothing", () => {
  const retired = key({ status: "retired", retiredAtMs: t0 });
  assert.equal(isPublished(retired, t0 + 900_000 - 1), true);
  assert.equal(isPublished(retired, t0 + 900_000), false);
});

test("a key that was withdrawn verifies nothing and is published no more", () => {
  const withdrawn = key({ status: "retired", retiredAtMs: 0 });
  assert.equal(verifies(withdrawn, t0), false);
  assert.equal(isPublished(withdrawn, t0), false);
});

test("a retired key without a time of retirement verifies nothing", () => {
  assert.equal(verifies(key({ status: "retired", retiredAtMs: null }), t0), false);
});

test("active and next keys verify and are published", () => {
  for (const status of ["active", "next"] as const) {
    assert.equal(verifies(key({ status }), t0 + 1e12), true);
    assert.equal(isPublished(key({ status }), t0 + 1e12), true);
  }
});

test("a record key verifies and is published for ever", () => {
  const record = key({ use: "record", status: "retired", retiredAtMs: t0 });
  assert.equal(verifies(record, t0 + 1e12), true);
  assert.equal(isPublished(record, t0 + 1e12), true);
});

test("A-SEC-06 a next key signs at the earliest ten minutes after it was made", () => {
  const next = key({ status: "next", createdAtMs: t0 });
  assert.equal(readyAtMs(next), t0 + 600_000);
});

test("rotation is due when the active key is as old as the schedule says, not before", () => {
  const pair = { active: key(), next: key({ kid: "n", status: "next" }) };
  const plan = { everySeconds: 30 * day, algorithm: "ES256" };
  assert.equal(isRotationDue(pair, { ...plan, nowMs: t0 + 30 * day * 1000 - 1 }), false);
  assert.equal(isRotationDue(pair, { ...plan, nowMs: t0 + 30 * day * 1000 }), true);
});

test("rotation is not due while the next key is not published long enough", () => {
  const made = t0 + 30 * day * 1000;
  const pair = { active: key(), next: key({ kid: "n", status: "next", createdAtMs: made }) };
  const plan = { everySeconds: 30 * day, algorithm: "ES256" };
  assert.equal(isRotationDue(pair, { ...plan, nowMs: made + 599_999 }), false);
  assert.equal(isRotationDue(pair, { ...plan, nowMs: made + 600_000 }), true);
});

test("another configured algorithm makes rotation due once the next key is of it", () => {
  const plan = { everySeconds: 30 * day, algorithm: "RS256", nowMs: t0 + 600_000 };
  assert.equal(isRotationDue({ active: key(), next: key({ status: "next", algorithm: "RS256" }) }, plan), true);
  assert.equal(isRotationDue({ active: key(), next: key({ status: "next" }) }, plan), false);
  assert.equal(
    isRotationDue({ active: key({ algorithm: "RS256" }), next: key({ status: "next", algorithm: "RS256" }) }, plan),
    false,
  );
});

test("the active and the next key of one use are found among keys of both", () => {
  const keys = [
    key({ kid: "r", use: "record" }),
    key({ kid: "rn", use: "record", status: "next" }),
    key({ kid: "old", status: "retired", retiredAtMs: t0 }),
    key({ kid: "a" }),
  ];
  assert.equal(activeAndNext(keys, "token"), undefined);
  const pair = activeAndNext([...keys, key({ kid: "n", status: "next" })], "token");
  assert.deepEqual([pair?.active.kid, pair?.next.kid], ["a", "n"]);
});
