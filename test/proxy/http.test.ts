import assert from "node:assert/strict";
import { once } from "node:events";
import { request as httpRequest, type IncomingMessage } from "node:http";
import { after, beforeEach, test } from "node:test";
import { CRM_KEY, eventsOf, isCut, plain, soon, stage, until } from "./stage.ts";

const { w, crm, token, send } = await stage(
  { after },
  {
    resource: `
  other:
    http: ${"http://127.0.0.1:9"}
    actions: { read: ["GET /**"] }`,
    grants: `
  - { agent: release-bot, resource: crm, actions: [read, write] }
  - { agent: release-bot, resource: other, actions: [read] }
  - { agent: lonely-bot, resource: crm, actions: [read], when: 'args.page == "1" && call.path.startsWith("/contacts")' }`,
  },
);

beforeEach(() => {
  crm.seen.length = 0;
  crm.gone.length = 0;
  crm.answer = plain;
});

const header = (name: string): string[] => {
  const raw = crm.seen[0]?.rawHeaders ?? [];
  return raw.filter((_value, i) => i % 2 === 1 && raw[i - 1]?.toLowerCase() === name.toLowerCase());
};

/** Waits for an outcome that tells of something. Two replicas' events of one moment have no order. */
const recordedOutcome = (text: string): Promise<void> =>
  until(async () => (await eventsOf(w, "call.outcome")).some((event) => JSON.stringify(event).includes(text)), text);

test("a granted call reaches the upstream with the vault's credential and without the agent's token, and is recorded with its outcome", async () => {
  const access = await token();
  const answer = await send("GET", "/http/crm/contacts/7?page=2", { token: access, headers: { "x-page": "3" } });
  assert.equal(answer.status, 200);
  assert.equal(answer.text, '{"ok":true}');
  assert.equal(answer.headers["cache-control"], "no-store");
  assert.match(String(answer.headers["content-security-policy"]), /sandbox/);
  assert.equal(crm.seen[0]?.url, "/api/contacts/7?page=2");
  assert.deepEqual(header("x-api-key"), [CRM_KEY]);
  assert.deepEqual(header("x-page"), ["3"]);
  assert.deepEqual(header("authorization"), []);
  assert.ok(!JSON.stringify(crm.seen).includes(access));
  const [call] = await eventsOf(w, "call.forward");
  assert.equal(call?.["decision"], "granted");
  assert.equal(call?.["agent"], "release-bot");
  assert.equal(call?.["resource"], "crm");
  await until(async () => (await eventsOf(w, "call.outcome")).length > 0, "outcome");
  const [outcome] = await eventsOf(w, "call.outcome");
  assert.match(JSON.stringify(outcome), /"outcome":"done"/);
  assert.match(JSON.stringify(outcome), /"status":200/);
});

test("A-PRX-01 no token, one in the query, in the form, in a cookie, or two headers: refused, and the upstream hears nothing", async () => {
  const access = await token();
  const bare = await send("GET", "/http/crm/contacts/7");
  assert.equal(bare.status, 401);
  assert.match(
    String(bare.headers["www-authenticate"]),
    /^Bearer resource_metadata="[^"]+\/\.well-known\/oauth-protected-resource\/http\/crm", scope="crm"$/,
  );
  assert.equal((await send("GET", `/http/crm/contacts/7?access_token=${access}`)).status, 401);
  assert.equal((await send("GET", `/http/crm/contacts/7?access_token=${access}`, { token: access })).status, 400);
  assert.equal(
    (await send("GET", "/http/crm/contacts/7", { headers: { cookie: `access_token=${access}` } })).status,
    401,
  );
  const form = { "content-type": "application/x-www-form-urlencoded" };
  assert.equal(
    (await send("POST", "/http/crm/contacts", { headers: form, body: `access_token=${access}` })).status,
    401,
  );
  const twice = await send("GET", "/http/crm/contacts/7", {
    headers: { authorization: [`Bearer ${access}`, `Bearer ${access}`] },
  });
  assert.equal(twice.status, 400);
  assert.equal(crm.seen.length, 0);
});

