import assert from "node:assert/strict";
import { after, test } from "node:test";
import { z } from "zod";
import { ASSERTION_TYPE, BILLING_SECRET, JWT_BEARER, world, type Answer } from "../support/world.ts";
import { faces } from "./faces.ts";

const AS = "/.well-known/oauth-authorization-server";
const OIDC = "/.well-known/openid-configuration";
const PRM = "/.well-known/oauth-protected-resource";
const w = await world({ after });
const { granted } = await faces(w);
const { issuer } = w.server;

await w.apply(
  `
resources:
  tickets: { mcp: "https://tickets.acme.example/mcp" }
  crm: { http: "https://crm.acme.example", actions: { read: [GET /contacts/**] } }
  vault: { credential: { aws: { role_arn: "arn:aws:iam::123456789012:role/x", region: eu-west-1, secret: aws-root } } }
`,
  "kinds.yaml",
);

type Metadata = Record<string, unknown> & Record<`${string}_endpoint`, string>;
const metadata = async (path = AS): Promise<Metadata> => {
  const answer = await w.request("GET", path);
  assert.equal(answer.status, 200, answer.text);
  return answer.body as Metadata;
};

test("the metadata is JSON at the well-known path, with issuer as configured (RFC 8414 §3, §3.2, §3.3)", async () => {
  const answer = await w.request("GET", AS);
  assert.equal(answer.status, 200);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/);
  assert.equal(answer.body["issuer"], issuer);
  assert.equal(answer.headers.get("cache-control"), "public, max-age=300");
});

test("members have values or are not there: no empty arrays, and every URL is below the issuer (RFC 8414 §2, §3.2)", async () => {
  for (const path of [AS, OIDC]) {
    for (const [name, value] of Object.entries(await metadata(path))) {
      if (Array.isArray(value)) assert.ok(value.length > 0, name);
      if (name.endsWith("_endpoint") || name.endsWith("_uri")) assert.ok(String(value).startsWith(`${issuer}/`), name);
    }
  }
});

test("each grant type that is published is served, and one that is not published is not (RFC 8414 §2)", async () => {
  const published = (await metadata())["grant_types_supported"] as string[];
  for (const grantType of [...published, "authorization_code"]) {
    const { body } = await w.post("/token", { grant_type: grantType });
    assert.equal(body["error"] !== "unsupported_grant_type", published.includes(grantType), grantType);
  }
});

test("client authentication methods are those that work, none of them with a shared secret at /token (RFC 8414 §2)", async () => {
  const document = await metadata();
  assert.deepEqual(document["token_endpoint_auth_methods_supported"], ["private_key_jwt", "none"]);
  const resources = ["client_secret_basic", "client_secret_post", "private_key_jwt"];
  assert.deepEqual(document["introspection_endpoint_auth_methods_supported"], resources);
  assert.deepEqual(document["revocation_endpoint_auth_methods_supported"], resources);
  const common = { resource: "https://billing.acme.example", scope: "billing:read_invoice" };
  granted(await w.post("/token", { grant_type: JWT_BEARER, assertion: w.workload("release-bot"), ...common }));
  const key = { client_assertion: w.privateKeyJwt(), client_assertion_type: ASSERTION_TYPE };
  granted(await w.post("/token", { grant_type: "client_credentials", ...key, ...common }));
});

test("where private_key_jwt is listed so are its algorithms, none of them symmetric or none (RFC 8414 §2)", async () => {
  const document = await metadata();
  for (const endpoint of ["token", "introspection", "revocation"]) {
    const algorithms = document[`${endpoint}_endpoint_auth_signing_alg_values_supported`] as string[];
    assert.ok(algorithms.includes("ES256") && algorithms.includes("RS256"), endpoint);
    assert.ok(
      algorithms.every((alg) => alg !== "none" && !alg.startsWith("HS")),
      endpoint,
    );
  }
});

test("the endpoints that are published answer (RFC 8414 §2)", async () => {
  const document = await metadata();
  for (const name of ["token_endpoint", "introspection_endpoint", "revocation_endpoint"] as const) {
    assert.equal((await w.post(document[name] ?? "", {})).body["error"] === undefined, false, name);
    assert.notEqual((await w.request("GET", document[name] ?? "")).status, 404, name);
  }
  assert.equal((await w.request("GET", String(document["jwks_uri"]))).status, 200);
  assert.equal((await w.request("GET", String(document["service_documentation"]))).status, 200);
  const { body, status } = await w.request("GET", `${document.authorization_endpoint}?response_type=code&client_id=x`);
  assert.deepEqual([status, body["error"]], [400, "unsupported_response_type"]);
});

