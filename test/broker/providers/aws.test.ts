import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { setImmediate } from "node:timers/promises";
import { test } from "node:test";
import { GetCallerIdentityCommand, STSClient } from "@aws-sdk/client-sts";
import { createAwsProvider } from "../../../src/broker/providers/aws.ts";
import { createSts } from "../../../src/broker/providers/aws-sts.ts";
import {
  assertProblem,
  awsOrder,
  awsSettings,
  BROKER,
  KEYS,
  KEYS_SECRET,
  LEASE,
  ROLE,
  secretText,
} from "../../support/aws-order.ts";
import { fakeSts } from "../../support/fake-sts.ts";
import type { FakeSts } from "../../support/fake-sts.ts";

process.env["AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED"] = "true";

const READONLY = {
  Statement: [
    { Sid: "Read", Effect: "Allow", Action: ["s3:GetObject", "s3:List*"], Resource: "*" },
    { Effect: "Deny", Action: "*", Resource: "arn:aws:s3:::secret/*" },
  ],
};
const TRUST = {
  Statement: [
    {
      Effect: "Allow" as const,
      Principal: { AWS: BROKER },
      Action: ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"],
      Condition: { StringEquals: { "sts:ExternalId": "acme-42" } },
    },
  ],
};
const provider = createAwsProvider();
const never = new AbortController().signal;

interface Suite {
  after(fn: () => Promise<void>): void;
}

function start(t: Suite, changes: { trust?: (typeof TRUST)["Statement"] } = {}): Promise<FakeSts> {
  return fakeSts(t, {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, arn: BROKER } },
    roles: {
      [ROLE]: {
        trust: changes.trust === undefined ? TRUST : { Statement: changes.trust },
        policy: {
          Statement: [
            { Effect: "Allow", Action: ["s3:*", "sts:*"], Resource: "*" },
            { Effect: "Deny", Action: "s3:DeleteBucket", Resource: "*" },
          ],
        },
      },
    },
  });
}

function settingsFor(sts: FakeSts, changes: Record<string, unknown> = {}) {
  return awsSettings({
    endpoint: sts.url,
    secret: "aws-root",
    external_id: "acme-42",
    session_policies: { readonly: READONLY },
    ...changes,
  });
}

const read = { action: "s3:GetObject", resource: "arn:aws:s3:::data/a" };

test("aws takes up the role by a request that AWS can verify, named after lease, agent, human and task", async (t) => {
  const sts = await start(t);
  const order = awsOrder(settingsFor(sts, { tags: { team: "platform" } }), { policies: ["readonly"] });
  const minted = await provider.mint(order, never);

  const [call] = sts.calls;
  assert.equal(sts.calls.length, 1);
  assert.equal(call?.action, "AssumeRole");
  assert.equal(call?.signer, KEYS.id);
  assert.equal(call?.params["DurationSeconds"], "900");
  assert.equal(call?.params["RoleSessionName"], LEASE.id);

  const { credential, marks, handle, upstreamExpiresAt } = minted;
  const id = String(credential["access_key_id"]);
  const session = sts.sessions.get(id);
  assert.ok(session);
  assert.deepEqual(credential, {
    access_key_id: id,
    secret_access_key: session.secretAccessKey,
    session_token: session.sessionToken,
    expiration: new Date(order.endsAt * 1000).toISOString().replace(".000", ""),
    region: "eu-west-1",
  });
  assert.equal(session.sourceIdentity, "ops-bot");
  assert.deepEqual(session.tags, {
    "ephor:agent": "ops-bot",
    "ephor:human": "okta.00u1.ab",
    "ephor:txn": LEASE.txn,
    "ephor:trace": LEASE.traceId,
    "ephor:purpose": "clean up .old. snapshots . logs",
    team: "platform",
  });
  assert.deepEqual(session.transitiveTagKeys, ["ephor:agent", "ephor:human", "ephor:txn", "ephor:trace"]);
  assert.deepEqual(marks, [
    { kind: "aws_access_key_id", value: id },
    { kind: "aws_role_session_name", value: LEASE.id },
  ]);
  assert.deepEqual(handle, {});
  assert.equal(upstreamExpiresAt, session.expiration.getTime() / 1000);
  assert.equal(provider.destroy, undefined);
  assert.equal(provider.residualSeconds(order.settings), 0);
  assert.deepEqual(provider.secrets(order.settings), ["aws-root"]);
});

