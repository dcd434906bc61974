import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { mkdtemp, rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { createAwsProvider } from "../../../src/broker/providers/aws.ts";
import { createSts } from "../../../src/broker/providers/aws-sts.ts";
import { awsOrder, awsSettings, BROKER, KEYS, ROLE } from "../../support/aws-order.ts";
import { fakeSts } from "../../support/fake-sts.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const never = new AbortController().signal;
const require = createRequire(import.meta.url);

function isSdkLoaded(): boolean {
  return Object.keys(require.cache).some((path) => path.includes("client-sts"));
}

test("AWS's SDK is loaded by the first mint and by nothing before it", async (t) => {
  const sts = await fakeSts(t, {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, arn: BROKER } },
    roles: { [ROLE]: { trust: { Statement: { Effect: "Allow", Principal: { AWS: BROKER }, Action: "sts:*" } } } },
  });
  const provider = createAwsProvider();
  const settings = awsSettings({ endpoint: sts.url, secret: "aws-root" });
  assert.equal(isSdkLoaded(), false);
  await provider.mint(awsOrder(settings), never);
  assert.equal(isSdkLoaded(), true);
});

test("neither ~/.aws nor any AWS_* variable changes what is sent, to whom and with which keys", async (t) => {
  const trust = { Statement: { Effect: "Allow" as const, Principal: { AWS: BROKER }, Action: "sts:*" } };
  const sts = await fakeSts(t, {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, arn: BROKER } },
    roles: { [ROLE]: { trust } },
  });
  const other = await fakeSts(t, { roles: {} });
  const settings = awsSettings({ endpoint: sts.url, secret: "aws-root" });
  const provider = createAwsProvider();
  await provider.mint(awsOrder(settings), never);
  const plain = sts.calls[0]?.headers["user-agent"];
  const home = await mkdtemp(join(tmpdir(), "ephor-aws-"));
  const before = { ...process.env };
  t.after(async () => {
    for (const name of Object.keys(process.env)) if (!(name in before)) delete process.env[name];
    await rm(home, { recursive: true });
  });
  const file = [
    "[default]",
    "aws_access_key_id = AKIACONFIG0000000001",
    "aws_secret_access_key = from-the-file",
    "region = us-west-2",
    `endpoint_url = ${other.url}`,
    "retry_mode = adaptive",
    "max_attempts = 1",
    "use_fips_endpoint = true",
    "use_dualstack_endpoint = true",
    "defaults_mode = mobile",
    "sdk_ua_app_id = from-the-file",
    "auth_scheme_preference = sigv4a",
  ].join("\n");
  writeFileSync(join(home, "config"), file);
  Object.assign(process.env, {
    AWS_CONFIG_FILE: join(home, "config"),
    AWS_SHARED_CREDENTIALS_FILE: join(home, "config"),
    AWS_ACCESS_KEY_ID: "AKIAENVIRONMENT00001",
    AWS_SECRET_ACCESS_KEY: "from-the-environment",
    AWS_SESSION_TOKEN: "from-the-environment",
    AWS_REGION: "us-west-2",
    AWS_ENDPOINT_URL: other.url,
    AWS_ENDPOINT_URL_STS: other.url,
    AWS_MAX_ATTEMPTS: "1",
    AWS_RETRY_MODE: "adaptive",
    AWS_DEFAULTS_MODE: "mobile",
    AWS_USE_FIPS_ENDPOINT: "true",
    AWS_USE_DUALSTACK_ENDPOINT: "true",
    AWS_SDK_UA_APP_ID: "from-the-environment",
    AWS_STS_REGIONAL_ENDPOINTS: "legacy",
  });
  sts.next({ code: "ServiceUnavailable", status: 503 });
  const { credential } = await provider.mint(awsOrder(settings), never);
  assert.equal(credential["region"], "eu-west-1");
  assert.deepEqual(
    sts.calls.map(({ signer }) => signer),
    [KEYS.id, KEYS.id, KEYS.id],
  );
  assert.deepEqual(
    sts.calls.map(({ headers }) => headers["user-agent"]),
    [plain, plain, plain],
  );
  assert.equal(other.calls.length, 0);
});

test("without an endpoint of its own the region's STS is meant, whatever AWS_ENDPOINT_URL says", async (t) => {
  const other = await fakeSts(t, { roles: {} });
  process.env["AWS_ENDPOINT_URL"] = other.url;
  process.env["AWS_ENDPOINT_URL_STS"] = other.url;
  t.after(() => {
    delete process.env["AWS_ENDPOINT_URL"];
    delete process.env["AWS_ENDPOINT_URL_STS"];
  });
  const hosts: string[] = [];
  const { assumeRole } = createSts({
    lookup(host, _options, done) {
      hosts.push(host);
      done(Object.assign(new Error("no network in tests"), { code: "ENOTFOUND" }), []);
    },
  });
  const keys = { accessKeyId: KEYS.id, secretAccessKey: KEYS.secret };
  const input = { RoleArn: ROLE, RoleSessionName: "lease_1" };
  for (const region of ["eu-west-1", "cn-north-1"]) {
    await assert.rejects(assumeRole({ target: { region }, keys, input, signal: never }));
  }
  assert.deepEqual([...new Set(hosts)], ["sts.eu-west-1.amazonaws.com", "sts.cn-north-1.amazonaws.com.cn"]);
  assert.equal(other.calls.length, 0);
});
