import assert from "node:assert/strict";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { describe, it } from "node:test";
import {
  InvalidClientError,
  InvalidGrantError,
  InvalidScopeError,
  TemporarilyUnavailableError,
  UseDpopNonceError,
} from "../../src/core/oauth/errors.ts";
import type { RawOAuthAnswer, Rooms } from "../../src/http/rooms.ts";
import { LIMITS } from "../../src/http/limits.ts";
import { GRANTED, startEdge } from "./edge-server.ts";
import type { EdgeServer, Reply } from "./edge-server.ts";

const FORM: [string, string] = ["Content-Type", "application/x-www-form-urlencoded"];
const ENDPOINTS = ["/token", "/introspect", "/revoke"];

/** Rooms whose OAuth endpoints all do this. */
const sts = (answer: () => Promise<RawOAuthAnswer>): Partial<Rooms> => ({
  sts: { token: answer, introspect: answer, revoke: answer, dpopNonce: () => "nonce-1" },
});

function refused(reply: Reply, status: number, code: string): void {
  assert.equal(reply.status, status);
  assert.equal(reply.json()["error"], code);
  assert.equal(reply.headers["cache-control"], "no-store");
  assert.equal(reply.headers["content-type"], "application/json");
}

const reasons = (edge: EdgeServer): string[] => edge.seen.refusals.map(({ reason }) => reason);

describe("POST of a form", () => {
  it("hands the bytes and the headers that count to the room", async (t) => {
    const edge = await startEdge(t);
    const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const body = "grant_type=client_credentials&scope=a%3Ab";
    const reply = await edge.form("/token", body, [
      ["DPoP", "proof"],
      ["Authorization", "Basic eA=="],
      ["Accept", "application/json"],
      ["traceparent", traceparent],
    ]);
    assert.equal(reply.status, 200);
    assert.equal(reply.text, GRANTED.body);
    const [seen] = edge.seen.oauth;
    assert.equal(Buffer.from(seen?.body ?? []).toString(), body);
    assert.deepEqual(
      { ...seen, body: undefined, requestId: undefined, receivedAtMs: undefined },
      {
        path: "/token",
        method: "POST",
        authorization: "Basic eA==",
        dpop: "proof",
        accept: "application/json",
        contentType: FORM[1],
        traceparent,
        remoteAddress: "127.0.0.1",
        body: undefined,
        requestId: undefined,
        receivedAtMs: undefined,
      },
    );
    assert.equal(reply.headers["x-request-id"], seen?.requestId);
  });

  it("takes a charset of utf-8, as google-auth sends it", async (t) => {
    const edge = await startEdge(t);
    const headers: [string, string][] = [["Content-Type", "application/x-www-form-urlencoded;charset=UTF-8"]];
    assert.equal((await edge.send("POST", "/token", { headers, body: "a=b" })).status, 200);
  });

  it("answers without CORS, with no-store and nosniff, and HSTS behind an https issuer (RFC 6749 §5.1)", async (t) => {
    const reply = await (await startEdge(t)).form("/token", "a=b", [["Origin", "https://evil.example"]]);
    assert.equal(reply.headers["cache-control"], "no-store");
    assert.equal(reply.headers["x-content-type-options"], "nosniff");
    assert.match(String(reply.headers["strict-transport-security"]), /^max-age=/);
    assert.ok(!Object.keys(reply.headers).some((name) => name.startsWith("access-control-")));
    const loopback = await startEdge(t, { deps: { issuer: "http://127.0.0.1:8460" } });
    assert.equal((await loopback.form("/token", "a=b")).headers["strict-transport-security"], undefined);
  });

  it("serves the same below the issuer's path and without it", async (t) => {
    const edge = await startEdge(t, { deps: { issuer: "https://acme.example/sts" } });
    assert.equal((await edge.form("/sts/token", "a=b")).status, 200);
    assert.equal((await edge.form("/token", "a=b")).status, 200);
    assert.deepEqual(
      edge.seen.oauth.map(({ path }) => path),
      ["/token", "/token"],
    );
    assert.equal((await edge.form("/stsx/token", "a=b")).status, 404);
  });
});

