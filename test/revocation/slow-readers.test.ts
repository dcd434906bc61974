import assert from "node:assert/strict";
import { subscribe } from "node:diagnostics_channel";
import { get, type IncomingMessage } from "node:http";
import type { Socket } from "node:net";
import { after, test } from "node:test";
import { createLocalJWKSet, decodeJwt, jwtVerify, type JSONWebKeySet } from "jose";
import { BILLING_SECRET, usualTrust, world } from "../support/world.ts";

/** A kill is answered, and told to whoever reads, within this, in real ms (A-KILL-06; the feed's second, and one to spare). */
const SOON_MS = 2_000;
/** Longest wait for anything, in real ms. */
const WAIT_MS = 10_000;
/** Tokens that one kill of an owner hits: each is named, so that a frame has some 200 kB. */
const TOKENS = 4_000;
/** Kills that fill what lies between two sockets on any machine: some megabytes. */
const MAX_KILLS = 100;
const BILLING = "https://billing.acme.example";
const LONG = "x".repeat(500);
const SLOW = `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}`;

const w = await world({ after }, { trust: usualTrust, start: Math.floor(Date.now() / 1_000) });
const recordKeys = (await w.request("GET", "/.well-known/ephor-record-keys")).body as unknown as JSONWebKeySet;

/** The server's side of each reader's connection, by the reader's name. */
const served = new Map<string, Socket>();
subscribe("http.server.request.start", (message) => {
  const { request, socket } = message as { request: IncomingMessage; socket: Socket };
  const name = request.headers["user-agent"];
  if (name !== undefined && request.url?.startsWith("/v1/revocations") === true) served.set(name, socket);
});

interface Frame {
  readonly seq: number;
  readonly after: number;
  readonly dead: readonly Record<string, unknown>[];
  /** As it came. */
  readonly bytes: number;
}

/** Follows the feed, and reads its socket when a frame is asked for and at no other time. */
interface Reader {
  /** The next frame, verified; undefined when the connection ended. */
  next(): Promise<Frame | undefined>;
  /** Frames up to the one that tells of this position, and how long that took in real ms. */
  upTo(seq: number): Promise<{ frames: readonly Frame[]; ms: number }>;
  /** Bytes that the server holds for it. */
  held(): number;
  readonly connection: Socket;
  stop(): void;
}

async function follow(name: string, place?: number): Promise<Reader> {
  const headers = {
    authorization: SLOW,
    accept: "text/event-stream",
    "user-agent": name,
    ...(place !== undefined && { "last-event-id": String(place) }),
  };
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    get(`${w.url}/v1/revocations`, { agent: false, headers }, resolve).on("error", reject);
  });
  assert.equal(response.statusCode, 200);
  after(() => response.destroy());
  const chunks = response[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const connection = served.get(name);
  assert.ok(connection, "the server's side of it");
  let text = "";
  const reader: Reader = {
    connection,
    held: () => connection.writableLength,
    stop: () => response.destroy(),
    async next() {
      while (!text.includes("\n\n")) {
        const chunk = await inTime(chunks.next(), "a frame").catch((error: unknown) => {
          if ((error as NodeJS.ErrnoException).code === "ECONNRESET") return { done: true as const, value: undefined };
          throw error;
        });
        if (chunk.done === true) return undefined;
        text += chunk.value.toString("latin1");
      }
      const end = text.indexOf("\n\n");
      const jws = /^data: (.+)$/m.exec(text.slice(0, end))?.[1] ?? "";
      text = text.slice(end + 2);
      const { payload } = await jwtVerify(jws, createLocalJWKSet(recordKeys), {
        typ: "ephor-feed+jwt",
        audience: BILLING,
        currentDate: new Date(w.clock.nowMs()),
      });
      return { ...(payload as unknown as Frame), bytes: end + 2 };
    },
    async upTo(seq) {
      const before = performance.now();
      const frames: Frame[] = [];
      while ((frames.at(-1)?.seq ?? 0) < seq) {
        const frame = await reader.next();
        assert.ok(frame, "the feed ended");
        frames.push(frame);
      }
      return { frames, ms: performance.now() - before };
    },
  };
  return reader;
}

