import assert from "node:assert/strict";
import { test } from "node:test";
import { CliFailure } from "../../src/cli/exit-code.ts";
import { readMoment, shownInstant } from "../../src/cli/moments.ts";

const NOW = 1_795_348_800.9;

test("a moment is a span back from now, a date, an instant, or seconds since the epoch", () => {
  assert.equal(readMoment("90s", "--since", NOW), 1_795_348_710);
  assert.equal(readMoment("15m", "--since", NOW), 1_795_348_800 - 900);
  assert.equal(readMoment("7d", "--since", NOW), 1_795_348_800 - 604_800);
  assert.equal(readMoment("2026-11-22", "--since", NOW), 1_795_305_600);
  assert.equal(readMoment("2026-11-22T12:00:00Z", "--since", NOW), 1_795_348_800);
  assert.equal(readMoment("2026-11-22T13:00:00+01:00", "--since", NOW), 1_795_348_800);
  assert.equal(readMoment("1795348800", "--since", NOW), 1_795_348_800);
});

test("anything else is wrong usage", () => {
  for (const text of ["", "yesterday", "7w", "7 d", "-1d", "2026-13-01", "2026-11-22T12:00:00", "1e9", "0x10"]) {
    assert.throws(
      () => readMoment(text, "--since", NOW),
      (error) => error instanceof CliFailure && error.exitCode === 2,
      text,
    );
  }
});

test("instants are shown in UTC, to the second", () => {
  assert.equal(shownInstant(1_795_348_800), "2026-11-22T12:00:00Z");
});
