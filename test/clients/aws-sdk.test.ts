import assert from "node:assert/strict";
import { after, test } from "node:test";
import { AssumeRoleCommand, GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { awsStage, REGION, sessionsOf, factsOf } from "../proxy/aws-stage.ts";
import { eventsOf } from "../proxy/stage.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const s = await awsStage({ after });

/** As docs/proxy.md has it. */
function client(token: () => Promise<string>): STSClient {
  return new STSClient({
    region: REGION,
    endpoint: `${s.w.server.issuer}/http/aws-sts`,
    credentials: { accessKeyId: "none", secretAccessKey: "none" },
    signer: {
      sign: async (request) => {
        const headers = { ...request.headers, authorization: `Bearer ${await token()}` };
        return Object.assign(request, { headers });
      },
    },
    maxAttempts: 1,
  });
}

test("AWS's own SDK calls through the proxy without a key, with Ephor's token where its signature would be", async () => {
  const sts = client(() => s.token("aws-sts"));
  const { Arn, Account } = await sts.send(new GetCallerIdentityCommand({}));
  const [event] = await eventsOf(s.w, "call.forward");
  const lease = factsOf(event)["lease"];
  assert.equal(Arn, `arn:aws:sts::111122223333:assumed-role/ephor-orders/${String(lease)}`);
  assert.equal(Account, "111122223333");
  assert.equal(s.sts.calls.at(-1)?.headers["x-amz-user-agent"], undefined);
  assert.equal(sessionsOf(s.sts).length, 1);
});

test("the SDK is told why in its own errors: a token that is nothing, and what AWS refuses the session", async () => {
  const bad = client(async () => "no-token");
  await assert.rejects(bad.send(new GetCallerIdentityCommand({})), (error: Error & { $metadata?: object }) => {
    assert.equal((error.$metadata as { httpStatusCode?: number }).httpStatusCode, 401);
    return true;
  });
  const good = client(() => s.token("aws-sts"));
  const assume = new AssumeRoleCommand({ RoleArn: "arn:aws:iam::111122223333:role/other", RoleSessionName: "out" });
  await assert.rejects(good.send(assume), { name: "AccessDenied" });
});

test("with the SDK's own signature in Authorization there is no token, and nothing is sent", async () => {
  const { length } = s.sts.calls;
  const unchanged = new STSClient({
    region: REGION,
    endpoint: `${s.w.server.issuer}/http/aws-sts`,
    credentials: { accessKeyId: "none", secretAccessKey: "none" },
    maxAttempts: 1,
  });
  await assert.rejects(unchanged.send(new GetCallerIdentityCommand({})), (error: Error & { $metadata?: object }) => {
    assert.equal((error.$metadata as { httpStatusCode?: number }).httpStatusCode, 401);
    return true;
  });
  assert.equal(s.sts.calls.length, length);
});
