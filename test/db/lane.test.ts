import assert from "node:assert/strict";
import { test, type TestContext } from "node:test";
import { createLane, type Lane } from "../../src/db/lane.ts";

/** A lane whose batches are kept. Its patience ends when the test says so: a machine that is held up ends it as well. */
function lane(t: TestContext): Lane<number, number> & { readonly batches: (readonly number[])[] } {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const batches: (readonly number[])[] = [];
  const made = createLane(async (rows: readonly number[]) => {
    batches.push(rows);
    return rows.map((row) => -row);
  });
  return { ...made, batches };
}

const turns = async (n: number): Promise<void> => {
  for (let i = 0; i < n; i++) await new Promise<void>((resolve) => setImmediate(resolve));
};

test("rows that nobody waits for go together, and along with the first one that somebody waits for", async (t) => {
  const { submit, batches } = lane(t);
  const soon = [submit(1, "soon"), submit(2, "soon")];
  await turns(2);
  assert.deepEqual(batches, []);
  assert.equal(await submit(3), -3);
  assert.deepEqual(batches, [[1, 2, 3]]);
  assert.deepEqual(await Promise.all(soon), [-1, -2]);
});

test("without anybody they go by themselves; who waits for all that was handed in does not wait for that", async (t) => {
  const { submit, idle, batches } = lane(t);
  const first = submit(1, "soon");
  await turns(2);
  t.mock.timers.tick(19);
  await turns(2);
  assert.deepEqual(batches, []);
  t.mock.timers.tick(1);
  assert.equal(await first, -1);
  const second = submit(2, "soon");
  await turns(1);
  await idle();
  assert.deepEqual(batches, [[1], [2]]);
  assert.equal(await second, -2);
});

test("a whole batch waits for nothing", async (t) => {
  const { submit, batches } = lane(t);
  const rows = Array.from({ length: 64 }, (_, i) => submit(i + 1, "soon"));
  await turns(2);
  assert.equal(batches[0]?.length, 64);
  await Promise.all(rows);
});