async function inTime<T>(work: Promise<T>, what: string): Promise<T> {
  let late: NodeJS.Timeout | undefined;
  const over = new Promise<never>((_, reject) => {
    late = setTimeout(() => reject(new assert.AssertionError({ message: `${what}: in vain` })), WAIT_MS);
  });
  return await Promise.race([work, over]).finally(() => clearTimeout(late));
}
async function until(isSo: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + WAIT_MS;
  while (!(await isSo())) {
    assert.ok(performance.now() < deadline, `${what}: in vain`);
    await new Promise((resolve) => setTimeout(resolve, 15));
  }
}

async function readers(): Promise<number> {
  const headers = { authorization: `Bearer ${w.operatorKey}` };
  const { text } = await w.request("GET", "/metrics", { headers });
  return Number(/^ephor_feed_readers (\d+)$/m.exec(text)?.[1]);
}

/** @returns its position, and how long the answer took in real ms */
async function kill(what: object): Promise<{ seq: number; ms: number }> {
  const before = performance.now();
  const answer = await w.operator("POST", "/v1/kill", { reason: LONG, ...what });
  const ms = performance.now() - before;
  assert.equal(answer.status, 200, answer.text);
  const [row] = await w.admin<{ position: string }>("select position from ephor.kills where id = $1", [
    answer.body["id"],
  ]);
  return { seq: Number(row?.position), ms };
}
/** Names every live token of the owner's agents. */
const killOwner = (): Promise<{ seq: number; ms: number }> => kill({ owner: "dana@acme.example" });

async function chain(): Promise<{ txn: string; jti: string }> {
  const answer = await w.post("/token", {
    grant_type: "client_credentials",
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
    client_assertion: w.privateKeyJwt(),
    resource: BILLING,
    scope: "billing:read_invoice",
  });
  assert.equal(answer.status, 200, answer.text);
  return decodeJwt(String(answer.body["access_token"])) as { txn: string; jti: string };
}

/** Copies of a real token's row: what a busy hour has. */
async function crowd(): Promise<void> {
  const restored = await w.operator("POST", "/v1/restore", { owner: "dana@acme.example", reason: "test" });
  assert.equal(restored.status, 200, restored.text);
  const answer = await w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice" });
  assert.equal(answer.status, 200, answer.text);
  await w.admin(
    `insert into ephor.hops (jti, txn, node, kind, actor, aud, scopes, iat, exp, jkt, kill_keys, kill_epochs)
     select lpad(i::text, 26, '0'), txn, node, kind, actor, aud, scopes, iat, exp, jkt, kill_keys, kill_epochs
     from ephor.hops cross join generate_series(1, ${TOKENS}) as i where jti = $1
     on conflict (jti) do update set exp = excluded.exp`,
    [decodeJwt(String(answer.body["access_token"])).jti],
  );
}

/** Kills until the server's side of a reader cannot get rid of what it has for it. */
async function fill(slow: Reader, fast: Reader): Promise<{ seq: number; biggest: number }> {
  let [full, biggest] = [0, 0];
  for (let kills = 0; kills < MAX_KILLS; kills++) {
    const { seq } = await killOwner();
    const { frames } = await fast.upTo(seq);
    biggest = Math.max(biggest, ...frames.map(({ bytes }) => bytes));
    full = slow.held() > 0 ? full + 1 : 0;
    if (full === 3) return { seq, biggest };
  }
  throw new assert.AssertionError({ message: `${MAX_KILLS} kills, and it still takes more` });
}

/** Nothing is missing between them. */
function assertGapless(frames: readonly Frame[], from: number): void {
  let place = from;
  for (const { after: begins, seq } of frames) {
    assert.equal(begins, place);
    place = seq;
  }
}
const told = (frames: readonly Frame[]): readonly Record<string, unknown>[] => frames.flatMap(({ dead }) => dead);

