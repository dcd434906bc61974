/** One resource's credential cannot take the feed away from the others, whose verifiers would refuse everything then. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Gauge, Registry } from "prom-client";
import { TemporarilyUnavailableError } from "../../src/core/oauth/errors.ts";
import type { Db } from "../../src/db/database.ts";
import { createFeed, type Audience } from "../../src/revocation/feed.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { handClock } from "../support/hand-clock.ts";

/** Half of the 2,000 that a replica has. */
const EACH = 1_000;
const audience = (name: string): Audience => ({ name, identifier: `https://${name}.acme.example` });

test("one resource has half of a replica's places in the feed, and what it gives back is there for the next", async (t) => {
  const ended = new AbortController();
  const registry = new Registry();
  const feedReaders = new Gauge({ name: "readers", help: "-", registers: [registry] });
  // The position of kills is all that is asked of the database here.
  const db = { query: () => Promise.resolve([{ epoch: 1 }]) } as unknown as Db;
  const feed = createFeed({
    db,
    clock: createDatabaseClock(handClock()),
    log: createLog({ level: "silent" }),
    metrics: { feedReaders },
  });
  t.after(() => feed.close());
  const follow = async (name: string, signal = ended.signal): Promise<AsyncGenerator> => {
    const frames = feed.frames(audience(name), 1, signal);
    assert.equal((await frames.next()).done, false);
    return frames;
  };
  const isFull = (name: string): Promise<void> =>
    assert.rejects(
      follow(name),
      (error) => error instanceof TemporarilyUnavailableError && error.reason === "overloaded",
    );

  const [first] = await Promise.all(Array.from({ length: EACH }, () => follow("billing")));
  await isFull("billing");
  await follow("ledger");
  assert.equal((await feedReaders.get()).values[0]?.value, EACH + 1);

  await first?.return(undefined);
  await follow("billing");
  await isFull("billing");

  await Promise.all(Array.from({ length: EACH - 1 }, () => follow("ledger")));
  await isFull("orders");
});