describe("what is refused before any room is asked", () => {
  it("A-TX-03 parameters in the URL, of whatever name, and an empty query (RFC 6749 §2.3.1)", async (t) => {
    const edge = await startEdge(t);
    for (const target of ["/token?grant_type=client_credentials", "/token?x", "/token?"]) {
      refused(await edge.form(target, "subject_token=t"), 400, "invalid_request");
    }
    assert.deepEqual(reasons(edge), ["parameter_in_query", "parameter_in_query", "parameter_in_query"]);
    assert.equal(edge.seen.oauth.length, 0);
  });

  it("A-TX-04 a body that is not declared as a form", async (t) => {
    const edge = await startEdge(t);
    const types = [
      "application/json",
      "multipart/form-data; boundary=x",
      "text/plain",
      "application/x-www-form-urlencodedx",
    ];
    for (const type of types) {
      refused(
        await edge.send("POST", "/token", { headers: [["Content-Type", type]], body: "{}" }),
        415,
        "invalid_request",
      );
    }
    refused(await edge.send("POST", "/token", { body: "a=b" }), 415, "invalid_request");
    assert.equal(edge.seen.oauth.length, 0);
    assert.ok(reasons(edge).every((reason) => reason === "content_type"));
  });

  it("A-TX-05 a charset that is not utf-8, and two Content-Type headers", async (t) => {
    const edge = await startEdge(t);
    const utf16: [string, string][] = [["Content-Type", "application/x-www-form-urlencoded; charset=utf-16"]];
    refused(await edge.send("POST", "/token", { headers: utf16, body: "a=b" }), 415, "invalid_request");
    refused(await edge.form("/token", "a=b", [FORM]), 400, "invalid_request");
    assert.equal(edge.seen.oauth.length, 0);
  });

  it("two Authorization headers, and two DPoP headers (RFC 9449 §4.3)", async (t) => {
    const edge = await startEdge(t);
    const twice = (name: string): [string, string][] => [
      [name, "Basic eA=="],
      [name.toUpperCase(), "Basic eQ=="],
    ];
    refused(await edge.form("/token", "a=b", twice("Authorization")), 400, "invalid_request");
    refused(await edge.form("/token", "a=b", twice("DPoP")), 400, "invalid_dpop_proof");
    assert.equal(edge.seen.oauth.length, 0);
  });

  it("A-TX-15 any method but POST, with Allow", async (t) => {
    const edge = await startEdge(t);
    for (const path of ENDPOINTS) {
      for (const method of ["GET", "PUT", "DELETE", "PATCH", "TRACE", "OPTIONS"]) {
        const reply = await edge.send(method, path, method === "PUT" ? { headers: [FORM], body: "a=b" } : {});
        refused(reply, 405, "invalid_request");
        assert.equal(reply.headers["allow"], "POST");
        assert.equal(reply.headers["access-control-allow-methods"], undefined);
      }
      const head = await edge.send("HEAD", path);
      assert.deepEqual([head.status, head.headers["allow"], head.text], [405, "POST", ""]);
    }
    assert.equal(edge.seen.oauth.length, 0);
  });

  it("INV-27 a body over 64 KiB, declared or not, and not one of exactly 64 KiB", async (t) => {
    const edge = await startEdge(t);
    const exact = "a=".padEnd(LIMITS.formBytes, "x");
    assert.equal((await edge.form("/token", exact)).status, 200);
    refused(await edge.form("/token", `${exact}x`), 413, "invalid_request");
    const chunk = `${(LIMITS.formBytes + 1).toString(16)}\r\n${exact}x\r\n`;
    const head = `POST /token HTTP/1.1\r\nHost: a\r\nConnection: close\r\n${FORM.join(": ")}\r\nTransfer-Encoding: chunked\r\n\r\n`;
    assert.match(await edge.bytes(`${head}${chunk}0\r\n\r\n`), /^HTTP\/1\.1 413 /);
    const huge = `POST /token HTTP/1.1\r\nHost: a\r\n${FORM.join(": ")}\r\nContent-Length: 10000000000\r\n\r\n`;
    const answer = await edge.bytes(huge);
    assert.match(answer, /^HTTP\/1\.1 413 /);
    assert.match(answer, /connection: close/i);
    assert.equal(edge.seen.oauth.length, 1);
  });

  it("a compressed body, which could be any size", async (t) => {
    const edge = await startEdge(t);
    refused(await edge.form("/token", "a=b", [["Content-Encoding", "gzip"]]), 415, "invalid_request");
  });

  it("INV-27 whoever comes while too many are in progress; and serves again afterwards", async (t) => {
    let free = (): void => {};
    const blocked = new Promise<void>((resolve) => (free = resolve));
    const edge = await startEdge(t, { rooms: () => sts(() => blocked.then(() => GRANTED)) });
    const agent = { host: "127.0.0.1", port: edge.listener.port };
    const sockets = Array.from({ length: 20 }, () => connect(agent));
    t.after(() => sockets.forEach((socket) => socket.destroy()));
    const one = `POST /token HTTP/1.1\r\nHost: a\r\n${FORM.join(": ")}\r\nContent-Length: 3\r\n\r\na=b`;
    for (const socket of sockets) socket.write(one.repeat(LIMITS.oauthInFlight / sockets.length));
    const inFlight = async (count: number): Promise<void> => {
      let reply: Reply;
      do reply = await edge.send("GET", "/metrics");
      while (!reply.text.includes(`ephor_http_requests_in_flight ${count}\n`));
    };
    await inFlight(LIMITS.oauthInFlight);
    const late = await edge.form("/token", "a=b");
    refused(late, 503, "temporarily_unavailable");
    assert.equal(late.headers["retry-after"], "1");
    assert.deepEqual(reasons(edge), ["overloaded"]);
    free();
    await inFlight(0);
    assert.equal((await edge.form("/token", "a=b")).status, 200);
  });
});

