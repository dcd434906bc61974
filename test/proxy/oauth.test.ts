import assert from "node:assert/strict";
import { after, beforeEach, test } from "node:test";
import { eventsOf, until } from "./stage.ts";
import { oauthStage } from "./oauth-stage.ts";

const s = await oauthStage({ after });
const { w, idp, pages } = s;
const second = await w.replica();
const PEOPLE = ["okta|00u1ab", "okta|00u2cd"] as const;
beforeEach(async () => {
  w.clock.advance(1);
  pages.seen.length = 0;
  for (const sub of PEOPLE) await s.connect(sub);
});

const refreshes = (): number => idp.seen.filter(({ path }) => path === "/token").length;
const bearer = (at = -1): string => {
  const { rawHeaders = [] } = pages.seen.at(at) ?? {};
  const found = rawHeaders.flatMap((name, i) => (/^authorization$/i.test(name) ? [rawHeaders[i + 1] ?? ""] : []));
  assert.equal(found.length, 1);
  return (found[0] ?? "").replace(/^Bearer /, "");
};
const lastRefusal = async (): Promise<Record<string, unknown>> => (await eventsOf(w, "call.forward"))[0] ?? {};
const bodyOf = (event: Record<string, unknown>): Record<string, unknown> => event["body"] as Record<string, unknown>;
const kill = async (what: Record<string, unknown>): Promise<void> => {
  const killed = await w.operator("POST", "/v1/kill", { ...what, reason: "a test" });
  assert.equal(killed.status, 200, killed.text);
};
const restore = async (what: Record<string, unknown>): Promise<void> => {
  assert.equal((await w.operator("POST", "/v1/restore", { ...what, reason: "a test" })).status, 200);
};

test("INV-16 each person's calls go out with that person's access token, over HTTP and over MCP, and nobody else's", async () => {
  const before = refreshes();
  for (const sub of PEOPLE) {
    const human = w.human(sub.slice("okta|".length));
    const token = await s.token({ human });
    const answer = await s.read(token);
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual(answer.json, { account: sub });
    assert.ok(!JSON.stringify(pages.seen).includes(token));
    const call = await lastRefusal();
    assert.equal(call["sub"], sub);
    const who = await w.operator("GET", `/v1/who/${String(bodyOf(call)["lease"])}`);
    assert.equal((who.body["matches"] as { sub: string; resource: string }[])[0]?.sub, sub);
    const called = await s.tool(await s.token({ human, resource: "mcp/notion-mcp" }));
    assert.equal(called.status, 200, called.text);
    assert.ok(called.text.includes(sub));
    // What the MCP resource's policy leaves.
    assert.equal(idp.live.get(bearer()), "read");
    const shown = answer.text + called.text + w.lines.join("\n") + JSON.stringify(await w.events());
    for (const secret of s.owners.keys()) assert.ok(!shown.includes(secret));
  }
  assert.equal(refreshes(), before + 4);
});

test("one access token serves a place's calls until it is about to end, and is asked for once by all that come together", async () => {
  const human = w.human("00u1ab");
  const before = refreshes();
  const token = await s.token({ human });
  const answers = await Promise.all(Array.from({ length: 8 }, () => s.read(token)));
  assert.ok(answers.every(({ status }) => status === 200));
  w.clock.advance(200);
  assert.equal((await s.read(await s.token({ human }))).status, 200);
  assert.equal(refreshes(), before + 1);
  w.clock.advance(100);
  assert.equal((await s.read(await s.token({ human }))).status, 200);
  assert.equal(refreshes(), before + 2);
  // The first one is ended at the upstream when its lease is over.
  const [first] = idp.live.keys();
  assert.ok(first);
  await until(
    () => ![...idp.live.keys()].some((live) => live !== bearer() && s.owners.get(live) === PEOPLE[0]),
    "the end",
  );
});

test("an access token that its server lets live shortly is asked for again in time", async () => {
  const { meddle } = idp;
  idp.meddle = (request, reply) => {
    meddle?.(request, reply);
    return request.path === "/token" ? { ...reply, body: { ...(reply.body as object), expires_in: 60 } } : undefined;
  };
  const human = w.human("00u2cd");
  const before = refreshes();
  try {
    for (const seconds of [0, 40, 15]) {
      w.clock.advance(seconds);
      assert.equal((await s.read(await s.token({ human }))).status, 200);
    }
  } finally {
    idp.meddle = meddle;
  }
  assert.equal(refreshes(), before + 2);
});

