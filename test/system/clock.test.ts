import assert from "node:assert/strict";
import { test } from "node:test";
import { createDatabaseClock, systemClock } from "../../src/system/clock.ts";
import { handClock } from "../support/hand-clock.ts";

test("before the first observation the database clock equals this machine's and has no skew", () => {
  const hand = handClock(1_000);
  const clock = createDatabaseClock(hand);
  hand.advance(1.9);
  assert.equal(clock.now(), 1_001);
  assert.equal(clock.nowMs(), 1_001_900);
  assert.equal(clock.skewMs(), 0);
});

test("after an observation it follows the database, taking the middle of the round trip", () => {
  const hand = handClock(1_000);
  const clock = createDatabaseClock(hand);
  const sent = hand.monotonicMs();
  hand.advance(0.2);
  clock.observe(2_000_000, sent, hand.monotonicMs());
  assert.equal(clock.nowMs(), 2_000_100);
  hand.advance(10);
  assert.equal(clock.now(), 2_010);
});

test("skew is the distance of the wall clock from the database, in either direction", () => {
  const hand = handClock(1_000);
  const clock = createDatabaseClock(hand);
  clock.observe(1_006_000, hand.monotonicMs(), hand.monotonicMs());
  assert.equal(clock.skewMs(), 6_000);
  hand.jumpWall(12);
  assert.equal(clock.skewMs(), 6_000);
});

test("INV-25 a jump of the wall clock moves no token's time", () => {
  const hand = handClock(1_000);
  const clock = createDatabaseClock(hand);
  clock.observe(1_000_000, hand.monotonicMs(), hand.monotonicMs());
  hand.jumpWall(-3_600);
  assert.equal(clock.now(), 1_000);
});

test("the system clock's monotonic time does not go back", () => {
  const clock = systemClock();
  const first = clock.monotonicMs();
  assert.ok(clock.monotonicMs() >= first);
});
