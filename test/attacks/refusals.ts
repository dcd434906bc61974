/**
 * What every refusal of security.md must look like, from outside and in the ledger: shared by the files beside this one,
 * which send what an attacker would, over HTTP to a real server.
 */
import assert from "node:assert/strict";
import { connect } from "node:net";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import type { Answer, World } from "../support/world.ts";

/** A refusal, with both of its faces. */
export interface Refusal {
  readonly error: string;
  /** The recorded reason, or those that are right. */
  readonly reason: Reason | readonly Reason[];
  /** Default: 401 for `invalid_client`, else 400. */
  readonly status?: number;
  /** Milliseconds of real time until the answer; default {@link ANSWER_MS}. */
  readonly withinMs?: number;
}

/** "Always, for every refusal": the answer within a second. */
const ANSWER_MS = 1_000;
/** How often it is asked again whether an answer that was late is late by itself: a busy machine makes any one late. */
const MORE_HEARINGS = 2;
/** Refusals of the edge are recorded beside the answer, not before it; this is how long we look for them, in real ms. */
const RECORD_MS = 10_000;
/** Events are looked for no further back than this, in milliseconds of the hand clock. */
const RECENT_MS = 90_000;
/** Longer than a minute, so that a refusal of a stranger gets an event of its own and is not only counted (A-AUD-07). */
const NEXT_MINUTE_SECONDS = 61;

/** A subject or actor token that is bad: RFC 8693 §2.2.2. */
export const badToken = (reason: Refusal["reason"]): Refusal => ({ error: "invalid_request", reason });

/** The one description of whatever is wrong with a token (BADTOK). */
const TOKEN_DESCRIPTION = "The request is malformed, or a token in it is invalid or unacceptable.";
const ABOUT_TOKENS = /^(token_(?!type)|no_rule|several_agents|agent_|killed|single_use|subject_|may_act)/;

/**
 * Sends in a minute of its own and asserts the refusal.
 *
 * @param send makes its tokens itself: the clock has moved when it is called
 */
export async function refused(w: World, refusal: Refusal, send: () => Promise<Answer>, label = ""): Promise<Answer> {
  w.clock.advance(NEXT_MINUTE_SECONDS);
  return await refusedNow(w, refusal, send, label);
}

/** As {@link refused}, for what may not wait: the same refusal must not have been sent in this minute. */
export async function refusedNow(w: World, refusal: Refusal, send: () => Promise<Answer>, label = ""): Promise<Answer> {
  const before = await hops(w);
  const { answer, ms } = await timed(send);
  await assertRefused(w, answer, { ...refusal, label });
  const { withinMs = ANSWER_MS } = refusal;
  const tookMs = [ms];
  while (Math.min(...tookMs) >= withinMs && tookMs.length <= MORE_HEARINGS) {
    const again = await timed(send);
    assert.notEqual(again.answer.status, 200, label);
    tookMs.push(again.ms);
  }
  assert.ok(Math.min(...tookMs) < withinMs, `${label}: answered after ${tookMs.join(", ")} ms`);
  assert.equal(await hops(w), before, `${label}: something was minted`);
  return answer;
}

async function timed(send: () => Promise<Answer>): Promise<{ answer: Answer; ms: number }> {
  const started = performance.now();
  const answer = await send();
  return { answer, ms: performance.now() - started };
}

/** "Always, for every refusal" of security.md. */
export async function assertRefused(w: World, answer: Answer, expected: Refusal & { label?: string }): Promise<void> {
  const { error, reason, label = "" } = expected;
  assertFace(answer, expected);
  const reasons: readonly string[] = typeof reason === "string" ? [reason] : reason;
  const event = await eventOf(w, answer, label);
  assert.equal(event.decision, "refused", label);
  assert.ok(reasons.includes(event.reason), `${label}: recorded as ${event.reason}, not ${reasons.join(" or ")}`);
  if (error === "invalid_request" && ABOUT_TOKENS.test(event.reason)) {
    assert.equal(answer.body["error_description"], TOKEN_DESCRIPTION, label);
  }
}

/**
 * What a stranger sees: nothing but the error and our own fixed words, no token, no stack, no statement; not cached; not for
 * other origins.
 */
