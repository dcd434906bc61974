import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { JWTPayload } from "jose";
import { parse } from "yaml";
import type { ProviderProblem } from "../../../src/broker/provider-error.ts";
import { createAwsProvider } from "../../../src/broker/providers/aws.ts";
import { webIdentityTags } from "../../../src/broker/providers/aws-tags.ts";
import { assertProblem, awsOrder, awsSettings, KEYS, KEYS_SECRET, LEASE, secretText } from "../../support/aws-order.ts";
import { fakeSts } from "../../support/fake-sts.ts";
import type { FakeSts } from "../../support/fake-sts.ts";
import type { IamPolicy } from "../../support/iam-policy.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const ISSUER = "https://sts.acme.example";
const AUDIENCE = "sts.amazonaws.com";
const SUB = "resource|aws-deploy";
const provider = createAwsProvider();
const never = new AbortController().signal;
const { privateKey, publicKey } = await generateKeyPair("RS256");
const jwks = { keys: [{ ...(await exportJWK(publicKey)), kid: "k1", use: "sig", alg: "RS256" }] };

function example(path: string): string {
  return readFileSync(new URL(`../../../examples/${path}`, import.meta.url), "utf8");
}

/** The settings of the only resource of an example, as the registry hands them to the provider. */
function settingsOf(name: string, endpoint: string) {
  const file = parse(example(`${name}/trust.yaml`)) as { resources: Record<string, { credential: { aws: object } }> };
  const [resource] = Object.values(file.resources);
  assert.ok(resource);
  return awsSettings({ ...resource.credential.aws, endpoint });
}

function trustOf(name: string): IamPolicy {
  return JSON.parse(example(`${name}/iam-trust-policy.json`)) as IamPolicy;
}

function startKeyless(t: { after(fn: () => Promise<void>): void }): Promise<FakeSts> {
  return fakeSts(t, {
    roles: { "arn:aws:iam::111122223333:role/ephor-deploy": { trust: trustOf("aws-keyless") } },
    providers: { [ISSUER]: { clientIds: [AUDIENCE], jwks } },
  });
}

/** What the broker signs, with changes. */
async function token(audience: string, claims: JWTPayload = {}): Promise<string> {
  const now = Math.floor(Date.now() / 1000);
  const payload = { iss: ISSUER, sub: SUB, aud: audience, iat: now, exp: now + 59, jti: "j1" };
  return await new SignJWT({ ...payload, ...webIdentityTags(LEASE), ...claims })
    .setProtectedHeader({ alg: "RS256", kid: "k1", typ: "JWT" })
    .sign(privateKey);
}

test("the keyless example: a token of ours takes up the role, nothing is signed with a key of AWS", async (t) => {
  const sts = await startKeyless(t);
  const audiences: string[] = [];
  const claimed: unknown[] = [];
  const order = awsOrder(settingsOf("aws-keyless", sts.url), {
    policies: ["upload"],
    secrets: new Map(),
    webIdentity: async (audience, claims) => {
      audiences.push(audience);
      claimed.push(claims);
      return await token(audience, claims);
    },
  });
  assert.deepEqual(provider.secrets(order.settings), []);
  const { credential, marks } = await provider.mint(order, never);

  assert.deepEqual(audiences, [AUDIENCE]);
  assert.deepEqual(claimed, [webIdentityTags(LEASE)]);
  const [call] = sts.calls;
  assert.equal(call?.action, "AssumeRoleWithWebIdentity");
  assert.equal(call?.headers.authorization, undefined);
  assert.equal(call?.params["RoleSessionName"], LEASE.id);
  const id = String(credential["access_key_id"]);
  const session = sts.sessions.get(id);
  assert.equal(session?.sourceIdentity, LEASE.agent);
  assert.equal(session?.tags["ephor:human"], "okta.00u1.ab");
  assert.equal(session?.tags["ephor:txn"], LEASE.txn);
  assert.equal(marks[0]?.value, id);

  const put = { action: "s3:PutObject", resource: "arn:aws:s3:::acme-widgets/app.js" };
  assert.ok(sts.allows(id, { ...put, at: order.issuedAt + 5 }));
  assert.ok(!sts.allows(id, { ...put, at: order.issuedAt + 65 }));
  assert.ok(!sts.allows(id, { ...put, action: "s3:DeleteObject", at: order.issuedAt + 5 }));
});