test("for an issuer with a path the well-known name is inserted, or for OpenID appended (RFC 8414 §3.1, OpenID Discovery §4)", async (t) => {
  const tenant = "https://sts.acme.example/acme";
  const other = await world(t, { env: { EPHOR_ISSUER: tenant } });
  for (const path of [`${AS}/acme`, `${OIDC}/acme`, `/acme${OIDC}`]) {
    assert.equal((await other.request("GET", path)).body["issuer"], tenant, path);
  }
  assert.equal((await other.request("GET", `${AS}/another`)).status, 404);
  const { body } = await other.request("GET", `${PRM}/acme/v1`);
  assert.equal(body["resource"], `${tenant}/v1`);
});

test("openid-configuration says the same, and what OpenID validators insist on (OpenID Discovery §3)", async () => {
  const {
    subject_types_supported: subjects,
    id_token_signing_alg_values_supported: algorithms,
    claims_supported: claims,
    ...rest
  } = await metadata(OIDC);
  assert.deepEqual(rest, await metadata());
  assert.deepEqual(subjects, ["public"]);
  // RS256 must be there (§3), and signs what clouds read.
  assert.deepEqual(algorithms, ["ES256", "RS256"]);
  assert.deepEqual(claims, ["iss", "sub", "aud", "iat", "exp", "jti"]);
});

test("jwks_uri holds public keys only, each with kid, alg and use of its own (RFC 8414 §2, RFC 7517 §4, RFC 8725 §3.2)", async () => {
  for (const path of ["/.well-known/jwks.json", "/.well-known/ephor-record-keys"]) {
    const answer = await w.request("GET", path);
    assert.equal(answer.headers.get("cache-control"), "public, max-age=300", path);
    const keys = answer.body["keys"] as Record<string, unknown>[];
    assert.ok(keys.length >= 2, path);
    assert.equal(new Set(keys.map((key) => key["kid"])).size, keys.length);
    for (const key of keys) {
      // Those of web-identity tokens are RSA keys.
      const members =
        key["kty"] === "RSA" ? ["alg", "e", "kid", "kty", "n", "use"] : ["alg", "crv", "kid", "kty", "use", "x", "y"];
      assert.deepEqual(Object.keys(key).sort(), members, path);
      assert.equal(key["use"], "sig");
    }
  }
});

test("a page in a browser may read metadata and keys, and no form endpoint (RFC 8414 §3, MCP authorization 2026-07-28)", async () => {
  const headers = { origin: "https://app.example" };
  for (const path of [AS, OIDC, "/.well-known/jwks.json", `${PRM}/v1`]) {
    assert.equal((await w.request("GET", path, { headers })).headers.get("access-control-allow-origin"), "*", path);
  }
  for (const path of ["/token", "/introspect", "/revoke"]) {
    assert.equal((await w.post(path, {}, headers)).headers.get("access-control-allow-origin"), null, path);
  }
});

test("RFC 9701 and 9449 add their members: algorithms of signed introspection and of proofs (RFC 9701 §7, RFC 9449 §5.1)", async () => {
  const document = await metadata();
  assert.deepEqual(document["introspection_signing_alg_values_supported"], ["ES256"]);
  const proofs = document["dpop_signing_alg_values_supported"] as string[];
  assert.ok(proofs.includes("ES256") && !proofs.includes("none") && !proofs.some((alg) => alg.startsWith("HS")));
});

test("each resource that we serve has metadata of its own, where a client that has its URL looks (RFC 9728 §2, §3, §3.3)", async () => {
  for (const [path, name] of [
    ["mcp/tickets", "tickets"],
    ["http/crm", "crm"],
    ["credentials/vault", "vault"],
    ["v1", "ephor"],
  ] as const) {
    const { body, headers, status } = await w.request("GET", `${PRM}/${path}`);
    assert.equal(status, 200, path);
    assert.match(headers.get("content-type") ?? "", /^application\/json/);
    assert.equal(body["resource"], `${issuer}/${path}`);
    assert.deepEqual(body["authorization_servers"], [issuer]);
    assert.deepEqual(body["bearer_methods_supported"], ["header"]);
    assert.equal(body["resource_name"], name);
    assert.ok((body["scopes_supported"] as string[]).every((scope) => scope === name || scope.startsWith(`${name}:`)));
  }
});

