import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type RequestListener } from "node:http";
import { createServer as createTcpServer, type AddressInfo } from "node:net";
import { test, type TestContext } from "node:test";
import { gzipSync } from "node:zlib";
import {
  EGRESS_LIMITS,
  SEND_LIMITS,
  createEgress,
  type Egress,
  type EgressOrder,
  type EgressRequest,
} from "../../src/system/egress.ts";
import { EgressError, type EgressFailure } from "../../src/system/egress-error.ts";
import type { ResolveAll } from "../../src/system/egress-connector.ts";

const ASK: EgressRequest = { internal: false, maxBytes: 1_000, timeoutMs: 4_000, accept: "application/json" };
const INTERNAL: EgressRequest = { ...ASK, internal: true };

function egressFor(t: TestContext, resolve?: ResolveAll): Egress {
  const egress = createEgress(resolve === undefined ? {} : { resolve });
  t.after(() => egress.close());
  return egress;
}

async function serve(
  t: TestContext,
  listener: RequestListener,
): Promise<{ url: string; port: number; count: () => number }> {
  let connections = 0;
  const server = createServer(listener).on("connection", () => connections++);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}`, port, count: () => connections };
}

async function refused(promise: Promise<unknown>, kind: EgressFailure, label = ""): Promise<void> {
  await assert.rejects(promise, (error) => {
    assert.ok(error instanceof EgressError, `${label} ${String(error)}`);
    assert.equal(error.kind, kind, label);
    return true;
  });
}

const named =
  (...addresses: string[]): ResolveAll =>
  async () =>
    addresses.map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));

test("get brings status, media type and body, and sends no credentials, cookies or wish for compression", async (t) => {
  let seen: Record<string, unknown> = {};
  const server = await serve(t, (request, response) => {
    seen = request.headers;
    response.writeHead(200, { "content-type": "Application/JSON; charset=utf-8", "set-cookie": "a=b" }).end('{"a":1}');
  });
  const egress = egressFor(t);
  const answer = await egress.get(`${server.url}/x?y=1`, INTERNAL);
  assert.equal(answer.status, 200);
  assert.equal(answer.contentType, "application/json");
  assert.equal(Buffer.from(answer.body).toString(), '{"a":1}');
  await egress.get(server.url, INTERNAL);
  assert.equal(seen["accept"], "application/json");
  assert.equal(seen["accept-encoding"], "identity");
  assert.equal(seen["cookie"], undefined);
  assert.equal(seen["authorization"], undefined);
});

test("get hands on an error status with its body", async (t) => {
  const server = await serve(t, (_request, response) => response.writeHead(500).end("no"));
  const answer = await egressFor(t).get(server.url, INTERNAL);
  assert.equal(answer.status, 500);
});

test("INV-21 A-OIDC-07 get never connects a public URL to an address that is not global unicast", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  const hosts = [
    "127.0.0.1",
    "2130706433",
    "0x7f.1",
    "0177.0.0.1",
    "127.1",
    "0.0.0.0",
    "0",
    "10.1.2.3",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.0.0.8",
    "198.18.0.1",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "168.63.129.16",
    "[::1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[::127.0.0.1]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001::1]",
    "[fc00::1]",
    "[fd00:ec2::254]",
    "[fe80::1]",
    "[fec0::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[3fff::1]",
    "[5f00::1]",
    "[4000::1]",
  ];
  const egress = egressFor(t);
  for (const host of hosts) await refused(egress.get(`https://${host}:${server.port}/`, ASK), "address", host);
  assert.equal(server.count(), 0);
});

test("INV-21 A-OIDC-07 get never connects to a name when one of its addresses is not global unicast", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  const url = `https://issuer.example:${server.port}/`;
  const tables = [
    ["127.0.0.1"],
    ["8.8.8.8", "10.0.0.1"],
    ["10.0.0.1", "8.8.8.8"],
    ["2606:4700::1", "::ffff:10.0.0.1"],
    ["169.254.169.254"],
    ["64:ff9b::a00:1"],
    ["64:ff9b:1::a00:1"],
    ["2002:a00:1::1"],
    ["100.64.0.1"],
    ["fe80::1%eth0"],
    [],
  ];
  for (const table of tables) {
    await refused(egressFor(t, named(...table)).get(url, ASK), "address", table.join());
  }
  assert.equal(server.count(), 0);
});

test("A-OIDC-08 the address that was checked is the one connected to: the name is resolved once", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  let asked = 0;
  const egress = egressFor(t, async () => {
    asked += 1;
    // Allowed for an internal issuer at the first question, forbidden at every later one.
    return [{ address: asked === 1 ? "127.0.0.1" : "169.254.169.254", family: 4 }];
  });
  assert.equal((await egress.get(`http://issuer.example:${server.port}/`, INTERNAL)).status, 200);
  assert.equal(asked, 1);
});