test("A-PRX-02, A-PRX-03, A-PRX-04, A-PRX-05 what the agent says of itself, of the connection and of other servers is not forwarded", async () => {
  const answer = await send("GET", "/http/crm/contacts/7", {
    token: await token(),
    headers: {
      connection: "close, x-page, x-api-key",
      "x-page": "1",
      "x-api-key": "mine",
      X_Api_Key: "mine too",
      cookie: "a=b",
      "proxy-authorization": "Basic eA==",
      "x-forwarded-for": "10.0.0.1",
      "x-forwarded-host": "evil.example",
      forwarded: "for=10.0.0.1",
      "x-real-ip": "10.0.0.1",
      "x-original-url": "/admin",
      "x-http-method-override": "DELETE",
      via: "1.1 evil",
      te: "trailers",
      "x-anything": "else",
      accept: "text/plain",
    },
  });
  assert.equal(answer.status, 200);
  const names = crm.seen[0]?.rawHeaders.filter((_name, i) => i % 2 === 0).map((name) => name.toLowerCase());
  assert.deepEqual(names?.toSorted(), ["accept", "accept-encoding", "connection", "host", "user-agent", "x-api-key"]);
  assert.deepEqual(header("x-api-key"), [CRM_KEY]);
});

test("A-PRX-06 a path that two servers could read differently is refused; what was allowed arrives byte for byte", async () => {
  const access = await token();
  for (const path of [
    "/contacts//7",
    "/contacts/./7",
    "/contacts/../admin",
    "/contacts/%2e%2e/admin",
    "/contacts/a%2fb",
    "/contacts/a%5cb",
    "/contacts/a\\b",
    "/contacts/a;x=1",
    "/contacts/%00",
    "/contacts/a%0d%0ab",
    "/contacts/%252e",
    "/contacts/%63",
    "/contacts/%ff",
    "/contacts/%zz",
  ]) {
    const answer = await send("GET", `/http/crm${path}`, { token: access });
    assert.equal(answer.status, 400, path);
  }
  assert.equal((await send("GET", "http://evil.example/http/crm/contacts/7", { token: access })).status, 400);
  assert.equal(crm.seen.length, 0);
  assert.equal((await send("GET", "/http/crm/contacts/M%C3%BCller%20(A)", { token: access })).status, 200);
  assert.equal(crm.seen[0]?.url, "/api/contacts/M%C3%BCller%20(A)");
});