test("RFC 9700 §4.14.2 two replicas that need one person's token at once use each refresh token once", async () => {
  const humans = [0, 1, 2].map(() => w.human("00u1ab"));
  const tokens = await Promise.all(humans.map((human) => s.token({ human })));
  const answers = await Promise.all(
    tokens.flatMap((token) => [s.read(token), s.read(token, { url: second.url }), s.read(token, { url: second.url })]),
  );
  for (const answer of answers) assert.deepEqual([answer.status, answer.json["account"]], [200, PEOPLE[0]]);
  // The upstream ends all of them where one comes twice.
  assert.ok(idp.refreshTokens.size > 0);
  const { body } = await w.operator("GET", `/v1/secrets/${s.secretOf(PEOPLE[0])}`);
  assert.match(String(body["updated_by"]), /^lease:/);
});

test("a task without a human is refused, with a decision that says so; MCP is told by −32003", async () => {
  const before = refreshes();
  const answer = await s.read(await s.token({}));
  assert.equal(answer.status, 403, answer.text);
  assert.equal(answer.headers["content-type"], "application/problem+json");
  const { code, decision, connect } = answer.json;
  const event = await lastRefusal();
  assert.deepEqual([code, decision, connect], ["human_missing", event["id"], undefined]);
  assert.equal(event["reason"], "human_missing");
  const called = await s.tool(await s.token({ resource: "mcp/notion-mcp" }));
  assert.equal(called.status, 200, called.text);
  const { error } = called.json as { error: { code: number; data: Record<string, unknown> } };
  assert.deepEqual([error.code, error.data["code"]], [-32003, "human_missing"]);
  assert.deepEqual([pages.seen.length, refreshes()], [0, before]);
});

test("a person without an account is told where it is connected, and is served as soon as it is", async () => {
  const human = w.human("00u9zz");
  const sub = "okta|00u9zz";
  const answer = await s.read(await s.token({ human }));
  assert.equal(answer.status, 403, answer.text);
  const event = await lastRefusal();
  assert.deepEqual([event["reason"], event["decision"]], ["account_not_connected", "refused"]);
  const secret = s.secretOf(sub);
  const connect = { resource: "notion", subject: sub, secret, command: `ephor secret set ${secret}` };
  assert.deepEqual(answer.json["code"], "account_not_connected");
  assert.deepEqual(answer.json["connect"], connect);
  assert.equal(answer.json["decision"], event["id"]);
  const called = await s.tool(await s.token({ human, resource: "mcp/notion-mcp" }));
  const { error } = called.json as { error: { code: number; data: Record<string, unknown> } };
  assert.equal(error.code, -32003);
  assert.deepEqual([error.data["code"], error.data["connect"]], ["account_not_connected", connect]);
  const explained = await w.operator("GET", `/v1/explain/${String(error.data["decision"])}`);
  assert.match(String(explained.body["difference"]), /account/);
  assert.equal(pages.seen.length, 0);
  await s.connect(sub);
  assert.deepEqual((await s.read(await s.token({ human }))).json, { account: sub });
});

test("an account that its server lets in no more is one that has to be connected again", async () => {
  const human = w.human("00u1ab");
  idp.refreshTokens.clear();
  const answer = await s.read(await s.token({ human }));
  assert.equal(answer.status, 403, answer.text);
  assert.equal(answer.json["code"], "account_not_connected");
  assert.equal(bodyOf(await lastRefusal())["refused"], true);
  await s.connect(PEOPLE[0]);
  assert.equal((await s.read(await s.token({ human }))).status, 200);
});

test("who disconnects or changes an account is heeded with the next call; what its server put in its place changes nothing", async () => {
  const human = w.human("00u1ab");
  const call = async () => await s.read(await s.token({ human }));
  assert.deepEqual((await call()).json, { account: PEOPLE[0] });
  // Another task of the same person: its server gives another refresh token.
  assert.equal((await s.read(await s.token({ human: w.human("00u1ab") }))).status, 200);
  const before = refreshes();
  assert.equal((await call()).status, 200);
  assert.equal(refreshes(), before);
  await s.connect(PEOPLE[0], "another account");
  // Its server replaces it at once, so that the newest version is not the operator's.
  assert.equal((await s.read(await s.token({ human: w.human("00u1ab") }))).status, 200);
  assert.deepEqual((await call()).json, { account: "another account" });
  const gone = await w.operator("DELETE", `/v1/secrets/${s.secretOf(PEOPLE[0])}`);
  assert.ok(gone.status < 300, gone.text);
  const refused = await call();
  assert.deepEqual([refused.status, refused.json["code"]], [403, "account_not_connected"]);
});

