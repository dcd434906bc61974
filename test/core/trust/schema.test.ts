import assert from "node:assert/strict";
import { test } from "node:test";
import { ISSUER_URL, problemPaths, problemsIn, read } from "./objects.ts";

/** The trust file of CONTRACT §4, as the parser gives it. */
const CONTRACT = {
  issuers: {
    github: {
      url: "https://token.actions.githubusercontent.com",
      audience: "https://sts.acme.example",
      single_use: true,
    },
    okta: {
      url: "https://acme.okta.example",
      audience: "api://ephor",
      identifies: "humans",
      client_id: "0oa1",
      subject_max_age: "8h",
    },
    "prod-mesh": { spiffe: "spiffe://prod.acme.example", jwks_uri: "https://keys.acme.example/bundle" },
  },
  agents: {
    "release-bot": {
      owner: "dana@acme.example",
      purpose: "cuts releases",
      review_by: "2027-03-01",
      trust: [
        {
          issuer: "github",
          claims: {
            repository_id: "987654321",
            repository_owner_id: "1234567",
            ref: "refs/heads/main",
            event_name: ["push", "workflow_dispatch"],
          },
        },
      ],
    },
    "triage-bot": {
      owner: "sam@acme.example",
      trust: [{ issuer: "k8s", claims: { sub: "system:serviceaccount:support:triage" } }],
      subject_from: { azp: "0oa7" },
    },
  },
  resources: {
    billing: {
      resource: "https://billing.acme.example",
      actions: ["read_invoice", "refund"],
      introspection: { agent: "billing-svc" },
    },
    tickets: {
      mcp: "http://127.0.0.1:3001/mcp",
      inject: { header: "Authorization", value: "Bearer {secret:tickets-key}" },
      mode: { observe: true, until: "2026-12-15" },
    },
    local: { mcp: { command: ["node", "server.js"] } },
    crm: {
      http: "https://crm.acme.example",
      actions: { read: ["GET /contacts/**"], write: ["POST /contacts", "PATCH /contacts/*"] },
      inject: { header: "X-Api-Key", value: "{secret:crm-key}" },
    },
    "aws-prod": {
      credential: {
        aws: {
          role_arn: "arn:aws:iam::1:role/x",
          region: "eu-west-1",
          session_policies: { readonly: {} },
          secret: "aws-root",
        },
      },
    },
  },
  grants: [
    {
      agent: "triage-bot",
      resource: "tickets",
      actions: ["get_ticket", "set_priority"],
      on_behalf_of: { issuer: "okta", claims: { groups: "support" } },
    },
    {
      agent: "triage-bot",
      resource: "tickets",
      actions: ["close_ticket"],
      on_behalf_of: { issuer: "okta" },
      when: 'args.priority != "P1" && "support" in subject.groups',
      approval: { by: "owner", within: "10m" },
      ttl: "20s",
      once: true,
      until: "2027-01-01",
    },
    { agent: "ops-bot", resource: "aws-prod", actions: ["vend"], policy: "readonly", residual: "none" },
    { agent: "triage-bot", delegate_to: ["summary-bot"] },
  ],
} as const;

/** The contract's file with one object replaced. */
const withAgent = (agent: object): object => ({ agents: { bot: agent } });
const withIssuer = (issuer: object): object => ({ issuers: { one: issuer } });
const withResource = (resource: object): object => ({ resources: { one: resource } });
const withGrant = (grant: object): object => ({
  grants: [{ agent: "bot", resource: "billing", actions: ["read"], ...grant }],
});
const good = { owner: "dana@acme.example", trust: [{ issuer: "ci", claims: { sub: "x" } }] };

