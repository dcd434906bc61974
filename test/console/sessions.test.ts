import assert from "node:assert/strict";
import { after, test } from "node:test";
import { makeOperatorKey, operatorKeyHash } from "../../src/operators/operator-key.ts";
import { eventsOf, until } from "../proxy/stage.ts";
import { consoleStage, FORM, FROM_US } from "./console-stage.ts";

const s = await consoleStage({ after });
const { w } = s;

const rows = async (): Promise<number> =>
  (await w.admin<{ n: number }>("select count(*)::int as n from ephor.sessions"))[0]?.n ?? -1;
const isIn = async (b: ReturnType<typeof s.browser>): Promise<boolean> => (await b.get("/console/you")).status === 200;

test("A-ADM-04 the cookie is HttpOnly, strict, of this host and path, and new at each sign-in; what was there before is worth nothing", async () => {
  const b = s.browser();
  b.jar.set("ephor", "A".repeat(43));
  const answer = await b.post("/console/sign-in", { key: w.operatorKey });
  assert.equal(answer.status, 303);
  const [line = ""] = answer.headers["set-cookie"] ?? [];
  // The issuer of this world is http on loopback: neither `Secure` nor `__Host-` can be had there.
  assert.match(line, /^ephor=[A-Za-z0-9_-]{43}; Path=\/; HttpOnly; SameSite=Strict$/);
  const first = b.jar.get("ephor") ?? "";
  assert.notEqual(first, "A".repeat(43));
  await b.signIn(w.operatorKey);
  const second = b.jar.get("ephor") ?? "";
  assert.notEqual(second, first);
  const old = s.browser();
  old.jar.set("ephor", first);
  assert.equal(await isIn(old), false, "the session that the browser held ended with the new one");
  assert.equal(await isIn(b), true);
  const stored = JSON.stringify(await w.admin("select * from ephor.sessions"));
  assert.ok(!stored.includes(second) && !stored.includes(w.operatorKey), "INV-15 the database holds digests only");
  assert.ok(!w.lines.join("").includes(second) && !w.lines.join("").includes(w.operatorKey));
});

test("A-ADM-04 one session ends, or all of them, at the next request everywhere; signing out needs its proof too", async () => {
  const another = await w.replica();
  const [b, c] = [s.browser(), s.browser(another.url)];
  await b.signIn(w.operatorKey);
  await c.signIn(w.operatorKey);
  assert.equal(
    (await b.send("POST", "/console/sign-out", { headers: { "content-type": FORM, ...FROM_US }, body: "" })).status,
    403,
  );
  assert.equal((await b.get("/console/sign-out")).status, 405);
  assert.equal(await isIn(b), true);
  const held = b.jar.get("ephor") ?? "";
  const out = await b.post("/console/sign-out");
  assert.deepEqual([out.status, out.headers.location], [303, "/console/sign-in"]);
  assert.equal(b.jar.size, 0);
  b.jar.set("ephor", held);
  assert.equal(await isIn(b), false);
  assert.equal(await isIn(c), true);
  await b.signIn(w.operatorKey);
  await b.get("/console/you");
  assert.equal((await b.post("/console/sign-out", { which: "all" })).status, 303);
  assert.equal(await isIn(c), false);
  assert.equal((await eventsOf(w, "operator.sign_out")).length, 2);
});

test("A-ADM-04 a session ends half an hour after its last use, and eight hours after its beginning however busy", async () => {
  const b = s.browser();
  await b.signIn(w.operatorKey);
  w.clock.advance(1_799);
  assert.equal(await isIn(b), true);
  w.clock.advance(1_799);
  assert.equal(await isIn(b), true);
  w.clock.advance(1_801);
  assert.equal(await isIn(b), false);
  await b.signIn(w.operatorKey);
  for (let at = 0; at < 8 * 3_600 - 1_200; at += 1_200) {
    assert.equal(await isIn(b), true, String(at));
    w.clock.advance(1_200);
  }
  assert.equal(await isIn(b), true);
  w.clock.advance(1_201);
  assert.equal(await isIn(b), false);
});

test("A-ADM-04 a replaced or disabled operator key ends its sessions at the next request, and a form sent with one decides nothing", async () => {
  const b = s.browser();
  const { csrf } = await b.signIn(w.operatorKey);
  const next = makeOperatorKey().use((bytes) => Buffer.from(bytes).toString());
  await w.admin("update ephor.operators set key_hash = $1 where id = 'operator'", [operatorKeyHash(next)]);
  assert.equal(await isIn(b), false);
  const late = await b.post("/console/approvals/apr_01J0000000000000000000000A", {
    csrf,
    decision: "approve",
    reason: "x",
  });
  assert.equal(late.status, 403);
  assert.match(late.text, /signed out/);
  const fresh = s.browser();
  await fresh.signIn(next);
  await w.admin("update ephor.operators set disabled_at = 1 where id = 'operator'");
  assert.equal(await isIn(fresh), false);
  await w.admin("update ephor.operators set key_hash = $1, disabled_at = null where id = 'operator'", [
    operatorKeyHash(w.operatorKey),
  ]);
  assert.equal(await isIn(fresh), false, "the key that opened it is not the one that works");
});

