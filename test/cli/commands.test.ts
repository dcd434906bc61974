import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test, type TestContext } from "node:test";
import { answering, ephor, json } from "./command-line.ts";

function trustFile(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), "ephor-cli-"));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  const path = join(folder, "acme.yaml");
  writeFileSync(path, "agents: {}\n");
  return path;
}

const APPLIED = {
  source: "acme.yaml",
  applied: true,
  version: 7,
  changes: [
    { action: "create", kind: "agents", name: "a" },
    { action: "update", kind: "resources", name: "r", members: ["actions"] },
    { action: "delete", kind: "agents", name: "old", kills: true },
  ],
  warnings: [{ path: "agents.a", line: 3, detail: "nobody reviews it", mend: "add review_by" }],
};

test("apply sends the file as it is, under its name, and prints the difference", async (t) => {
  const server = await answering(t, (response) => json(response, 200, APPLIED));
  const path = trustFile(t);
  const ran = await ephor(["apply", "-f", path], server.env);
  assert.equal(ran.code, 0);
  assert.deepEqual(JSON.parse(server.seen[0]!.body), { source: "acme.yaml", file: "agents: {}\n" });
  assert.match(ran.out, /^\+ {2}agents\/a\n~ {2}resources\/r +actions\n- {2}agents\/old +killed\n/);
  assert.match(ran.talk, /acme\.yaml:3 agents\.a: nobody reviews it – add review_by/);
});

test("apply --dry-run --source --refuse-superseded say so to the server", async (t) => {
  const server = await answering(t, (response) => json(response, 200, { ...APPLIED, applied: false }));
  const ran = await ephor(
    ["apply", "-f", trustFile(t), "--dry-run", "--source", "team-a", "--refuse-superseded", "--json"],
    server.env,
  );
  assert.deepEqual(JSON.parse(server.seen[0]!.body), {
    source: "team-a",
    file: "agents: {}\n",
    dry_run: true,
    refuse_superseded: true,
  });
  assert.deepEqual(JSON.parse(ran.out), { ...APPLIED, applied: false });
});

test("a refused file is told by file, line, key and mend, and ends with 1", async (t) => {
  const errors = [{ path: "agents.x.owner", line: 2, detail: "is missing", mend: "name a person" }];
  const server = await answering(t, (response) =>
    json(response, 422, { code: "unprocessable", title: "Cannot be done", errors }),
  );
  const path = trustFile(t);
  const ran = await ephor(["apply", "-f", path], server.env);
  assert.equal(ran.code, 1);
  assert.ok(ran.talk.includes(`${path}:2 agents.x.owner: is missing – name a person`));
  assert.equal((await ephor(["apply", "-f", "/nowhere/x.yaml"], server.env)).code, 1);
});

const CHAIN = {
  txn: "01M8273WNX2T4XC9X350BT02B4",
  sub: "people|ada",
  subject: "human",
  opener: "triage-bot",
  purpose: "sort\u001b[2J",
  status: "open",
  opened_at: 1_795_348_800,
  deadline: 1_795_352_400,
  kill_ids: [],
  root: {
    node: "01M8273WNX2T4XC9X350BT02B4",
    agent: "triage-bot",
    status: "open",
    scopes: null,
    made_at: 1_795_348_800,
    tokens: [
      {
        jti: "01M8273WNXXS8ADGN7J5QEQ79F",
        kind: "access",
        aud: "https://x",
        scopes: ["inbox:read"],
        iat: 1,
        exp: 2,
        status: "live",
      },
    ],
    leases: [
      {
        lease: "lease_1\x1b[2J",
        resource: "orders-db",
        kind: "postgres",
        status: "ended",
        issued_at: 1,
        ends_at: 2,
        ended_at: 3,
      },
    ],
    children: [
      {
        node: "01M8273WPFQXFTMP29GVKBFXKE",
        agent: "summary-bot",
        status: "ended",
        scopes: ["inbox:read"],
        made_at: 1,
        tokens: [],
        leases: [{ lease: "lease_2", resource: "crm", kind: "static", status: "live", issued_at: 1, ends_at: 2 }],
        children: [],
      },
    ],
  },
};

test("chain draws the tree, escaped", async (t) => {
  const server = await answering(t, (response) => json(response, 200, CHAIN));
  const ran = await ephor(["chain", CHAIN.txn], server.env);
  assert.equal(server.seen[0]?.path, `/v1/chains/${CHAIN.txn}`);
  assert.equal(
    ran.out,
    `01M8273WNX2T4XC9X350BT02B4  open  "sort\\u{1b}[2J"
on behalf of people|ada, until 2026-11-22T13:00:00Z
└─ triage-bot  open
   ├─ token 01M8273WNXXS8ADGN7J5QEQ79F  live  https://x  inbox:read
   ├─ credential lease_1\\u{1b}[2J  ended  orders-db  ended 1970-01-01T00:00:03Z
   └─ summary-bot  ended  may inbox:read
      └─ credential lease_2  live  crm  until 1970-01-01T00:00:02Z
`,
  );
});

test("an id goes into the path as one segment", async (t) => {
  const server = await answering(t, (response) => json(response, 200, { id: "x", matches: [] }));
  await ephor(["who", "../kill?a=b"], server.env);
  assert.equal(server.seen[0]?.path, "/v1/who/..%2Fkill%3Fa%3Db");
});