test("there is no metadata for a resource that is elsewhere, unknown, or of another kind (RFC 9728 §3)", async () => {
  for (const path of ["mcp/billing", "mcp/unknown", "http/tickets", "mcp", "mcp/tickets/x"]) {
    assert.equal((await w.request("GET", `${PRM}/${path}`)).status, 404, path);
  }
  for (const path of ["verify/billing", "mcp/..%2fv1"]) {
    assert.equal((await w.request("GET", `${PRM}/${path}`)).status, 400, path);
  }
});

test("a 401 leads to the metadata of the resource that was called (RFC 9728 §5.1)", async () => {
  const answer = await w.request("GET", "/v1/agents");
  const [, url] = /resource_metadata="([^"]+)"/.exec(answer.headers.get("www-authenticate") ?? "") ?? [];
  assert.equal(url, `${issuer}${PRM}/v1`);
  assert.equal((await w.request("GET", url ?? "")).body["resource"], `${issuer}/v1`);
});

/** What `@modelcontextprotocol/sdk` parses and checks before it asks for a token; its schemas, said again here. */
const url = z.url().refine((text) => !/^(?:javascript|data|vbscript):/i.test(text));
const strings = z.array(z.string());
const mcpServer = z.looseObject({
  issuer: z.literal(issuer),
  authorization_endpoint: url,
  token_endpoint: url,
  response_types_supported: strings.refine((types) => types.includes("code")),
  code_challenge_methods_supported: strings.refine((methods) => methods.includes("S256")),
  grant_types_supported: strings.optional(),
  token_endpoint_auth_methods_supported: strings.optional(),
  token_endpoint_auth_signing_alg_values_supported: strings.optional(),
  service_documentation: url.optional(),
  revocation_endpoint: url.optional(),
  introspection_endpoint: z.string().optional(),
  registration_endpoint: z.undefined().optional(),
  client_id_metadata_document_supported: z.literal(false),
});
const mcpOpenId = mcpServer.extend({
  jwks_uri: url,
  subject_types_supported: strings,
  id_token_signing_alg_values_supported: strings,
});
const mcpResource = z.looseObject({
  resource: z.url(),
  authorization_servers: z.array(url).min(1),
  scopes_supported: strings.optional(),
  bearer_methods_supported: strings.optional(),
  resource_name: z.string().optional(),
  dpop_signing_alg_values_supported: strings.optional(),
});

test("MCP clients accept both documents: authorization_endpoint, response_types and S256 are there (MCP authorization 2026-07-28)", async () => {
  mcpServer.parse(await metadata(AS));
  mcpOpenId.parse(await metadata(OIDC));
  assert.ok(!mcpServer.safeParse({ ...(await metadata(AS)), code_challenge_methods_supported: undefined }).success);
});

test("MCP clients learn that we redeem ID-JAGs and workload tokens (MCP EMA, draft-ietf-oauth-identity-assertion-authz-grant-04 metadata)", async () => {
  const document = await metadata();
  assert.deepEqual(document["authorization_grant_profiles_supported"], ["urn:ietf:params:oauth:grant-profile:id-jag"]);
  assert.ok((document["grant_types_supported"] as string[]).includes(JWT_BEARER));
});

test("MCP clients accept the resource metadata: its resource is the server they called, without offline_access (RFC 9728 §3.3)", async () => {
  const { body } = await w.request("GET", `${PRM}/mcp/tickets`);
  const document = mcpResource.parse(body);
  assert.equal(document.resource, `${issuer}/mcp/tickets`);
  // The scope that a client without an idea asks for is whatever is granted there (CONTRACT §5).
  assert.deepEqual(document.scopes_supported, ["tickets"]);
  assert.ok(!document.scopes_supported?.includes("offline_access"));
});

test("an introspection secret is not in any public document (RFC 8414 §6)", async () => {
  const documents: Answer[] = await Promise.all(
    [AS, OIDC, `${PRM}/mcp/tickets`, "/openapi.json"].map((path) => w.request("GET", path)),
  );
  for (const { text } of documents) assert.ok(!text.includes(BILLING_SECRET));
});
