/** Answers that release something leave at once, or never: nothing of them lies here for a caller who does not take it. */
import assert from "node:assert/strict";
import { createServer, type RequestListener } from "node:http";
import { Duplex } from "node:stream";
import { describe, it, type TestContext } from "node:test";
import type { RawOAuthAnswer, Rooms } from "../../src/http/rooms.ts";
import type { ProxiedAnswer } from "../../src/proxy/exchange.ts";
import { AGENT, GRANTED, startEdge } from "./edge-server.ts";

const FORM =
  "POST /token HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 3\r\n\r\na=b";
const VEND = `POST /credentials/crm HTTP/1.1\r\nHost: a\r\nAuthorization: ${AGENT}\r\nContent-Length: 0\r\n\r\n`;

/** A connection whose system takes what a test lets it take. */
interface Line extends Duplex {
  readonly written: string[];
  isFull: boolean;
}

function lineOf(): Line {
  const written: string[] = [];
  const line = new Duplex({
    read() {},
    writev(chunks, done) {
      written.push(...chunks.map(({ chunk }) => Buffer.from(chunk as Uint8Array).toString("latin1")));
      if (!state.isFull) done();
    },
  });
  const state = Object.assign(line, { written, isFull: false });
  return state;
}

/** Serves one such connection by the handler of an edge. */
function connected(t: TestContext, handle: RequestListener): Line {
  const server = createServer(handle);
  const line = lineOf();
  t.after(() => line.destroy());
  server.emit("connection", line);
  return line;
}

interface Told {
  released: number;
  withheld: number;
}

/** An edge whose token and credential may leave. */
async function releasing(t: TestContext, may: () => boolean = () => true): Promise<{ line: Line; told: Told }> {
  const told: Told = { released: 0, withheld: 0 };
  const released = { release: () => (told.released++, may()), withheld: () => void told.withheld++ };
  const token = async (): Promise<RawOAuthAnswer> => ({ ...GRANTED, ...released });
  const rooms = (): Partial<Rooms> => ({
    sts: { token, introspect: token, revoke: token, dpopNonce: () => "nonce-1" },
    credentials: {
      vend: async () => ({
        vended: {
          lease: "lease_1",
          kind: "static",
          expires_at: "2026-11-21T18:00:00Z",
          residual_seconds: 0,
          credential: { value: "the-secret" },
        },
        released,
      }),
    },
  });
  const edge = await startEdge(t, { rooms });
  return { line: connected(t, edge.handle), told };
}

const until = async (isSo: () => boolean): Promise<void> => {
  for (let turn = 0; turn < 10_000 && !isSo(); turn++) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(isSo());
};

for (const [what, request, secret] of [
  ["token", FORM, "access_token"],
  ["vended credential", VEND, "the-secret"],
] as const)
  describe(`a ${what}`, () => {
    it("leaves, and its connection goes on", async (t) => {
      const { line, told } = await releasing(t);
      line.push(request);
      await until(() => line.written.join("").includes(secret));
      line.push(request);
      await until(() => line.written.join("").split(secret).length === 3);
      assert.deepEqual([told, line.destroyed], [{ released: 2, withheld: 0 }, false]);
    });

    it("that the system does not take at once is not kept for later: its connection ends (CONTRACT §2 rule 7)", async (t) => {
      const { line, told } = await releasing(t);
      line.isFull = true;
      line.push(request);
      await until(() => line.destroyed);
      assert.deepEqual(told, { released: 1, withheld: 0 });
    });

    it("does not follow what its caller has not read, and the room is told", async (t) => {
      const { line, told } = await releasing(t);
      line.isFull = true;
      line.push("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + request);
      await until(() => told.withheld === 1);
      assert.deepEqual([told, line.written.join("").includes(secret)], [{ released: 0, withheld: 1 }, false]);
    });

    it("whose permit has lapsed by then is 503", async (t) => {
      const { line, told } = await releasing(t, () => false);
      line.push(request);
      await until(() => line.written.join("").includes("temporarily_unavailable"));
      assert.ok(line.written.join("").startsWith("HTTP/1.1 503"));
      assert.deepEqual([told.released, line.written.join("").includes(secret)], [1, false]);
    });
  });

describe("a proxied message that is there whole", () => {
  /** An edge whose proxied answer a test cuts. */
  async function proxied(t: TestContext): Promise<{ line: Line; ended: string[]; cut: () => void }> {
    const cuts: (() => void)[] = [];
    const ended: string[] = [];
    const answer: ProxiedAnswer = {
      status: 200,
      headers: [],
      body: {
        text: "told",
        bytes: 4,
        mayFlow: () => true,
        whenCut: (call) => void cuts.push(call),
        ended: (how) => void ended.push(how),
      },
    };
    const room = async (): Promise<ProxiedAnswer> => answer;
    const edge = await startEdge(t, { rooms: () => ({ proxy: { http: room, mcp: room } }) });
    return { line: connected(t, edge.handle), ended, cut: () => cuts.splice(0).forEach((call) => call()) };
  }
  const CALL = "GET /mcp/tickets HTTP/1.1\r\nHost: a\r\n\r\n";

  it("has ended when it was written", async (t) => {
    const { line, ended } = await proxied(t);
    line.push(CALL);
    await until(() => ended.length > 0);
    assert.deepEqual([ended, line.written.join("").endsWith("told")], [["whole"], true]);
  });

  it("waits behind another with as many as there are, whose connection has one listener for all", async (t) => {
    const { line, ended } = await proxied(t);
    line.isFull = true;
    line.push("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + CALL);
    await until(() => line.written.length > 0);
    const listeners = (): number => line.listenerCount("close");
    const one = listeners();
    line.push(CALL.repeat(30));
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.equal(listeners(), one);
    line.destroy();
    await until(() => ended.length === 31);
    assert.deepEqual(new Set(ended), new Set(["client_gone"]));
  });

  it("and that its caller does not take has not: it is cut like one that flows", async (t) => {
    const { line, ended, cut } = await proxied(t);
    line.isFull = true;
    line.push("GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" + CALL);
    await until(() => line.written.length > 0);
    for (let turn = 0; turn < 100; turn++) await new Promise((resolve) => setImmediate(resolve));
    assert.deepEqual(ended, []);
    cut();
    await until(() => ended.length > 0);
    assert.deepEqual([ended, line.written.join("").includes("told")], [["client_gone"], false]);
  });
});
