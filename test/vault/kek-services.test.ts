import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { test, type TestContext } from "node:test";
import { KekRefusedError, type KekFault } from "../../src/vault/kek-text.ts";
import { fakeKms, fakeVault, type KeyService } from "../support/key-services.ts";
import { usualTrust, world, type World } from "../support/world.ts";

const ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const SECRET = "canary-aws-secret";
const TOKEN = "hvs.canary-vault-token";

interface Case {
  readonly name: string;
  readonly service: (t: TestContext) => Promise<KeyService>;
  readonly env: (service: KeyService) => Record<string, string>;
  /** The same with what proves us wrong. */
  readonly wrong: Record<string, string>;
}

const CASES: readonly Case[] = [
  {
    name: "awskms",
    service: (t) => fakeKms(t, { keyArn: ARN, region: "eu-central-1", keys: { AKIAEXAMPLE: SECRET } }),
    env: ({ url }) => ({
      EPHOR_KEK: `awskms:${ARN}`,
      AWS_ENDPOINT_URL_KMS: url,
      AWS_ACCESS_KEY_ID: "AKIAEXAMPLE",
      AWS_SECRET_ACCESS_KEY: SECRET,
    }),
    wrong: { AWS_SECRET_ACCESS_KEY: "another" },
  },
  {
    name: "vault-transit",
    service: (t) => fakeVault(t, { mount: "transit-eu", key: "ephor", token: TOKEN }),
    env: ({ url }) => ({ EPHOR_KEK: `vault-transit:${url}/transit-eu#ephor`, VAULT_TOKEN: TOKEN }),
    wrong: { VAULT_TOKEN: "another" },
  },
];

async function refused(start: Promise<unknown>, code: KekFault): Promise<void> {
  await assert.rejects(start, (error: unknown) => {
    assert.ok(error instanceof KekRefusedError, String(error));
    assert.equal(error.code, code, error.message);
    for (const canary of [SECRET, TOKEN, "canary"]) assert.ok(!error.message.includes(canary));
    return true;
  });
}

const seal = async (w: World, value: string): Promise<void> => {
  const put = await w.operator("PUT", "/v1/secrets/crm-key", { value });
  assert.equal(put.status, 200, put.text);
};

/** As an operator, at any replica. */
async function facts(w: World, url: string): Promise<Record<string, unknown>> {
  const response = await fetch(`${url}/v1/secrets/crm-key`, { headers: { authorization: `Bearer ${w.operatorKey}` } });
  assert.equal(response.status, 200);
  return (await response.json()) as Record<string, unknown>;
}

const BILLING = { resource: "https://billing.acme.example", scope: "billing" };

for (const one of CASES) {
  test(`${one.name}: the service wraps one root key, is asked once at each start and never by a request`, async (t) => {
    const service = await one.service(t);
    // Each start reads it anew.
    const env = one.env(service);
    const w = await world(t, { trust: usualTrust, env });
    assert.deepEqual(
      service.calls.map((call) => call.toLowerCase()),
      ["encrypt", "decrypt"],
    );
    await seal(w, randomBytes(8).toString("hex"));
    assert.equal((await w.self("release-bot", BILLING)).status, 200);
    const other = await w.replica();
    await seal(w, "again");
    assert.equal((await facts(w, other.url))["version"], 2);
    assert.equal(service.calls.length, 3);
    // While it is away nothing starts, and what runs goes on.
    service.fail(503);
    await refused(w.replica(), "unreachable");
    await seal(w, "while it is away");
    service.fail(null);
    const right = { ...env };
    Object.assign(env, one.wrong);
    await refused(w.replica(), "refused");
    Object.assign(env, right);
    assert.equal((await facts(w, (await w.replica()).url))["version"], 3);
    service.loseKey();
    await refused(w.replica(), "refused");
  });
}

test("a move from a key in a variable to a service keeps every secret: kek_previous, then keys rewrap", async (t) => {
  const [, vault] = CASES;
  assert.ok(vault);
  const service = await vault.service(t);
  const env: Record<string, string> = { EPHOR_KEK: "env:OLD_KEK", OLD_KEK: randomBytes(32).toString("base64url") };
  const w = await world(t, { trust: usualTrust, env });
  await seal(w, "kept");
  Object.assign(env, vault.env(service), { EPHOR_KEK_PREVIOUS: "env:OLD_KEK" });
  const moving = await w.replica();
  const response = await fetch(`${moving.url}/v1/keys/rewrap`, {
    method: "POST",
    headers: { authorization: `Bearer ${w.operatorKey}` },
  });
  const answer = (await response.json()) as Record<string, unknown>;
  assert.deepEqual([response.status, answer["remaining"], answer["failed"]], [200, 0, []], JSON.stringify(answer));
  delete env["EPHOR_KEK_PREVIOUS"];
  delete env["OLD_KEK"];
  const after = await w.replica();
  assert.equal((await facts(w, after.url))["version"], 1);
  const keys = await fetch(`${after.url}/.well-known/jwks.json`);
  assert.equal(keys.status, 200);
});

test("replicas learn a service's key as kek_previous before the first of them seals with it", async (t) => {
  const service = await fakeVault(t, { mount: "transit", key: "ephor", token: TOKEN });
  const env: Record<string, string> = {
    VAULT_TOKEN: TOKEN,
    EPHOR_KEK: "env:OLD_KEK",
    OLD_KEK: randomBytes(32).toString("base64url"),
    EPHOR_KEK_PREVIOUS: `vault-transit:${service.url}#ephor`,
  };
  const w = await world(t, { trust: usualTrust, env });
  Object.assign(env, { EPHOR_KEK: env["EPHOR_KEK_PREVIOUS"], EPHOR_KEK_PREVIOUS: "env:OLD_KEK" });
  const first = await w.replica();
  const put = await fetch(`${first.url}/v1/secrets/crm-key`, {
    method: "PUT",
    headers: { authorization: `Bearer ${w.operatorKey}`, "content-type": "application/json" },
    body: JSON.stringify({ value: "sealed by the service's key" }),
  });
  assert.equal(put.status, 200);
  await w.apply(
    "resources: { crm-key: { credential: { static: { secret: crm-key, disclose: true } } } }\ngrants: [{ agent: release-bot, resource: crm-key, actions: [vend], residual: unlimited }]",
    "vault.yaml",
  );
  const token = (await w.self("release-bot", { audience: "crm-key", scope: "crm-key:vend" })).body["access_token"];
  const vended = await w.request("POST", "/credentials/crm-key", {
    headers: { authorization: `Bearer ${String(token)}` },
  });
  assert.deepEqual(vended.body["credential"], { value: "sealed by the service's key" }, vended.text);
});
