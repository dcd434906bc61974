import assert from "node:assert/strict";
import { test } from "node:test";
import type { TestContext } from "node:test";
import { eventRow } from "../../src/audit/event.ts";
import { createRegistry } from "../../src/registry/registry.ts";
import type { Registry } from "../../src/registry/registry.ts";
import { TrustRefusedError } from "../../src/registry/errors.ts";
import type { TrustRefusal } from "../../src/registry/errors.ts";
import { createDatabaseClock } from "../../src/system/clock.ts";
import { createLog } from "../../src/system/log.ts";
import { ulid } from "../../src/system/random.ts";
import { testDatabase } from "../support/database.ts";
import type { TestDatabase } from "../support/database.ts";
import { handClock } from "../support/hand-clock.ts";

const ISSUER_URL = "https://sts.acme.example";
const ROOT = { type: "operator", id: "key" } as const;

const FILE = `
issuers:
  ci: { url: "https://ci.example", audience: "https://sts.acme.example" }
agents:
  bot: { owner: dana@acme.example, trust: [{ issuer: ci, claims: { sub: bot } }] }
  helper: { owner: dana@acme.example, trust: [{ issuer: ci, claims: { sub: helper } }] }
resources:
  billing: { resource: "https://billing.example", actions: [read, refund] }
grants:
  - { agent: bot, resource: billing, actions: [read] }
  - { agent: bot, delegate_to: [helper] }
`;
const without = (line: string): string =>
  FILE.split("\n")
    .filter((text) => !text.includes(line))
    .join("\n");

interface World {
  readonly database: TestDatabase;
  /** Another replica's registry on the same database; `changed` is told what it took in. */
  replica(changed?: (keys: readonly string[], position: number) => void): Promise<Registry>;
  readonly registry: Registry;
}

async function world(t: TestContext): Promise<World> {
  const database = await testDatabase(t);
  const clock = createDatabaseClock(handClock(Date.UTC(2026, 11, 1) / 1000));
  const replica: World["replica"] = async (changed = () => {}) => {
    const made = createRegistry({
      changed,
      db: database.db,
      clock,
      log: createLog({ level: "silent" }),
      issuerUrl: ISSUER_URL,
      checkSettings: () => [],
      event: (draft, atMs) => eventRow(draft, { id: `evt_${ulid(atMs)}`, atMs, replica: "r1" }, { decision: "noted" }),
    });
    await made.load();
    return made;
  };
  return { database, replica, registry: await replica() };
}

const file = (text = FILE, source = "trust.yaml") => ({ source, text, actor: ROOT });

