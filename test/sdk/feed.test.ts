import assert from "node:assert/strict";
import { after, test } from "node:test";
import { createVerifier, RefusedError, type FeedProblem, type Verifier } from "../../src/sdk/verify.ts";
import { frameKey, signFrame, startFeedServer, type FeedServer } from "../support/feed-server.ts";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, settled, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const READ = { scope: "billing:read_invoice" } as const;
const credential = { name: "billing", secret: BILLING_SECRET } as const;
/** Seconds of silence that are borne where silence is what is tested. */
const BOUND = 2;
/** Where it is not: no machine is held up for so long. */
const PATIENT = { boundSeconds: 30 } as const;

const clock = runningClock();
const feed = await startFeedServer({ after });
const w = await world({ after }, { clock, env: { EPHOR_ISSUER: feed.url } });
feed.behind(w.url);

/** A frame that the server at its `seq` would sign now. */
const frame = (claims: Record<string, unknown>, key = feed.key): string => signFrame(key, claimsOf(claims));
const claimsOf = (claims: Record<string, unknown>): Record<string, unknown> => ({
  iss: feed.url,
  aud: BILLING,
  seq: 1,
  as_of: clock.nowMs() / 1000,
  next_by: clock.nowMs() / 1000 + 1,
  dead: [],
  ...claims,
});

/** A verifier on the feed whose server greets with a quiet frame. */
async function follow(more: object = {}): Promise<{ verifier: Verifier; problems: FeedProblem[] }> {
  const problems: FeedProblem[] = [];
  const verifier = createVerifier({
    issuer: feed.url,
    resource: BILLING,
    credential,
    boundSeconds: BOUND,
    clock,
    onProblem: (problem) => problems.push(problem),
    ...more,
  });
  after(() => verifier.close());
  return { verifier, problems };
}
const quiet = (server: FeedServer, seq = 1): void => server.greet(() => [frame({ seq })]);
const token = async (agent = "release-bot"): Promise<string> => {
  const answer = await settled(() => w.self(agent, { resource: BILLING, scope: READ.scope }));
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};
const outcome = (verifier: Verifier, text: string): Promise<string> =>
  verifier.verify(text, READ).then(
    () => "served",
    (error: unknown) => (error instanceof RefusedError ? `${error.status} ${error.reason}` : String(error)),
  );
/**
 * Asks until the answer is the wanted one.
 *
 * @returns how often, and when another answer was asked for last, in milliseconds from now: a machine that is held up asks
 * seldom, and none of that is in it
 */
