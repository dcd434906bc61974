import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { after, test } from "node:test";
import type { Chain } from "../../src/api/chains.ts";
import { whoAnswer, type Who } from "../../src/api/who.ts";
import { aheadOfServers } from "../support/hand-clock.ts";
import { JWT_TYPE, ID_TOKEN_TYPE, usualTrust, world, type Answer } from "../support/world.ts";

const w = await world({ after }, { trust: usualTrust, start: aheadOfServers() });
const place = new URL(w.databaseUrl);
await w.apply(
  `
resources:
  orders-db:
    credential:
      postgres: { host: "${place.searchParams.get("host") ?? place.hostname}", database: "${place.pathname.slice(1)}", secret: orders-admin, statements: ["GRANT USAGE ON SCHEMA public TO {role}"] }
  crm-key:
    credential: { static: { secret: crm-key, disclose: true } }
grants:
  - { agent: triage-bot, resource: orders-db, actions: [vend], on_behalf_of: { issuer: okta, claims: { groups: support } } }
  - { agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }
`,
  "vault.yaml",
);
for (const [name, value] of [
  ["orders-admin", w.databaseUrl],
  ["crm-key", "a value"],
] as const)
  await w.operator("PUT", `/v1/secrets/${name}`, { value });

interface Vended {
  lease: string;
  credential: Record<string, string>;
  txn: string;
  workload: string;
}

/** A credential by a token of an agent, for a human where the grant wants one. */
async function vend(agent: string, resource: string, human?: string): Promise<Vended> {
  const workload = w.workload(agent);
  const token = await w.self(agent, {
    token: human ?? workload,
    audience: resource,
    scope: `${resource}:vend`,
    purpose: "triage ticket 4711",
    ...(human && { subject_token_type: ID_TOKEN_TYPE, actor_token: workload, actor_token_type: JWT_TYPE }),
  });
  assert.equal(token.status, 200, token.text);
  const vended = await w.request("POST", `/credentials/${resource}`, {
    headers: { authorization: `Bearer ${String(token.body["access_token"])}` },
  });
  assert.equal(vended.status, 200, vended.text);
  const lease = vended.body["lease"] as string;
  const [row] = await w.admin<{ txn: string }>("select txn from ephor.leases where id = $1", [lease]);
  return { lease, credential: vended.body["credential"] as Record<string, string>, txn: row?.txn ?? "", workload };
}

const ask = (id: string): Promise<Answer> => w.operator("GET", `/v1/who/${encodeURIComponent(id)}`);
async function who(id: string): Promise<Who["matches"]> {
  const answer = await ask(id);
  assert.equal(answer.status, 200, answer.text);
  return whoAnswer.parse(answer.body).matches;
}

/** As the broker records what a mint answered. */
const mark = (lease: string, ...marks: { kind: string; value: string }[]): Promise<unknown> =>
  w.admin("select ephor.lease_minted(0, $1, null, null, $2::jsonb)", [lease, JSON.stringify(marks)]);

test("the name of a database role leads to human, agents, task, grant and time, also after everything has ended", async () => {
  const { lease, credential, txn, workload } = await vend("triage-bot", "orders-db", w.human());
  const [live, ...others] = await who(credential["username"] ?? "");
  assert.deepEqual(others, []);
  assert.deepEqual(
    [live?.kind, live?.sub, live?.path, live?.owner, live?.txn, live?.purpose, live?.resource, live?.at],
    [
      "database_role",
      "okta|00u1ab",
      ["triage-bot"],
      "dana@acme.example",
      txn,
      "triage ticket 4711",
      "orders-db",
      w.now(),
    ],
  );
  assert.deepEqual([live?.lease?.lease, live?.lease?.kind, live?.lease?.status], [lease, "postgres", "live"]);
  assert.equal(live?.grants?.length, 1);
  assert.equal(live?.lease?.ends_at, live?.exp);

  const complete = await w.request("POST", `/v1/tasks/${txn}/complete`, {
    headers: { authorization: `Bearer ${workload}` },
  });
  assert.equal(complete.status, 200, complete.text);
  for (let round = 0; round < 200 && (await who(lease))[0]?.lease?.status !== "ended"; round++)
    await new Promise((resolve) => setTimeout(resolve, 50));
  w.clock.advance(40 * 86_400);
  for (const table of ["hops", "nodes", "tasks"]) await w.admin(`delete from ephor.${table} where txn = $1`, [txn]);
  const [ended] = await who(credential["username"] ?? "");
  assert.deepEqual(
    [ended?.lease?.status, ended?.lease?.because, typeof ended?.lease?.ended_at],
    ["ended", "task_ended", "number"],
  );
  const { lease: _then, ...before } = live ?? {};
  const { lease: _now, ...afterwards } = ended ?? {};
  assert.deepEqual(afterwards, before);
});

