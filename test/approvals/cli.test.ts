import assert from "node:assert/strict";
import { test } from "node:test";
import { answering, ephor, json } from "../cli/command-line.ts";

const ID = "apr_01M827AEGXST5QN4Z2EHCY9SRM";
const LONG = "x".repeat(100_000);
const APPROVAL = {
  id: ID,
  status: "pending",
  agent: "release-bot",
  owner: "dana@acme.example",
  path: ["triage-bot", "release-bot"],
  sub: "okta|ann\u202egnp.exe",
  purpose: "<img src=x onerror=alert(1)>\u001b[2J",
  txn: "01M8279N8XTW819WGGT5B8QV91",
  resource: "crm",
  action: "write",
  args_digest: "x",
  needs: [{ agent: "release-bot", grant: "release-writes", by: ["owner", { agent: "watch-bot" }], count: 2 }],
  decisions: [{ by: "watch-bot", decision: "approve", reason: "fine\nreally", at: "2026-11-22T18:12:01.000Z" }],
  created_at: "2026-11-22T18:12:00.000Z",
  expires_at: "2026-11-22T18:17:00.000Z",
  call: { kind: "http", method: "POST", path: "/contacts" },
  arguments: { query: null, body: { to: "pаypal.example", note: "a\u2028b\u0007", long: LONG } },
};
const { call: _call, arguments: _args, ...FACTS } = APPROVAL;

test("A-APP-05 an approval is shown whole and escaped: controls, directions and line ends of strangers are made visible", async (t) => {
  const server = await answering(t, (response) => json(response, 200, APPROVAL));
  const ran = await ephor(["approvals", ID], server.env);
  assert.equal(ran.code, 0, ran.talk);
  assert.equal(server.seen[0]?.path, `/v1/approvals/${ID}`);
  // oxlint-disable-next-line no-control-regex -- exactly what must not be there
  assert.doesNotMatch(ran.out, /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2028\u2029]/);
  assert.match(ran.out, /okta\|ann\\u\{202e\}gnp\.exe/);
  assert.match(ran.out, /<img src=x onerror=alert\(1\)>\\u\{1b\}\[2J/);
  assert.match(ran.out, /fine\\u\{a\}really/);
  assert.match(ran.out, /"note": "a\\u2028b\\u0007"/);
  assert.ok(ran.out.includes(LONG), "nothing is cut");
  assert.match(ran.out, /needs +2 of owner, agent watch-bot \(grant release-writes\)/);
});

test("approvals lists what waits; approve and --deny send one POST with the reason", async (t) => {
  const server = await answering(t, (response, { method, path }) =>
    json(
      response,
      200,
      method === "POST"
        ? { ...APPROVAL, status: "denied" }
        : path === `/v1/approvals/${ID}`
          ? APPROVAL
          : { items: [FACTS] },
    ),
  );
  const list = await ephor(["approvals"], server.env);
  assert.match(list.out, new RegExp(`${ID} +pending +release-bot +crm:write`));
  assert.doesNotMatch(list.out, /\u202e/);
  assert.equal((await ephor(["approvals", "--all", "--json"], server.env)).code, 0);
  const done = await ephor(["approve", ID, "--deny", "--reason", "not today"], server.env);
  assert.equal(done.code, 0, done.talk);
  assert.match(done.out, /^denied: apr_/);
  await ephor(["approve", ID, "--reason", "fine"], server.env);
  assert.equal((await ephor(["approve", ID], server.env)).code, 2, "a reason is needed");
  assert.deepEqual(
    server.seen.map(({ method, path, body }) => [method, path, body === "" ? "" : JSON.parse(body)]),
    [
      ["GET", "/v1/approvals?status=pending", ""],
      ["GET", "/v1/approvals?status=all", ""],
      ["POST", `/v1/approvals/${ID}`, { decision: "deny", reason: "not today" }],
      ["POST", `/v1/approvals/${ID}`, { decision: "approve", reason: "fine" }],
    ],
  );
});

test("who asked, and a decision that comes too late, end as they should", async (t) => {
  const refused = await answering(t, (response) => json(response, 403, { code: "access_denied" }));
  assert.equal((await ephor(["approve", ID, "--reason", "x"], refused.env)).code, 3);
  const late = await answering(t, (response) => json(response, 409, { code: "conflict" }));
  assert.equal((await ephor(["approve", ID, "--reason", "x"], late.env)).code, 1);
});

test("approve --txn shows each call that is named and decides it; of another chain, or without the chain, nothing is decided", async (t) => {
  const ids = [ID, ID.replace(/M$/, "N"), ID.replace(/M$/, "P")];
  const strange = ID.replace(/M$/, "Z");
  const server = await answering(t, (response, { method, path }) => {
    const id = path.split("/").at(-1) ?? "";
    if (path.startsWith("/v1/approvals?"))
      return json(response, 200, { items: ids.map((one) => ({ ...FACTS, id: one })) });
    if (method === "POST" && id === ids[1]) return json(response, 409, { code: "conflict" });
    json(response, 200, {
      ...APPROVAL,
      id,
      ...(id === strange && { txn: "01M8279N8XTW819WGGT5B8QV92" }),
      ...(method === "POST" && { status: "approved" }),
    });
  });
  const posts = (): string[] => server.seen.filter(({ method }) => method === "POST").map(({ path }) => path);
  const list = await ephor(["approvals", "--txn", APPROVAL.txn], server.env);
  assert.equal(list.code, 0, list.talk);
  assert.equal(server.seen[0]?.path, `/v1/approvals?status=pending&limit=200&txn=${APPROVAL.txn}`);
  assert.deepEqual(
    list.out.split("\n").flatMap((line) => line.match(/^apr_\w+/)?.[0] ?? []),
    ids.toReversed(),
    "oldest first",
  );
  const chain = ["--txn", APPROVAL.txn, "--reason", "fine"];
  const mixed = await ephor(["approve", ID, strange, ...chain], server.env);
  assert.deepEqual([mixed.code, posts()], [2, []], mixed.talk);
  assert.match(mixed.talk, new RegExp(strange));
  const bare = await ephor(["approve", ...ids, "--reason", "fine"], server.env);
  assert.deepEqual([bare.code, posts()], [2, []], bare.talk);
  assert.equal((await ephor(["approve", ...chain], server.env)).code, 2, "none is named");
  assert.deepEqual(posts(), []);

  const done = await ephor(["approve", ...ids, ID, ...chain], server.env);
  assert.equal(done.code, 1, "one was decided already");
  assert.deepEqual(
    posts(),
    ids.map((id) => `/v1/approvals/${id}`),
    "each once, and the others in spite of it",
  );
  assert.match(done.talk, new RegExp(`not approved: ${ids[1]}`));
  assert.equal(done.out.match(/<img src=x/g)?.length, 3, "each is shown");
  assert.equal(done.out.match(/^approved: apr_/gm)?.length, 2);
});