test("an upstream's 401 is a 502 that is not repeated; the next call has a new token, unless this one was new", async () => {
  const human = w.human("00u2cd");
  const write = async () => await s.read(await s.token({ human }), { method: "POST" });
  assert.equal((await write()).status, 200);
  const first = bearer();
  const revoke = (): unknown => (idp.live as Map<string, string>).delete(first);
  revoke();
  assert.equal((await write()).status, 502);
  // It is seconds old: another would be refused as well.
  assert.equal((await write()).status, 502);
  assert.equal(bearer(), first);
  w.clock.advance(30);
  assert.equal((await write()).status, 502);
  assert.equal(bearer(), first);
  assert.equal((await write()).status, 200);
  assert.notEqual(bearer(), first);
  assert.equal(pages.seen.length, 5);
});

test("A-KILL-01, A-KILL-05 a kill of the person or of the credential stops their calls on every replica, and ends the token", async () => {
  const human = w.human("00u1ab");
  const other = w.human("00u2cd");
  const tokens = await Promise.all([s.token({ human }), s.token({ human: other })]);
  for (const url of [w.url, second.url])
    for (const token of tokens) assert.equal((await s.read(token, { url })).status, 200);
  const { length } = pages.seen;
  await kill({ subject: PEOPLE[0] });
  for (const url of [w.url, second.url]) {
    assert.equal((await s.read(tokens[0], { url })).status, 401);
    assert.equal((await s.read(tokens[1], { url })).status, 200);
  }
  assert.equal(pages.seen.length, length + 2);
  await until(() => ![...idp.live.keys()].some((token) => s.owners.get(token) === PEOPLE[0]), "the tokens are revoked");
  await restore({ subject: PEOPLE[0] });
  await kill({ resource: "notion" });
  for (const url of [w.url, second.url]) assert.equal((await s.read(tokens[1], { url })).status, 401);
  await until(() => ![...idp.live.keys()].some((token) => s.owners.get(token) === PEOPLE[1]), "the tokens are revoked");
  await restore({ resource: "notion" });
  assert.equal((await s.read(await s.token({ human: other }))).status, 200);
});

test("A-KILL-05 what flows by a killed credential is cut, on either replica", { timeout: 20_000 }, async () => {
  const { answer } = pages;
  pages.answer = (_req, res) => void res.writeHead(200, { "content-type": "text/plain" }).write("one");
  try {
    const token = await s.token({ human: w.human("00u2cd") });
    const flowing = [w.url, second.url].map((url) => assert.rejects(s.read(token, { url })));
    await until(() => pages.seen.length === 2, "both flow");
    await kill({ resource: "notion" });
    await Promise.all(flowing);
    await restore({ resource: "notion" });
  } finally {
    pages.answer = answer;
  }
});

test("A-PRX-02, A-PRX-09 a caller's own Authorization is our token only, and what is echoed of the person's is masked", async () => {
  const { answer } = pages;
  pages.answer = (req, res) => {
    const said = req.headers.authorization ?? "";
    res.writeHead(200, { "content-type": "text/plain", "x-echo": said }).end(`${said} ${said.slice("Bearer ".length)}`);
  };
  try {
    const echoed = await s.read(await s.token({ human: w.human("00u1ab") }));
    assert.match(echoed.text, /^\*+ \*+$/);
    assert.equal(echoed.headers["x-echo"], undefined);
  } finally {
    pages.answer = answer;
  }
});

test("INV-19 no two people's calls share a socket, though one agent makes them", async () => {
  const ports: (number | undefined)[] = [];
  const { answer } = pages;
  pages.answer = (req, res, body) => {
    ports.push(req.socket.remotePort);
    answer(req, res, body);
  };
  try {
    for (const resource of ["http/notion-api", "mcp/notion-mcp"]) {
      ports.length = 0;
      const [mine, yours] = await Promise.all(
        PEOPLE.map((sub) => s.token({ human: w.human(sub.slice("okta|".length)), resource })),
      );
      for (const token of [mine, mine, yours] as string[])
        assert.equal((await (resource.startsWith("mcp") ? s.tool(token) : s.read(token))).status, 200);
      const [first, again, others] = ports;
      assert.equal(again, first, "a credential's own socket is kept");
      assert.notEqual(others, first, resource);
    }
  } finally {
    pages.answer = answer;
  }
});