test("a cookie that stands twice, or is none of ours, is nobody; one key has twenty sessions, the newest", async () => {
  const b = s.browser();
  await b.signIn(w.operatorKey);
  const held = b.jar.get("ephor") ?? "";
  for (const cookie of [
    `ephor=${held}; ephor=${held}`,
    `ephor=${"A".repeat(43)}; ephor=${held}`,
    `ephor=${held}x`,
    `ephor=${held.slice(1)}`,
    `EPHOR=${held}`,
    `__Host-ephor=${held}`,
    "ephor=",
    `ephor="${held}"`,
  ])
    assert.equal((await b.send("GET", "/console/you", { headers: { cookie } })).status, 303, cookie.slice(0, 12));
  assert.equal((await b.send("GET", "/console/you", { headers: { cookie: `other=1; ephor=${held}` } })).status, 200);
  for (let i = 0; i < 20; i++) {
    w.clock.advance(1);
    await s.browser().signIn(w.operatorKey);
  }
  assert.equal(await isIn(b), false);
  assert.equal(await rows(), 20);
});

test("A-ADM-08 wrong keys are refused alike and recorded; after ten within a minute from one place even a right one waits, elsewhere and later not", async () => {
  const from = (address: string) => ({ "x-forwarded-for": address });
  const b = s.browser();
  const wrong = async (): Promise<number> => (await w.events({ reason: "operator_key_wrong", limit: "100" })).length;
  const before = await wrong();
  const variants = [
    "",
    " ",
    "x",
    `${w.operatorKey}x`,
    w.operatorKey.toUpperCase(),
    w.operatorKey.slice(0, -1),
    "ephor_op_",
    "Bearer x",
    "\u00e9",
    "ephor_op_" + "A".repeat(43),
  ];
  for (const key of variants) {
    const answer = await b.post("/console/sign-in", { key });
    assert.equal(answer.status, 403, key.slice(0, 12));
    assert.match(answer.text, /does not open this console/);
    assert.ok(key.length < 12 || !answer.text.includes(key), "what was typed is not shown again");
  }
  // It is written beside the answer.
  await until(async () => (await wrong()) > before, "a refusal on record");
  const held = await b.post("/console/sign-in", { key: w.operatorKey }, from("192.0.2.7"));
  assert.equal(held.status, 429, "a stranger's X-Forwarded-For is not believed");
  assert.match(held.text, /Wait a minute/);
  assert.equal((await w.operator("GET", "/v1/approvals")).status, 200, "the API is not held up");
  w.clock.advance(60);
  // A hundred at once are counted before any is judged.
  const crowd = await Promise.all(Array.from({ length: 100 }, () => b.post("/console/sign-in", { key: "ephor_op_x" })));
  assert.equal(crowd.filter(({ status }) => status === 403).length, 10);
  assert.equal(crowd.filter(({ status }) => status === 429).length, 90);
  w.clock.advance(60);
  for (let i = 0; i < 15; i++) await s.browser().signIn(w.operatorKey);
  // A line end that came with the clipboard is no part of the key.
  assert.equal((await s.browser().post("/console/sign-in", { key: ` ${w.operatorKey}\r\n` })).status, 303);
});

test("A-ADM-10 after signing in one comes to a page of ours, or to the start page", async () => {
  const wanted: readonly (readonly [string, string])[] = [
    ["/console/approvals/apr_01J0000000000000000000000A", "/console/approvals/apr_01J0000000000000000000000A"],
    ["/console/approvals", "/console/approvals"],
    ["/console", "/console"],
    ["//evil.example", "/console"],
    ["/\\evil.example", "/console"],
    ["https:evil.example", "/console"],
    ["https://evil.example/console", "/console"],
    ["/console//evil.example", "/console"],
    ["/console/..", "/console"],
    ["/console/%2e%2e/v1", "/console"],
    ["/console\r\nSet-Cookie: a=b", "/console"],
    ["/consoleevil", "/console"],
    ["/v1/kill", "/console"],
    ["javascript:alert(1)", "/console"],
    ["/console/sign-out", "/console"],
    ["/console/approvals?status=all", "/console"],
    ["\t/console", "/console"],
    ["", "/console"],
  ];
  for (const [next, location] of wanted) {
    w.clock.advance(60);
    const b = s.browser();
    const done = await b.post("/console/sign-in", { key: w.operatorKey, next });
    assert.deepEqual([done.status, done.headers.location], [303, location], next);
    const already = await b.get(`/console/sign-in?next=${encodeURIComponent(next)}`);
    assert.deepEqual([already.status, already.headers.location], [303, location], next);
    const page = await s.browser().get(`/console/sign-in?next=${encodeURIComponent(next)}`);
    assert.equal(page.status, 200);
    assert.ok(!page.text.includes("evil"), next);
  }
});
