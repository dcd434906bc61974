import assert from "node:assert/strict";
import { test } from "node:test";
import { auditPage, type AuditEvent, type AuditQuery } from "../../src/api/audit.ts";
import { exportEvents } from "../../src/audit/export.ts";
import { queryEvents } from "../../src/audit/query.ts";
import { InvalidRequestError } from "../../src/core/oauth/errors.ts";
import { ask, ledgerWorld, START, type LedgerWorld } from "./ledger-world.ts";

/** Six events, two seconds apart: four grants, a refusal, a note. */
async function filled(world: LedgerWorld): Promise<void> {
  const gate = world.gate("r1");
  const recorder = world.recorder("r1");
  const later = async (work: () => Promise<unknown>): Promise<void> => {
    await work();
    world.hand.advance(2);
  };
  await later(() => gate.submit(ask({ txn: "t1", jti: "j1" })));
  await later(() => gate.submit(ask({ agent: "ops-bot", txn: "t2", jti: "j2", sub: "okta|dana" })));
  await later(() =>
    recorder.refused(
      { type: "token.issue", agent: "ops-bot", txn: "t2", resource: "billing", facts: { scope: "a:b" } },
      "scope_not_granted",
    ),
  );
  await later(() => gate.submit(ask({ txn: "t3" })));
  await later(() => recorder.noted({ type: "audit.read", agent: "operator:dana", facts: {} }));
  await later(() =>
    gate.submit(ask({ txn: "t4", event: { type: "task.open", agent: "triage-bot", txn: "t4", facts: {} } })),
  );
}

const ids = (events: readonly AuditEvent[]): string[] =>
  events.map((event) => `${event.type} ${event.txn ?? "-"} ${event.decision}`);
const isInvalid = (error: unknown): boolean =>
  error instanceof InvalidRequestError && error.reason === "parameter_invalid";

async function linesOf(generator: AsyncGenerator<string>): Promise<Record<string, unknown>[]> {
  const lines: string[] = [];
  for await (const line of generator) lines.push(line);
  for (const line of lines) assert.match(line, /^[^\n]+\n$/);
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

test("GET /v1/audit answers events newest first, in the wire shape", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  const page = auditPage.parse(await queryEvents(world.db, {}));
  assert.deepEqual(ids(page.events), [
    "task.open t4 granted",
    "audit.read - noted",
    "token.issue t3 granted",
    "token.issue t2 refused",
    "token.issue t2 granted",
    "token.issue t1 granted",
  ]);
  assert.equal(page.next, undefined);
  assert.equal(page.events.at(-1)?.at, new Date(START * 1000).toISOString());
  assert.equal(page.events.at(-1)?.body["purpose"], "pay the bills");
});

test("each filter selects by its own column, and several select together", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  const cases: [AuditQuery, number][] = [
    [{ txn: "t2" }, 2],
    [{ agent: "ops-bot" }, 2],
    [{ sub: "okta|dana" }, 1],
    [{ jti: "j1" }, 1],
    [{ trace: "4bf92f3577b34da6a3ce929d0e0e4736" }, 3],
    [{ resource: "billing" }, 4],
    [{ type: "audit.read" }, 1],
    [{ decision: "refused" }, 1],
    [{ reason: "scope_not_granted" }, 1],
    [{ agent: "ops-bot", decision: "granted" }, 1],
    [{ agent: "nobody" }, 0],
    [{ since: START + 4 }, 4],
    [{ until: START + 4 }, 2],
    [{ since: START + 2, until: START + 4 }, 1],
    [{ agent: "' or 1=1 --" }, 0],
  ];
  for (const [query, count] of cases) {
    assert.equal((await queryEvents(world.db, query)).events.length, count, JSON.stringify(query));
  }
});