test("the trust file of the contract is read as it stands", () => {
  const models = new Map(read(CONTRACT).map((entry) => [`${entry.kind}/${entry.name}`, entry.model]));
  assert.deepEqual(
    [...models.keys()].filter((key) => key.startsWith("grants/")),
    [
      "grants/triage-bot-tickets",
      "grants/triage-bot-tickets-2",
      "grants/ops-bot-aws-prod",
      "grants/triage-bot-delegate",
    ],
  );
  assert.deepEqual(models.get("issuers/okta"), {
    name: "okta",
    url: "https://acme.okta.example",
    audience: ["api://ephor"],
    identifies: "humans",
    internal: false,
    singleUse: false,
    clientId: "0oa1",
    subjectMaxAgeSeconds: 28_800,
  });
  assert.deepEqual((models.get("issuers/prod-mesh") as { audience: unknown }).audience, [ISSUER_URL]);
  assert.equal((models.get("agents/release-bot") as { reviewBy: unknown }).reviewBy, Date.UTC(2027, 2, 1) / 1000);
  assert.deepEqual(models.get("resources/crm"), {
    kind: "http",
    name: "crm",
    identifier: `${ISSUER_URL}/http/crm`,
    actions: ["read", "write"],
    settings: {
      http: "https://crm.acme.example",
      routes: CONTRACT.resources.crm.actions,
      inject: { header: "X-Api-Key", value: "{secret:crm-key}" },
    },
    mode: { observe: false },
  });
  assert.equal((models.get("resources/tickets") as { identifier: unknown }).identifier, `${ISSUER_URL}/mcp/tickets`);
  assert.equal((models.get("resources/aws-prod") as { provider: unknown }).provider, "aws");
  const close = models.get("grants/triage-bot-tickets-2") as unknown as Record<string, unknown>;
  assert.deepEqual([close["ttlSeconds"], close["once"], close["until"]], [20, true, Date.UTC(2027, 0, 1) / 1000]);
});

test("the body that is kept is what was written, a grant's name apart", () => {
  const [entry] = read({ grants: [{ name: "g", agent: "bot", delegate_to: ["other"] }] });
  assert.deepEqual([entry?.name, entry?.body], ["g", { agent: "bot", delegate_to: ["other"] }]);
  assert.deepEqual(read(CONTRACT).find((one) => one.name === "okta")?.body, CONTRACT.issuers.okta);
});

test("A-ADM-07 a key that is not known is refused where it stands", () => {
  assert.deepEqual(problemPaths({ ...CONTRACT, tenants: {} }), ["tenants"]);
  assert.deepEqual(problemPaths(withAgent({ ...good, role: "admin" })), ["agents.bot.role"]);
  assert.deepEqual(problemPaths(withAgent({ ...good, status: "active" })), ["agents.bot.status"]);
  assert.deepEqual(problemPaths(withAgent({ ...good, trust: [{ issuer: "ci", claims: { sub: "x" }, or: 1 }] })), [
    "agents.bot.trust.0.or",
  ]);
  assert.deepEqual(problemPaths(withGrant({ scopes: ["x"] })), ["grants.0.scopes"]);
  assert.equal(problemPaths(withAgent(JSON.parse('{"owner":"x","__proto__":{"a":1}}') as object)).length, 1);
});

test("every problem is reported at once, each with its place and a mend", () => {
  const paths = problemPaths({
    issuers: { Bad: {}, one: { url: "ftp://x", audience: "a" } },
    agents: { bot: { trust: [] } },
    grants: [{ agent: "x" }],
  });
  assert.deepEqual(paths, [
    "agents.bot.owner",
    "agents.bot.trust",
    "grants.0.actions",
    "grants.0.resource",
    "issuers.Bad",
    "issuers.one.url",
  ]);
});

