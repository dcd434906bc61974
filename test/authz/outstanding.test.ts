import assert from "node:assert/strict";
import { test } from "node:test";
import { createOutstanding } from "../../src/authz/outstanding.ts";
import { Permit } from "../../src/core/permit.ts";

const at = { now: 0 };
const permit = (): Permit =>
  new Permit({ action: "token.issue", target: "a", actor: "bot", eventId: "evt_1", lapsesAtMs: at.now + 1_000 });
const struck = (entries: Record<string, number>): Map<string, number> => new Map(Object.entries(entries));
const BOT = { keys: ["all", "agent:bot"], epoch: 5 };

test("a kill drops the permits that it covers, spent or not, and no others", () => {
  at.now = 0;
  const outstanding = createOutstanding(() => at.now);
  const [covered, spent, other, later] = [permit(), permit(), permit(), permit()];
  assert.equal(spent.spend(at.now), true);
  outstanding.add(covered, BOT);
  outstanding.add(spent, BOT);
  outstanding.add(other, { keys: ["all", "agent:other"], epoch: 5 });
  outstanding.add(later, { ...BOT, epoch: 6 });
  outstanding.struck(struck({ "agent:bot": 6 }));
  assert.deepEqual(
    [covered, spent, other, later].map((one) => one.isLive(at.now)),
    [false, false, true, true],
  );
  assert.equal(covered.spend(at.now), false);
});

test("a grant that comes in after the news of a kill, and was decided before it, is dropped (INV-09)", () => {
  at.now = 0;
  const outstanding = createOutstanding(() => at.now);
  outstanding.struck(struck({ "agent:bot": 6 }));
  const [before, after] = [permit(), permit()];
  outstanding.add(before, BOT);
  outstanding.add(after, { ...BOT, epoch: 6 });
  assert.deepEqual([before.isLive(at.now), after.isLive(at.now)], [false, true]);
});

test("permits and kills are remembered for at least as long as a permit lives, and not for ever", () => {
  at.now = 0;
  const outstanding = createOutstanding(() => at.now);
  at.now = 1_499;
  const early = permit();
  outstanding.add(early, BOT);
  at.now = 1_600;
  outstanding.struck(struck({ "agent:x": 7 }));
  at.now = 2_499;
  outstanding.struck(struck({ "agent:bot": 8 }));
  assert.equal(early.isLive(at.now), false);
  at.now = 3_499;
  const late = permit();
  outstanding.add(late, BOT);
  assert.equal(late.isLive(at.now), false, "the kill of a second ago is still known");
  const { strikes } = outstanding;
  outstanding.struck(struck({ all: 9 }));
  assert.equal(outstanding.strikes, strikes + 1);
});