test("A-PRX-07 an unknown, a foreign and a malformed target answer alike", async () => {
  const access = await token();
  const answers: { status: number; text: string }[] = [];
  for (const name of ["nothing", "billing", "a@b", "a.b", "https:"]) {
    const { status, text } = await send("GET", `/http/${name}/contacts`, { token: access });
    answers.push({ status, text: text.replaceAll(/"req_[^"]+"/g, "ID") });
  }
  assert.equal(answers[0]?.status, 404);
  assert.ok(answers.every((answer) => answer.status === 404 && answer.text === answers[0]?.text));
});

test("A-PRX-08 a redirect is handed on and never followed", async () => {
  for (const status of [301, 302, 303, 307, 308]) {
    crm.seen.length = 0;
    crm.answer = (_req, res) => res.writeHead(status, { location: `${crm.url}/elsewhere` }).end();
    const answer = await send("GET", "/http/crm/contacts/7", { token: await token() });
    assert.equal(answer.status, status);
    assert.equal(answer.headers.location, `${crm.url}/elsewhere`);
    assert.equal(crm.seen.length, 1);
  }
});

test("A-PRX-09, INV-16 what the upstream echoes of the credential never reaches the agent, whatever the spelling and the chunks", async () => {
  const base64 = Buffer.from(CRM_KEY).toString("base64");
  crm.answer = (_req, res) => {
    res.writeHead(200, {
      "content-type": "text/plain",
      "set-cookie": "session=1",
      "www-authenticate": "Basic",
      "x-echo": `key ${CRM_KEY}`,
      "x-kept": "yes",
    });
    for (const character of `<${CRM_KEY}> <${base64}> crm-key-value`) res.write(character);
    res.end(` ${CRM_KEY}`);
  };
  const answer = await send("GET", "/http/crm/contacts/7", { token: await token() });
  assert.equal(answer.status, 200);
  assert.equal(
    answer.text,
    `<${"*".repeat(CRM_KEY.length)}> <${"*".repeat(base64.length)}> crm-key-value ${"*".repeat(CRM_KEY.length)}`,
  );
  for (const name of ["set-cookie", "www-authenticate", "x-echo"]) assert.equal(answer.headers[name], undefined, name);
  assert.equal(answer.headers["x-kept"], "yes");

  crm.answer = (_req, res) => res.writeHead(200, { "content-encoding": "gzip" }).end("\u001f\u008b");
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 502);
});

test("A-PRX-09, INV-16 an agent who asks for a body piece by piece puts no credential together", async () => {
  const text = `key=${CRM_KEY}; and more that comes after it`;
  const [from, to] = [text.indexOf(CRM_KEY), text.indexOf(CRM_KEY) + CRM_KEY.length];
  crm.answer = (req, res) => {
    const range = /^bytes=(\d+)-(\d+)$/.exec(req.headers.range ?? "");
    if (range === null) return void res.writeHead(200, { "content-type": "text/plain" }).end(text);
    const piece = text.slice(Number(range[1]), Number(range[2]) + 1);
    res.writeHead(206, { "content-type": "text/plain", "content-length": String(piece.length) });
    for (const character of piece) res.write(character);
    res.end();
  };
  const access = await token();
  const get = async (range: string): Promise<string> =>
    (await send("GET", "/http/crm/contacts/7", { token: access, headers: { range } })).text;
  // Two pieces; all of them of so many bytes; all that end, and all that begin, in the middle of it.
  for (const size of [1, 3, 8, 20]) {
    let whole = "";
    for (let at = 0; at < text.length; at += size) whole += await get(`bytes=${at}-${at + size - 1}`);
    const told = whole.slice(from, to).replaceAll("*", "").length;
    assert.ok(whole.length === text.length && told <= 6, `${size}: ${whole}`);
  }
  for (const at of [from + 4, from + 10, to - 4]) {
    const first = await get(`bytes=0-${at - 1}`);
    assert.equal(first, `key=${"*".repeat(at - from)}`);
    assert.equal(await get(`bytes=${at}-${text.length - 1}`), `${"*".repeat(to - at)}${text.slice(to)}`);
  }
  // What is no part of it stays what it is.
  assert.equal(await get(`bytes=${to}-${text.length - 1}`), text.slice(to));
  assert.equal(await get("bytes=0-9,12-20"), `key=${"*".repeat(CRM_KEY.length)}${text.slice(to)}`);
});

test("an upstream's 401 is no challenge to the agent, whose token is good", async () => {
  crm.answer = (_req, res) => res.writeHead(401, { "www-authenticate": 'Bearer realm="crm"' }).end("no");
  const answer = await send("GET", "/http/crm/contacts/7", { token: await token() });
  assert.equal(answer.status, 502);
  assert.equal(answer.headers["www-authenticate"], undefined);
});

test("an upstream that is away is 502, and the record says so", async () => {
  const answer = await send("GET", "/http/other/x", { token: await token("other:read", { resource: "http/other" }) });
  assert.equal(answer.status, 502);
  await recordedOutcome("upstream_error");
});

test("A-PRX-15 a method or path beyond the grant is refused with a decision; TRACE and lower case are no methods", async () => {
  const access = await token("crm:read crm:write");
  for (const [method, path] of [
    ["DELETE", "/http/crm/contacts/7"],
    ["PUT", "/http/crm/contacts/7"],
    ["GET", "/http/crm/admin"],
    ["GET", "/http/crm"],
  ] as const) {
    const answer = await send(method, path, { token: access });
    assert.equal(answer.status, 403, `${method} ${path}`);
    const { decision, code } = JSON.parse(answer.text) as { decision: string; code: string };
    assert.equal(code, "access_denied");
    const [event] = await eventsOf(w, "call.forward");
    assert.equal(event?.["id"], decision);
    assert.equal(event?.["decision"], "refused");
    assert.equal(event?.["reason"], path.includes("7") && method === "DELETE" ? "scope_not_granted" : "scope_unknown");
  }
  assert.equal((await send("TRACE", "/http/crm/contacts/7", { token: access })).status, 405);
  assert.equal(crm.seen.length, 0);
  assert.equal((await send("HEAD", "/http/crm/contacts/7", { token: access })).status, 200);
});

test("A-PRX-16 a token without the scope is told the one that it lacks; one for another resource is no token here", async () => {
  const read = await token("crm:read");
  const json = { "content-type": "application/json" };
  const answer = await send("POST", "/http/crm/contacts", { token: read, headers: json, body: '{"name":"A"}' });
  assert.equal(answer.status, 403);
  assert.match(String(answer.headers["www-authenticate"]), /scope="crm:write", error="insufficient_scope"/);
  const other = await token("other:read", { resource: "http/other" });
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: other })).status, 401);
  const billing = await token("billing:read_invoice", {
    resource: "../billing".slice(3),
    form: { resource: "https://billing.acme.example" },
  });
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: billing })).status, 401);
  assert.equal(crm.seen.length, 0);
});