test("AWS allows the session at T+5 s and refuses it at T+65 s, though the session lives 900 s", async (t) => {
  const sts = await start(t);
  for (const policies of [[], ["readonly"]]) {
    const order = awsOrder(settingsFor(sts), { policies });
    const { credential, upstreamExpiresAt } = await provider.mint(order, never);
    const id = String(credential["access_key_id"]);
    assert.ok((upstreamExpiresAt ?? 0) >= order.issuedAt + 900);
    assert.ok(sts.allows(id, { ...read, at: order.issuedAt + 5 }));
    assert.ok(!sts.allows(id, { ...read, at: order.issuedAt + 65 }));
    assert.ok(sts.allows(id, { ...read, at: order.endsAt - 1 }));
    assert.ok(!sts.allows(id, { ...read, at: order.endsAt }));
  }
});

test("a session may do what both the role and every named policy allow", async (t) => {
  const sts = await start(t);
  const settings = settingsFor(sts, {
    session_policies: {
      readonly: READONLY,
      data: { Statement: { Effect: "Allow", Action: "*", Resource: "arn:aws:s3:::data/*" } },
    },
  });
  const mint = async (...policies: string[]) => {
    const order = awsOrder(settings, { policies });
    const { credential } = await provider.mint(order, never);
    return (action: string, resource: string): boolean =>
      sts.allows(String(credential["access_key_id"]), { action, resource, at: order.issuedAt + 5 });
  };
  const all = await mint();
  assert.ok(all("s3:PutObject", "arn:aws:s3:::other/a"));
  assert.ok(!all("s3:DeleteBucket", "arn:aws:s3:::other"));
  assert.ok(!all("ec2:RunInstances", "*"));
  const readonly = await mint("readonly");
  assert.ok(readonly("s3:GetObject", "arn:aws:s3:::other/a"));
  assert.ok(!readonly("s3:PutObject", "arn:aws:s3:::other/a"));
  assert.ok(!readonly("s3:GetObject", "arn:aws:s3:::secret/a"));
  const both = await mint("readonly", "data");
  assert.ok(both("s3:GetObject", "arn:aws:s3:::data/a"));
  assert.ok(!both("s3:GetObject", "arn:aws:s3:::other/a"));
  assert.ok(!both("s3:PutObject", "arn:aws:s3:::data/a"));
});

test("a session cannot take up another one that would outlive it", async (t) => {
  const sts = await start(t);
  const order = awsOrder(settingsFor(sts));
  const { credential } = await provider.mint(order, never);
  const may = (action: string): boolean =>
    sts.allows(String(credential["access_key_id"]), { action, resource: "*", at: order.issuedAt + 5 });
  assert.ok(may("sts:DecodeAuthorizationMessage"));
  for (const action of ["AssumeRole", "AssumeRoot", "GetSessionToken", "GetFederationToken", "GetWebIdentityToken"]) {
    assert.ok(!may(`sts:${action}`), action);
  }
});

test("an SDK of AWS works with what was vended", async (t) => {
  const sts = await start(t);
  const { credential } = await provider.mint(awsOrder(settingsFor(sts)), never);
  const client = new STSClient({
    region: String(credential["region"]),
    endpoint: sts.url,
    credentials: {
      accessKeyId: String(credential["access_key_id"]),
      secretAccessKey: String(credential["secret_access_key"]),
      sessionToken: String(credential["session_token"]),
    },
  });
  t.after(() => client.destroy());
  const { Arn } = await client.send(new GetCallerIdentityCommand({}));
  assert.equal(Arn, `arn:aws:sts::111122223333:assumed-role/deploy/${LEASE.id}`);
});