async function refusal(work: Promise<unknown>): Promise<TrustRefusal> {
  const error = await work.then(
    () => assert.fail("was not refused"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof TrustRefusedError, String(error));
  return error.code;
}

test("an apply makes its objects, raises the version and is recorded", async (t) => {
  const { registry, database } = await world(t);
  const before = registry.trust.version;
  const applied = await registry.apply(file());
  assert.equal(applied.outcome, "applied");
  assert.equal(registry.trust.version, before + 1);
  assert.equal(applied.version, registry.trust.version);
  assert.equal(registry.trust.agent("bot")?.owner, "dana@acme.example");
  assert.deepEqual(
    registry.trust.grantsOf("bot", "billing").map(({ name }) => name),
    ["bot-billing"],
  );
  const [event] = await database.admin<{ id: string; agent: string; body: string }>(
    "select id, agent, body from ephor.events where type = 'trust.apply'",
  );
  assert.equal(event?.id, applied.eventId);
  assert.equal(event?.agent, "operator:key");
  assert.deepEqual((JSON.parse(event?.body ?? "{}") as { created: string[] }).created.length, 6);
});

test("applying the same again, or a plan, changes nothing", async (t) => {
  const { registry } = await world(t);
  const plan = await registry.plan(file());
  assert.deepEqual([plan.changes.length, registry.trust.agent("bot")], [6, undefined]);
  const { version } = await registry.apply(file());
  const again = await registry.apply(file(`# a comment\n${FILE}`));
  assert.deepEqual([again.outcome, again.version, registry.trust.version], ["unchanged", version, version]);
});

test("another replica catches up by deltas, and a restarted one by loading", async (t) => {
  const { registry, replica } = await world(t);
  const other = await replica();
  const { version } = await registry.apply(file());
  assert.equal(other.trust.agent("bot"), undefined);
  await Promise.all([other.catchUp(version), other.catchUp(), other.catchUp(version)]);
  assert.equal(other.trust.version, version);
  assert.equal(other.trust.agent("bot")?.name, "bot");
  await registry.apply(file(without("bot, resource: billing")));
  await other.catchUp();
  assert.deepEqual(other.trust.grantsOf("bot", "billing"), []);
  assert.deepEqual((await replica()).trust.all(), registry.trust.all());
});

test("what a file no longer names is deleted; agents, issuers and resources die, and the same name may live again", async (t) => {
  const { registry, database } = await world(t);
  await registry.apply(file());
  await registry.apply(file(without("helper")));
  assert.equal(registry.trust.agent("helper"), undefined);
  assert.deepEqual(registry.trust.delegationsOf("bot"), []);
  const keys = await database.admin<{ key: string; active: boolean }>("select key, active from ephor.dead_keys");
  assert.deepEqual(keys, [{ key: "agent:helper", active: false }]);
  await registry.apply(file());
  assert.equal(registry.trust.agent("helper")?.name, "helper");
});

test("another replica is told whose releases to decide anew, with the position at which it read so", async (t) => {
  const { registry, replica, database } = await world(t);
  const told: { keys: string[]; position: number }[] = [];
  const other = await replica((keys, position) => told.push({ keys: keys.toSorted(), position }));
  const epoch = async (): Promise<number> =>
    Number((await database.admin<{ epoch: string }>("select epoch from ephor.gate"))[0]?.epoch);
  const steps = [
    // Nothing that was there before is less: no position is taken, and so nobody's permit is too old.
    { text: FILE, keys: ["agent:bot", "agent:helper", "issuer:ci", "resource:billing"], moves: 0 },
    { text: without("bot, resource: billing"), keys: ["agent:bot"], moves: 1 },
    { text: FILE, keys: ["agent:bot"], moves: 0 },
    { text: FILE.replace("[read, refund]", "[read]"), keys: ["resource:billing"], moves: 1 },
    { text: without("helper"), keys: ["agent:bot", "agent:helper", "resource:billing"], moves: 1 },
  ];
  for (const { text, keys, moves } of steps) {
    const before = await epoch();
    await registry.apply(file(text));
    await other.catchUp();
    assert.deepEqual(told.splice(0), [{ keys, position: before + moves }]);
    assert.equal(await epoch(), before + moves);
  }
});

test("a file with something wrong is refused as a whole, with file, line and column", async (t) => {
  const { registry } = await world(t);
  const text = `${FILE}  - { agent: nobody, resource: billing, actions: [read] }\n`;
  await assert.rejects(registry.apply(file(text)), (error: TrustRefusedError) => {
    assert.equal(error.code, "trust_invalid");
    assert.deepEqual(
      error.problems.map(({ file: name, line, key }) => [name, line, key]),
      [["trust.yaml", 12, "grants[2].agent"]],
    );
    return true;
  });
  assert.equal(registry.trust.agent("bot"), undefined);
});

test("a source owns only what it made", async (t) => {
  const { registry } = await world(t);
  await registry.apply(file());
  assert.equal(await refusal(registry.apply(file(FILE, "other.yaml"))), "trust_conflict");
  const owner = "issuers: { ci2: { url: https://ci2.example, audience: a } }";
  await registry.apply(file(owner, "other.yaml"));
  await registry.apply(file("issuers: {}", "other.yaml"));
  assert.equal(registry.trust.agent("bot")?.name, "bot");
  assert.equal(registry.trust.issuerByName("ci2"), undefined);
});

test("what another source still names cannot be removed", async (t) => {
  const { registry } = await world(t);
  await registry.apply(file());
  await registry.apply(
    file("grants: [{ name: extra, agent: helper, resource: billing, actions: [read] }]", "other.yaml"),
  );
  assert.equal(await refusal(registry.apply(file(without("helper")))), "trust_invalid");
  assert.equal(registry.trust.agent("helper")?.name, "helper");
});

test("at a start a file is applied once, or whenever it was not superseded", async (t) => {
  const { registry } = await world(t);
  const start = { source: "trust.yaml", text: FILE, actor: { type: "operator", id: "start" } } as const;
  assert.equal((await registry.applyAtStart(start, "first")).outcome, "applied");
  const newer = without("bot, resource: billing");
  await registry.apply(file(newer));
  assert.equal((await registry.applyAtStart(start, "first")).outcome, "skipped");
  assert.equal(await refusal(registry.applyAtStart(start, "every")), "trust_superseded");
  assert.equal((await registry.applyAtStart({ ...start, text: newer }, "every")).outcome, "unchanged");
  assert.deepEqual(registry.trust.grantsOf("bot", "billing"), []);
});

test("a status set by an operator holds whatever is applied, on every replica", async (t) => {
  const { registry, replica, database } = await world(t);
  await registry.apply(file());
  const done = await registry.setAgentStatus("bot", "suspended", { actor: ROOT, reason: "odd calls" });
  assert.equal(done.outcome, "applied");
  assert.equal((await registry.setAgentStatus("bot", "suspended", { actor: ROOT })).outcome, "unchanged");
  await registry.apply(file(FILE.replace("bot: { owner: dana", "bot: { owner: sam")));
  assert.deepEqual(
    [registry.trust.agent("bot")?.status, registry.trust.agent("bot")?.owner],
    ["suspended", "sam@acme.example"],
  );
  assert.equal((await replica()).trust.agent("bot")?.status, "suspended");
  await registry.setAgentStatus("bot", "active", { actor: ROOT });
  assert.equal(registry.trust.agent("bot")?.status, "active");
  assert.equal(await refusal(registry.setAgentStatus("nobody", "suspended", { actor: ROOT })), "trust_not_found");
  const rows = await database.admin("select 1 from ephor.events where type = 'agent.status'");
  assert.equal(rows.length, 2);
});

test("single objects are put, listed, read and removed under a source of their own", async (t) => {
  const { registry } = await world(t);
  await registry.apply(file());
  const body = { agent: "helper", resource: "billing", actions: ["read"] };
  const put = { kind: "grants", name: "mine", actor: ROOT } as const;
  assert.equal((await registry.put({ ...put, body: { name: "mine", ...body } })).outcome, "applied");
  assert.equal((await registry.put({ ...put, body })).outcome, "unchanged");
  assert.deepEqual(await registry.get("grants", "mine"), {
    kind: "grants",
    name: "mine",
    source: "api",
    body,
    version: registry.trust.version,
  });
  assert.deepEqual(
    (await registry.list("grants", { limit: 2 })).map(({ name }) => name),
    ["bot-billing", "bot-delegate"],
  );
  assert.deepEqual(
    (await registry.list("grants", { after: "bot-delegate" })).map(({ name }) => name),
    ["mine"],
  );
  await registry.remove(put);
  assert.equal(registry.trust.grantByName("mine"), undefined);
  assert.equal(await refusal(registry.remove(put)), "trust_not_found");
});

test("a single object of a file is neither put over nor removed, nor one that is malformed put", async (t) => {
  const { registry } = await world(t);
  await registry.apply(file());
  const at = { kind: "grants", name: "bot-billing", actor: ROOT } as const;
  assert.equal(await refusal(registry.remove(at)), "trust_conflict");
  assert.equal(
    await refusal(registry.put({ ...at, body: { agent: "bot", resource: "billing", actions: ["refund"] } })),
    "trust_conflict",
  );
  for (const body of [null, [], { agent: "bot" }, { name: "other", agent: "bot", delegate_to: ["helper"] }]) {
    assert.equal(await refusal(registry.put({ ...at, name: "mine", body })), "trust_invalid");
  }
  assert.equal(
    await refusal(registry.put({ ...at, name: "No", body: { agent: "bot", delegate_to: ["helper"] } })),
    "trust_invalid",
  );
});

test("an agent's apply cannot give it more", async (t) => {
  const { registry } = await world(t);
  await registry.apply(file());
  const actor = { type: "agent", name: "bot" } as const;
  const put = (name: string, body: object) => registry.put({ kind: "grants", name, actor, body });
  assert.equal(
    await refusal(put("mine", { agent: "bot", resource: "billing", actions: ["refund"] })),
    "trust_forbidden",
  );
  assert.equal(
    await refusal(put("mine", { agent: "helper", resource: "ephor", actions: ["kill"] })),
    "trust_forbidden",
  );
  assert.equal((await put("theirs", { agent: "helper", resource: "billing", actions: ["refund"] })).outcome, "applied");
});

test("a change that expected another version is refused, and racing changes are both made", async (t) => {
  const { registry, replica } = await world(t);
  const { version } = await registry.apply(file());
  assert.equal(
    await refusal(registry.apply({ ...file(without("delegate_to")), expectedVersion: version - 1 })),
    "trust_stale",
  );
  const other = await replica();
  const put = (where: Registry, name: string) =>
    where.put({ kind: "grants", name, actor: ROOT, body: { agent: "helper", resource: "billing", actions: ["read"] } });
  await Promise.all([put(registry, "one"), put(other, "two")]);
  await Promise.all([registry.catchUp(), other.catchUp()]);
  for (const { trust } of [registry, other]) {
    assert.equal(trust.version, version + 2);
    assert.deepEqual(
      trust
        .grantsOf("helper", "billing")
        .map(({ name }) => name)
        .toSorted(),
      ["one", "two"],
    );
  }
});

test("an object that cannot be read permits nothing and stops nothing", async (t) => {
  const { registry, replica, database } = await world(t);
  await registry.apply(file());
  await database.admin(
    `update ephor.trust_objects set body = '{"agent":"bot","resource":"billing","actions":["read"],"backdoor":true}' where name = 'bot-billing'`,
  );
  const { trust } = await replica();
  assert.deepEqual(trust.grantsOf("bot", "billing"), []);
  assert.equal(trust.delegationsOf("bot").length, 1);
});

test("the source of single objects cannot be taken by a file", async (t) => {
  const { registry } = await world(t);
  for (const source of ["api", "", "a\nb", "../".repeat(60)])
    assert.equal(await refusal(registry.apply(file(FILE, source))), "trust_invalid");
});