test("the mend is of the key that is wrong, not of what stands around it", () => {
  const mendOf = (settings: object): string | undefined => {
    const [problem] = problemsIn(
      withResource({ http: "https://crm.acme.example", actions: { read: ["GET /a"] }, ...settings }),
    );
    return problem?.mend;
  };
  assert.match(mendOf({ record: { arguments: true } }) ?? "", /^record takes arguments, bodies, or /);
  assert.match(mendOf({ record: { what: "bodies", keep: "long" } }) ?? "", /^keep takes a duration/);
  assert.match(mendOf({ inspect: { url: "ftp://x", secret: "s" } }) ?? "", /^url takes the address of the service/);
  assert.match(mendOf({ forward: "x-a" }) ?? "", /^forward takes a list/);
});

test("an issuer needs a URL and an audience, or a trust domain and keys", () => {
  const url = "https://ci.example";
  assert.deepEqual(problemPaths(withIssuer({ url })), ["issuers.one.audience"]);
  assert.deepEqual(problemPaths(withIssuer({ url, audience: [] })), ["issuers.one.audience"]);
  assert.deepEqual(problemPaths(withIssuer({ url, audience: ["a", "b"] })), []);
  assert.deepEqual(problemPaths(withIssuer({ audience: "a" })), ["issuers.one.url"]);
  assert.deepEqual(problemPaths(withIssuer({ url, spiffe: "spiffe://x", audience: "a", jwks_uri: url })), [
    "issuers.one.url",
  ]);
  assert.deepEqual(problemPaths(withIssuer({ spiffe: "spiffe://x" })), ["issuers.one.jwks_uri"]);
  for (const spiffe of [
    "spiffe://X.example",
    "spiffe://x.example/ns",
    "x.example",
    "spiffe://x.example/",
    "spiffe://a@x",
  ]) {
    assert.deepEqual(problemPaths(withIssuer({ spiffe, jwks_uri: url })), ["issuers.one.spiffe"], spiffe);
  }
});

test("an issuer's URL is https, or http on loopback where it says internal", () => {
  const audience = "a";
  assert.deepEqual(problemPaths(withIssuer({ url: "http://127.0.0.1:9000", audience, internal: true })), []);
  assert.deepEqual(problemPaths(withIssuer({ url: "http://127.0.0.1:9000", audience })), ["issuers.one.url"]);
  assert.deepEqual(problemPaths(withIssuer({ url: "http://ci.example", audience, internal: true })), [
    "issuers.one.url",
  ]);
  for (const url of [
    "https://u:p@ci.example",
    "https://ci.example/?x",
    "https://ci.example/#x",
    "ci.example",
    "https:ci.example",
    "https://ci.example/ x",
  ]) {
    assert.deepEqual(problemPaths(withIssuer({ url, audience })), ["issuers.one.url"], url);
  }
});

test("what belongs to humans is refused at workloads, and the reverse", () => {
  const base = { url: "https://x.example", audience: "a" };
  assert.deepEqual(problemPaths(withIssuer({ ...base, client_id: "c" })), ["issuers.one.client_id"]);
  assert.deepEqual(problemPaths(withIssuer({ ...base, subject_max_age: "8h" })), ["issuers.one.subject_max_age"]);
  assert.deepEqual(problemPaths(withIssuer({ ...base, identifies: "humans", single_use: true })), [
    "issuers.one.single_use",
  ]);
  assert.deepEqual(problemPaths(withIssuer({ ...base, algorithms: ["HS256"] })), ["issuers.one.algorithms.0"]);
  assert.deepEqual(problemPaths(withIssuer({ ...base, algorithms: ["none"] })), ["issuers.one.algorithms.0"]);
});

test("a private, symmetric or weak key is refused", () => {
  const ec = {
    kty: "EC",
    crv: "P-256",
    x: "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    y: "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
  };
  assert.deepEqual(problemPaths(withAgent({ owner: "x", keys: [ec] })), []);
  const bad = [
    { ...ec, d: "x" },
    { kty: "oct", k: "AAAA" },
    { kty: "RSA", n: "x".repeat(170), e: "AQAB" },
    { ...ec, crv: "secp256k1" },
    { ...ec, x: "a b" },
    { kty: "OKP", crv: "X25519", x: "a" },
  ];
  for (const key of bad)
    assert.deepEqual(problemPaths(withAgent({ owner: "x", keys: [key] })), ["agents.bot.keys.0"], JSON.stringify(key));
});

