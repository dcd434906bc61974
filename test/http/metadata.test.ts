import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { startEdge } from "./edge-server.ts";

const ISSUER = "https://sts.acme.example";

describe("metadata", () => {
  it("has the members that RFC 8414 and MCP clients want, all below the issuer", async (t) => {
    const reply = await (await startEdge(t)).send("GET", "/.well-known/oauth-authorization-server");
    assert.equal(reply.status, 200);
    assert.equal(reply.headers["content-type"], "application/json");
    const metadata = reply.json();
    assert.equal(metadata["issuer"], ISSUER);
    for (const [name, path] of [
      ["token_endpoint", "/token"],
      ["introspection_endpoint", "/introspect"],
      ["revocation_endpoint", "/revoke"],
      ["jwks_uri", "/.well-known/jwks.json"],
      ["authorization_endpoint", "/authorize"],
    ] as const) {
      assert.equal(metadata[name], ISSUER + path);
    }
    assert.deepEqual(metadata["response_types_supported"], ["code"]);
    assert.deepEqual(metadata["code_challenge_methods_supported"], ["S256"]);
    assert.deepEqual(metadata["grant_types_supported"], [
      "urn:ietf:params:oauth:grant-type:token-exchange",
      "client_credentials",
      "urn:ietf:params:oauth:grant-type:jwt-bearer",
    ]);
    assert.deepEqual(metadata["authorization_grant_profiles_supported"], [
      "urn:ietf:params:oauth:grant-profile:id-jag",
    ]);
    for (const [name, value] of Object.entries(metadata)) {
      // RFC 8414 §3.2: members with no elements are left out; `none` is no algorithm.
      if (Array.isArray(value)) assert.ok(value.length > 0, name);
      if (name.endsWith("_alg_values_supported")) assert.ok(!(value as string[]).includes("none"), name);
    }
  });

  it("is the same as OpenID configuration, with what those validators need", async (t) => {
    const edge = await startEdge(t);
    const oauth = (await edge.send("GET", "/.well-known/oauth-authorization-server")).json();
    const openid = (await edge.send("GET", "/.well-known/openid-configuration")).json();
    assert.deepEqual(openid, {
      ...oauth,
      subject_types_supported: ["public"],
      id_token_signing_alg_values_supported: ["ES256", "RS256"],
      claims_supported: ["iss", "sub", "aud", "iat", "exp", "jti"],
    });
  });

  it("A-CLI-10 takes issuer and URLs from the configuration, whatever the request says", async (t) => {
    const edge = await startEdge(t);
    const plain = await edge.send("GET", "/.well-known/oauth-authorization-server");
    const hostile = await edge.send("GET", "/.well-known/oauth-authorization-server", {
      headers: [
        ["X-Forwarded-Host", "evil.example"],
        ["X-Forwarded-Proto", "http"],
        ["Forwarded", "host=evil.example;proto=http"],
      ],
    });
    assert.equal(hostile.text, plain.text);
    const host =
      "GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    const answer = await edge.bytes(host);
    assert.ok(answer.includes(ISSUER) && !answer.includes("evil.example"));
  });

  it("may be kept for five minutes and read by a page; a key set too", async (t) => {
    const edge = await startEdge(t);
    for (const path of [
      "/.well-known/oauth-authorization-server",
      "/.well-known/jwks.json",
      "/.well-known/ephor-record-keys",
    ]) {
      const reply = await edge.send("GET", path);
      assert.equal(reply.headers["cache-control"], "public, max-age=300");
      assert.equal(reply.headers["access-control-allow-origin"], "*");
    }
    assert.deepEqual((await edge.send("GET", "/.well-known/jwks.json")).json(), {
      keys: [{ kty: "EC", kid: "token" }],
    });
    assert.deepEqual((await edge.send("GET", "/.well-known/ephor-record-keys")).json(), {
      keys: [{ kty: "EC", kid: "record" }],
    });
  });

  it("describes what lies behind our proxy, and nothing that is not there (RFC 9728 §3)", async (t) => {
    const edge = await startEdge(t);
    const reply = await edge.send("GET", "/.well-known/oauth-protected-resource/mcp/tickets");
    const metadata = reply.json();
    assert.equal(metadata["resource"], `${ISSUER}/mcp/tickets`);
    assert.deepEqual(metadata["authorization_servers"], [ISSUER]);
    assert.deepEqual(metadata["scopes_supported"], ["tickets"]);
    assert.deepEqual(metadata["bearer_methods_supported"], ["header"]);
    assert.equal((await edge.send("GET", "/.well-known/oauth-protected-resource/mcp/other")).status, 404);
    assert.equal((await edge.send("GET", "/.well-known/oauth-protected-resource/agents/bot")).status, 400);
    const api = (await edge.send("GET", "/.well-known/oauth-protected-resource/v1")).json();
    assert.equal(api["resource"], `${ISSUER}/v1`);
  });

  it("stands where an issuer with a path has it: inserted (RFC 8414 §3.1, RFC 9728 §3.1) and appended (OpenID)", async (t) => {
    const issuer = "https://acme.example/sts";
    const edge = await startEdge(t, { deps: { issuer } });
    for (const path of [
      "/.well-known/oauth-authorization-server/sts",
      "/.well-known/openid-configuration/sts",
      "/sts/.well-known/openid-configuration",
    ]) {
      assert.equal((await edge.send("GET", path)).json()["issuer"], issuer, path);
    }
    const resource = (await edge.send("GET", "/.well-known/oauth-protected-resource/sts/mcp/tickets")).json();
    assert.equal(resource["resource"], `${issuer}/mcp/tickets`);
    assert.equal((await edge.send("GET", "/.well-known/oauth-authorization-server/other")).status, 404);
  });

  it("has an authorization endpoint that always says no", async (t) => {
    const reply = await (
      await startEdge(t)
    ).send("GET", "/authorize?response_type=code&redirect_uri=https://evil.example");
    assert.equal(reply.status, 400);
    assert.equal(reply.json()["error"], "unsupported_response_type");
    assert.equal(reply.headers["location"], undefined);
  });
});