test("a policy that the resource does not have is refused before AWS is asked", async (t) => {
  const sts = await start(t);
  for (const policies of [["admin"], ["readonly", "admin"], ["constructor"]]) {
    const order = awsOrder(settingsFor(sts), { policies });
    await assertProblem(provider.mint(order, never), "cannot_bound", { code: "session_policy_unknown" });
  }
  assert.equal(sts.calls.length, 0);
});

test("keys that AWS does not know, or a wrong secret key, are our credentials refused", async (t) => {
  const sts = await start(t);
  const mint = (access_key_id: string, secret_access_key: string, more: object = {}): Promise<unknown> => {
    const text = JSON.stringify({ access_key_id, secret_access_key, ...more });
    return provider.mint(awsOrder(settingsFor(sts), { secrets: new Map([["aws-root", secretText(text)]]) }), never);
  };
  await mint(KEYS.id, KEYS.secret);
  await assertProblem(mint(KEYS.id, `${KEYS.secret}x`), "credentials_refused", { code: "SignatureDoesNotMatch" });
  await assertProblem(mint("AKIA0000000000000000", KEYS.secret), "credentials_refused", {
    code: "InvalidClientTokenId",
  });
  await assertProblem(mint(KEYS.id, KEYS.secret, { session_token: "canary-token" }), "credentials_refused", {
    code: "InvalidClientTokenId",
    canaries: ["canary-token"],
  });
});

test("base credentials may be a session themselves", async (t) => {
  const sts = await fakeSts(t, {
    keys: { [KEYS.id]: { secretAccessKey: KEYS.secret, sessionToken: "base-token==", arn: BROKER } },
    roles: { [ROLE]: { trust: { Statement: { ...TRUST.Statement[0]!, Condition: {} } } } },
  });
  const text = JSON.stringify({ ...JSON.parse(KEYS_SECRET), session_token: "base-token==" });
  const settings = settingsFor(sts, { external_id: undefined });
  await provider.mint(awsOrder(settings, { secrets: new Map([["aws-root", secretText(text)]]) }), never);
  assert.equal(sts.sessions.size, 1);
});

test("a secret that holds no AWS keys is named as such and not shown", async (t) => {
  const sts = await start(t);
  const bad = [
    "canary-not-json",
    "[]",
    `{"access_key_id":"${KEYS.id}"}`,
    `{"access_key_id":"${KEYS.id}","secret_access_key":""}`,
    `{"access_key_id":"short","secret_access_key":"${KEYS.secret}"}`,
    `{"access_key_id":"${KEYS.id}","secret_access_key":"${KEYS.secret}","region":"eu-west-1"}`,
    `{"access_key_id":"${KEYS.id}","secret_access_key":"a","secret_access_key":"${KEYS.secret}"}`,
  ];
  for (const text of bad) {
    const order = awsOrder(settingsFor(sts), { secrets: new Map([["aws-root", secretText(text)]]) });
    await assertProblem(provider.mint(order, never), "secret_malformed", { canaries: ["canary-not-json"] });
  }
  const missing = awsOrder(settingsFor(sts), { secrets: new Map() });
  await assertProblem(provider.mint(missing, never), "secret_malformed", { code: "keys_missing" });
  assert.equal(sts.calls.length, 0);
});