test("an internal URL reaches loopback, but neither link-local nor platform addresses", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  assert.equal((await egressFor(t).get(`http://localhost:${server.port}/`, INTERNAL)).status, 200);
  for (const address of [
    "169.254.169.254",
    "fe80::1",
    "0.0.0.0",
    "224.0.0.1",
    "100.100.100.200",
    "fd00:ec2::254",
    "64:ff9b::a00:1",
  ]) {
    await refused(egressFor(t, named(address)).get("https://issuer.example/", INTERNAL), "address", address);
  }
});

test("plain http is for loopback of an internal issuer only", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  const egress = egressFor(t);
  assert.equal((await egress.get(server.url, INTERNAL)).status, 200);
  await refused(egress.get(server.url, ASK), "url");
  await refused(egress.get("http://10.0.0.1/", INTERNAL), "address");
  await refused(egressFor(t, named("10.0.0.1")).get("http://issuer.example/", INTERNAL), "address");
});

test("a URL with another scheme, credentials or no sense is refused", async (t) => {
  const egress = egressFor(t);
  for (const url of [
    "file:///etc/passwd",
    "data:application/json,{}",
    "ftp://a.example/",
    "https://u:p@a.example/",
    "/jwks",
    "https://",
    "",
  ]) {
    await refused(egress.get(url, INTERNAL), "url", url);
  }
});

test("A-OIDC-06 a redirect is an error and is not followed", async (t) => {
  const target = await serve(t, (_request, response) => response.end("{}"));
  for (const status of [301, 302, 303, 307, 308, 304]) {
    const server = await serve(t, (_request, response) => response.writeHead(status, { location: target.url }).end());
    await refused(egressFor(t).get(server.url, INTERNAL), "redirect", String(status));
  }
  assert.equal(target.count(), 0);
});

test("A-OIDC-09 a body above the limit is cut, whether announced, chunked or endless", async (t) => {
  const announced = await serve(t, (_request, response) => response.end(Buffer.alloc(1_001)));
  const endless = await serve(t, (_request, response) => {
    const pump = (): void => {
      while (!response.destroyed && response.write(Buffer.alloc(500)));
    };
    response.on("drain", pump).on("error", () => {});
    pump();
  });
  const egress = egressFor(t);
  await refused(egress.get(announced.url, INTERNAL), "too_large");
  await refused(egress.get(endless.url, INTERNAL), "too_large");
  assert.equal((await egress.get(announced.url, { ...INTERNAL, maxBytes: 1_001 })).body.byteLength, 1_001);
});

test("no caller can ask for more than 100 KiB (INV-21)", async (t) => {
  const server = await serve(t, (_request, response) => response.end(Buffer.alloc(EGRESS_LIMITS.maxBytes + 1)));
  await refused(egressFor(t).get(server.url, { ...INTERNAL, maxBytes: 10 ** 9 }), "too_large");
});

test("A-OIDC-09 the time limit covers a server that never answers and a body that drips", async (t) => {
  const silent = await serve(t, () => {});
  const dripping = await serve(t, (_request, response) => {
    response.writeHead(200);
    const timer = setInterval(() => response.write(" "), 20);
    response.on("close", () => clearInterval(timer));
  });
  const egress = egressFor(t);
  const hurried = { ...INTERNAL, timeoutMs: 150 };
  await refused(egress.get(silent.url, hurried), "timeout");
  await refused(egress.get(dripping.url, hurried), "timeout");
});

test("the time limit covers a resolver that never answers", async (t) => {
  const egress = egressFor(t, () => new Promise(() => {}));
  await refused(egress.get("https://issuer.example/", { ...ASK, timeoutMs: 100 }), "timeout");
});

test("A-OIDC-09 a compressed body is refused unread", async (t) => {
  const server = await serve(t, (_request, response) => {
    response.writeHead(200, { "content-encoding": "gzip" }).end(gzipSync(Buffer.alloc(5_000_000)));
  });
  await refused(egressFor(t).get(server.url, { ...INTERNAL, maxBytes: EGRESS_LIMITS.maxBytes }), "encoding");
});

test("a failed resolution, a closed port and a server that is not HTTP are network errors", async (t) => {
  const failing = egressFor(t, () => Promise.reject(new Error("ENOTFOUND")));
  await refused(failing.get("https://issuer.example/", ASK), "network");
  const garbage = createTcpServer((socket) =>
    socket
      .on("error", () => {})
      .resume()
      .end("SSH-2.0-x\r\n"),
  );
  garbage.listen(0, "127.0.0.1");
  await once(garbage, "listening");
  const { port } = garbage.address() as AddressInfo;
  await refused(egressFor(t).get(`http://127.0.0.1:${port}/`, INTERNAL), "network");
  // A server that speaks no TLS at an https URL.
  await refused(egressFor(t).get(`https://127.0.0.1:${port}/`, INTERNAL), "network");
  garbage.close();
  await once(garbage, "close");
  await refused(egressFor(t).get(`http://127.0.0.1:${port}/`, INTERNAL), "network");
});