async function until(verifier: Verifier, text: string, wanted: string): Promise<{ asked: number; lastMs: number }> {
  const start = performance.now();
  for (let [asked, lastMs] = [1, 0]; ; asked += 1) {
    const askedMs = performance.now() - start;
    const last = await outcome(verifier, text);
    if (last === wanted) return { asked, lastMs };
    assert.ok(askedMs < 15_000, `still ${last}, not ${wanted}`);
    lastMs = askedMs;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test("the request is for an event stream, with the resource's credential, and resumes at the last position verified", async () => {
  quiet(feed, 41);
  const before = feed.asked.length;
  const { verifier } = await follow(PATIENT);
  assert.equal(await verifier.ready(), true);
  const basic = `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}`;
  assert.deepEqual(feed.asked[before], { authorization: basic, accept: "text/event-stream", lastEventId: undefined });
  feed.cut();
  await feed.connected(before + 2);
  assert.equal(feed.asked[before + 1]?.lastEventId, "41");
  verifier.close();
});

test("a killed token is refused within a second of its frame, and others are served, without a request to the server", async () => {
  quiet(feed);
  const { verifier } = await follow(PATIENT);
  const [mine, other] = [await token(), await token()];
  const { jti } = JSON.parse(Buffer.from(mine.split(".")[1] ?? "", "base64url").toString()) as { jti: string };
  assert.equal(await outcome(verifier, mine), "served");
  const kill = await w.operator("POST", "/v1/kill", { jti, reason: "test" });
  assert.equal(kill.status, 200, kill.text);
  feed.send(frame({ seq: 2, dead: [{ jti }] }));
  // Ten milliseconds lie between two.
  const { asked } = await until(verifier, mine, "401 token_revoked");
  assert.ok(asked <= 100, `asked ${asked} times`);
  assert.equal(await outcome(verifier, other), "served");
  verifier.close();
});

test("agent, sub, txn and aud each cover what they name; iat_lte spares what was issued later", async () => {
  const mine = await token();
  const claims = JSON.parse(Buffer.from(mine.split(".")[1] ?? "", "base64url").toString()) as Record<string, number>;
  for (const [dead, wanted] of [
    [{ agent: "release-bot" }, "401 token_revoked"],
    [{ agent: "summary-bot" }, "served"],
    [{ sub: "agent|release-bot" }, "401 token_revoked"],
    [{ txn: claims["txn"] }, "401 token_revoked"],
    [{ aud: BILLING }, "401 token_revoked"],
    [{ agent: "release-bot", iat_lte: claims["iat"] }, "401 token_revoked"],
    [{ agent: "release-bot", iat_lte: (claims["iat"] ?? 0) - 1 }, "served"],
  ] as const) {
    feed.greet(() => [frame({ seq: 7, dead: [dead] })]);
    const { verifier } = await follow(PATIENT);
    assert.equal(await outcome(verifier, mine), wanted, JSON.stringify(dead));
    verifier.close();
  }
});

test("a kill that came while the stream was cut is known after it is resumed", async () => {
  quiet(feed);
  const { verifier } = await follow(PATIENT);
  const mine = await token();
  assert.equal(await outcome(verifier, mine), "served");
  feed.greet(() => [frame({ after: 1, seq: 2, dead: [{ agent: "release-bot" }] })]);
  feed.cut();
  await until(verifier, mine, "401 token_revoked");
  verifier.close();
});

test("silent beyond its bound, everything is refused with 503; heard again, it is served", async () => {
  quiet(feed);
  const mine = await token();
  const { verifier, problems } = await follow();
  assert.equal(await outcome(verifier, mine), "served");
  feed.cut(true);
  const { lastMs } = await until(verifier, mine, "503 feed_silent");
  assert.ok(lastMs <= BOUND * 1000, `${lastMs}`);
  assert.ok(problems.some(({ kind }) => kind === "refused" || kind === "unreachable"));
  feed.cut(false);
  await until(verifier, mine, "served");
  verifier.close();
});

test("a feed that was never heard refuses everything, after waiting for its bound once", async () => {
  feed.greet(() => []);
  const { verifier } = await follow();
  assert.equal(await outcome(verifier, await token()), "503 feed_silent");
  assert.equal(await verifier.ready(0), false);
  verifier.close();
});

test("with stale: introspect a silent feed costs a question at each request, and no killed token is served", async () => {
  feed.greet(() => []);
  const { verifier } = await follow({ stale: "introspect" });
  const mine = await token("release-bot");
  assert.equal(await outcome(verifier, mine), "served");
  const { txn } = JSON.parse(Buffer.from(mine.split(".")[1] ?? "", "base64url").toString()) as { txn: string };
  assert.equal((await w.operator("POST", "/v1/kill", { txn, reason: "test" })).status, 200);
  assert.equal(await outcome(verifier, mine), "401 token_revoked");
  verifier.close();
});

test("frames that are forged, of another kind, for another resource or not understood count as silence", async () => {
  const mine = await token();
  const stranger = frameKey(feed.key.kid);
  const good = claimsOf({});
  const bad: Record<string, () => string> = {
    "another key under the same kid": () => frame({}, stranger),
    "an access token": () => mine,
    "a receipt": () => signFrame(feed.key, claimsOf({}), { typ: "ephor-receipt+jwt" }),
    "alg none": () => signFrame(feed.key, claimsOf({}), { alg: "none" }),
    "another resource": () => frame({ aud: "https://ledger.acme.example" }),
    "another issuer": () => frame({ iss: "https://sts.acme.example" }),
    "an unknown kind of dead": () => frame({ dead: [{ lease: "l" }] }),
    "two names in one entry": () => frame({ dead: [{ agent: "a", sub: "b" }] }),
    "no list of dead": () => frame({ dead: undefined }),
    "an after that is none": () => frame({ after: -1 }),
    "changed after it was signed": () => {
      const [header, , signature] = signFrame(feed.key, good).split(".");
      const payload = Buffer.from(JSON.stringify({ ...good, seq: 9 })).toString("base64url");
      return `${header}.${payload}.${signature}`;
    },
    "from the future": () => frame({ as_of: clock.nowMs() / 1000 + 60 }),
    "out of date": () => frame({ as_of: Math.floor(clock.nowMs() / 1000) - BOUND - 2 }),
    "a hole before it": () => frame({ after: 5, seq: 6 }),
  };
  for (const [name, make] of Object.entries(bad)) {
    feed.greet(() => [make()]);
    const { verifier, problems } = await follow();
    const isToldApart = name !== "out of date";
    await waitFor(() => !isToldApart || problems.some(({ kind }) => kind === "frame"), name);
    assert.equal(await verifier.ready(100), false, name);
    verifier.close();
  }
  quiet(feed);
  const { verifier } = await follow(PATIENT);
  assert.equal(await outcome(verifier, mine), "served");
  verifier.close();
});

test("replayed frames count as silence, however many come", async () => {
  const mine = await token();
  const recorded = frame({ seq: 3 });
  feed.greet(() => [recorded]);
  const { verifier } = await follow();
  assert.equal(await outcome(verifier, mine), "served");
  // By a wall clock that was set back, what was recorded looks younger than it is.
  clock.jumpWall(-3);
  const replay = setInterval(() => feed.send(recorded), 50);
  try {
    assert.ok((await until(verifier, mine, "503 feed_silent")).lastMs <= BOUND * 1000);
  } finally {
    clock.jumpWall(3);
    clearInterval(replay);
  }
  verifier.close();
});

test("frames out of order are not believed: everything is asked for anew, and the kill in the late one is not lost", async () => {
  quiet(feed, 1);
  const { verifier, problems } = await follow(PATIENT);
  const mine = await token();
  assert.equal(await outcome(verifier, mine), "served");
  const before = feed.asked.length;
  const [second, third] = [
    (): string => frame({ seq: 2, dead: [{ agent: "release-bot" }] }),
    (): string => frame({ seq: 3 }),
  ];
  feed.greet(() => [second(), third()]);
  feed.send(third());
  feed.send(second());
  await until(verifier, mine, "401 token_revoked");
  assert.ok(problems.some(({ kind }) => kind === "frame"));
  assert.deepEqual([feed.asked.length > before, feed.asked[before]?.lastEventId], [true, undefined]);
  verifier.close();
});

test("a process that was stopped refuses when it goes on, until it has heard the feed again", async () => {
  quiet(feed);
  const mine = await token();
  const { verifier } = await follow();
  assert.equal(await outcome(verifier, mine), "served");
  // Stopped: time goes on, nothing is read.
  clock.advance(10);
  assert.equal(await outcome(verifier, mine), "503 feed_silent");
  verifier.close();
});

test("a wall clock that is set back keeps no feed fresh", async () => {
  quiet(feed);
  const mine = await token();
  const { verifier } = await follow();
  assert.equal(await outcome(verifier, mine), "served");
  feed.cut(true);
  clock.jumpWall(-1);
  try {
    assert.ok((await until(verifier, mine, "503 feed_silent")).lastMs <= BOUND * 1000);
  } finally {
    clock.jumpWall(1);
    feed.cut(false);
  }
  verifier.close();
});

async function waitFor(isDone: () => boolean, name: string): Promise<void> {
  const start = performance.now();
  while (!isDone()) {
    if (performance.now() - start > 10_000) assert.fail(name);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