test("an agent without rules and keys, or without an owner, is refused", () => {
  assert.deepEqual(problemPaths(withAgent({ owner: "x" })), ["agents.bot.trust"]);
  assert.deepEqual(problemPaths(withAgent({ trust: good.trust })), ["agents.bot.owner"]);
});

test("matchers are what the contract says and nothing else", () => {
  const claims = (value: unknown): string[] =>
    problemPaths(withAgent({ owner: "x", trust: [{ issuer: "ci", claims: { sub: value } }] }));
  for (const value of ["x", 1, true, ["x", 2, { like: "a*" }], { like: "acme/*" }, { absent: true }])
    assert.deepEqual(claims(value), [], JSON.stringify(value));
  for (const value of [
    null,
    [],
    [null],
    [["x"]],
    { like: "" },
    { like: "a**" },
    { absent: false },
    { not: "x" },
    { like: "x", absent: true },
    2 ** 53,
  ]) {
    assert.notDeepEqual(claims(value), [], JSON.stringify(value));
  }
});

test("a resource is of exactly one kind", () => {
  assert.deepEqual(problemPaths(withResource({})), ["resources.one"]);
  assert.deepEqual(problemPaths(withResource({ actions: ["read"] })), ["resources.one"]);
  assert.deepEqual(
    problemPaths(withResource({ resource: "https://x.example", mcp: "https://y.example", actions: ["read"] })),
    ["resources.one"],
  );
  assert.deepEqual(problemPaths(withResource({ credential: { aws: {}, static: {} } })), ["resources.one.credential"]);
  assert.deepEqual(problemPaths(withResource({ credential: {} })), ["resources.one.credential"]);
});

test("identifiers of cloud token services, relative ones and our own are refused", () => {
  const bad = [
    "sts.amazonaws.com",
    "https://sts.amazonaws.com",
    "https://sts.eu-west-1.amazonaws.com/",
    "api://AzureADTokenExchange",
    "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x",
    "https://iam.googleapis.com/projects/1",
    "billing",
    "/billing",
    "https://billing.example/#x",
    "https://u@billing.example",
    ISSUER_URL,
    `${ISSUER_URL}/mcp/tickets`,
    `${ISSUER_URL.toUpperCase()}/v1`,
  ];
  for (const resource of bad)
    assert.deepEqual(problemPaths(withResource({ resource, actions: ["read"] })), ["resources.one.resource"], resource);
  for (const resource of [
    "https://billing.example",
    "api://billing",
    "urn:acme:billing",
    `${ISSUER_URL}.evil.example`,
  ]) {
    assert.deepEqual(problemPaths(withResource({ resource, actions: ["read"] })), [], resource);
  }
});

test("injected headers cannot frame the message, and braces name secrets only", () => {
  const inject = (header: string, value: string): string[] =>
    problemPaths(withResource({ mcp: "https://x.example", inject: { header, value } }));
  assert.deepEqual(inject("Authorization", "Bearer {secret:key}"), []);
  for (const header of ["Host", "content-length", "Transfer-Encoding", "Mcp-Method", "a b", ""])
    assert.equal(inject(header, "{secret:key}").length, 1, header);
  for (const value of ["{secret:Key}", "{env:HOME}", "a\nb", "{secret:key", ""])
    assert.equal(inject("X-Key", value).length, 1, value);
});

test("an upstream is https, or http on loopback", () => {
  assert.deepEqual(problemPaths(withResource({ http: "http://crm.example", actions: { read: ["GET /x"] } })), [
    "resources.one.http",
  ]);
  assert.deepEqual(problemPaths(withResource({ http: "http://localhost:1", actions: { read: ["GET /x"] } })), []);
});

