import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ProblemError } from "../../src/api/problem.ts";
import {
  AccessDeniedError,
  InsufficientScopeError,
  InvalidRequestError,
  TemporarilyUnavailableError,
  UseDpopNonceError,
} from "../../src/core/oauth/errors.ts";
import { LIMITS } from "../../src/http/limits.ts";
import type { Rooms } from "../../src/http/rooms.ts";
import { routes } from "../../src/http/routes/all.ts";
import { AGENT, OPERATOR, startEdge, TXN } from "./edge-server.ts";
import type { EdgeServer, Reply } from "./edge-server.ts";

const AS_OPERATOR: [string, string] = ["Authorization", OPERATOR];
const AS_AGENT: [string, string] = ["Authorization", AGENT];
const JSON_TYPE: [string, string] = ["Content-Type", "application/json"];
const KILL = { agent: "bot", reason: "test" };

const at = (path: string): string =>
  path.replaceAll("{txn}", TXN).replaceAll("{name}", "bot").replaceAll("{id}", TXN).replaceAll("{kind}", "mcp");

function problem(reply: Reply, status: number, code: string): Record<string, unknown> {
  assert.equal(reply.status, status, reply.text);
  assert.equal(reply.headers["content-type"], "application/problem+json");
  const body = reply.json();
  assert.deepEqual([body["status"], body["code"], body["type"]], [status, code, `urn:ephor:problem:${code}`]);
  assert.equal(body["request_id"], reply.headers["x-request-id"]);
  return body;
}

const post = (edge: EdgeServer, path: string, body: unknown, ...headers: [string, string][]): Promise<Reply> =>
  edge.send("POST", path, {
    headers: [JSON_TYPE, ...headers],
    body: typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body),
  });

const throwing = (thrown: unknown) => (): Partial<Rooms> => ({ readiness: () => Promise.reject(thrown) });