test("a reader of the feed that does not read holds two frames of the server's memory, however many kills follow; nobody waits for it, and it misses nothing", async () => {
  await crowd();
  const [slow, fast] = [await follow("slow"), await follow("fast")];
  const first = await slow.next();
  assert.ok(first && (await fast.next()));
  const { seq: full, biggest } = await fill(slow, fast);
  assert.ok(biggest > 100_000, `frames of ${biggest} bytes`);
  const { txn } = await chain();
  const held = slow.held();
  let last = (await kill({ txn })).seq;
  for (let more = 0; more < 20; more++) {
    const { seq, ms } = await killOwner();
    const heard = await fast.upTo(seq);
    assert.ok(ms < SOON_MS, `a kill took ${ms} ms`);
    assert.ok(heard.ms < SOON_MS, `a reader that reads was told after ${heard.ms} ms`);
    assert.ok(slow.held() <= held && held < 2 * biggest, `${slow.held()} bytes for it, ${held} before`);
    last = seq;
  }
  const { frames } = await slow.upTo(last);
  // One frame lay in the socket, one beside it; the last has all that it missed.
  assert.ok(frames.filter(({ seq }) => seq > full).length <= 3, `${frames.length} frames were kept for it`);
  assertGapless(frames, first.seq);
  assert.ok(told(frames).some((entry) => entry["txn"] === txn));
  assert.equal(new Set(told(frames.slice(-1)).map((entry) => entry["jti"])).size >= TOKENS, true);
  assert.ok(!JSON.stringify(frames).includes(LONG), "why is nobody's business here");
  slow.stop();
  fast.stop();
  await until(async () => (await readers()) === 0, "both are gone");
});

test("a reader that leaves a frame unread for thirty seconds is cut, not before, and nobody else; it comes back with its place and misses nothing", async () => {
  await crowd();
  const [slow, fast] = [await follow("slow-too"), await follow("fast-too")];
  const first = await slow.next();
  assert.ok(first && (await fast.next()));
  await fill(slow, fast);
  w.clock.advance(29);
  // Two rounds, in each of which it could have been cut.
  await fast.next();
  await fast.next();
  await fast.next();
  assert.equal(slow.connection.destroyed, false);
  assert.equal(await readers(), 2);
  w.clock.advance(1);
  await until(() => slow.connection.destroyed, "it is cut");
  await until(async () => (await readers()) === 1, "nobody serves it any more");
  assert.equal(w.lines.filter((line) => line.includes("http.unread")).length, 1);
  const { txn } = await chain();
  const { seq } = await kill({ txn });
  assert.ok(told((await fast.upTo(seq)).frames).some((entry) => entry["txn"] === txn));
  // What lay between the two sockets is still there to read.
  const before: Frame[] = [first];
  for (let frame = await slow.next(); frame !== undefined; frame = await slow.next()) before.push(frame);
  assertGapless(before.slice(1), first.seq);
  const place = before.at(-1)?.seq ?? 0;
  assert.ok(place < seq);
  const back = await follow("slow-again", place);
  const { frames } = await back.upTo(seq);
  assertGapless(frames, place);
  assert.ok(told(frames).some((entry) => entry["txn"] === txn));
  back.stop();
  fast.stop();
  await until(async () => (await readers()) === 0, "both are gone");
});

test("a HEAD, and a client that is gone at once, hold no place among the feed's readers", async () => {
  const headers = { authorization: SLOW, accept: "text/event-stream" };
  for (let i = 0; i < 5; i++) {
    const head = await w.request("HEAD", "/v1/revocations", { headers });
    assert.deepEqual([head.status, head.text], [200, ""]);
    assert.match(head.headers.get("content-type") ?? "", /^text\/event-stream/);
  }
  assert.equal(await readers(), 0);
  for (let i = 0; i < 5; i++) {
    const gone = get(`${w.url}/v1/revocations`, { agent: false, headers });
    gone.on("error", () => {});
    await new Promise((resolve) => gone.once("finish", resolve));
    gone.destroy();
  }
  await until(async () => (await readers()) === 0, "they are gone");
  const one = await follow("after");
  assert.ok(await one.next());
  assert.equal(await readers(), 1);
  one.stop();
});