test("a lease id leads to its one lease, though a role session and a certificate bear it as their name too", async () => {
  const { lease } = await vend("release-bot", "crm-key");
  await mark(lease, { kind: "aws_role_session_name", value: lease }, { kind: "ssh_key_id", value: lease });
  assert.deepEqual(
    (await who(lease)).map(({ kind, lease: found }) => [kind, found?.lease]),
    [["lease", lease]],
  );
  for (const seen of [`arn:aws:sts::123456789012:assumed-role/deploy/${lease}`, `AROAIOSFODNN7EXAMPLE:${lease}`]) {
    assert.deepEqual(
      (await who(seen)).map(({ kind, lease: found }) => [kind, found?.lease]),
      [["aws_role_session_name", lease]],
      seen,
    );
  }
  assert.equal((await ask(`arn:aws:iam::123456789012:role/${lease}`)).status, 404);
});

test("a vended token is found by its SHA-256 in hex or base64, and never by itself", async () => {
  const { lease } = await vend("release-bot", "crm-key");
  const token = "ghs_16C7e42F292c6912E7710c838347Ae178B4a";
  const digest = createHash("sha256").update(token).digest();
  await mark(lease, { kind: "token_sha256", value: digest.toString("hex") });
  const forms = ["hex", "base64", "base64url"].map((form) => digest.toString(form as BufferEncoding));
  for (const form of [...forms, digest.toString("hex").toUpperCase()]) {
    assert.deepEqual(
      (await who(form)).map(({ kind, lease: found }) => [kind, found?.lease]),
      [["token_sha256", lease]],
      form,
    );
  }
  assert.equal((await ask(token)).status, 404);
  assert.equal((await ask(digest.toString("hex").replace(/.$/, "g"))).status, 404);
});

test("a name that an upstream gave twice leads to every lease that bore it, newest first", async () => {
  const first = await vend("release-bot", "crm-key");
  w.clock.advance(1);
  const second = await vend("release-bot", "crm-key");
  for (const { lease } of [first, second])
    await mark(lease, { kind: "aws_access_key_id", value: "ASIAIOSFODNN7EXAMPLE" });
  assert.deepEqual(
    (await who("ASIAIOSFODNN7EXAMPLE")).map(({ lease }) => lease?.lease),
    [second.lease, first.lease],
  );
  assert.equal((await ask("asiaiosfodnn7example")).status, 404);
});

test("a chain shows its leases under the agent that got them, and neither settings nor handle", async () => {
  const { lease, txn } = await vend("triage-bot", "orders-db", w.human());
  const answer = await w.operator("GET", `/v1/chains/${txn}`);
  assert.equal(answer.status, 200, answer.text);
  const { root } = answer.body as unknown as Chain;
  assert.deepEqual(
    root.leases.map((one) => [one.lease, one.resource, one.kind, one.status]),
    [[lease, "orders-db", "postgres", "live"]],
  );
  assert.doesNotMatch(answer.text, /handle|orders-admin|statements/);
});
