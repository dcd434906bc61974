import assert from "node:assert/strict";
import { after, test } from "node:test";
import { awsScopeOf } from "../../src/core/trust/aws-endpoint.ts";
import { world } from "../support/world.ts";

const w = await world({ after });
const makers = `
  aws-prod:
    credential:
      aws: { role_arn: "arn:aws:iam::111122223333:role/x", region: eu-west-1, secret: aws-root, session_policies: { readonly: { Statement: { Effect: Allow, Action: "s3:Get*", Resource: "*" } } } }
  notion:
    credential:
      oauth: { token_url: "https://api.notion.example/token", client_id: c, secret: notion-client, grant: refresh_token, refresh_secret: "notion-{user}" }
  shared:
    credential:
      oauth: { token_url: "https://api.notion.example/token", client_id: c, secret: notion-client, grant: refresh_token, refresh_secret: notion-shared }
  reports:
    credential:
      oauth: { token_url: "https://api.notion.example/token", client_id: c, secret: notion-client, grant: client_credentials }
  plain:
    credential: { static: { secret: crm-key, disclose: true } }`;
const DYNAMO = "https://dynamodb.eu-west-1.amazonaws.com";
const http = (inject: string, url = DYNAMO, more = ""): string => `
  api:
    http: ${url}
    actions: { call: [POST /] }
    inject: ${inject}
${more}`;
const mcp = (inject: string, server = "https://mcp.notion.example/mcp"): string => `
  pages: { mcp: ${server}, inject: ${inject} }`;
const apply = (resources: string, o: { source?: string; dry?: boolean } = {}) =>
  w.operator("POST", "/v1/apply", {
    source: o.source ?? "inject.yaml",
    file: `resources:${resources}\n`,
    ...(o.dry === true && { dry_run: true }),
  });