test("a token is not asked about but by its hash: nothing is sent", async (t) => {
  const server = await answering(t, (response) => json(response, 200, { id: "x", matches: [] }));
  for (const token of ["ghs_16C7e42F292c6912E7710c838347Ae178B4a", "github_pat_11ABC", "eyJhbGciOi.eyJ.x"]) {
    const ran = await ephor(["who", token], server.env);
    assert.deepEqual([ran.code, server.seen.length], [2, 0], token);
    assert.ok(!ran.talk.includes(token));
  }
  assert.equal((await ephor(["who", "ASIAIOSFODNN7EXAMPLE"], server.env)).code, 0);
});

test("audit hands its filters on, times as seconds", async (t) => {
  const server = await answering(t, (response) => json(response, 200, { events: [] }));
  const args = ["--agent", "a", "--decision", "refused", "--since", "2026-11-22T12:00:00Z", "--limit", "5"];
  assert.equal((await ephor(["audit", ...args], server.env)).code, 0);
  assert.equal(server.seen[0]?.path, "/v1/audit?agent=a&decision=refused&since=1795348800&limit=5");
  assert.equal((await ephor(["audit", "--decision", "maybe"], server.env)).code, 2);
  assert.equal((await ephor(["audit", "--since", "yesterday"], server.env)).code, 2);
  assert.equal((await ephor(["audit", "--limit", "5000"], server.env)).code, 2);
});

test("audit export prints lines as they are into a file, and fails when the last one is not whole", async (t) => {
  const lines = ['{"a":"\u009b"}', '{"b":2}'];
  const whole = await answering(t, (response) => void response.end(`${lines.join("\n")}\n`));
  assert.equal((await ephor(["audit", "export", "--format", "ocsf"], whole.env)).out, `${lines.join("\n")}\n`);
  assert.equal(whole.seen[0]?.path, "/v1/audit/export?format=ocsf");
  const onTerminal = await ephor(["audit", "export"], whole.env, { isTerminal: true });
  assert.equal(onTerminal.out, '{"a":"\\u009b"}\n{"b":2}\n');
  const cut = await answering(t, (response) => void response.end(lines.join("\n")));
  assert.equal((await ephor(["audit", "export"], cut.env)).code, 1);
});

test("audit verify ends with 1 when anything does not fit", async (t) => {
  const verdict = { ok: true, events: 3, streams: [{ stream: "a", last_seq: 3, ok: true }], heads: 1, problems: [] };
  const good = await answering(t, (response) => json(response, 200, verdict));
  assert.equal((await ephor(["audit", "verify"], good.env)).code, 0);
  const problems = [{ stream: "a", seq: 2, kind: "hash", detail: "row does not hash" }];
  const bad = await answering(t, (response) => json(response, 200, { ...verdict, ok: false, problems }));
  const ran = await ephor(["audit", "verify"], bad.env);
  assert.equal(ran.code, 1);
  assert.match(ran.out, /a 2: hash: row does not hash/);
  const odd = await answering(t, (response) => json(response, 200, {}));
  assert.notEqual((await ephor(["audit", "verify", "--json"], odd.env)).code, 0);
});

test("agents are listed over all pages", async (t) => {
  const agent = (name: string) => ({
    kind: "agents",
    name,
    source: null,
    version: 1,
    status: "active",
    spec: { owner: "dana" },
  });
  const server = await answering(t, (response, { path }) =>
    json(response, 200, path.includes("after=a") ? { items: [agent("b")] } : { items: [agent("a")], next: "a" }),
  );
  const ran = await ephor(["agents", "--json"], server.env);
  assert.deepEqual(
    (JSON.parse(ran.out) as { items: { name: string }[] }).items.map(({ name }) => name),
    ["a", "b"],
  );
});

test("resources secret prints 256 bits once on standard output, their digest for the trust file on standard error", async () => {
  const ran = await ephor(["resources", "secret", "billing"]);
  assert.match(ran.out, /^[A-Za-z0-9_-]{43}\n$/);
  const { createHash } = await import("node:crypto");
  assert.ok(ran.talk.includes(`sha256:${createHash("sha256").update(ran.out.trim()).digest("hex")}`));
  assert.ok(!ran.talk.includes(ran.out.trim()));
  const again = await ephor(["resources", "secret", "billing", "--json"]);
  assert.notEqual((JSON.parse(again.out) as { client_secret: string }).client_secret, ran.out.trim());
  assert.equal((await ephor(["resources", "secret", "Bad Name"])).code, 2);
});

test("a command without the operator key ends with 5, with a URL that must not get it with 2", async () => {
  const files = {
    read: () => {
      throw new Error("ENOENT");
    },
    mode: () => undefined,
  };
  assert.equal((await ephor(["agents"], {}, { files })).code, 5);
  assert.equal((await ephor(["agents"], { EPHOR_URL: "http://sts.acme.example" }, { files })).code, 2);
});

test("help and version end with 0, what is unknown with 2 and is quoted harmlessly", async () => {
  assert.equal((await ephor(["--help"])).code, 0);
  assert.match((await ephor(["--version"])).out, /^\d+\.\d+\.\d+\n$/);
  const ran = await ephor(["fro\u001b[2Jb"]);
  assert.equal(ran.code, 2);
  assert.ok(!ran.talk.includes("\u001b"));
  assert.equal((await ephor([])).code, 2);
});
