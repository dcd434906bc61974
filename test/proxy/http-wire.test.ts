import assert from "node:assert/strict";
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import { connect, createServer, type Socket } from "node:net";
import type { AddressInfo } from "node:net";
import { after, beforeEach, test } from "node:test";
import { gzipSync } from "node:zlib";
import { plain, soon, stage, until } from "./stage.ts";

/** What an upstream writes after each request's head, byte for byte. */
let reply: (socket: Socket, head: string) => void = () => {};
const heads: string[] = [];
const raw = createServer((socket) => {
  let text = "";
  socket.on("error", () => {});
  socket.on("data", (chunk) => {
    text += chunk.toString("latin1");
    for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
      const head = text.slice(0, end);
      text = text.slice(end + 4);
      heads.push(head);
      reply(socket, head);
    }
  });
});
raw.listen(0, "127.0.0.1");
await once(raw, "listening");
const open = new Set<Socket>();
raw.on("connection", (socket) => open.add(socket.on("close", () => open.delete(socket))));
after(() => {
  for (const socket of open) socket.destroy();
  raw.close();
});
const address = `http://127.0.0.1:${(raw.address() as AddressInfo).port}`;

const { w, crm, token, send } = await stage(
  { after },
  {
    resource: `  raw:
    http: ${address}
    actions: { read: ["GET /**"] }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read, write] }
  - { agent: release-bot, resource: raw, actions: [read] }
  - { agent: lonely-bot, resource: raw, actions: [read] }`,
  },
);

beforeEach(() => {
  heads.length = 0;
  crm.seen.length = 0;
  crm.answer = plain;
});

/** Sends bytes, and reads until the server closes or has answered so many times. */
async function bytes(text: string, answers = 1): Promise<string> {
  const socket = connect(Number(new URL(w.url).port), "127.0.0.1");
  socket.on("error", () => {});
  let got = "";
  const done = new Promise<void>((resolve) => {
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
      if (got.split("HTTP/1.1 ").length - 1 >= answers && got.includes("\r\n\r\n")) setImmediate(resolve);
    });
    socket.on("close", () => resolve());
  });
  socket.write(text, "latin1");
  await done;
  socket.destroy();
  return got;
}

