import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeJwt } from "jose";
import {
  BILLING_HASH,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  world,
} from "../support/world.ts";

const READ = { resource: "https://billing.acme.example", scope: "billing:read_invoice" };

/** One agent that reads invoices for the humans of `okta`, wherever that is. */
function trust(cluster: string, okta: string): string {
  return `
issuers:
  cluster: { url: "${cluster}", audience: "OUR_ISSUER", internal: true }
  okta: { url: "${okta}", audience: "api://ephor", identifies: humans, internal: true }
agents:
  triage-bot:
    owner: dana@acme.example
    trust: [{ issuer: cluster, claims: { sub: "system:serviceaccount:agents:triage-bot" } }]
resources:
  billing: { resource: "https://billing.acme.example", actions: [read_invoice], introspection: { secret_hash: "BILLING_HASH" } }
grants:
  - { agent: triage-bot, resource: billing, actions: [read_invoice], on_behalf_of: { issuer: okta } }
`;
}

test("an issuer's name given to another issuer kills what was done for the humans of the first; another setting does not", async (t) => {
  const w = await world(t, { trust: ({ workloads, humans }) => trust(workloads.url, humans.url) });
  const answer = await w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.human(),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    ...READ,
  });
  assert.equal(answer.status, 200, answer.text);
  const token = answer.body["access_token"] as string;
  const active = async () =>
    (await w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET })).body["active"];
  const byHandle = () =>
    w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token: decodeJwt(token)["txn"] as string,
      subject_token_type: TASK_TYPE,
      actor_token: w.workload("triage-bot"),
      actor_token_type: JWT_TYPE,
      ...READ,
    });

  const apply = (text: string) =>
    w.apply(text.replace("OUR_ISSUER", w.server.issuer).replace("BILLING_HASH", BILLING_HASH), "trust.yaml");
  await apply(
    trust(w.workloads.url, w.humans.url).replace("identifies: humans", "identifies: humans, subject_max_age: 8h"),
  );
  assert.equal(await active(), true);
  assert.equal((await byHandle()).status, 200);

  await apply(trust(w.workloads.url, "https://another-idp.example"));
  assert.equal(await active(), false);
  assert.equal((await byHandle()).body["error"], "invalid_request");
  const refusals = await w.events({ type: "token.issue", decision: "refused" });
  assert.deepEqual(
    refusals.map(({ reason }) => reason),
    ["killed"],
  );
});
