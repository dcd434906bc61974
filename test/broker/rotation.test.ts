/** Rotation of a database login at a real PostgreSQL, whatever fails on the way. `test/broker/rotation-crash.test.ts` kills processes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { secretRotated } from "../../src/api/secrets.ts";
import { ephor } from "../cli/command-line.ts";
import { placeOf } from "./providers/postgres-stage.ts";
import {
  first,
  holdUpstream,
  group,
  letsIn,
  login,
  NAMES,
  rotate,
  second,
  set,
  storedVerifier,
  told,
  until,
  upstreamUrl,
  vend,
  versionOf,
  w,
  waiting,
  wire,
} from "./rotation-stage.ts";

test("CONTRACT §7 a rotated login: the old password is refused, nobody sees the new one, and vending goes on", async () => {
  const before = await storedVerifier("calm");
  const answer = await rotate("calm");
  assert.equal(answer.status, 200, answer.text);
  const rotated = secretRotated.parse(answer.body);
  assert.deepEqual([rotated.resource, rotated.secret.version], ["calm-db", 2]);
  assert.notEqual(await storedVerifier("calm"), before);
  assert.match((await storedVerifier("calm")) ?? "", /^SCRAM-SHA-256\$/);
  assert.equal(await letsIn("calm", first.calm), false);
  const vended = await vend("calm");
  assert.equal(vended.status, 200, vended.text);
  assert.equal((await vend("calm", second.url)).status, 200);
  assert.deepEqual(await told("calm"), ["granted asked", "noted rotated"]);
  assert.equal((await rotate("calm")).status, 200);
  assert.equal(await versionOf("calm"), 3);
  assert.equal((await vend("calm")).status, 200);
});

test("a secret that is a URL stays one, with everything else in it", async () => {
  const { database } = placeOf(upstreamUrl);
  await set("url", `postgres://${login("url")}:${encodeURIComponent(first.url)}@db.example:5432/${database}?a=b\n`);
  assert.equal((await rotate("url")).status, 200);
  assert.equal(await letsIn("url", first.url), false);
  assert.equal((await vend("url")).status, 200);
});

test("vends at two replicas while a login is rotated again and again all succeed", async (t) => {
  const agents = [w.url, second.url, w.url, second.url].map((url) => ({ url, states: [] as number[] }));
  let isOver = false;
  t.after(() => (isOver = true));
  const vends = agents.map(async ({ url, states }) => {
    while (!isOver) states.push((await vend("busy", url)).status);
  });
  for (const url of [w.url, second.url, w.url, second.url]) {
    assert.equal((await rotate("busy", url)).status, 200);
    // A vend is made once more, not twice: those that this rotation met are over before the next.
    const met = agents.map(({ states }) => states.length);
    await until("the end of each vend", async () => agents.every(({ states }, at) => states.length > (met[at] ?? 0)));
  }
  isOver = true;
  await Promise.all(vends);
  assert.deepEqual(new Set(agents.flatMap(({ states }) => states)), new Set([200]));
  const both = await Promise.all([rotate("busy"), rotate("busy", second.url)]);
  assert.deepEqual(
    both.map(({ status }) => status),
    [200, 200],
  );
  assert.equal(await versionOf("busy"), 7);
});

test("a new password that cannot be proved is taken back: the old one is let in, and counts", async () => {
  // The session that changes it is the only one that this login may have.
  await w.admin(`alter role ${login("full")} connection limit 1`);
  const answer = await rotate("full");
  assert.equal(answer.status, 503, answer.text);
  assert.equal(answer.body["code"], "temporarily_unavailable");
  assert.deepEqual([await versionOf("full"), await letsIn("full", first.full)], [1, true]);
  assert.deepEqual(await waiting("full"), []);
  assert.deepEqual(await told("full"), [
    "granted asked",
    "noted as it was unavailable 53300",
    "noted failed unavailable 53300",
  ]);
  assert.equal((await vend("full")).status, 200);
  await w.admin(`alter role ${login("full")} connection limit -1`);
  assert.equal((await rotate("full")).status, 200);
  // The version that was given up is not given again.
  assert.deepEqual([await versionOf("full"), await letsIn("full", first.full)], [3, false]);
});

test("a login without the right to change itself is refused, and as it was", async () => {
  await w.admin(`alter role ${login("tied")} set role = '${group}'`);
  const answer = await rotate("tied");
  assert.equal(answer.status, 422, answer.text);
  assert.match(String(answer.body["detail"]), /^tied-db did not take a new one \(order_refused, 42501\)$/);
  assert.deepEqual([await versionOf("tied"), await letsIn("tied", first.tied)], [1, true]);
  assert.deepEqual(await waiting("tied"), []);
});

test("a wire that is cut after the change and before its answer: the vend that is refused finds the new password", async (t) => {
  t.after(() => wire.restore());
  const before = await storedVerifier("cut");
  // Not `read committed`.
  wire.muteFrom("commit\0");
  const rotating = rotate("cut");
  await until("the change", async () => (await storedVerifier("cut")) !== before);
  wire.cut();
  const answer = await rotating;
  assert.equal(answer.status, 503, answer.text);
  assert.equal((await waiting("cut")).length, 1);
  assert.deepEqual([await versionOf("cut"), await letsIn("cut", first.cut)], [1, false]);
  wire.restore();
  const [here, there] = await Promise.all([vend("cut"), vend("cut", second.url)]);
  assert.deepEqual([here.status, there.status], [200, 200], here.text + there.text);
  assert.deepEqual(await waiting("cut"), []);
  assert.equal(await versionOf("cut"), 2);
  // Of two replicas whose clocks stand still, the ids tell no order. One of the two vends settled it.
  assert.deepEqual((await told("cut")).sort(), [
    "granted asked",
    "granted left_behind",
    "noted failed unreachable",
    "noted rotated",
  ]);
});

test("a wire that is cut before the change: the next rotation drops what waited and makes its own", async (t) => {
  t.after(() => wire.restore());
  wire.muteFrom("alter role session_user");
  const rotating = rotate("early");
  await until("the statement", async () => {
    const rows = await w.admin(
      "select 1 from pg_stat_activity where usename = $1 and query like 'alter role session%'",
      [login("early")],
    );
    return rows.length === 1;
  });
  wire.cut();
  const cut = await rotating;
  assert.equal(cut.status, 503, cut.text);
  assert.equal((await waiting("early")).length, 1);
  wire.restore();
  assert.equal(await letsIn("early", first.early), true);
  assert.equal((await vend("early")).status, 200);
  const again = await rotate("early");
  assert.equal(again.status, 200, again.text);
  assert.deepEqual([await versionOf("early"), await letsIn("early", first.early)], [3, false]);
  assert.equal((await vend("early")).status, 200);
});

test("a value that is set while a rotation is under way counts, and the upstream is as it was", async () => {
  const held = await holdUpstream();
  const rotating = rotate("race");
  await held.waiting(1);
  await set("race", JSON.stringify({ username: login("race"), password: first.race, note: "set by hand" }));
  await held.release();
  const answer = await rotating;
  assert.equal(answer.status, 409, answer.text);
  assert.equal(await letsIn("race", first.race), true);
  assert.equal(await versionOf("race"), 3);
  assert.deepEqual(await waiting("race"), []);
  assert.equal((await vend("race")).status, 200);
});

test("what was left behind is settled by itself, and a login is rotated when its time has come and not before", async (t) => {
  t.after(() => wire.restore());
  const before = await storedVerifier("left");
  wire.muteFrom("commit\0");
  const rotating = rotate("left");
  await until("the change", async () => (await storedVerifier("left")) !== before);
  wire.cut();
  assert.equal((await rotating).status, 503);
  wire.restore();
  assert.equal((await waiting("left")).length, 1);
  assert.equal(await versionOf("due"), 1);
  w.clock.advance(3_601);
  await until("the end of what waited", async () => (await waiting("left")).length === 0);
  await until("the rotation", async () => (await versionOf("due")) !== 1);
  assert.deepEqual([await versionOf("left"), await letsIn("left", first.left)], [2, false]);
  assert.deepEqual([await versionOf("due"), await letsIn("due", first.due)], [2, false]);
  assert.deepEqual([await versionOf("young"), await letsIn("young", first.young)], [1, true]);
  assert.equal((await vend("left")).status, 200);
  assert.equal((await vend("due")).status, 200);
  const { body } = await w.operator("GET", "/v1/secrets/due-admin");
  assert.equal(body["updated_by"], "ephor");
});

test("ephor secret rotate NAME says the version, never a value; exit codes as everywhere", async () => {
  const env = { EPHOR_URL: w.url, EPHOR_OPERATOR_KEY: w.operatorKey };
  const ran = await ephor(["secret", "rotate", "cli-admin"], env);
  assert.equal(ran.code, 0, ran.talk);
  assert.match(ran.out + ran.talk, /^cli-admin is replaced at cli-db, version 2, fingerprint \S{22}\n$/);
  const json = await ephor(["secret", "rotate", "cli-admin", "--json"], env);
  assert.equal(secretRotated.parse(JSON.parse(json.out)).secret.version, 3);
  const unknown = await ephor(["secret", "rotate", "nothing"], env);
  assert.notEqual(unknown.code, 0);
});

test("A-SEC no password, old or new, nor its verifier is in the log, the ledger or the database", async () => {
  const rows = await w.admin<{ text: string }>(
    `select string_agg(body, ' ') as text from ephor.events
     union all select string_agg(v::text, ' ') from ephor.secret_versions v
     union all select string_agg(l::text, ' ') from ephor.leases l`,
  );
  const everything = [...w.lines, ...rows.map(({ text }) => text)].join("\n");
  assert.ok(everything.includes("rotation_failed"));
  for (const name of NAMES) assert.ok(!everything.includes(first[name]), name);
  for (const name of NAMES) assert.ok(!everything.includes((await storedVerifier(name)) ?? "-"), name);
  assert.ok(!everything.includes("SCRAM-SHA-256"));
});