test("A-PRX-12 requests that two servers could frame differently never reach the upstream", async () => {
  const access = await token("crm:write");
  const head = `POST /http/crm/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access}\r\nContent-Type: application/json\r\n`;
  for (const [label, rest] of [
    ["CL and TE", "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["two CL", "Content-Length: 2\r\nContent-Length: 4\r\n\r\n{}"],
    ["chunked, identity", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"],
    ["odd coding", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"],
    ["bare LF", "Content-Length: 2\nX-Page: 1\r\n\r\n{}"],
    ["obs-fold", "X-Page: 1\r\n 2\r\nContent-Length: 2\r\n\r\n{}"],
    ["space before colon", "X-Page : 1\r\nContent-Length: 2\r\n\r\n{}"],
    ["long head", `X-Page: ${"x".repeat(20_000)}\r\nContent-Length: 2\r\n\r\n{}`],
  ] as const) {
    const answer = await bytes(head + rest);
    assert.match(answer, /^HTTP\/1\.1 4(?:00|31) /, label);
    assert.match(answer, /connection: close/i, label);
  }
  assert.equal(crm.seen.length, 0);
  assert.match(await bytes(`${head}Content-Length: 2\r\n\r\n{}`), /^HTTP\/1\.1 200 /);
});

test("A-PRX-13 an upstream's answer that could split ours is 502 or cleaned", async () => {
  const access = await token("raw:read", { resource: "http/raw" });
  const get = (): ReturnType<typeof send> => send("GET", "/http/raw/x", { token: access });
  for (const [label, text] of [
    ["two CL", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nab"],
    ["CL and TE", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"],
    ["bare CR", "HTTP/1.1 200 OK\r\nX-A: b\rX-C: d\r\nContent-Length: 0\r\n\r\n"],
    ["big head", `HTTP/1.1 200 OK\r\nX-A: ${"x".repeat(100_000)}\r\nContent-Length: 0\r\n\r\n`],
    ["no HTTP", "hello\r\n\r\n"],
  ] as const) {
    reply = (socket) => socket.end(text);
    const answer = await get();
    assert.equal(answer.status, 502, label);
    assert.equal(answer.headers["x-c"], undefined);
  }
  reply = (socket) =>
    socket.end(
      `${"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(50)}HTTP/1.1 200 OK\r\nConnection: x-foo\r\nX-Foo: 1\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok`,
    );
  const cleaned = await get();
  assert.equal(cleaned.status, 200);
  assert.equal(cleaned.text, "ok");
  assert.equal(cleaned.headers["x-foo"], undefined);
  assert.equal(cleaned.headers["x-kept"], "1");
});

test("A-PRX-09, INV-16 an answer that is compressed is 502, whichever of its lines says so", async () => {
  const access = await token("raw:read", { resource: "http/raw" });
  const zipped = gzipSync("a key that nobody looked for").toString("latin1");
  const length = `Content-Length: ${zipped.length}\r\n`;
  const chunk = `${zipped.length.toString(16)}\r\n${zipped}\r\n0\r\n\r\n`;
  for (const [label, text] of [
    ["one", `Content-Encoding: gzip\r\n${length}\r\n${zipped}`],
    ["the second of two", `Content-Encoding: identity\r\nContent-Encoding: gzip\r\n${length}\r\n${zipped}`],
    ["a list", `Content-Encoding: identity, gzip\r\n${length}\r\n${zipped}`],
    ["of the way", `Transfer-Encoding: gzip, chunked\r\n\r\n${chunk}`],
    ["of the way, twice", `Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n${chunk}`],
  ] as const) {
    reply = (socket) => socket.write(Buffer.from(`HTTP/1.1 200 OK\r\n${text}`, "latin1"));
    assert.equal((await send("GET", "/http/raw/x", { token: access })).status, 502, label);
  }
  reply = (socket) =>
    socket.write(
      "HTTP/1.1 200 OK\r\nContent-Encoding: identity\r\nTransfer-Encoding: Chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    );
  assert.equal((await send("GET", "/http/raw/x", { token: access })).text, "ok");
});

test("an upstream does not say how a browser takes our answer, nor which nonce Ephor wants", async () => {
  const access = await token("raw:read", { resource: "http/raw" });
  const theirs = "X-Content-Type-Options: a\r\nReferrer-Policy: unsafe-url\r\nDPoP-Nonce: theirs\r\n";
  reply = (socket) => socket.write(`HTTP/1.1 200 OK\r\n${theirs}Content-Length: 2\r\n\r\nok`);
  const { headers } = await send("GET", "/http/raw/x", { token: access });
  // A browser goes by the first of several values (Fetch, determine nosniff).
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
  assert.equal(headers["dpop-nonce"], undefined);
});

test("an answer that its upstream breaks off is cut for its caller too, whether it said its length or not", async () => {
  const access = await token("raw:read", { resource: "http/raw" });
  const half = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/plain\r\n";
  const answers = {
    "no length": `${half}\r\nhalf`,
    "HTTP/1.0": "HTTP/1.0 200 OK\r\n\r\nhalf",
    length: `${half}Content-Length: 10\r\n\r\nhalf`,
    chunked: `${half}Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n`,
    kept: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
  };
  for (const [label, text] of Object.entries(answers)) {
    let upstream: Socket | undefined;
    reply = (socket) => {
      upstream = socket;
      socket.write(text);
    };
    const { port } = new URL(w.url);
    const req = request({ port, path: "/http/raw/x", agent: false, headers: { authorization: `Bearer ${access}` } });
    req.end();
    const [answer] = (await soon(once(req, "response"), label)) as [IncomingMessage];
    const ended = new Promise<boolean>((resolve) => {
      answer.on("end", () => resolve(answer.complete));
      answer.on("error", () => resolve(false));
    });
    await soon(once(answer, "data"), label);
    upstream?.resetAndDestroy();
    assert.equal(await soon(ended, label), false, label);
  }
  // Who says no length and ends as one should is whole.
  reply = (socket) => socket.end(`${half}\r\nwhole`);
  const whole = await send("GET", "/http/raw/x", { token: access });
  assert.deepEqual([whole.text, whole.whole], ["whole", true]);
});

test("A-PRX-14, INV-19 an answer that came unasked on a kept connection reaches nobody else", async () => {
  const [mine, other] = await Promise.all([
    token("raw:read", { resource: "http/raw" }),
    token("raw:read", { resource: "http/raw", agent: "lonely-bot" }),
  ]);
  const unasked = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
  reply = (socket, head) => {
    const name = /GET \/(\w+)/.exec(head)?.[1] ?? "";
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${name.length}\r\n\r\n${name}${name === "evil" ? unasked : ""}`);
  };
  for (let round = 0; round < 5; round++) {
    assert.equal((await send("GET", "/http/raw/evil", { token: mine })).text, "evil");
    const answers = await Promise.all([1, 2, 3].map(() => send("GET", "/http/raw/good", { token: other })));
    assert.deepEqual(
      answers.map(({ text }) => text),
      ["good", "good", "good"],
    );
  }
});

test("A-PRX-17 an upload that its sender leaves ends at the upstream too", async () => {
  const access = await token("crm:write");
  const socket = connect(Number(new URL(w.url).port), "127.0.0.1");
  socket.on("error", () => {});
  socket.write(
    `POST /http/crm/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access}\r\nContent-Type: text/csv\r\nContent-Length: 1000000\r\n\r\nbegun`,
  );
  const { txn } = JSON.parse(Buffer.from(access.split(".")[1] ?? "", "base64url").toString()) as { txn: string };
  const recorded = async (type: string, text: string): Promise<boolean> =>
    (await w.events({ txn, type })).some((event) => JSON.stringify(event).includes(text));
  await until(() => recorded("call.forward", '"granted"'), "decided");
  socket.destroy();
  await until(() => recorded("call.outcome", "aborted"), "outcome");
  assert.equal(crm.seen.length, 0, "no whole request arrived");
});

test("A-PRX-20 a body that says it is too long is refused before it is read; others are served meanwhile", async () => {
  const access = await token("crm:read crm:write");
  const head = `POST /http/crm/contacts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${access}\r\nContent-Type: text/csv\r\n`;
  assert.match(await bytes(`${head}Content-Length: 10737418240\r\n\r\nx`), /^HTTP\/1\.1 413 /);
  const slow = connect(Number(new URL(w.url).port), "127.0.0.1");
  slow.on("error", () => {});
  slow.write(`${head}Content-Length: 1000\r\n\r\nx`);
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: access })).status, 200);
  slow.destroy();
});