describe("the face of an error", () => {
  const face = async (
    t: Parameters<typeof startEdge>[0],
    thrown: unknown,
    headers: [string, string][] = [],
  ): Promise<Reply> => {
    const edge = await startEdge(t, { rooms: () => sts(() => Promise.reject(thrown)) });
    const reply = await edge.form("/token", "a=b", headers);
    assert.equal(edge.seen.refusals.length, 0, "the room has recorded its own refusals");
    return reply;
  };

  it("has code and status by class, and nothing of reason or facts", async (t) => {
    const reply = await face(t, new InvalidGrantError({ reason: "token_signature", issuer: "hidden-issuer" }));
    refused(reply, 400, "invalid_grant");
    assert.ok(!reply.text.includes("token_signature") && !reply.text.includes("hidden-issuer"));
  });

  it("keeps error_description within the characters of RFC 6749 §5.2", async (t) => {
    const help = 'a "quoted" \\ name \u00e9\n';
    const reply = await face(t, new InvalidScopeError({ reason: "scope_malformed", help }));
    assert.match(String(reply.json()["error_description"]), /^[\x20-\x21\x23-\x5b\x5d-\x7e]+$/);
  });

  it("names the scheme that was tried in a 401 (RFC 6749 §5.2)", async (t) => {
    for (const [authorization, scheme] of [
      ["Basic eA==", "Basic"],
      ["Bearer x", "Bearer"],
      ["DPoP x", "DPoP"],
    ] as const) {
      const reply = await face(t, new InvalidClientError({ reason: "client_unknown" }), [
        ["Authorization", authorization],
      ]);
      refused(reply, 401, "invalid_client");
      assert.ok(String(reply.headers["www-authenticate"]).startsWith(`${scheme} `));
    }
    assert.match(
      String((await face(t, new InvalidClientError({ reason: "client_missing" }))).headers["www-authenticate"]),
      /^Basic /,
    );
  });

  it("brings the nonce that is asked for (RFC 9449 §8)", async (t) => {
    const reply = await face(t, new UseDpopNonceError({ reason: "dpop_nonce" }));
    refused(reply, 400, "use_dpop_nonce");
    assert.equal(reply.headers["dpop-nonce"], "nonce-1");
  });

  it("says when to try again (CONTRACT §2 rule 8)", async (t) => {
    const reply = await face(t, new TemporarilyUnavailableError({ reason: "database_unreachable" }));
    refused(reply, 503, "temporarily_unavailable");
    assert.equal(reply.headers["retry-after"], "1");
  });

  it("INV-15 tells a stranger nothing of a bug, and the log no message", async (t) => {
    const edge = await startEdge(t, { rooms: () => sts(() => Promise.reject(new TypeError("canary-5d1"))) });
    const reply = await edge.form("/token", "subject_token=canary-5d1");
    refused(reply, 500, "server_error");
    assert.deepEqual(Object.keys(reply.json()), ["error"]);
    const [line = ""] = edge.logLines;
    assert.match(line, /"name":"TypeError"/);
    assert.ok(!edge.logLines.join("").includes("canary"));
  });
});