describe("who may call a route", () => {
  it("every /v1 route refuses a request without credentials, with a challenge (RFC 9728 §5.1), before it reads anything", async (t) => {
    const edge = await startEdge(t);
    for (const route of routes.filter(
      ({ auth }) =>
        auth !== "none" && auth !== "holder" && auth !== "client" && auth !== "transmitter" && auth !== "channel",
    )) {
      const reply = await edge.send(route.method, at(route.path), { headers: [JSON_TYPE], body: "{broken" });
      problem(reply, 401, "invalid_token");
      const challenge = String(reply.headers["www-authenticate"]);
      assert.match(
        challenge,
        /^Bearer resource_metadata="https:\/\/sts\.acme\.example\/\.well-known\/oauth-protected-resource\/v1"/,
      );
      assert.ok(!challenge.includes("error="), "no error code without credentials (RFC 6750 §3.1)");
    }
    assert.deepEqual(edge.seen.calls, []);
  });

  it("every /v1 route refuses a bad key and a bad token alike", async (t) => {
    const edge = await startEdge(t);
    for (const route of routes.filter(
      ({ auth }) =>
        auth !== "none" && auth !== "holder" && auth !== "client" && auth !== "transmitter" && auth !== "channel",
    )) {
      for (const credential of ["Bearer ephor_op_bad", "Bearer bad", "Basic eA=="]) {
        const reply = await edge.send(route.method, at(route.path), { headers: [["Authorization", credential]] });
        problem(reply, 401, "invalid_token");
        assert.match(String(reply.headers["www-authenticate"]), /error="invalid_token"/);
      }
    }
    assert.ok(edge.seen.calls.every(({ name }) => name === "accessTokens.authenticate"));
  });

  it("only public documents are served to anybody", () => {
    const open = routes.filter(({ auth }) => auth === "none").map(({ path }) => path);
    assert.deepEqual(
      open.filter((path) => path.startsWith("/v1")),
      [],
    );
    assert.deepEqual(open.filter((path) => !path.startsWith("/.well-known/")).sort(), [
      "/authorize",
      "/docs",
      "/livez",
      "/metrics",
      "/openapi.json",
      "/readyz",
    ]);
  });

  it("asks the token for exactly the scope that the route names", async (t) => {
    const edge = await startEdge(t);
    for (const route of routes) {
      if (typeof route.auth === "string") continue;
      edge.seen.calls.length = 0;
      const reply = await edge.send(route.method, at(route.path), {
        headers: [AS_AGENT, ...(route.body ? [JSON_TYPE] : [])],
        body: "{}",
      });
      assert.notEqual(reply.status, 401);
      const [first] = edge.seen.calls;
      assert.equal(first?.name, "accessTokens.authenticate");
      assert.deepEqual(first?.args[1], route.auth.scope);
      assert.equal((first?.args[0] as { url: string } | undefined)?.url, `https://sts.acme.example${at(route.path)}`);
    }
  });

  it("lets an operator do what a scope of ephor allows, and an agent's own routes only an agent", async (t) => {
    const edge = await startEdge(t);
    assert.equal((await post(edge, "/v1/kill", KILL, AS_OPERATOR)).status, 200);
    assert.equal((await post(edge, "/v1/tasks", { purpose: "p" }, AS_AGENT)).status, 201);
    problem(await post(edge, "/v1/tasks", { purpose: "p" }, AS_OPERATOR), 401, "invalid_token");
    problem(await post(edge, "/v1/keys/rotate", {}, AS_AGENT), 401, "invalid_token");
    assert.equal((await post(edge, "/v1/keys/rotate", {}, AS_OPERATOR)).status, 200);
  });

  it("does not believe a room that answers without the scope", async (t) => {
    const weak = {
      kind: "agent",
      agent: "bot",
      token: { jti: TXN, txn: TXN, sub: "agent|bot", scopes: ["ephor:read"], kill: { keys: [], epochs: [] } },
    } as const;
    const edge = await startEdge(t, {
      rooms: () => ({ accessTokens: { authenticate: () => Promise.resolve(weak), follow: () => () => {} } }),
    });
    problem(await post(edge, "/v1/kill", KILL, AS_AGENT), 401, "invalid_token");
    assert.equal((await edge.send("GET", "/v1/agents", { headers: [AS_AGENT] })).status, 200);
  });

  it("hands the caller and the facts of the request to the room", async (t) => {
    const edge = await startEdge(t);
    const reply = await post(edge, "/v1/kill", { ...KILL, txn: [TXN, TXN], dry_run: true }, AS_OPERATOR);
    const [call] = edge.seen.calls;
    assert.deepEqual(call?.args[0], {
      targets: [
        { kind: "agent", value: "bot" },
        { kind: "txn", value: TXN },
      ],
      reason: "test",
      forSeconds: undefined,
      dryRun: true,
    });
    assert.ok(call);
    const { caller, request } = call.args[1] as { caller: unknown; request: Record<string, unknown> };
    assert.deepEqual(caller, { kind: "operator", id: "op1" });
    assert.deepEqual(
      [request["route"], request["method"], request["remoteAddress"]],
      ["/v1/kill", "POST", "127.0.0.1"],
    );
    assert.equal(request["requestId"], reply.headers["x-request-id"]);
  });
});