test("a role that does not trust us refuses the order, also where only tags or the source identity are not allowed", async (t) => {
  const [statement] = TRUST.Statement;
  assert.ok(statement);
  const denied = { code: "AccessDenied", canaries: ["not authorized"] };
  for (const missing of ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]) {
    const sts = await start(t, { trust: [{ ...statement, Action: statement.Action.filter((a) => a !== missing) }] });
    await assertProblem(provider.mint(awsOrder(settingsFor(sts)), never), "order_refused", denied);
  }
  const sts = await start(t);
  const stranger = awsOrder(settingsFor(sts, { external_id: "acme-43" }));
  await assertProblem(provider.mint(stranger, never), "order_refused", denied);
  const otherRole = awsOrder(settingsFor(sts, { role_arn: `${ROLE}2` }));
  await assertProblem(provider.mint(otherRole, never), "order_refused", denied);
});

test("AWS's codes become problems of ours, and none of its words is kept", async (t) => {
  const sts = await start(t);
  const mint = (): Promise<unknown> => provider.mint(awsOrder(settingsFor(sts)), never);
  const message = `CANARY arn:aws:iam::1:role/x Policy ${KEYS.secret}`;
  const cases = [
    ["AccessDenied", 403, "order_refused", "AccessDenied"],
    ["PackedPolicyTooLarge", 400, "cannot_bound", "PackedPolicyTooLarge"],
    ["MalformedPolicyDocument", 400, "order_refused", "MalformedPolicyDocument"],
    ["RegionDisabledException", 403, "order_refused", "RegionDisabled"],
    ["ExpiredToken", 400, "credentials_refused", "ExpiredToken"],
    ["UnrecognizedClientException", 403, "credentials_refused", "UnrecognizedClient"],
    ["OptInRequired", 403, "credentials_refused", "OptInRequired"],
    ["CANARYCode", 400, "order_refused", undefined],
  ] as const;
  for (const [code, status, problem, shown] of cases) {
    sts.next({ code, status, message });
    await assertProblem(mint(), problem, shown === undefined ? {} : { code: shown });
  }
  assert.equal(sts.calls.length, cases.length);
});

test("a busy or broken AWS is asked three times at most", async (t) => {
  const sts = await start(t);
  const mint = (): Promise<unknown> => provider.mint(awsOrder(settingsFor(sts)), never);
  const busy = { code: "ServiceUnavailable", status: 503, message: "CANARY" };
  sts.next(busy, { body: "<html>CANARY</html>", status: 502 });
  await mint();
  assert.equal(sts.calls.length, 3);
  sts.next(busy, busy, busy);
  await assertProblem(mint(), "unavailable", { code: "ServiceUnavailable" });
  assert.equal(sts.calls.length, 6);
  sts.next({ code: "Throttling", status: 400 });
  await mint();
  assert.equal(sts.calls.length, 8);
});

test("an answer that is not what AWS documents vends nothing", async (t) => {
  const sts = await start(t);
  const mint = (): Promise<unknown> => provider.mint(awsOrder(settingsFor(sts)), never);
  const wrap = (inner: string): string =>
    `<AssumeRoleResponse><AssumeRoleResult>${inner}</AssumeRoleResult></AssumeRoleResponse>`;
  const keys = "<AccessKeyId>ASIACANARY0000000001</AccessKeyId><SecretAccessKey>CANARY</SecretAccessKey>";
  const rest = "<SessionToken>CANARY</SessionToken><Expiration>2026-11-22T12:15:00Z</Expiration>";
  const source = "<SourceIdentity>ops-bot</SourceIdentity>";
  sts.next({ body: wrap(`<Credentials>${keys}${rest}</Credentials>${source}`) });
  await mint();
  const bodies = [
    "",
    "CANARY",
    '{"CANARY":1}',
    "<AssumeRoleResponse>",
    wrap(""),
    wrap(`<Credentials>${keys}</Credentials>${source}`),
    wrap(`<Credentials>${rest}</Credentials>${source}`),
    wrap(`<Credentials>${keys}${rest.replace("2026-11", "2026-CANARY")}</Credentials>${source}`),
  ];
  for (const body of bodies) {
    sts.next({ body });
    await assertProblem(mint(), "answer_malformed");
  }
  for (const other of ["", "<SourceIdentity>CANARY</SourceIdentity>"]) {
    sts.next({ body: wrap(`<Credentials>${keys}${rest}</Credentials>${other}`) });
    await assertProblem(mint(), "answer_malformed", { code: "source_identity_missing" });
  }
  // As the first, but with more around it than we read.
  sts.next({ body: wrap(`<Credentials>${keys}${rest}</Credentials>${source}<X>${"x".repeat(64 * 1024)}</X>`) });
  await assertProblem(mint(), "answer_malformed");
  const calls = sts.calls.length;
  sts.next({ body: "", status: 307, headers: { location: `${sts.url}/CANARY` } });
  await assertProblem(mint(), "answer_malformed");
  assert.equal(sts.calls.length, calls + 1, "a redirect is not followed");
});