test("pages neither repeat nor skip, also while events are added", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  const seen: string[] = [];
  let after: string | undefined;
  for (;;) {
    const page = await queryEvents(world.db, { limit: 4, ...(after !== undefined && { after }) });
    seen.push(...page.events.map((event) => event.id));
    await world.gate(`extra-${seen.length}`).submit(ask());
    if (page.next === undefined) break;
    after = page.next;
  }
  assert.equal(seen.length, 6);
  assert.deepEqual(seen, [...new Set(seen)].sort().reverse());
});

test("a cursor, time or limit that is none is parameter_invalid", async (t) => {
  const world = await ledgerWorld(t);
  const bad: AuditQuery[] = [
    { after: "evt_1" },
    { after: "evt_81ARZ3NDEKTSV4RRFFQ69G5FAV" },
    { after: "evt_01ARZ3NDEKTSV4RRFFQ69G5FAV' or true" },
    { after: "01ARZ3NDEKTSV4RRFFQ69G5FAV" },
    { since: -1 },
    { since: 1.5 },
    { until: Number.NaN },
    { until: 2 ** 50 },
    { limit: 0 },
    { limit: 1_001 },
  ];
  for (const query of bad) await assert.rejects(queryEvents(world.db, query), isInvalid, JSON.stringify(query));
  assert.throws(() => exportEvents(world.db, { since: -1 }), isInvalid);
});

test("GET /v1/audit/export gives one line an event, oldest first, with the exact text that was hashed", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  const lines = await linesOf(exportEvents(world.db, {}));
  const stored = await world.admin<{ id: string; body: string }>("select id, body from ephor.events order by id");
  assert.deepEqual(
    lines.map((line) => [line["id"], line["body"]]),
    stored.map((row) => [row.id, row.body]),
  );
  assert.equal((await linesOf(exportEvents(world.db, { txn: "t2" }))).length, 2);
});

test("an export longer than a page has every event once, and none that came after its start", async (t) => {
  const world = await ledgerWorld(t);
  await world.admin(
    `insert into ephor.events (stream, seq, id, at_ms, type, decision, body)
     select 'r1.notes.1', n, 'evt_01' || lpad(n::text, 24, '0'), 0, 'audit.read', 'noted', '{}' from generate_series(1, 1234) n`,
  );
  let count = 0;
  for await (const line of exportEvents(world.db, {})) {
    count += 1;
    assert.equal((JSON.parse(line) as { seq: number }).seq, count);
    if (count === 1) await world.gate("r1").submit(ask());
  }
  assert.equal(count, 1234);
});

test("an export that its reader leaves gives its connection back", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  for (let round = 0; round < 20; round++) {
    for await (const line of exportEvents(world.db, {})) {
      assert.ok(line);
      break;
    }
  }
  assert.equal((await world.db.query("select 1")).length, 1);
});

test("?format=ocsf: a token is Authentication 3002, anything else API Activity 6003, with what the classes require", async (t) => {
  const world = await ledgerWorld(t);
  await filled(world);
  const lines = await linesOf(exportEvents(world.db, { format: "ocsf" }));
  const [token, , refused, , note, task] = lines;
  assert.deepEqual(
    lines.map((line) => line["class_uid"]),
    [3002, 3002, 3002, 3002, 6003, 6003],
  );
  for (const line of lines) {
    const activity = line["activity_id"] as number;
    assert.equal(line["type_uid"], (line["class_uid"] as number) * 100 + activity);
    for (const member of ["category_uid", "time", "severity_id", "metadata", "actor", "src_endpoint"])
      assert.ok(line[member], member);
    assert.ok(line["class_uid"] === 3002 ? line["user"] && line["service"] : line["api"]);
  }
  assert.deepEqual(
    [token?.["status_id"], refused?.["status_id"], refused?.["status_detail"]],
    [1, 2, "scope_not_granted"],
  );
  assert.deepEqual([note?.["activity_id"], task?.["activity_id"]], [2, 1]);
  assert.equal(token?.["time"], START * 1000);
});