test("INV-18 a JSON body is judged and written anew; one that parsers could read differently is refused", async () => {
  const access = await token("crm:write");
  const json = { "content-type": "application/json; charset=utf-8" };
  const post = (body: string): ReturnType<typeof send> =>
    send("POST", "/http/crm/contacts", { token: access, headers: json, body });
  assert.equal((await post('{ "name" : "\\u0041" }')).status, 200);
  assert.equal(crm.seen[0]?.body, '{"name":"A"}');
  for (const body of ['{"a":1,"a":2}', '{"a":1,"\\u0061":2}', '{"a":1} x', "{'a':1}", '{"a":NaN}', '\ufeff{"a":1}'])
    assert.equal((await post(body)).status, 400, body);
  assert.equal((await post(`{"a":"${"x".repeat(1024 * 1024)}"}`)).status, 413);
  const gzip = { ...json, "content-encoding": "gzip" };
  assert.equal((await send("POST", "/http/crm/contacts", { token: access, headers: gzip, body: "x" })).status, 415);
  assert.equal(crm.seen.length, 1);
  const [event] = await eventsOf(w, "call.forward");
  assert.equal(event?.["decision"], "refused");
  assert.equal(event?.["reason"], "content_type");
});

test("a condition sees the query and the path of each call", async () => {
  const access = await token("crm:read", { agent: "lonely-bot" });
  assert.equal((await send("GET", "/http/crm/contacts/7?page=1", { token: access })).status, 200);
  const answer = await send("GET", "/http/crm/contacts/7?page=2", { token: access });
  assert.equal(answer.status, 403);
  const [event] = await eventsOf(w, "call.forward");
  assert.equal(event?.["reason"], "condition_false");
  assert.equal((await send("GET", "/http/crm/contacts/7?page=1&page=2", { token: access })).status, 403);
});

test("INV-18 a body does not say otherwise than the query to whoever decides", async () => {
  const access = await token("crm:read", { agent: "lonely-bot" });
  const get = async (query: string, body: unknown): Promise<number> => {
    const headers = { "content-type": "application/json" };
    const answer = await send("GET", `/http/crm/contacts/7${query}`, {
      token: access,
      headers,
      body: JSON.stringify(body),
    });
    return answer.status;
  };
  assert.equal(await get("?page=2", { page: "1" }), 400);
  assert.equal(await get("?page=1&page=2", { page: "1" }), 400);
  assert.equal(await get("?page=2&body=1", ["1"]), 400);
  assert.equal(crm.seen.length, 0);
  // The same twice is said once.
  assert.equal(await get("?page=1", { page: "1" }), 200);
  assert.equal(await get("?page=1&size=10&tags=a&tags=b", { size: 10, tags: ["a", "b"] }), 200);
});

test("A-PRX-17 the upstream's work ends when the agent goes, and the record says aborted", async () => {
  crm.answer = (_req, res) => {
    res.writeHead(200);
    res.write("begun");
  };
  const access = await token();
  const leaving = new AbortController();
  const response = await fetch(`${w.url}/http/crm/contacts/7`, {
    headers: { authorization: `Bearer ${access}` },
    signal: leaving.signal,
  });
  assert.equal(response.status, 200);
  leaving.abort();
  await until(() => crm.gone.length === 1, "upstream told");
  await recordedOutcome('"aborted"');
});

test("A-PRX-18 an answer that flows past the token's end is cut", async () => {
  crm.answer = (_req, res) => {
    res.writeHead(200);
    res.write("begun");
  };
  const access = await token();
  const response = await fetch(`${w.url}/http/crm/contacts/7`, { headers: { authorization: `Bearer ${access}` } });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  assert.equal(new TextDecoder().decode((await soon(reader.read(), "the begin")).value), "begun");
  w.clock.advance(61_000);
  await isCut(reader.read());
  await until(() => crm.gone.length === 1, "upstream told");
  await recordedOutcome("cut_expired");
});

