/** The parts of a rotation at AWS one by one; `test/broker/rotation-aws.test.ts` has them in order. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { RotationOrder } from "../../../src/broker/provider.ts";
import { createAwsProvider } from "../../../src/broker/providers/aws.ts";
import { createAwsRotation } from "../../../src/broker/providers/aws-rotation.ts";
import { awsSettingsValue, type AwsSettings } from "../../../src/broker/providers/aws-settings.ts";
import { createEgress, type EgressOrder } from "../../../src/system/egress.ts";
import { assertProblem, awsSettings, KEYS, KEYS_SECRET, ROLE, secretText } from "../../support/aws-order.ts";
import { fakeIam, type FakeIam } from "../../support/fake-iam.ts";
import { fakeSts, type FakeSts } from "../../support/fake-sts.ts";

interface Suite {
  after(fn: () => Promise<void>): void;
}

const never = new AbortController().signal;
const rotation = createAwsRotation();

async function stage(t: Suite): Promise<{ iam: FakeIam; sts: FakeSts; order: RotationOrder<AwsSettings> }> {
  const iam = await fakeIam(t);
  const sts = await fakeSts(t, { keys: iam.known, roles: {} });
  iam.add("ephor", { id: KEYS.id, secret: KEYS.secret, createdAt: new Date(Date.now() - 86_400_000) });
  const settings = awsSettings({ endpoint: sts.url, iam_endpoint: iam.url, secret: "aws-root" });
  return { iam, sts, order: orderOf(settings) };
}

function orderOf(settings: AwsSettings, value = KEYS_SECRET): RotationOrder<AwsSettings> {
  const secrets = new Map([["aws-root", secretText(value)]]);
  return { settings, secret: "aws-root", secrets, upstream: { egress: createEgress() } };
}

test("a new key that AWS does not know yet is tried again after waits, each longer, and then it is let in", async (t) => {
  const { iam, sts, order } = await stage(t);
  const next = await rotation.make(order, never);
  const waits: number[] = [];
  const { rotation: patient } = createAwsProvider({ wait: async (ms) => void waits.push(ms) });
  assert.ok(patient?.by === "beside");
  const refusal = { code: "InvalidClientTokenId", status: 403 };
  sts.next(refusal, refusal, { code: "Throttling" });
  await patient.prove({ ...order, next }, never);
  assert.deepEqual(waits, [500, 1_000, 2_000]);
  const signers = sts.calls.map(({ action, signer }) => [action, signer]);
  const id = iam.ofUser("ephor")[1]?.id;
  assert.deepEqual(
    signers,
    Array.from({ length: 4 }, () => ["GetCallerIdentity", id]),
  );
});

test("the tries of a new key are six, then it is refused; another refusal, or the end of the time, ends them at once", async (t) => {
  const { sts, order } = await stage(t);
  const next = await rotation.make(order, never);
  const waits: number[] = [];
  const patient = createAwsRotation(async (ms) => void waits.push(ms));
  const refusal = { code: "InvalidClientTokenId", status: 403 };
  sts.next(...Array.from({ length: 7 }, () => refusal));
  await assertProblem(patient.prove({ ...order, next }, never), "order_refused", { code: "new_key_refused" });
  assert.deepEqual([waits.length, sts.calls.length], [5, 6]);
  sts.forget();
  sts.next({ code: "AccessDenied", status: 403 });
  await assertProblem(patient.prove({ ...order, next }, never), "order_refused", { code: "AccessDenied" });
  assert.equal(waits.length, 5);
  const over = new AbortController();
  sts.next(refusal, refusal, refusal);
  const hasty = createAwsRotation(async () => over.abort());
  await assertProblem(hasty.prove({ ...order, next }, over.signal), "unreachable", { code: "egress_aborted" });
});

test("only one key beside the present one is too many, also where AWS finds it later than the list did", async (t) => {
  const { iam, order } = await stage(t);
  assert.match(
    (await rotation.begin(order, never)).use((text) => text),
    /^\{"made_from":\d{10}\}$/,
  );
  iam.add("ephor");
  await assertProblem(rotation.begin(order, never), "order_refused", { code: "second_key_exists" });
  await assertProblem(rotation.make(order, never), "order_refused", { code: "second_key_exists" });
});

test("what is ended is never the present key, nor one that was made before the mark or long after it", async (t) => {
  const { iam, order } = await stage(t);
  const end = (left: object): Promise<void> =>
    rotation.end({ ...order, left: secretText(JSON.stringify(left)) }, never);
  await end({ access_key_id: KEYS.id });
  const from = Math.floor(Date.now() / 1_000) - 100;
  const at = (seconds: number): Date => new Date((from + seconds) * 1_000);
  for (const seconds of [-1, 61]) {
    const other = iam.add("ephor", { createdAt: at(seconds) });
    await end({ made_from: from });
    assert.ok(iam.keys.has(other.id), `${seconds} s`);
    iam.keys.delete(other.id);
  }
  for (const seconds of [0, 60]) {
    iam.add("ephor", { createdAt: at(seconds) });
    await end(seconds === 0 ? { made_from: from } : { lost_from: from });
    assert.deepEqual(
      iam.ofUser("ephor").map(({ id }) => id),
      [KEYS.id],
    );
  }
  await end({ access_key_id: "AKIAGONE000000000001" });
  const code = "lost_key_not_seen";
  await assertProblem(end({ lost_from: Math.floor(Date.now() / 1_000) - 50 }), "unavailable", { code });
  for (const left of [{}, { made_from: from, access_key_id: KEYS.id }, { username: "a", password: "b" }])
    await assertProblem(end(left), "secret_malformed");
});

test("a mark holds no secret key, and the mark of a mark is itself", () => {
  const mark = rotation.markOf(secretText(KEYS_SECRET));
  assert.deepEqual(
    mark.use((text) => JSON.parse(text) as unknown),
    { access_key_id: KEYS.id },
  );
  assert.equal(rotation.markOf(mark), mark);
  const lost = rotation.markOf(secretText('{"made_from":1795284000}'));
  assert.deepEqual(
    lost.use((text) => JSON.parse(text) as unknown),
    { lost_from: 1_795_284_000 },
  );
  assert.equal(rotation.markOf(lost), lost);
});

test("an answer that is none of IAM's is malformed, whatever it holds, and is not repeated", async (t) => {
  const { iam, order } = await stage(t);
  const key =
    "<AccessKeyId>AKIANEW0000000000001</AccessKeyId><SecretAccessKey>CANARYsecret0123456789</SecretAccessKey>";
  for (const body of [
    "",
    "<html>CANARY</html>",
    `<CreateAccessKeyResponse xmlns="a"><AccessKeyId>AKIANEW0000000000001</AccessKeyId></CreateAccessKeyResponse>`,
    `<CreateAccessKeyResponse xmlns="a">${key}${key}</CreateAccessKeyResponse>`,
    `<CreateAccessKeyResponse xmlns="a">${key.replace("CANARYsecret", "&#67;")}</CreateAccessKeyResponse>`,
    `<ListAccessKeysResponse xmlns="a">${key}</ListAccessKeysResponse>`,
  ]) {
    iam.next("CreateAccessKey", { body });
    await assertProblem(rotation.make(order, never), "answer_malformed");
    for (const { id } of iam.ofUser("ephor").slice(1)) iam.keys.delete(id);
  }
  const list = (inner: string): string => `<ListAccessKeysResponse xmlns="a">${inner}</ListAccessKeysResponse>`;
  for (const body of [
    list("<IsTruncated>true</IsTruncated>"),
    list("<member><AccessKeyId>AKIANEW0000000000001</AccessKeyId></member><IsTruncated>false</IsTruncated>"),
    list(`${"<member>".repeat(5_000)}<IsTruncated>false</IsTruncated>`),
  ]) {
    iam.next("ListAccessKeys", { body });
    await assertProblem(rotation.begin(order, never), "answer_malformed");
  }
});

test("the present key refused, a user without the permission and an IAM that is busy are told apart, in our words", async (t) => {
  const { iam, order } = await stage(t);
  const wrong = orderOf(order.settings, KEYS_SECRET.replace("canary/", "canary+"));
  await assertProblem(rotation.begin(wrong, never), "credentials_refused", { code: "SignatureDoesNotMatch" });
  iam.next("CreateAccessKey", { code: "AccessDenied", status: 403 });
  await assertProblem(rotation.make(order, never), "order_refused", { code: "AccessDenied" });
  iam.next("CreateAccessKey", { code: "ServiceFailure", status: 500 });
  await assertProblem(rotation.make(order, never), "unavailable", { code: "ServiceFailure" });
  iam.next("CreateAccessKey", { code: "CANARY", status: 418 });
  await assertProblem(rotation.make(order, never), "order_refused", { code: "http_418" });
});

test("each partition has its IAM and its region; one that is not known is refused", async () => {
  const asked: string[] = [];
  const send = (order: EgressOrder): Promise<never> => {
    const [, scope = ""] = /Credential=[^/]+\/\d+\/([^,]+),/.exec(order.headers["authorization"] ?? "") ?? [];
    asked.push(`${order.url} ${scope} ${order.internal}`);
    return Promise.reject(new TypeError("not here"));
  };
  const beginAt = async (partition: string): Promise<void> => {
    const settings = awsSettings({ role_arn: ROLE.replace("aws", partition), secret: "aws-root" });
    const upstream = { egress: { ...createEgress(), send } };
    await rotation.begin({ ...orderOf(settings), upstream }, never);
  };
  for (const partition of ["aws", "aws-cn", "aws-us-gov"]) await assert.rejects(beginAt(partition), TypeError);
  assert.deepEqual(asked, [
    "https://iam.amazonaws.com/ us-east-1/iam/aws4_request false",
    "https://iam.cn-north-1.amazonaws.com.cn/ cn-north-1/iam/aws4_request false",
    "https://iam.us-gov.amazonaws.com/ us-gov-west-1/iam/aws4_request false",
  ]);
  await assertProblem(beginAt("aws-iso"), "order_refused", { code: "partition_unknown" });
});

test("iam_endpoint and rotate_every belong to a key of the vault; plain http only to a loopback address", () => {
  const ok = (more: object): boolean =>
    awsSettingsValue.safeParse({ role_arn: ROLE, region: "eu-west-1", ...more }).success;
  assert.ok(ok({ secret: "aws-root", iam_endpoint: "https://iam.vpc.example/", rotate_every: "30d" }));
  assert.ok(!ok({ secret: "aws-root", iam_endpoint: "http://iam.vpc.example/" }));
  assert.ok(!ok({ secret: "aws-root", rotate_every: "59m" }));
  assert.ok(!ok({ environment: true, rotate_every: "30d" }));
  assert.ok(!ok({ web_identity: {}, iam_endpoint: "https://iam.vpc.example/" }));
});
