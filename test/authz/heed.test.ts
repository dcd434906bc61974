import assert from "node:assert/strict";
import { test } from "node:test";
import { createHeed } from "../../src/authz/heed.ts";
import { createOutstanding } from "../../src/authz/outstanding.ts";
import { createStreams } from "../../src/authz/streams.ts";
import { testDatabase } from "../support/database.ts";

test("a replica acknowledges a position when it has taken in the trust of that moment, and not before", async (t) => {
  const { db, admin } = await testDatabase(t);
  await admin("insert into ephor.replicas (id, started_at_ms, beat_at_ms, version) values ('r', 0, 0, '0')");
  await admin("update ephor.gate set epoch = 7, trust_version = 5");
  const heard = async (): Promise<number> =>
    Number((await admin<{ heard: string }>("select heard from ephor.replicas where id = 'r'"))[0]?.heard);
  const streams = createStreams({ now: () => 0, mayRelease: () => true });
  const heed = createHeed({ db, replica: "r", outstanding: createOutstanding(() => 0), streams });
  await heed.catchUp();
  assert.equal(await heard(), 7);

  const asked: number[] = [];
  let arrived = (): void => {};
  const isAsked = new Promise<void>((resolve) => (arrived = resolve));
  let takenIn = (): void => {};
  const isTakenIn = new Promise<void>((resolve) => (takenIn = resolve));
  heed.follow(async (version) => {
    asked.push(version);
    arrived();
    await isTakenIn;
  });
  await admin("update ephor.gate set epoch = 8, trust_version = 6");
  const catchingUp = heed.catchUp(8);
  await isAsked;
  assert.deepEqual(asked, [6]);
  assert.equal(await heard(), 7);
  takenIn();
  await catchingUp;
  assert.equal(await heard(), 8);

  heed.follow(() => Promise.reject(new Error("unreachable")));
  await admin("update ephor.gate set epoch = 9, trust_version = 7");
  await assert.rejects(heed.catchUp(9));
  assert.equal(await heard(), 8);
});