describe("a JSON body", () => {
  const refusedBodies: [string, string | Uint8Array][] = [
    ["with a duplicate member", '{"agent":"bot","reason":"a","reason":"b"}'],
    ["with a duplicate member in other spelling", '{"agent":"bot","reason":"a","r\\u0065ason":"b"}'],
    ["with trailing text", '{"agent":"bot","reason":"a"}x'],
    ["that is no object", "[]"],
    ["that is cut short", '{"agent":"bot"'],
    ["that is empty", ""],
    ["that is not UTF-8", Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ["A-ADM-07 with an unknown member", '{"agent":"bot","reason":"a","is_root":true}'],
    ["A-ADM-07 with __proto__", '{"agent":"bot","reason":"a","__proto__":{"dry_run":true}}'],
    ["with NUL in a string", '{"agent":"bot","reason":"a\\u0000"}'],
    ["with half a surrogate pair", '{"agent":"bot","reason":"\\ud800"}'],
    ["nested 33 deep", `{"agent":${"[".repeat(33)}${"]".repeat(33)},"reason":"a"}`],
    ["without a reason", '{"agent":"bot"}'],
    ["without a target", '{"reason":"a"}'],
  ];
  for (const [title, body] of refusedBodies) {
    it(`${title} is refused`, async (t) => {
      const edge = await startEdge(t);
      problem(await post(edge, "/v1/kill", body, AS_OPERATOR), 400, "malformed");
      assert.deepEqual(edge.seen.calls, []);
    });
  }

  it("says where and does not quote", async (t) => {
    const edge = await startEdge(t);
    const reply = await post(edge, "/v1/kill", { agent: "Canary Name", reason: "r", foo: "canary" }, AS_OPERATOR);
    const { errors } = problem(reply, 400, "malformed") as unknown as { errors: { path: string }[] };
    assert.deepEqual(errors.map(({ path }) => path).sort(), ["body.agent", "body.foo"]);
    assert.ok(!/canary/i.test(reply.text));
  });

  it("is JSON in UTF-8 and says so", async (t) => {
    const edge = await startEdge(t);
    const body = JSON.stringify(KILL);
    for (const type of ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"]) {
      const reply = await edge.send("POST", "/v1/kill", { headers: [["Content-Type", type], AS_OPERATOR], body });
      problem(reply, 415, "unsupported_media_type");
    }
    problem(await edge.send("POST", "/v1/kill", { headers: [AS_OPERATOR], body }), 415, "unsupported_media_type");
    const utf8: [string, string] = ["Content-Type", "application/json; charset=utf-8"];
    assert.equal((await edge.send("POST", "/v1/kill", { headers: [utf8, AS_OPERATOR], body })).status, 200);
  });

  it("INV-27 is bounded: 64 KiB, and 1 MiB for a trust file", async (t) => {
    const edge = await startEdge(t);
    const long = { ...KILL, reason: "x".repeat(LIMITS.jsonBytes) };
    problem(await post(edge, "/v1/kill", long, AS_OPERATOR), 413, "too_large");
    const file = "#".repeat(900_000);
    assert.equal((await post(edge, "/v1/apply", { source: "t.yaml", file }, AS_OPERATOR)).status, 200);
    problem(await post(edge, "/v1/apply", { source: "t.yaml", file: file + file }, AS_OPERATOR), 413, "too_large");
  });

  it("may be left out where the route says so", async (t) => {
    const edge = await startEdge(t);
    assert.equal((await edge.send("POST", "/v1/keys/rotate", { headers: [AS_OPERATOR] })).status, 200);
    problem(await edge.send("POST", "/v1/kill", { headers: [AS_OPERATOR] }), 415, "unsupported_media_type");
  });
});

describe("path and query", () => {
  it("names that are none are refused", async (t) => {
    const edge = await startEdge(t);
    for (const name of ["Bot", "a_b", "-a", "a%00", "x".repeat(64)]) {
      problem(await edge.send("GET", `/v1/agents/${name}`, { headers: [AS_OPERATOR] }), 400, "malformed");
    }
    assert.deepEqual(edge.seen.calls, []);
  });

  it("a query that is unknown, repeated, or holds a token is refused", async (t) => {
    const edge = await startEdge(t);
    for (const query of ["limit=0", "limit=x", "limit=5&limit=6", "foo=1", "access_token=t", "after=A%20b"]) {
      problem(await edge.send("GET", `/v1/agents?${query}`, { headers: [AS_OPERATOR] }), 400, "malformed");
    }
    problem(await edge.send("GET", `/v1/chains/${TXN}?x=1`, { headers: [AS_OPERATOR] }), 400, "malformed");
    assert.equal((await edge.send("GET", "/v1/agents?limit=5&after=bot", { headers: [AS_OPERATOR] })).status, 200);
    assert.deepEqual(edge.seen.calls.at(-1)?.args, ["agents", { after: "bot", limit: 5 }]);
  });

  it("a query is ignored at public documents, which people bookmark", async (t) => {
    assert.equal((await (await startEdge(t)).send("GET", "/livez?t=1")).status, 200);
  });

  it("an unknown path is 404 for everybody, an unknown method 405 with Allow", async (t) => {
    const edge = await startEdge(t);
    problem(await edge.send("GET", "/v1/nothing"), 404, "not_found");
    problem(await edge.send("GET", "/"), 404, "not_found");
    problem(await edge.send("GET", "/v1/agents/"), 404, "not_found");
    const reply = await edge.send("PATCH", "/v1/agents/bot", { headers: [AS_OPERATOR] });
    problem(reply, 405, "method_not_allowed");
    assert.equal(reply.headers["allow"], "GET, HEAD, PUT, DELETE");
    const options = await edge.send("OPTIONS", "/v1/kill", { headers: [["Origin", "https://evil.example"]] });
    problem(options, 405, "method_not_allowed");
    assert.equal(options.headers["access-control-allow-origin"], undefined);
  });

  it("a path that two readers could read differently is refused", async (t) => {
    const edge = await startEdge(t);
    const paths = [
      "/livez/../v1/agents",
      "/livez/%2e%2e/v1/agents",
      "//v1/agents",
      "/v1//agents",
      "/v1/./agents",
      "/v1\\agents",
      "/v1/agents/..",
    ];
    for (const path of paths) {
      const reply = await edge.send("GET", path, { headers: [AS_OPERATOR] });
      assert.equal(reply.status, 400, path);
      const { code, detail } = JSON.parse(reply.text) as { code: string; detail: string };
      assert.deepEqual([code, reply.headers["cache-control"]], ["invalid_request", "no-store"]);
      assert.match(detail, /two servers/);
      assert.ok(!reply.text.includes("agents"), "nothing of the path comes back");
    }
    assert.equal((await edge.send("HEAD", "//v1/agents")).text, "");
    assert.match(await edge.bytes("GET http://evil.example/livez HTTP/1.1\r\nHost: a\r\n\r\n"), /^HTTP\/1\.1 400 /);
    assert.deepEqual(edge.seen.calls, []);
    assert.equal((await edge.send("GET", "/v1/agents", { headers: [AS_OPERATOR] })).status, 200);
  });

  it("HEAD is GET without a body", async (t) => {
    const reply = await (await startEdge(t)).send("HEAD", "/livez");
    assert.deepEqual([reply.status, reply.text], [200, ""]);
  });

  it("repeated credentials are refused", async (t) => {
    const edge = await startEdge(t);
    problem(await edge.send("GET", "/v1/agents", { headers: [AS_OPERATOR, AS_OPERATOR] }), 400, "invalid_request");
  });
});

describe("the face of an error under /v1 (RFC 9457)", () => {
  const cases: [string, unknown, number, string][] = [
    ["a problem", new ProblemError("conflict", { detail: "d" }), 409, "conflict"],
    ["a refusal", new AccessDeniedError({ reason: "condition_false" }), 403, "access_denied"],
    ["an unknown task", new InvalidRequestError({ reason: "task_unknown" }), 404, "invalid_request"],
    ["somebody else's task, alike", new InvalidRequestError({ reason: "task_not_member" }), 404, "invalid_request"],
    ["an ended task", new InvalidRequestError({ reason: "task_ended" }), 409, "invalid_request"],
    ["a bug", new TypeError("canary-77"), 500, "internal"],
  ];
  for (const [title, thrown, status, code] of cases) {
    it(`${title} is ${status}`, async (t) => {
      const edge = await startEdge(t, { rooms: throwing(thrown) });
      const reply = await edge.send("GET", "/readyz");
      problem(reply, status, code);
      assert.ok(!(reply.text + edge.logLines.join("")).includes("canary"));
      assert.equal(edge.logLines.length, status === 500 ? 1 : 0);
    });
  }

  it("a service that cannot decide says when to try again", async (t) => {
    const edge = await startEdge(t, {
      rooms: throwing(new TemporarilyUnavailableError({ reason: "database_unreachable" })),
    });
    const reply = await edge.send("GET", "/readyz");
    problem(reply, 503, "temporarily_unavailable");
    assert.equal(reply.headers["retry-after"], "1");
  });

  it("a missing scope is named (RFC 6750 §3.1)", async (t) => {
    const authenticate = () => Promise.reject(new InsufficientScopeError({ reason: "insufficient_scope" }));
    const edge = await startEdge(t, { rooms: () => ({ accessTokens: { authenticate, follow: () => () => {} } }) });
    const reply = await post(edge, "/v1/kill", KILL, AS_AGENT);
    problem(reply, 403, "insufficient_scope");
    assert.match(String(reply.headers["www-authenticate"]), /scope="ephor:kill", error="insufficient_scope"/);
  });

  it("a nonce is asked for with 401 at a resource (RFC 9449 §9)", async (t) => {
    const authenticate = () => Promise.reject(new UseDpopNonceError({ reason: "dpop_nonce" }));
    const edge = await startEdge(t, { rooms: () => ({ accessTokens: { authenticate, follow: () => () => {} } }) });
    const reply = await post(edge, "/v1/kill", KILL, ["Authorization", "DPoP agent-token"]);
    problem(reply, 401, "use_dpop_nonce");
    assert.equal(reply.headers["dpop-nonce"], "nonce-1");
    assert.match(String(reply.headers["www-authenticate"]), /^DPoP .*error="use_dpop_nonce"/);
  });
});

describe("answers", () => {
  it("A-ADM-03 carry the security headers, and are not kept", async (t) => {
    const reply = await (await startEdge(t)).send("GET", "/v1/agents", { headers: [AS_OPERATOR] });
    assert.equal(reply.headers["cache-control"], "no-store");
    assert.equal(reply.headers["x-content-type-options"], "nosniff");
    assert.equal(reply.headers["referrer-policy"], "no-referrer");
    assert.equal(reply.headers["content-security-policy"], "default-src 'none'; frame-ancestors 'none'");
    assert.match(String(reply.headers["strict-transport-security"]), /^max-age=/);
  });

  it("a receipt is signed for whoever asks for nothing else", async (t) => {
    const edge = await startEdge(t);
    const signed = await post(edge, "/v1/kill", KILL, AS_OPERATOR, ["Accept", "application/jwt"]);
    assert.deepEqual([signed.headers["content-type"], signed.text], ["application/jwt", "header.payload.signature"]);
    const plain = await post(edge, "/v1/kill", KILL, AS_OPERATOR, ["Accept", "application/json, application/jwt"]);
    assert.equal(plain.json()["id"], "kill_1");
  });

  it("an export is lines as they come", async (t) => {
    const reply = await (await startEdge(t)).send("GET", "/v1/audit/export", { headers: [AS_OPERATOR] });
    assert.equal(reply.headers["content-type"], "application/x-ndjson");
    assert.equal(reply.text, '{"seq":1}\n{"seq":2}\n');
  });

  it("what is not there is 404", async (t) => {
    const edge = await startEdge(t);
    problem(await edge.send("GET", `/v1/chains/${TXN}`, { headers: [AS_OPERATOR] }), 404, "not_found");
  });

  it("readiness tells what it waits for, and turns when the server stops", async (t) => {
    const edge = await startEdge(t, { rooms: () => ({ readiness: () => Promise.resolve({ database: false }) }) });
    const reply = await edge.send("GET", "/readyz");
    assert.deepEqual(
      [reply.status, reply.json()],
      [503, { status: "not_ready", checks: { database: false, serving: true } }],
    );
    const stopping = await startEdge(t, { deps: { isStopping: () => true } });
    assert.equal((await stopping.send("GET", "/readyz")).status, 503);
    assert.equal((await stopping.send("GET", "/livez")).status, 200);
  });

  it("metrics are for this machine only, and not for what a proxy brings", async (t) => {
    const edge = await startEdge(t);
    assert.match((await edge.send("GET", "/metrics")).text, /^# HELP ephor_/m);
    for (const header of ["X-Forwarded-For", "Forwarded", "Via"]) {
      problem(await edge.send("GET", "/metrics", { headers: [[header, "203.0.113.9"]] }), 404, "not_found");
    }
    const own = await startEdge(t, { deps: { hasMetricsListener: true } });
    problem(await own.send("GET", "/metrics"), 404, "not_found");
  });
});