test("the keyless example trusts one resource of ours and nobody else", async (t) => {
  const sts = await startKeyless(t);
  const order = (signed: string) =>
    awsOrder(settingsOf("aws-keyless", sts.url), { webIdentity: () => Promise.resolve(signed) });
  await provider.mint(order(await token(AUDIENCE)), never);
  const invalid = ["credentials_refused", "InvalidIdentityToken"] as const;
  const denied = ["order_refused", "AccessDenied"] as const;
  const cases: readonly (readonly [JWTPayload, ProviderProblem, string])[] = [
    [{ sub: "resource|aws-prod" }, ...denied],
    [{ sub: "resource|aws-deploy2" }, ...denied],
    [{ aud: "sts.amazonaws.com.evil.example" }, ...invalid],
    [{ aud: [AUDIENCE, "other"] }, ...invalid],
    [{ azp: "somebody" }, ...invalid],
    [{ exp: Math.floor(Date.now() / 1000) - 1 }, ...invalid],
    [{ iss: "https://evil.example" }, ...invalid],
    [{ "https://aws.amazon.com/source_identity": undefined }, "answer_malformed", "source_identity_missing"],
    [{ "https://aws.amazon.com/source_identity": "triage-bot" }, "answer_malformed", "source_identity_missing"],
  ];
  for (const [claims, problem, code] of cases) {
    const signed = await token(AUDIENCE, claims);
    // The token is as good as a key while it lives: no error may hold it.
    await assertProblem(provider.mint(order(signed), never), problem, { code, canaries: [signed] });
  }
});

test("a broker that signs no web-identity tokens cannot take up the role", async (t) => {
  const sts = await startKeyless(t);
  const order = awsOrder(settingsOf("aws-keyless", sts.url));
  await assertProblem(provider.mint(order, never), "credentials_refused", { code: "web_identity_unavailable" });
  assert.equal(sts.calls.length, 0);
});

test("AWS finds our keys by discovery, and tells when it cannot", async (t) => {
  const server = createServer((request, response) => {
    const body = request.url === "/keys" ? jwks : { issuer, jwks_uri: `${issuer}/keys` };
    response.setHeader("content-type", "application/json").end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  t.after(() => server.close());
  const issuer = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const role = "arn:aws:iam::111122223333:role/ephor-deploy";
  const trust = JSON.parse(
    example("aws-keyless/iam-trust-policy.json").replaceAll("sts.acme.example", issuer.slice("http://".length)),
  ) as IamPolicy;
  const sts = await fakeSts(t, { roles: { [role]: { trust } }, providers: { [issuer]: { clientIds: [AUDIENCE] } } });
  const order = awsOrder(settingsOf("aws-keyless", sts.url), {
    webIdentity: (audience) => token(audience, { iss: issuer }),
  });
  await provider.mint(order, never);
  server.closeAllConnections();
  await new Promise((resolve) => server.close(resolve));
  const before = sts.calls.length;
  await assertProblem(provider.mint(order, never), "unavailable", { code: "IDPCommunicationError" });
  assert.equal(sts.calls.length, before + 3);
});

test("the example with keys in the vault: the role's trust policy takes what is sent", async (t) => {
  const role = "arn:aws:iam::111122223333:role/ephor-prod";
  const sts = await fakeSts(t, {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, arn: "arn:aws:iam::111122223333:user/ephor" } },
    roles: { [role]: { trust: trustOf("aws") } },
  });
  const secrets = new Map([["aws-root", secretText(KEYS_SECRET)]]);
  const order = awsOrder(settingsOf("aws", sts.url), { policies: ["readonly"], secrets });
  const { credential } = await provider.mint(order, never);
  const ask = (action: string): boolean =>
    sts.allows(String(credential["access_key_id"]), { action, resource: "*", at: order.issuedAt });
  assert.ok(ask("logs:FilterLogEvents"));
  assert.ok(!ask("ecs:UpdateService"));
});
