import assert from "node:assert/strict";
import { test } from "node:test";
import { readTraceparent } from "../../../src/core/oauth/traceparent.ts";

const TRACE = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT = "00f067aa0ba902b7";

test("a traceparent is read (W3C Trace Context §3.2)", () => {
  assert.deepEqual(readTraceparent(`00-${TRACE}-${PARENT}-01`), { traceId: TRACE, parentId: PARENT, isSampled: true });
  assert.equal(readTraceparent(`00-${TRACE}-${PARENT}-00`)?.isSampled, false);
});

test("a later version is read by its first fields (W3C Trace Context §4.3)", () => {
  assert.equal(readTraceparent(`cc-${TRACE}-${PARENT}-01-what-the-future-brings`)?.traceId, TRACE);
  assert.equal(readTraceparent(`cc-${TRACE}-${PARENT}-01`)?.traceId, TRACE);
  assert.equal(readTraceparent(`cc-${TRACE}-${PARENT}-01.x`), undefined);
});

test("an invalid one is as none", () => {
  for (const value of [
    undefined,
    "",
    `ff-${TRACE}-${PARENT}-01`,
    `00-${TRACE}-${PARENT}-01-`,
    `00-${TRACE}-${PARENT}-01-x`,
    `00-${TRACE}-${PARENT}-1`,
    `00-${TRACE.toUpperCase()}-${PARENT}-01`,
    `00-${"0".repeat(32)}-${PARENT}-01`,
    `00-${TRACE}-${"0".repeat(16)}-01`,
    ` 00-${TRACE}-${PARENT}-01`,
    `00-${TRACE}-${PARENT}-01\n`,
    `00-${TRACE}-${PARENT}-0g`,
    `cc-${TRACE}-${PARENT}-01-${"x".repeat(300)}`,
  ]) {
    assert.equal(readTraceparent(value), undefined, value);
  }
});
