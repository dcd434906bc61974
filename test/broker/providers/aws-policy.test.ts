import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ProviderError } from "../../../src/broker/provider-error.ts";
import { awsTime, boundPolicy, sessionPolicyValue } from "../../../src/broker/providers/aws-policy.ts";
import type { SessionPolicy } from "../../../src/broker/providers/aws-policy.ts";
import { evaluatePolicy } from "../../support/iam-policy.ts";
import type { IamPolicy } from "../../support/iam-policy.ts";

const T = 1_795_348_800;
const ACTIONS = ["s3:GetObject", "s3:GetBucketAcl", "s3:PutObject", "s3:ListBucket", "ec2:RunInstances"];
const RESOURCES = ["arn:aws:s3:::data/a", "arn:aws:s3:::data/b", "arn:aws:s3:::logs/a", "*"];

function bound(named: readonly unknown[], endsAt = T + 59): IamPolicy {
  const policies = named.map((policy) => sessionPolicyValue.parse(policy));
  return JSON.parse(boundPolicy(policies, endsAt)) as IamPolicy;
}

function allowed(policy: IamPolicy, action: string, resource: string, at = T): boolean {
  return evaluatePolicy(policy, { action, resource, at }) === "allow";
}

const statement = (more: object): object => ({ Effect: "Allow", Action: "s3:Get*", Resource: "*", ...more });

test("every session policy denies everything from the lease's end on, by AWS's clock", () => {
  for (const named of [[], [{ Statement: statement({}) }]]) {
    const policy = bound(named);
    const verdict = (at: number): string => evaluatePolicy(policy, { action: "s3:GetObject", resource: "*", at });
    assert.equal(verdict(T + 5), "allow");
    assert.equal(verdict(T + 58), "allow");
    // An explicit denial: no policy of a resource can allow it again.
    assert.equal(verdict(T + 59), "deny");
    assert.equal(verdict(T + 65), "deny");
  }
});

test("the date condition spells seconds as AWS reads them", () => {
  assert.equal(awsTime(T + 45), "2026-11-22T12:00:45Z");
  const last = [bound([]).Statement].flat().at(-1);
  assert.deepEqual(last, {
    Effect: "Deny",
    Action: "*",
    Resource: "*",
    Condition: { DateGreaterThanEquals: { "aws:CurrentTime": "2026-11-22T12:00:59Z" } },
  });
});

test("what another session could outlive is denied before the end too", () => {
  const policy = bound([{ Statement: statement({ Action: "*" }) }]);
  const at = { resource: "*", at: T };
  assert.equal(evaluatePolicy(policy, { action: "sts:AssumeRole", ...at }), "deny");
  assert.equal(evaluatePolicy(policy, { action: "sts:GetWebIdentityToken", ...at }), "deny");
  assert.equal(evaluatePolicy(policy, { action: "sts:GetCallerIdentity", ...at }), "allow");
});

test("a policy that names one of those is refused at the apply, one that denies it is not", () => {
  for (const Action of ["sts:AssumeRole", "STS:assumerole*", ["s3:*", "sts:GetSessionToken"]]) {
    assert.ok(!sessionPolicyValue.safeParse({ Statement: statement({ Action }) }).success, String(Action));
  }
  assert.ok(
    sessionPolicyValue.safeParse({
      Statement: [statement({}), statement({ Effect: "Deny", Action: "sts:AssumeRole" })],
    }).success,
  );
  assert.ok(sessionPolicyValue.safeParse({ Statement: statement({ Action: "sts:GetCallerIdentity" }) }).success);
});

test("a policy is read strictly: what AWS would refuse at every mint is refused once at the apply", () => {
  const bad: unknown[] = [
    {},
    { Statement: [] },
    { Statement: statement({}), Version: "2008-10-17" },
    { Statement: statement({}), Statements: [] },
    { Statement: statement({ Effect: "allow" }) },
    { Statement: statement({ Action: undefined }) },
    { Statement: statement({ NotAction: "s3:PutObject" }) },
    { Statement: statement({ Resource: undefined }) },
    { Statement: statement({ Principal: "*" }) },
    { Statement: statement({ Effect: "Deny" }) },
    { Statement: statement({ Resource: "arn:aws:s3:::käse-日本" }) },
    { Statement: statement({ Resource: `arn:aws:s3:::${"x".repeat(2000)}` }) },
    "{}",
  ];
  for (const policy of bad) assert.ok(!sessionPolicyValue.safeParse(policy).success, JSON.stringify(policy));
  const good = { Version: "2012-10-17", Id: "x", Statement: [statement({ Sid: "A" }), statement({ Sid: "B" })] };
  assert.ok(sessionPolicyValue.safeParse(good).success);
});