test("routes are a method and a path of whole segments", () => {
  const route = (text: string): string[] =>
    problemPaths(withResource({ http: "https://crm.example", actions: { read: [text] } }));
  for (const text of ["GET /", "GET /contacts", "GET /contacts/**", "PATCH /contacts/*/name", "GET /**", "DELETE /a/"])
    assert.deepEqual(route(text), [], text);
  for (const text of [
    "get /x",
    "/x",
    "GET x",
    "GET /**/x",
    "GET /a*",
    "GET /../x",
    "GET /a/./b",
    "GET //x",
    "CONNECT /x",
    "GET /x?y",
    "GET /x y",
  ]) {
    assert.deepEqual(route(text), ["resources.one.actions.read.0"], text);
  }
});

test("everything is granted only with allow_all", () => {
  assert.deepEqual(problemPaths(withGrant({ actions: ["*"] })), ["grants.0.actions"]);
  assert.deepEqual(problemPaths(withGrant({ actions: ["*", "read"], allow_all: true })), ["grants.0.actions"]);
  assert.deepEqual(problemPaths(withGrant({ allow_all: true })), ["grants.0.actions"]);
  assert.deepEqual(problemPaths(withGrant({ actions: ["*"], allow_all: true })), []);
});

test("actions have one spelling", () => {
  for (const action of ["get_ticket", "resources/read", "a.b-c", "get%20ticket"])
    assert.deepEqual(problemPaths(withGrant({ actions: [action] })), [], action);
  for (const action of ["get ticket", "a:b", "%41", "%2g", "%20%", "a*", ""])
    assert.deepEqual(problemPaths(withGrant({ actions: [action] })), ["grants.0.actions.0"], action);
});

test("durations and dates have one form", () => {
  for (const ttl of ["60s", "1m", "0s", "20", 20, "20S", "1h30m"])
    assert.deepEqual(problemPaths(withGrant({ ttl })), ["grants.0.ttl"], String(ttl));
  assert.deepEqual(problemPaths(withGrant({ ttl: "59s" })), []);
  for (const until of [
    "2027-02-30",
    "2027-1-1",
    "tomorrow",
    2027,
    "2027-01-01T00:00:00+01:00",
    "2027-01-01T24:00:00Z",
  ]) {
    assert.deepEqual(problemPaths(withGrant({ until })), ["grants.0.until"], String(until));
  }
  assert.deepEqual(problemPaths(withGrant({ until: "2027-01-01T12:00:00Z" })), []);
});

test("a condition that cannot be read is refused where it stands", () => {
  for (const when of ["args.", "foo == 1", "1 + 1", "args.x.matches('a')", "agent.nmae == 'x'", "true ? 1 : 2"]) {
    assert.deepEqual(problemPaths(withGrant({ when })), ["grants.0.when"], when);
  }
  assert.deepEqual(problemPaths(withGrant({ when: 'subject.type == "human"' })), []);
});

test("grants of one agent at one resource get names of their own, and a name twice is refused", () => {
  const grant = { agent: "a", resource: "r", actions: ["x"] };
  assert.deepEqual(
    read({ grants: [grant, grant, { ...grant, name: "mine" }] }).map(({ name }) => name),
    ["a-r", "a-r-2", "mine"],
  );
  assert.deepEqual(
    problemPaths({
      grants: [
        { ...grant, name: "x" },
        { ...grant, name: "x" },
      ],
    }),
    ["grants.1.name"],
  );
});

test("objects that cannot be stored are refused", () => {
  for (const owner of ["a\u0000b", "\ud800", "x".repeat(300)])
    assert.equal(problemPaths(withAgent({ ...good, owner })).length, 1);
  let deep: unknown = "x";
  for (let level = 0; level < 40; level += 1) deep = { deep };
  assert.equal(problemPaths(withResource({ credential: { static: { deep } } })).length, 1);
});
