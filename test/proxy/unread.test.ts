/** Answers of calls that lie in our memory because their caller does not take them: a kill takes them back. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { connect, type Socket } from "node:net";
import { after, test } from "node:test";
import type { Cleanup } from "../support/database.ts";
import { holdLock } from "../support/held-lock.ts";
import { soon, stage, until } from "./stage.ts";

const s = await stage({ after });

/** What an upstream says that nobody may read after the kill. */
const TOLD = "a-contact-that-was-told-0123456789";

interface Line {
  readonly socket: Socket;
  text(): string;
}

function line(t: Cleanup): Line {
  const { hostname, port } = new URL(s.w.url);
  const socket = connect(Number(port), hostname);
  t.after(() => socket.destroy());
  socket.on("error", () => {});
  let text = "";
  socket.on("data", (chunk: Buffer) => (text += chunk.toString("latin1")));
  return { socket, text: () => text };
}

const call = (token: string, path = "/http/crm/contacts/1"): string =>
  `GET ${path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${token}\r\n\r\n`;

const txnOf = (token: string): string =>
  (JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8")) as { txn: string }).txn;

async function kill(token: string): Promise<void> {
  const killed = await s.w.operator("POST", "/v1/kill", { txn: txnOf(token), reason: "test" });
  assert.equal(killed.status, 200, killed.text);
}

/** Waits until a call with this token is recorded as ended so. */
const isRecorded = (token: string, outcome: string): Promise<void> =>
  until(async () => {
    const events = await s.w.events({ type: "call.outcome", txn: txnOf(token) });
    return events.some((event) => JSON.stringify(event).includes(`"outcome":"${outcome}"`));
  }, `recorded as ${outcome}`);

/** Two requests on one connection, of which the first is held up. */
async function behindAnother(t: Cleanup, token: string): Promise<Line & { letGo: () => Promise<void> }> {
  const lock = await holdLock(s.w.databaseUrl, "lock table ephor.approvals in access exclusive mode");
  t.after(() => lock.release());
  const conversation = line(t);
  const first = `GET /v1/approvals HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${s.w.operatorKey}\r\n\r\n`;
  const before = s.crm.seen.length;
  conversation.socket.write(first + call(token));
  await until(() => s.crm.seen.length > before, "the call is at its upstream");
  // The upstream's answer is there, and one tick of ours has read it.
  await lock.waiting(1);
  return { ...conversation, letGo: () => lock.release() };
}

for (const [what, answer] of [
  ["of a known length", { head: { "content-type": "text/plain", "content-length": String(TOLD.length) } }],
  ["that is a message as a whole", { head: { "content-type": "application/json" } }],
] as const)
  test(`CONTRACT §2 rule 7 a proxied answer ${what} that waits behind another of its connection does not leave after a kill`, async (t) => {
    let isSent = false;
    s.crm.answer = (_req, res) => {
      res.writeHead(200, answer.head);
      res.end(TOLD, () => (isSent = true));
    };
    const token = await s.token();
    const { socket, text, letGo } = await behindAnother(t, token);
    await until(() => isSent, "the upstream has answered");
    // So that it was read here, too: another call that came later is answered.
    assert.equal((await s.send("GET", "/http/crm/contacts/2", { token })).status, 200);
    await kill(token);
    assert.equal(text(), "");
    const closed = once(socket, "close");
    await letGo();
    await soon(closed, "the connection ends");
    assert.ok(text().startsWith("HTTP/1.1 200"), "the first is answered");
    assert.ok(!text().includes(TOLD), "the second came after the kill's answer");
    await isRecorded(token, "cut_killed");
  });

test("what waits behind another answer and is not killed arrives, and is recorded as done", async (t) => {
  s.crm.answer = (_req, res) => void res.writeHead(200, { "content-type": "text/plain" }).end(TOLD);
  const token = await s.token();
  const { socket, text, letGo } = await behindAnother(t, token);
  await letGo();
  await until(() => text().includes(TOLD), "the answer");
  await isRecorded(token, "done");
  socket.destroy();
});

test("CONTRACT §2 rule 7 of a body whose caller stopped reading nothing leaves our memory after a kill", async (t) => {
  const piece = Buffer.alloc(64 * 1024, "x");
  let sent = 0;
  s.crm.answer = (_req, res) => {
    res.writeHead(200, { "content-type": "application/octet-stream" });
    const more = (): void => {
      while (!res.destroyed && ++sent > 0 && res.write(piece));
    };
    res.on("drain", more);
    more();
  };
  const { socket, text } = line(t);
  socket.pause();
  const token = await s.token();
  socket.write(call(token));
  // Until everything between the two is full.
  for (let last = -1; last !== sent || sent === 0; await new Promise((resolve) => setTimeout(resolve, 200)))
    last = sent;
  await kill(token);
  await isRecorded(token, "cut_killed");
  const closed = once(socket, "close");
  socket.resume();
  await soon(closed, "the connection is cut");
  assert.ok(text().length > 0);
});
