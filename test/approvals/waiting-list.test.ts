import assert from "node:assert/strict";
import { test } from "node:test";
import { createWaiting, type Waiting, type WaitingCall } from "../../src/approvals/waiting.ts";
import { createStreams, type Streams } from "../../src/authz/streams.ts";
import type { TrustIndex } from "../../src/core/trust/compiled.ts";
import type { Db } from "../../src/db/database.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { createMetrics } from "../../src/system/metrics.ts";
import { handClock } from "../support/hand-clock.ts";
import { until } from "../proxy/stage.ts";

interface Row {
  readonly n: number;
  readonly state: string;
  readonly dead: boolean;
  readonly content: unknown;
}

const CONTENT = { path: [], resource: "crm", trust: { owners: [], resource: null, grants: [] } };

/** A list whose looks are answered by a test. */
function list(answer: (asked: { approval: string }[]) => Promise<Partial<Row>[]>): {
  waiting: Waiting;
  streams: Streams;
  looks: number[];
  clock: ReturnType<typeof handClock>;
} {
  const clock = handClock();
  const looks: number[] = [];
  const query = async (_sql: string, [, asked]: readonly unknown[] = []): Promise<unknown[]> => {
    const calls = JSON.parse(String(asked)) as { approval: string }[];
    looks.push(calls.length);
    const rows = await answer(calls);
    return rows.map((row, i) => ({ n: i + 1, state: "pending", dead: false, content: CONTENT, ...row }));
  };
  const streams = createStreams({ now: clock.seconds, mayRelease: () => true });
  const trust = (): TrustIndex => ({ resourceByName: () => undefined }) as unknown as TrustIndex;
  const log = createLog({ level: "error" });
  const db = { query } as unknown as Db;
  return {
    waiting: createWaiting({
      db,
      clock: createDatabaseClock(clock),
      trust,
      streams,
      log,
      metrics: createMetrics({ version: "0" }),
    }),
    streams,
    looks,
    clock,
  };
}

const call = (clock: { seconds(): number }, o: Partial<WaitingCall> = {}): WaitingCall => ({
  approval: "apr_1",
  expiresAt: clock.seconds() + 600,
  until: clock.seconds() + 40,
  keys: ["agent:release-bot"],
  epochs: [null],
  names: [],
  whenGone: () => {},
  ...o,
});

const unanswered = (): Promise<never> => new Promise(() => {});
const pending = async (asked: unknown[]): Promise<Partial<Row>[]> => asked.map(() => ({}));

test("a kill ends a wait by itself, also while the database does not answer", async () => {
  const { waiting, streams, clock } = list(unanswered);
  const ended = waiting.ended(call(clock));
  streams.struck(new Map([["agent:somebody-else", 7]]));
  assert.equal(waiting.size, 1);
  streams.struck(new Map([["agent:release-bot", 7]]));
  assert.equal(await ended, "killed");
  assert.equal(waiting.size, 0);
});

test("a kill that was there before the wait began is seen by the first look; so are a decision and a lapse", async () => {
  for (const [row, how] of [
    [{ dead: true, state: "approved" }, "killed"],
    [{ state: "approved" }, "moved"],
    [{ state: "denied" }, "moved"],
    [{ state: "void" }, "moved"],
    [{ state: "expired" }, "expired"],
  ] as const) {
    const { waiting, clock } = list(async () => [row]);
    assert.equal(await waiting.ended(call(clock)), how);
  }
});

test("all waiting calls of a replica cost one query a second, and one for each announcement", async () => {
  const { waiting, looks, clock } = list(pending);
  const ended = Array.from({ length: 200 }, () => waiting.ended(call(clock)));
  await until(() => looks.length >= 2, "the first looks");
  assert.deepEqual(looks.slice(0, 2), [1, 200], "what came while the first was read is read together");
  const before = looks.length;
  waiting.heard("apr_1");
  assert.equal(looks.length, before + 1, "a look for what was announced");
  await until(() => looks.length > before + 1, "a look of its own");
  waiting.close();
  assert.deepEqual([...new Set(await Promise.all(ended))], ["closing"]);
  assert.equal(await waiting.ended(call(clock)), "closing", "and nobody waits after it");
});

test("beyond a thousand a call does not wait; one whose time is over, or that was called off, does neither", async () => {
  const { waiting, clock } = list(pending);
  const now = clock.seconds();
  assert.equal(await waiting.ended(call(clock, { until: now })), "time");
  assert.equal(await waiting.ended(call(clock, { expiresAt: now })), "expired");
  let leave = (): void => {};
  const left = waiting.ended(call(clock, { whenGone: (gone) => (leave = gone) }));
  leave();
  assert.equal(await left, "gone");
  const named = waiting.ended(call(clock, { names: ["mine"] }));
  waiting.heard("end theirs");
  assert.equal(waiting.size, 1);
  waiting.heard("end mine");
  assert.equal(await named, "gone");
  const many = Array.from({ length: 1_000 }, () => waiting.ended(call(clock)));
  assert.equal(await waiting.ended(call(clock)), "time");
  assert.equal(waiting.size, 1_000);
  waiting.close();
  await Promise.all(many);
});
