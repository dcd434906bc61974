/** Whoever answers a kill has cut what it relays itself by then, whether it hears its own announcement or not. */
import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { after, test, type TestContext } from "node:test";
import { isCut, soon, stage, until } from "../proxy/stage.ts";
import { holdLock } from "../support/held-lock.ts";

const { w, crm, token } = await stage({ after });
await w.apply(
  `
resources:
  gone: { http: "${crm.url}/api", actions: { read: ["GET /**"] } }
grants:
  - { agent: release-bot, resource: gone, actions: [read] }
`,
  "gone.yaml",
);

/** An answer that flows, while this replica is held up in acknowledging an earlier kill. */
async function flowing(t: TestContext, resource = "crm") {
  let upstream: ServerResponse | undefined;
  crm.answer = (_req, res) => {
    upstream = res;
    res.writeHead(200);
    res.write("begun");
  };
  const access = await token(`${resource}:read`, { resource: `http/${resource}` });
  const response = await fetch(`${w.url}/http/${resource}/contacts/7`, {
    headers: { authorization: `Bearer ${access}` },
  });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  const read = async (): Promise<string> => new TextDecoder().decode((await soon(reader.read(), "what flows")).value);
  assert.equal(await read(), "begun");
  const lock = await holdLock(w.databaseUrl, "select 1 from ephor.replicas for update");
  t.after(() => lock.release());
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "watch-bot", reason: "test" })).status, 200);
  // Not its beat: it must have one left for as long as this test takes.
  await until(
    async () =>
      (await w.admin("select 1 from pg_stat_activity where wait_event_type = 'Lock' and query like '%ephor.heard(%'"))
        .length > 0,
    "its acknowledgement waits",
  );
  return { reader, read, says: (text: string) => void upstream?.write(text), release: lock.release };
}

test("CONTRACT §2 rule 7 a kill has cut what flows through the replica that answers it, also while that hears of no kill", async (t) => {
  const { reader, says, release } = await flowing(t);
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" })).status, 200);
  says("late");
  await isCut(reader.read());
  await release();
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" })).status, 200);
});

test("what a kill does not cover flows on meanwhile", async (t) => {
  const { read, says, release } = await flowing(t);
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "lonely-bot", reason: "test" })).status, 200);
  says("more");
  assert.equal(await read(), "more");
  await release();
});

test("CONTRACT §2 rule 7 so has an apply that removes its resource", async (t) => {
  const { reader, says, release } = await flowing(t, "gone");
  await w.apply("resources: {}\n", "gone.yaml");
  says("late");
  await isCut(reader.read());
  await release();
});