test("INV-08 a kill cuts what flows, on every replica, before its answer", async () => {
  const second = await w.replica();
  crm.answer = (_req, res) => {
    res.writeHead(200);
    res.write("begun");
  };
  const access = await token();
  const texts: string[] = [];
  const cuts = [w.url, second.url].map(async (url) => {
    const response = await fetch(`${url}/http/crm/contacts/7`, { headers: { authorization: `Bearer ${access}` } });
    const reader = (response.body as ReadableStream<Uint8Array>).getReader();
    texts.push(new TextDecoder().decode((await soon(reader.read(), "the begin")).value));
    await isCut(reader.read());
  });
  await until(() => texts.length === 2, "both flow");
  const killed = await w.operator("POST", "/v1/kill", { agent: "release-bot", reason: "test" });
  assert.equal(killed.status, 200);
  await Promise.all(cuts);
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: access })).status, 401);
  await w.operator("POST", "/v1/restore", { agent: "release-bot", reason: "test" });
});

test("A-KILL-05 a kill of the resource cuts what flows from it, and no call uses its credential until it is restored", async () => {
  crm.answer = (_req, res) => {
    res.writeHead(200);
    res.write("begun");
  };
  const access = await token();
  const response = await fetch(`${w.url}/http/crm/contacts/7`, { headers: { authorization: `Bearer ${access}` } });
  const reader = (response.body as ReadableStream<Uint8Array>).getReader();
  assert.equal(new TextDecoder().decode((await soon(reader.read(), "the begin")).value), "begun");
  const killed = await w.operator("POST", "/v1/kill", { resource: "crm", reason: "test" });
  assert.equal(killed.status, 200, killed.text);
  await isCut(reader.read());
  crm.seen.length = 0;
  assert.equal((await send("GET", "/http/crm/contacts/7", { token: access })).status, 401);
  assert.equal(crm.seen.length, 0);
  await w.operator("POST", "/v1/restore", { resource: "crm", reason: "test" });
});

test("A-PRX-18, A-PRX-20 a token that dies while its call's body dribbles in makes no call", async () => {
  const access = await token("crm:write");
  const { hostname, port } = new URL(w.url);
  const body = '{"name":"A"}';
  const slow = async (dying: boolean): Promise<number | undefined> => {
    const req = httpRequest({
      hostname,
      port,
      method: "POST",
      path: "/http/crm/contacts",
      agent: false,
      headers: {
        authorization: `Bearer ${access}`,
        "content-type": "application/json",
        "content-length": Buffer.byteLength(body),
      },
    });
    const answered = once(req, "response") as Promise<[IncomingMessage]>;
    await new Promise((resolve) => req.write(body.slice(0, 3), resolve));
    // Its head came first, so its token was looked at by the time that this one is answered.
    assert.equal((await send("GET", "/http/crm/contacts/7", { token: await token() })).status, 200);
    if (dying) w.clock.advance(60);
    req.end(body.slice(3));
    const [res] = await soon(answered, "the answer");
    res.resume();
    return res.statusCode;
  };
  assert.equal(await slow(false), 200);
  assert.deepEqual(
    crm.seen.map(({ method, body: sent }) => [method, sent]),
    [
      ["GET", ""],
      ["POST", body],
    ],
  );
  crm.seen.length = 0;
  assert.equal(await slow(true), 401);
  assert.deepEqual(
    crm.seen.map(({ method }) => method),
    ["GET"],
  );
  const refused = (await eventsOf(w, "call.forward")).find(({ decision }) => decision === "refused");
  assert.deepEqual([refused?.["reason"], refused?.["resource"]], ["token_expired", "crm"]);
});

test("A-PRX-19 an upgrade is not served", async () => {
  const answer = await send("GET", "/http/crm/contacts/7", {
    token: await token(),
    headers: { connection: "upgrade", upgrade: "websocket" },
  }).catch(() => ({ status: 501 }));
  assert.equal(answer.status, 501);
});

test("A-PRX-10, A-PRX-11 http is for loopback only, and a private address needs internal", async () => {
  for (const [url, more] of [
    ["http://crm.acme.example", ""],
    ["http://10.0.0.7", ""],
  ] as const) {
    const answer = await w.operator("POST", "/v1/apply", {
      source: "bad.yaml",
      file: `resources: { bad: { http: "${url}", actions: { read: ["GET /**"] } ${more} } }`,
    });
    assert.equal(answer.status, 422, answer.text);
  }
  await w.apply(
    `resources: { inside: { http: "https://10.0.0.7", actions: { read: ["GET /**"] } } }
grants: [{ agent: release-bot, resource: inside, actions: [read] }]`,
    "inside.yaml",
  );
  const access = await token("inside:read", { resource: "http/inside" });
  assert.equal((await send("GET", "/http/inside/x", { token: access })).status, 502);
  await recordedOutcome('"problem":"address"');
});