test("an error says what kind it is and nothing of the URL", async (t) => {
  await assert.rejects(
    egressFor(t).get("https://10.0.0.1/secret-path", ASK),
    (error: Error) => !error.message.includes("secret"),
  );
});

/** An order to a loopback server. */
const order = (url: string, rest: Partial<EgressOrder> = {}): EgressOrder => ({
  method: "POST",
  url,
  headers: {},
  internal: true,
  maxBytes: 1_000,
  timeoutMs: 4_000,
  ...rest,
});

test("send brings method, headers and body there, and the answer of an error back", async (t) => {
  const seen: unknown[] = [];
  const server = await serve(t, async (request, response) => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    const { authorization, "content-length": length, "accept-encoding": encoding, cookie } = request.headers;
    seen.push([request.method, request.url, authorization, length, encoding, cookie, body]);
    response.writeHead(400, { "content-type": "application/json", "set-cookie": "a=b" }).end('{"error":"x"}');
  });
  const egress = egressFor(t);
  const headers = { authorization: "Bearer canary", "accept-encoding": "gzip" };
  const answer = await egress.send(order(`${server.url}/t?a=b`, { headers, body: "grant=ü" }));
  assert.deepEqual([answer.status, answer.contentType], [400, "application/json"]);
  assert.equal(Buffer.from(answer.body).toString(), '{"error":"x"}');
  await egress.send(order(server.url, { method: "DELETE" }));
  assert.deepEqual(seen, [
    ["POST", "/t?a=b", "Bearer canary", "8", "identity", undefined, "grant=ü"],
    ["DELETE", "/", undefined, undefined, "identity", undefined, ""],
  ]);
});

test("send reads an empty 204", async (t) => {
  const server = await serve(t, (_request, response) => response.writeHead(204).end());
  const answer = await egressFor(t).send(order(server.url, { method: "DELETE" }));
  assert.deepEqual([answer.status, answer.body.length], [204, 0]);
});

test("INV-21 send never connects a public URL to an address inside", async (t) => {
  const server = await serve(t, (_request, response) => response.end("{}"));
  const egress = egressFor(t, named("10.0.0.1"));
  await refused(egress.send(order(`https://127.0.0.1:${server.port}/`, { internal: false })), "address");
  await refused(egress.send(order("https://issuer.example/", { internal: false })), "address");
  await refused(egress.send(order(server.url, { internal: false })), "url");
  await refused(egress.send(order("http://issuer.example/")), "address");
  await refused(egress.send(order("https://user:pass@issuer.example/")), "url");
  assert.equal(server.count(), 0);
});

test("send follows no redirect, so that what it carries goes nowhere else", async (t) => {
  const other = await serve(t, (_request, response) => response.end("{}"));
  for (const status of [301, 302, 303, 307, 308]) {
    const server = await serve(t, (_request, response) => response.writeHead(status, { location: other.url }).end());
    await refused(egressFor(t).send(order(server.url, { body: "canary" })), "redirect", String(status));
  }
  assert.equal(other.count(), 0);
});

test("send reads as much as its order allows, and never more than its ceiling", async (t) => {
  const server = await serve(t, (request, response) => response.end(Buffer.alloc(Number(request.url?.slice(1)))));
  const send = (bytes: number, maxBytes: number) =>
    egressFor(t).send(order(`${server.url}/${bytes}`, { method: "GET", maxBytes }));
  assert.equal((await send(1_000, 1_000)).body.length, 1_000);
  await refused(send(1_001, 1_000), "too_large");
  assert.equal((await send(3 * EGRESS_LIMITS.maxBytes, SEND_LIMITS.maxBytes)).body.length, 3 * EGRESS_LIMITS.maxBytes);
  await refused(send(SEND_LIMITS.maxBytes + 1, Number.MAX_SAFE_INTEGER), "too_large");
});

test("send ends with its time, also for a server that never answers", async (t) => {
  const server = await serve(t, () => {});
  await refused(egressFor(t).send(order(server.url, { timeoutMs: 50 })), "timeout");
});

test("send ends with its caller's signal, and sends nothing once it has fired", async (t) => {
  const cut = new AbortController();
  const server = await serve(t, () => cut.abort());
  const egress = egressFor(t);
  await refused(egress.send(order(server.url, { signal: cut.signal })), "aborted");
  assert.equal(server.count(), 1);
  await refused(egress.send(order(server.url, { signal: cut.signal })), "aborted");
  assert.equal(server.count(), 1);
});