const refused: readonly [title: string, resources: string, path: string, mend: RegExp][] = [
  [
    "a credential resource that does not exist",
    http("{ aws: nowhere }"),
    "resources.api.inject.aws",
    /add the resource/,
  ],
  ["one of another kind", http("{ aws: notion }"), "resources.api.inject.aws", /credential: \{aws/],
  ["one that is no aws", http("{ oauth: aws-prod }"), "resources.api.inject.oauth", /credential: \{oauth/],
  ["one that only stores a value", http("{ oauth: plain }"), "resources.api.inject.oauth", /credential: \{oauth/],
  ["a resource that makes no credential", http("{ oauth: billing }"), "resources.api.inject.oauth", /credential:/],
  ["one person's account for everybody", http("{ oauth: shared }"), "resources.api.inject.oauth", /\{user\}/],
  ["the same at an MCP server", mcp("{ oauth: shared }"), "resources.pages.inject.oauth", /\{user\}/],
  [
    "a session policy that is none",
    http("{ aws: aws-prod, policy: all }"),
    "resources.api.inject.policy",
    /session_policies/,
  ],
  ["two sources", http("{ aws: aws-prod, oauth: notion }"), "resources.api.inject.oauth", /one credential resource/],
  [
    "a header beside a credential resource",
    http('{ oauth: notion, header: X-Key, value: "{secret:k}" }'),
    "resources.api.inject.header",
    /one credential resource/,
  ],
  ["nothing at all", http("{}"), "resources.api.inject.header", /header: NAME/],
  [
    "a policy without what it narrows",
    http('{ header: X-K, value: "{secret:k}", policy: p }'),
    "resources.api.inject.policy",
    /take it out/,
  ],
  ["a service without aws", http("{ oauth: notion, service: s3 }"), "resources.api.inject.service", /take it out/],
  [
    "a host that does not tell its service",
    http("{ aws: aws-prod, region: eu-west-1 }", "https://aws.acme.example"),
    "resources.api.inject.service",
    /service: dynamodb/,
  ],
  [
    "a host that does not tell its region",
    http("{ aws: aws-prod, service: s3 }", "https://aws.acme.example"),
    "resources.api.inject.region",
    /region: eu-west-1/,
  ],
  ["a region that is none", http("{ aws: aws-prod, region: Ireland }"), "resources.api.inject.region", /./],
  [
    "a header of the signature among those of callers",
    http("{ aws: aws-prod }", DYNAMO, "    forward: [X-Amz-Acl, X-Amz-Security-Token]\n"),
    "resources.api.forward[1]",
    /take it out/,
  ],
  ["aws at an MCP server", mcp("{ aws: aws-prod }"), "resources.pages.inject.aws", /./],
  [
    "a program, which gets no requests",
    mcp("{ oauth: notion }", "{ command: [/bin/true] }"),
    "resources.pages.inject.oauth",
    /env/,
  ],
];

for (const [title, resources, path, mend] of refused) {
  test(`inject: apply refuses ${title}, with its place and its mend`, async () => {
    const answer = await apply(`${makers}${resources}`, { dry: true });
    assert.equal(answer.status, 422, answer.text);
    const problems = answer.body["errors"] as { path: string; mend: string }[];
    const problem = problems.find((one) => one.path === path);
    assert.ok(problem, answer.text);
    assert.match(problem.mend, mend);
  });
}

test("inject: the plan names the credential resource, and one that is named by another source is not deleted or replaced", async () => {
  assert.equal((await apply(makers, { source: "makers.yaml" })).status, 200);
  const used = `${http("{ aws: aws-prod, policy: readonly }")}${mcp("{ oauth: notion }")}`;
  const plan = await apply(used);
  assert.equal(plan.status, 200, plan.text);
  const changed = await apply(used.replace(", policy: readonly", ""), { dry: true });
  assert.match(changed.text, /inject\.policy/);
  assert.match((await apply(used.replace("oauth: notion", "oauth: reports"), { dry: true })).text, /inject\.oauth/);
  for (const [name, key] of [
    ["aws-prod", "resources.api.inject.aws"],
    ["notion", "resources.pages.inject.oauth"],
  ] as const) {
    const gone = await w.operator("DELETE", `/v1/resources/${name}`);
    assert.ok([409, 422].includes(gone.status), gone.text);
    const without = makers.replace(new RegExp(`\\n  ${name}:\\n    credential:\\n.*`), "");
    const deleted = await apply(without, { source: "makers.yaml", dry: true });
    assert.equal(deleted.status, 422, deleted.text);
    assert.ok(deleted.text.includes(key), deleted.text);
  }
  const replaced = makers.replace(/refresh_secret: "notion-\{user\}"/, "refresh_secret: notion-one");
  assert.equal((await apply(replaced, { source: "makers.yaml", dry: true })).status, 422);
  // The nearest that is fine: nobody names it.
  assert.equal((await apply(makers.replace(/\n  plain:\n.*/, ""), { source: "makers.yaml" })).status, 200);
});

test("a grant at the proxied resource is enough, and none of the credential's own is taken there", async () => {
  const grant = (more: string) =>
    w.operator("POST", "/v1/apply", {
      source: "grants.yaml",
      file: `grants:\n  - { agent: release-bot, resource: api, actions: [call]${more} }\n`,
    });
  assert.equal((await grant(", policy: readonly")).status, 422);
  assert.equal((await grant(", residual: none")).status, 422);
  assert.equal((await grant("")).status, 200);
});

test("the scope of a signature is told by the host names of AWS, and by no other", () => {
  const known: readonly (readonly [host: string, service: string, region: string])[] = [
    ["dynamodb.eu-west-1.amazonaws.com", "dynamodb", "eu-west-1"],
    ["sts.amazonaws.com", "sts", "us-east-1"],
    ["iam.amazonaws.com", "iam", "us-east-1"],
    ["kms-fips.us-gov-west-1.amazonaws.com", "kms", "us-gov-west-1"],
    ["sqs.cn-north-1.amazonaws.com.cn", "sqs", "cn-north-1"],
    ["s3.dualstack.eu-west-1.amazonaws.com", "s3", "eu-west-1"],
    ["my.bucket.s3.eu-west-1.amazonaws.com", "s3", "eu-west-1"],
    ["abc123.execute-api.eu-west-1.amazonaws.com", "execute-api", "eu-west-1"],
    ["search-x.eu-west-1.es.amazonaws.com", "es", "eu-west-1"],
    ["abc.lambda-url.eu-west-1.on.aws", "lambda", "eu-west-1"],
    ["bedrock-runtime.eu-west-1.amazonaws.com", "bedrock", "eu-west-1"],
    ["email.eu-west-1.amazonaws.com", "ses", "eu-west-1"],
    ["ec2.eu-west-1.api.aws", "ec2", "eu-west-1"],
  ];
  for (const [host, service, region] of known)
    assert.deepEqual(awsScopeOf(`https://${host}/`), { service, region }, host);
  for (const host of [
    "amazonaws.com",
    "s3.amazonaws.com",
    "dynamodb.amazonaws.com",
    "api.ecr.eu-west-1.amazonaws.com",
    "dynamodb.eu-west-1.amazonaws.com.evil.example",
    "dynamodb.eu-west-1.notamazonaws.com",
    "eu-west-1.dynamodb.amazonaws.com",
    "127.0.0.1",
  ])
    assert.equal(awsScopeOf(`https://${host}/`), undefined, host);
});
