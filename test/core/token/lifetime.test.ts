import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { lifetimeSeconds, readTtl } from "../../../src/core/token/lifetime.ts";

const NOW = 1795312800;
const base = { issuedAt: NOW, taskDeadline: NOW + 3600 };

test("INV-01 no input makes a token live longer than 59 s, or past the task, the grant or what was asked", () => {
  const seconds = fc.option(fc.integer({ min: -5, max: 100_000 }), { nil: undefined });
  const arbitrary = fc.record({
    asked: seconds,
    grantTtl: seconds,
    until: seconds,
    task: fc.integer({ min: -5, max: 100_000 }),
  });
  fc.assert(
    fc.property(arbitrary, ({ asked, grantTtl, until, task }) => {
      let life: number;
      try {
        life = lifetimeSeconds({
          issuedAt: NOW,
          taskDeadline: NOW + task,
          ...(asked === undefined ? {} : { asked }),
          ...(grantTtl === undefined ? {} : { grantTtl }),
          ...(until === undefined ? {} : { until: NOW + until }),
        });
      } catch (error) {
        const { reason } = error as { reason: string };
        assert.ok(["ttl_out_of_range", "task_expired", "grant_expired"].includes(reason), String(error));
        return;
      }
      const bounds = [59, asked ?? 45, grantTtl ?? 59, until ?? 59, task];
      assert.equal(life, Math.min(...bounds));
      assert.ok(Number.isInteger(life) && life >= 1 && life <= 59);
    }),
    { numRuns: 2000 },
  );
});

test("45 s by default, what is asked otherwise, and the least of all bounds", () => {
  assert.equal(lifetimeSeconds(base), 45);
  assert.equal(lifetimeSeconds({ ...base, asked: 59 }), 59);
  assert.equal(lifetimeSeconds({ ...base, asked: 1 }), 1);
  assert.equal(lifetimeSeconds({ ...base, grantTtl: 20 }), 20);
  assert.equal(lifetimeSeconds({ ...base, asked: 10, grantTtl: 20 }), 10);
  assert.equal(lifetimeSeconds({ ...base, until: NOW + 7 }), 7);
  assert.equal(lifetimeSeconds({ ...base, taskDeadline: NOW + 1 }), 1);
  assert.equal(lifetimeSeconds({ ...base, grantTtl: 600 }), 45);
});

test("A-CHN-01 nothing is left when the task or the grant ends now", () => {
  assert.throws(() => lifetimeSeconds({ ...base, taskDeadline: NOW }), {
    code: "invalid_request",
    reason: "task_expired",
  });
  assert.throws(() => lifetimeSeconds({ ...base, until: NOW }), { code: "invalid_scope", reason: "grant_expired" });
  assert.throws(() => lifetimeSeconds({ ...base, grantTtl: 0 }), { code: "invalid_scope", reason: "grant_expired" });
  assert.throws(() => lifetimeSeconds({ ...base, taskDeadline: Number.NaN }), { reason: "task_expired" });
});

test("a ttl of 60, 0, a fraction or anything else is refused, not shortened", () => {
  for (const asked of [60, 0, -1, 1.5, Number.NaN, Infinity]) {
    assert.throws(() => lifetimeSeconds({ ...base, asked }), { code: "invalid_request", reason: "ttl_out_of_range" });
  }
});

test("the ttl parameter is plain digits", () => {
  assert.equal(readTtl(undefined), undefined);
  assert.equal(readTtl("59"), 59);
  assert.equal(readTtl("1"), 1);
  for (const text of ["60", "0", "00", "01", "+5", " 5", "5 ", "5s", "1e1", "0x10", "5.0", "-1", "١", "999999999999"]) {
    assert.throws(() => readTtl(text), { code: "invalid_request", reason: "ttl_out_of_range" }, text);
  }
});