test("two texts of the same policy are one policy", () => {
  const one = { Statement: [statement({ Sid: "A", Action: ["s3:GetObject", "s3:PutObject"] }), statement({})] };
  const two = { Statement: [statement({}), statement({ Action: ["s3:PutObject", "s3:GetObject"], Resource: ["*"] })] };
  assert.equal([bound([one, two]).Statement].flat().length, [bound([one]).Statement].flat().length);
});

test("of several policies what none excludes is left, with conditions in one of them", () => {
  const https = statement({ Action: "s3:*", Condition: { Bool: { "aws:SecureTransport": "true" } } });
  const policy = bound([
    { Statement: [https] },
    { Statement: statement({ Action: "s3:Get*", Resource: "arn:aws:s3:::data/*" }) },
  ]);
  const ask = (action: string, resource: string, secure: string): string =>
    evaluatePolicy(policy, { action, resource, at: T, context: { "aws:SecureTransport": secure } });
  assert.equal(ask("s3:GetObject", "arn:aws:s3:::data/a", "true"), "allow");
  assert.notEqual(ask("s3:GetObject", "arn:aws:s3:::data/a", "false"), "allow");
  assert.notEqual(ask("s3:PutObject", "arn:aws:s3:::data/a", "true"), "allow");
  assert.notEqual(ask("s3:GetObject", "arn:aws:s3:::logs/a", "true"), "allow");
});

test("several policies without an exact intersection cannot be bound", () => {
  const conditional = (value: string): object => ({
    Statement: statement({ Condition: { StringEquals: { "aws:RequestedRegion": value } } }),
  });
  const rejected: readonly (readonly unknown[])[] = [
    [conditional("eu-west-1"), conditional("eu-central-1")],
    [conditional("eu-west-1"), { Statement: statement({ Action: undefined, NotAction: "s3:PutObject" }) }],
    [conditional("eu-west-1"), { Statement: statement({ Resource: undefined, NotResource: "*" }) }],
    [conditional("eu-west-1"), { Statement: statement({ Resource: "arn:aws:s3:::${aws:PrincipalTag/team}/*" }) }],
    [conditional("eu-west-1"), { Statement: [1, 2, 3, 4, 5].map((n) => statement({ Action: `s3:Get${n}` })) }],
  ];
  for (const named of rejected) {
    assert.throws(
      () => bound(named),
      (error) =>
        error instanceof ProviderError &&
        error.problem === "cannot_bound" &&
        error.code === "session_policies_not_intersectable",
    );
  }
  assert.ok(bound([conditional("eu-west-1"), { Statement: statement({ Condition: {} }) }]));
});

test("policies that fit alone and not together are refused with AWS's own word for it", () => {
  const long = (bucket: string): object => ({
    Statement: statement({ Resource: Array.from({ length: 40 }, (_, i) => `arn:aws:s3:::${bucket}/project-${i}/*`) }),
  });
  assert.ok(bound([long("data")]));
  assert.throws(
    () => bound([long("data"), long("logs")]),
    (error) =>
      error instanceof ProviderError && error.problem === "cannot_bound" && error.code === "PackedPolicyTooLarge",
  );
});

const patterns = <T>(values: readonly T[]) =>
  fc.oneof(fc.constantFrom(...values), fc.subarray([...values], { minLength: 1 }));
const actions = patterns(["s3:GetObject", "s3:Get*", "s3:?ut*", "S3:LISTBUCKET", "ec2:*", "*"]);
const resources = patterns(["arn:aws:s3:::data/*", "arn:aws:s3:::*/a", "arn:aws:s3:::logs/a", "*"]);
const anyStatement = fc.record({
  Effect: fc.constantFrom("Allow", "Allow", "Deny"),
  Action: actions,
  Resource: resources,
});
const anyPolicy = fc
  .array(anyStatement, { minLength: 1, maxLength: 4 })
  .filter((statements) => statements.some(({ Effect }) => Effect === "Allow"))
  .map((Statement) => ({ Statement }) as SessionPolicy);

test("the policy made of several allows exactly what each of them allows", () => {
  let bounded = 0;
  fc.assert(
    fc.property(fc.array(anyPolicy, { minLength: 1, maxLength: 3 }), (named) => {
      let merged: IamPolicy;
      try {
        merged = bound(named);
      } catch (error) {
        // Too long for AWS; never of a form that is not known.
        assert.ok(error instanceof ProviderError && error.code === "PackedPolicyTooLarge");
        return;
      }
      bounded++;
      for (const action of ACTIONS) {
        for (const resource of RESOURCES) {
          const each = named.every((policy) => allowed(policy as IamPolicy, action, resource));
          assert.equal(allowed(merged, action, resource), each, `${action} ${resource}`);
        }
      }
    }),
    { numRuns: 500 },
  );
  assert.ok(bounded > 250, `only ${bounded} fitted`);
});
