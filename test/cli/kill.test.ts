import assert from "node:assert/strict";
import type { ServerResponse } from "node:http";
import { test } from "node:test";
import { freePort } from "../support/world.ts";
import { answering, ephor, json, OPERATOR_KEY } from "./command-line.ts";

const RECEIPT = {
  id: "kill_01M827AEGXST5QN4Z2EHCY9SRM",
  at: "2026-11-22T18:12:01.181Z",
  by: "operator:first",
  reason: "lost laptop",
  dry_run: false,
  lines: [{ kind: "agent", id: "release-bot", agent: "release-bot", outcome: "dead", at: "2026-11-22T18:12:01.181Z" }],
  replicas: [],
};
const KILL = ["kill", "agent", "release-bot", "--reason", "lost laptop"];

test("kill says dead, with the receipt, when the server said so", async (t) => {
  const server = await answering(t, (response) => json(response, 200, RECEIPT));
  const ran = await ephor(KILL, server.env);
  assert.equal(ran.code, 0);
  assert.match(ran.out, /killed at .* kill_01M827AEGXST5QN4Z2EHCY9SRM/);
  assert.match(ran.out, /dead {2}agent {2}release-bot/);
  assert.deepEqual(JSON.parse(server.seen[0]!.body), { agent: ["release-bot"], reason: "lost laptop" });
  assert.equal(server.seen[0]!.headers.authorization, `Bearer ${OPERATOR_KEY}`);
});

test("kill --json prints the receipt as it came", async (t) => {
  const server = await answering(t, (response) => json(response, 200, RECEIPT));
  const ran = await ephor([...KILL, "--json"], server.env);
  assert.equal(ran.code, 0);
  assert.deepEqual(JSON.parse(ran.out), RECEIPT);
});

test("chain and credential are killed by txn and jti", async (t) => {
  const server = await answering(t, (response) => json(response, 200, RECEIPT));
  await ephor(["kill", "chain", "01M8279N8XTW819WGGT5B8QV91", "--reason", "x"], server.env);
  await ephor(["kill", "credential", "01M8279N8XAST6DH70CQCGQ8V6", "--reason", "x"], server.env);
  assert.deepEqual(
    server.seen.map(({ body }) => Object.keys(JSON.parse(body) as object)[0]),
    ["txn", "jti"],
  );
});

test("a lease is a credential too: it is killed by that name, also beside a token", async (t) => {
  const server = await answering(t, (response) => json(response, 200, RECEIPT));
  const [lease, jti] = ["lease_01M8279N8XTW819WGGT5B8QV91", "01M8279N8XAST6DH70CQCGQ8V6"];
  await ephor(["kill", "credential", lease, "--reason", "x"], server.env);
  await ephor(["kill", "credential", lease, jti, "--reason", "x"], server.env);
  assert.deepEqual(
    server.seen.map(({ body }) => JSON.parse(body) as object),
    [
      { lease: [lease], reason: "x" },
      { lease: [lease], jti: [jti], reason: "x" },
    ],
  );
});

const BROKEN: Record<string, (response: ServerResponse) => void> = {
  "the connection is cut before the answer": (response) => void response.destroy(),
  "the connection is cut within the answer": (response) => {
    response.writeHead(200, { "content-type": "application/json", "content-length": "5000" });
    response.write(JSON.stringify(RECEIPT).slice(0, 100), () => response.destroy());
  },
  "the answer is a page of somebody else's": (response) => void response.end("<html>ok</html>"),
  "the answer is JSON that is no receipt": (response) => json(response, 200, { ok: true }),
  "the answer is the receipt of a preview": (response) => json(response, 200, { ...RECEIPT, dry_run: true }),
  "the server cannot say": (response) => json(response, 503, { code: "temporarily_unavailable" }),
  "a proxy gives up": (response) => void response.writeHead(502).end("<h1>Bad gateway</h1>"),
  "the answer is a redirect": (response) => void response.writeHead(307, { location: "http://127.0.0.1:9/" }).end(),
};
for (const [what, answer] of Object.entries(BROKEN)) {
  test(`A-KILL-12 kill ends with 1 and “unknown, repeat” when ${what}`, async (t) => {
    const server = await answering(t, answer);
    const ran = await ephor(KILL, server.env);
    assert.equal(ran.code, 1);
    assert.match(ran.talk, /unknown, repeat/);
    assert.equal(ran.out, "");
  });
}

test("A-KILL-12 restore is as careful", async (t) => {
  const server = await answering(t, (response) => void response.destroy());
  const ran = await ephor(["restore", "agent", "release-bot", "--reason", "found"], server.env);
  assert.equal(ran.code, 1);
  assert.match(ran.talk, /unknown, repeat/);
});

test("a server that is not there was certainly not told: kill fails without “unknown”", async () => {
  const ran = await ephor(KILL, {
    EPHOR_URL: `http://127.0.0.1:${await freePort()}`,
    EPHOR_OPERATOR_KEY: OPERATOR_KEY,
  });
  assert.equal(ran.code, 1);
  assert.doesNotMatch(ran.talk, /unknown/);
});

const REFUSALS: [number, string, number][] = [
  [401, "invalid_token", 5],
  [403, "insufficient_scope", 3],
  [404, "not_found", 1],
  [422, "unprocessable", 1],
];
for (const [status, code, exit] of REFUSALS) {
  test(`kill ends with ${exit} when the server refuses with ${status} ${code}`, async (t) => {
    const server = await answering(t, (response) => json(response, status, { code, title: "No" }));
    const ran = await ephor(KILL, server.env);
    assert.equal(ran.code, exit);
    assert.doesNotMatch(ran.talk, /unknown/);
  });
}

for (const args of [
  ["kill"],
  ["kill", "agent"],
  ["kill", "agent", "x"],
  ["kill", "agent", "x", "--reason", " "],
  ["kill", "everything", "x"],
]) {
  test(`wrong usage asks no server: ephor ${args.join(" ")}`, async (t) => {
    const server = await answering(t, (response) => json(response, 200, RECEIPT));
    const ran = await ephor(args, server.env);
    assert.equal(ran.code, 2);
    assert.equal(server.seen.length, 0);
  });
}

test("a foreign name cannot steer the terminal", async (t) => {
  const id = "bot\u001b[2J\u009b1m\u202e\nkilled: everything";
  const lines = [{ ...RECEIPT.lines[0], id, agent: id }];
  const server = await answering(t, (response) => json(response, 200, { ...RECEIPT, lines }));
  const ran = await ephor(KILL, server.env, { isTerminal: true });
  assert.doesNotMatch(ran.out.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
  assert.equal(ran.out.split("\n").length, 3);
  assert.match(ran.out, /bot\\u\{1b\}\[2J/);
  const asJson = await ephor([...KILL, "--json"], server.env, { isTerminal: true });
  assert.doesNotMatch(asJson.out.replaceAll("\n", ""), /[\p{Cc}\p{Cf}]/u);
  assert.deepEqual(JSON.parse(asJson.out), { ...RECEIPT, lines });
});

test("an error of a server is told by its code and words alone, and cannot steer the terminal", async (t) => {
  const body = {
    code: "conflict",
    title: "No\u001b[31m",
    detail: "why",
    token: "eyJhbGciOi.secret",
    request_id: "req_1",
  };
  const server = await answering(t, (response) => json(response, 409, body));
  const ran = await ephor(KILL, server.env);
  assert.match(ran.talk, /conflict/);
  assert.ok(!ran.talk.includes("eyJ") && !ran.talk.includes("\u001b"));
  assert.doesNotMatch(ran.talk, new RegExp(OPERATOR_KEY));
});
