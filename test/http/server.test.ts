import assert from "node:assert/strict";
import { connect } from "node:net";
import { describe, it } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { GRANTED, startEdge } from "./edge-server.ts";
import { LIMITS } from "../../src/http/limits.ts";
import { listen, ListenError } from "../../src/http/server.ts";

/** The garbage collector, without a flag for the whole run. */
function collector(): () => void {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as () => void;
}

const FORM = "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 3";
const POST = `POST /token HTTP/1.1\r\nHost: a\r\n${FORM}\r\n\r\na=b`;

describe("a listener", () => {
  it("answers 503 until it serves, so that the port is known before anything is built on it", async (t) => {
    const listener = await listen({ host: "127.0.0.1", port: 0 });
    t.after(() => listener.finish(0));
    assert.ok(listener.port > 0);
    const { status } = await fetch(`http://127.0.0.1:${listener.port}/livez`);
    assert.equal(status, 503);
    listener.serve((_req, res) => res.end("served"));
    assert.equal(await (await fetch(`http://127.0.0.1:${listener.port}/livez`)).text(), "served");
  });

  it("says which address is taken", async (t) => {
    const listener = await listen({ host: "127.0.0.1", port: 0 });
    t.after(() => listener.finish(0));
    await assert.rejects(listen({ host: "127.0.0.1", port: listener.port }), ListenError);
  });

  it("refuses a certificate that is not there", async () => {
    const tls = { certFile: "/nonexistent/cert.pem", keyFile: "/nonexistent/key.pem" };
    await assert.rejects(listen({ host: "127.0.0.1", port: 0, tls }), ListenError);
  });

  it("A-OPS-08 stops accepting, finishes what was accepted, and then is gone", async (t) => {
    let answer = (): void => {};
    const asked = new Promise<void>((resolveAsked) => {
      void startEdge(t, {
        rooms: () => ({
          sts: {
            token: () =>
              new Promise((resolve) => {
                answer = () => resolve(GRANTED);
                resolveAsked();
              }),
            introspect: () => Promise.resolve(GRANTED),
            revoke: () => Promise.resolve(GRANTED),
            dpopNonce: () => "",
          },
        }),
      }).then((started) => {
        edge = started;
        reply = edge.form("/token", "a=b");
      });
    });
    let edge!: Awaited<ReturnType<typeof startEdge>>;
    let reply!: ReturnType<typeof edge.form>;
    await asked;
    edge.listener.stopAccepting();
    await assert.rejects(edge.send("GET", "/livez"), { code: "ECONNREFUSED" });
    const finished = edge.listener.finish(60_000);
    answer();
    const { status, headers } = await reply;
    assert.deepEqual([status, headers["connection"]], [200, "close"]);
    await finished;
  });

  it("INV-27 keeps nothing of requests whose connection ended, also of those that waited behind another", async (t) => {
    const collect = collector();
    const listener = await listen({ host: "127.0.0.1", port: 0 });
    t.after(() => listener.finish(0));
    const heard: WeakRef<object>[] = [];
    let hearAll = (): void => {};
    const all = new Promise<void>((resolve) => (hearAll = resolve));
    listener.serve((_req, res) => heard.push(new WeakRef(res)) === 3 && hearAll());
    const socket = connect({ host: "127.0.0.1", port: listener.port });
    socket.on("error", () => {});
    socket.write(POST.repeat(3));
    await all;
    socket.destroy();
    const deadline = performance.now() + 5_000;
    while (heard.some((ref) => ref.deref() !== undefined) && performance.now() < deadline) {
      await new Promise((resolve) => setTimeout(resolve, 20));
      collect();
    }
    assert.equal(heard.filter((ref) => ref.deref() !== undefined).length, 0);
  });

  it("A-OPS-08 cuts what does not end within the grace", async () => {
    const listener = await listen({ host: "127.0.0.1", port: 0 });
    const heard = new Promise<void>((resolve) => listener.serve(() => resolve()));
    const socket = connect({ host: "127.0.0.1", port: listener.port });
    const closed = new Promise<void>((resolve) => socket.on("close", () => resolve()));
    socket.on("error", () => {});
    socket.write(POST);
    await heard;
    await listener.finish(1);
    await closed;
  });
});

describe("bytes that are no request", () => {
  const cases: [string, string, RegExp][] = [
    [
      "headers of more than 16 KiB",
      `GET / HTTP/1.1\r\nHost: a\r\nX: ${"x".repeat(LIMITS.headerBytes)}\r\n\r\n`,
      /^HTTP\/1\.1 431 /,
    ],
    ["no HTTP at all", "hello\r\n\r\n", /^HTTP\/1\.1 400 /],
    ["no Host", "GET /livez HTTP/1.1\r\n\r\n", /^HTTP\/1\.1 400 /],
    [
      "content length beside chunks",
      `${POST.replace("Host: a", "Host: a\r\nTransfer-Encoding: chunked")}`,
      /^HTTP\/1\.1 400 /,
    ],
    ["two content lengths", `${POST.replace("Host: a", "Host: a\r\nContent-Length: 2")}`, /^HTTP\/1\.1 400 /],
    ["a blank before the colon", POST.replace("Host:", "Host :"), /^HTTP\/1\.1 400 /],
    ["a header continued on the next line", POST.replace("Host: a", "Host: a\r\n b"), /^HTTP\/1\.1 400 /],
    [
      "an upgrade",
      "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
      /^HTTP\/1\.1 501 /,
    ],
  ];
  for (const [title, bytes, expected] of cases) {
    it(`${title} are refused, and the connection ends`, async (t) => {
      const edge = await startEdge(t);
      assert.match(await edge.bytes(bytes), expected);
      assert.equal(edge.seen.oauth.length, 0);
    });
  }
});
