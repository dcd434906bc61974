import assert from "node:assert/strict";
import { test } from "node:test";
import { awsSettingsValue } from "../../../src/broker/providers/aws-settings.ts";
import {
  sessionTags,
  sourceIdentity,
  transitiveTagKeys,
  webIdentityTags,
} from "../../../src/broker/providers/aws-tags.ts";
import { LEASE, ROLE } from "../../support/aws-order.ts";

const base = { role_arn: ROLE, region: "eu-west-1", secret: "aws-root" };

function accepts(changes: object): boolean {
  return awsSettingsValue.safeParse({ ...base, ...changes }).success;
}

test("the contract's example is accepted, with the shortest session that AWS makes", () => {
  const readonly = { Statement: { Effect: "Allow", Action: "s3:Get*", Resource: "*" } };
  const settings = awsSettingsValue.parse({
    role_arn: "arn:aws:iam::1:role/x",
    region: "eu-west-1",
    session_policies: { readonly },
    secret: "aws-root",
  });
  assert.equal(settings.duration_seconds, 900);
  assert.deepEqual(awsSettingsValue.parse(settings), settings);
});

test("exactly one source of base credentials", () => {
  const none = { secret: undefined };
  assert.ok(accepts({}));
  assert.ok(accepts({ ...none, web_identity: {} }));
  assert.ok(accepts({ ...none, environment: true }));
  assert.ok(!accepts(none));
  assert.ok(!accepts({ web_identity: {} }));
  assert.ok(!accepts({ environment: true }));
  assert.ok(!accepts({ ...none, web_identity: {}, environment: true }));
  assert.ok(!accepts({ ...none, environment: false }));
  const keyless = awsSettingsValue.parse({ ...base, ...none, web_identity: {} });
  assert.deepEqual(keyless.web_identity, { audience: "sts.amazonaws.com" });
});

test("settings are read strictly", () => {
  const pairs: readonly (readonly [object, object])[] = [
    [{ region: "us-gov-west-1" }, { region: "eu-west" }],
    [{ region: "eusc-de-east-1" }, { region: "eu-west-1.evil.example" }],
    [{ role_arn: "arn:aws-cn:iam::111122223333:role/a/b" }, { role_arn: "arn:aws:iam::111122223333:user/a" }],
    [{ role_arn: ROLE }, { role_arn: `${ROLE}*` }],
    [{ endpoint: "https://vpce-1.sts.eu-west-1.vpce.amazonaws.com" }, { endpoint: "http://sts.acme.example" }],
    [{ endpoint: "http://127.0.0.1:4566" }, { endpoint: "http://169.254.169.254" }],
    [{ endpoint: "https://sts.acme.example/sts" }, { endpoint: "https://user:pw@sts.acme.example" }],
    [{ duration_seconds: 900 }, { duration_seconds: 899 }],
    [{ duration_seconds: 43_200 }, { duration_seconds: 43_201 }],
    [{ external_id: "acme:42/x" }, { external_id: "a b" }],
    [{ session_policies: {} }, { session_policies: { readonly: {} } }],
    [{ tags: { team: "platform ops" } }, { tags: { "aws:team": "x" } }],
    [{ tags: { "cost-center": "" } }, { tags: { "Ephor:human": "x" } }],
    [{ tags: { a: "x", b: "y" } }, { tags: { a: "x", A: "y" } }],
    [{ tags: { a: "x=y@z" } }, { tags: { a: "x|y" } }],
    [{}, { disclose: true }],
    [{}, { roleArn: ROLE }],
  ];
  for (const [good, bad] of pairs) {
    assert.ok(accepts(good), JSON.stringify(good));
    assert.ok(!accepts(bad), JSON.stringify(bad));
  }
  assert.ok(!accepts({ secret: undefined, web_identity: {}, external_id: "acme-42" }));
});

test("an agent that acts for itself leaves no human's name", () => {
  const { traceId: _trace, purpose: _purpose, ...facts } = LEASE;
  const tags = sessionTags({ ...facts, sub: "agent|ops-bot" });
  assert.deepEqual(tags, [
    { Key: "ephor:agent", Value: "ops-bot" },
    { Key: "ephor:txn", Value: LEASE.txn },
  ]);
  assert.deepEqual(transitiveTagKeys(tags), ["ephor:agent", "ephor:txn"]);
});

test("a tag's value keeps letters of every script, maps what AWS refuses and is cut at 256 characters", () => {
  const valueOf = (purpose: string): string | undefined =>
    sessionTags({ ...LEASE, purpose }).find(({ Key }) => Key === "ephor:purpose")?.Value;
  assert.equal(valueOf("Überprüfung 東京 a=b@c"), "Überprüfung 東京 a=b@c");
  assert.equal(valueOf("tab\there; \u{1f600} `x` ${y}"), "tab.here. . .x. ..y.");
  assert.equal(valueOf("x".repeat(300)), "x".repeat(256));
  // A letter outside the basic plane is one character and is not cut in two.
  assert.equal(valueOf("\u{20000}".repeat(300)), "\u{20000}".repeat(256));
  assert.equal(valueOf(""), undefined);
});

test("a source identity has at least two characters", () => {
  assert.equal(sourceIdentity("ops-bot"), "ops-bot");
  assert.equal(sourceIdentity("x"), "agent.x");
  assert.equal(sourceIdentity("x".repeat(63)), "x".repeat(63));
});

test("a web-identity token carries the same tags and the source identity as claims", () => {
  assert.deepEqual(webIdentityTags(LEASE, { team: "platform" }), {
    "https://aws.amazon.com/tags": {
      principal_tags: {
        "ephor:agent": ["ops-bot"],
        "ephor:human": ["okta.00u1.ab"],
        "ephor:txn": [LEASE.txn],
        "ephor:trace": [LEASE.traceId],
        "ephor:purpose": ["clean up .old. snapshots . logs"],
        team: ["platform"],
      },
      transitive_tag_keys: ["ephor:agent", "ephor:human", "ephor:txn", "ephor:trace"],
    },
    "https://aws.amazon.com/source_identity": "ops-bot",
  });
});