describe("what is released leaves now or not at all (CONTRACT §2 rule 7)", () => {
  it("asks once more right before the write", async (t) => {
    let asked = 0;
    const answer = { ...GRANTED, release: () => ++asked > 0 };
    const edge = await startEdge(t, { rooms: () => sts(() => Promise.resolve(answer)) });
    assert.equal((await edge.form("/token", "a=b")).status, 200);
    assert.equal(asked, 1);
  });

  it("answers 503 and no token when the permit has lapsed by then", async (t) => {
    const answer = { ...GRANTED, release: () => false };
    const edge = await startEdge(t, { rooms: () => sts(() => Promise.resolve(answer)) });
    const reply = await edge.form("/token", "a=b");
    refused(reply, 503, "temporarily_unavailable");
    assert.ok(!reply.text.includes("access_token"));
  });

  it("does not leave a token in memory behind an answer that is not finished (pipelining)", async (t) => {
    let withheld = 0;
    let released = 0;
    let finishFirst = (): void => {};
    const first = new Promise<void>((resolve) => (finishFirst = resolve));
    let count = 0;
    const room = async (): Promise<RawOAuthAnswer> => {
      const isFirst = count++ === 0;
      if (isFirst) await first;
      else setImmediate(finishFirst);
      return { ...GRANTED, release: () => (released++, true), withheld: () => void withheld++ };
    };
    const edge = await startEdge(t, { rooms: () => sts(room) });
    const one = `POST /token HTTP/1.1\r\nHost: a\r\n${FORM.join(": ")}\r\nContent-Length: 3\r\n\r\na=b`;
    const last = one.replace("Host: a", "Host: a\r\nConnection: close");
    const answers = (await edge.bytes(one + last)).split("HTTP/1.1 ").slice(1);
    assert.deepEqual(
      answers.map((text) => text.slice(0, 3)),
      ["200", "503"],
    );
    assert.deepEqual([released, withheld], [1, 1]);
  });

  it("tells the room when nobody is there any more, by its signal and by withheld", async (t) => {
    const heard = new Promise<string[]>((resolve) => {
      const events: string[] = [];
      const rooms = (): Partial<Rooms> => ({
        sts: {
          ...sts(() => Promise.resolve(GRANTED)).sts,
          token: async (request) => {
            await new Promise<void>((gone) => {
              request.signal.addEventListener("abort", () => gone());
              client.destroy();
            });
            events.push("aborted");
            return {
              ...GRANTED,
              release: () => (events.push("released"), true),
              withheld: () => resolve([...events, "withheld"]),
            };
          },
        } as Rooms["sts"],
      });
      let client: ReturnType<typeof httpRequest>;
      void startEdge(t, { rooms }).then((edge) => {
        client = httpRequest({
          host: "127.0.0.1",
          port: edge.listener.port,
          method: "POST",
          path: "/token",
          headers: ["Host", "a", ...FORM],
        });
        client.on("error", () => {});
        client.end("a=b");
      });
    });
    assert.deepEqual(await heard, ["aborted", "withheld"]);
  });
});