export function assertFace(answer: Answer, expected: Omit<Refusal, "reason"> & { label?: string }): void {
  const { error, status = error === "invalid_client" ? 401 : 400, label = "" } = expected;
  const { headers, text, body } = answer;
  assert.equal(answer.status, status, `${label}: ${text}`);
  assert.equal(body["error"], error, `${label}: ${text}`);
  if (error === "invalid_client")
    assert.match(headers.get("www-authenticate") ?? "", /^(Basic|Bearer|DPoP) realm=/, label);
  assert.match(headers.get("content-type") ?? "", /^application\/json/, label);
  assert.equal(headers.get("cache-control"), "no-store", label);
  assert.equal(headers.get("access-control-allow-origin"), null, label);
  assert.deepEqual(Object.keys(body).sort(), ["error", "error_description"], label);
  assert.match(String(body["error_description"]), /^[A-Za-z0-9 .,;:_/()-]{8,160}$/, label);
  assert.doesNotMatch(text, /eyJ|\bat \/|node_modules|\.ts\b|\b[Ss]elect\b|ephor\.|[A-Z][a-z]+Error\b/, label);
}

interface RecordedEvent {
  readonly decision: string;
  readonly reason: string;
  readonly agent: string | null;
  readonly body: string;
}

/** The one event that this answer's request left; waits for it where the edge records it beside the answer. */
export async function eventOf(w: World, answer: Answer, label = ""): Promise<RecordedEvent> {
  const id = answer.headers.get("x-request-id") ?? "";
  assert.match(id, /^req_/, label);
  const deadline = performance.now() + RECORD_MS;
  for (;;) {
    const rows = await w.admin<RecordedEvent>(
      "select decision, reason, agent, body from ephor.events where at_ms > $1 and strpos(body, $2) > 0",
      [w.clock.nowMs() - RECENT_MS, `"requestId":"${id}"`],
    );
    const [event, another] = rows;
    assert.equal(another, undefined, `${label}: more than one event`);
    if (event) return event;
    assert.ok(performance.now() < deadline, `${label}: not recorded`);
  }
}

/** Tokens that were ever minted. */
export async function hops(w: World): Promise<number> {
  const [row] = await w.admin<{ count: string }>("select count(*) from ephor.hops");
  return Number(row?.count);
}

/** The nearest accepted request. @returns the access token */
export function granted(answer: Answer, label = ""): string {
  assert.equal(answer.status, 200, `${label}: ${answer.text}`);
  const token = answer.body["access_token"];
  assert.ok(typeof token === "string" && token !== "", label);
  assert.equal(answer.body["refresh_token"], undefined, label);
  return token;
}

/** INV-15 after everything a file has sent: no token in any log line or event. */
export async function assertNothingLeaked(w: World): Promise<void> {
  const token = /eyJ[\w-]{10,}/;
  assert.ok(w.lines.length > 0);
  for (const line of w.lines) assert.doesNotMatch(line, token);
  const rows = await w.admin<{ body: string }>("select body from ephor.events where body ~ 'eyJ[A-Za-z0-9_-]{10}'");
  assert.deepEqual(rows, []);
}

/** Bytes over a socket of their own, for what `fetch` will not send. The answer is read to the end of the connection. */
export async function raw(url: string, request: string | Buffer): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname);
  const chunks: Buffer[] = [];
  const ended = new Promise<void>((resolve, reject) => {
    socket.on("data", (chunk: Buffer) => chunks.push(chunk));
    socket.on("end", resolve);
    socket.on("error", reject);
    socket.setTimeout(10_000, () => reject(new Error("the server did not end the connection")));
  });
  socket.write(request);
  try {
    await ended;
  } finally {
    socket.destroy();
  }
  return readAnswer(Buffer.concat(chunks).toString());
}

function readAnswer(octets: string): Answer {
  const [head = "", text = ""] = octets.split("\r\n\r\n", 2);
  const [statusLine = "", ...lines] = head.split("\r\n");
  const headers = new Headers(
    lines.map((line): [string, string] => [line.slice(0, line.indexOf(":")), line.slice(line.indexOf(":") + 1).trim()]),
  );
  let body: Record<string, unknown> = {};
  try {
    body = JSON.parse(text) as Record<string, unknown>;
  } catch {
    // An answer to HEAD has no body.
  }
  return { status: Number(statusLine.split(" ")[1]), headers, body, text };
}

/** A request head and body for {@link raw}; the connection ends with the answer. */
export function message(
  method: string,
  target: string,
  o: { headers?: readonly (readonly [string, string])[]; body?: string | Buffer } = {},
): Buffer {
  const body = Buffer.from(o.body ?? "");
  const lines = [
    `${method} ${target} HTTP/1.1`,
    "Host: 127.0.0.1",
    "Connection: close",
    ...(o.headers ?? []).map(([name, value]) => `${name}: ${value}`),
    ...(o.body === undefined ? [] : [`Content-Length: ${body.length}`]),
  ];
  return Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`), body]);
}