test("an AWS that cannot be reached is unreachable", async (t) => {
  const sts = await start(t);
  const settings = settingsFor(sts);
  sts.next("reset", "reset", "reset");
  await assertProblem(provider.mint(awsOrder(settings), never), "unreachable");
  await sts.close();
  await assertProblem(provider.mint(awsOrder(settings), never), "unreachable");
});

test("what answers without speaking HTTP is malformed", async (t) => {
  const server = createServer((socket) => socket.on("error", () => {}).end("CANARY 220 smtp\r\n\r\n"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => server.close());
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const order = awsOrder(awsSettings({ endpoint, secret: "aws-root" }));
  await assertProblem(provider.mint(order, never), "answer_malformed");
});

test("a mint ends when its signal fires, also while AWS is silent, drips or is asked again", async (t) => {
  const sts = await start(t);
  const settings = settingsFor(sts);
  const busy = { code: "Throttling", status: 400 };
  const moments = [
    ["silence", () => sts.calls.length > 0],
    ["drip", () => sts.dripped() > 2],
    [busy, () => sts.answered() > 0],
  ] as const;
  for (const [how, hasCome] of moments) {
    sts.next(how, how, how);
    const cut = new AbortController();
    let isOver = false;
    const minting = provider.mint(awsOrder(settings), cut.signal).finally(() => (isOver = true));
    const ended = assertProblem(minting, "unreachable");
    while (!hasCome() && !isOver) await setImmediate();
    cut.abort();
    await ended;
    sts.forget();
  }
  const calls = sts.calls.length;
  await assertProblem(provider.mint(awsOrder(settings), AbortSignal.abort()), "unreachable");
  assert.equal(sts.calls.length, calls);
});

test("a call ends after its time although nobody cuts it", async (t) => {
  const sts = await start(t);
  const { assumeRole } = createSts({ totalMs: 50 });
  sts.next("silence");
  const call = assumeRole({
    target: { region: "eu-west-1", endpoint: sts.url },
    keys: { accessKeyId: KEYS.id, secretAccessKey: KEYS.secret },
    input: { RoleArn: ROLE, RoleSessionName: LEASE.id },
    signal: never,
  });
  await assertProblem(call, "unreachable");
});

test("keys of Ephor's own environment are used only where the settings say so", async (t) => {
  const sts = await start(t);
  const settings = settingsFor(sts, { secret: undefined, environment: true });
  const keys = { accessKeyId: KEYS.id, secretAccessKey: KEYS.secret };
  const order = awsOrder(settings, { secrets: new Map() });
  await createAwsProvider({ environment: () => keys }).mint(order, never);
  assert.equal(sts.calls[0]?.signer, KEYS.id);
  assert.deepEqual(provider.secrets(settings), []);
  const without = { code: "keys_missing" };
  await assertProblem(provider.mint(order, never), "credentials_refused", without);
  await assertProblem(
    createAwsProvider({ environment: () => undefined }).mint(order, never),
    "credentials_refused",
    without,
  );
  assert.equal(sts.calls.length, 1);
});
