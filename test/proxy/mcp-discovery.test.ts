import {
  auth,
  discoverAuthorizationServerMetadata,
  discoverOAuthProtectedResourceMetadata,
  UnauthorizedError,
  type OAuthClientProvider,
} from "@modelcontextprotocol/sdk/client/auth.js";
import { StaticPrivateKeyJwtProvider } from "@modelcontextprotocol/sdk/client/auth-extensions.js";
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { usualTrust, world } from "../support/world.ts";
import { startLegacy } from "./mcp-upstream.ts";

const upstream = await startLegacy({ after });
const w = await world(
  { after },
  {
    trust: (issuers) =>
      usualTrust(issuers).replace(
        "grants:",
        `  tickets: { mcp: "${upstream.url}" }
grants:
  - { agent: release-bot, resource: tickets, actions: [get_ticket] }`,
      ),
  },
);
const URL_OF = new URL(`${w.server.issuer}/mcp/tickets`);

test("RFC 9728, RFC 8414: the SDK reads from the bare 401 to the token endpoint, and each document names the next", async () => {
  const bare = await w.request("POST", "/mcp/tickets", { body: { jsonrpc: "2.0", id: 1, method: "ping" } });
  assert.equal(bare.status, 401);
  const named = /resource_metadata="([^"]+)"/.exec(bare.headers.get("www-authenticate") ?? "")?.[1];
  const resource = await discoverOAuthProtectedResourceMetadata(URL_OF, { resourceMetadataUrl: named ?? "" });
  assert.deepEqual([resource.resource, resource.authorization_servers], [URL_OF.href, [w.server.issuer]]);
  const unnamed = await discoverOAuthProtectedResourceMetadata(URL_OF);
  assert.deepEqual(unnamed, resource, "found by its well-known path too");
  const server = await discoverAuthorizationServerMetadata(resource.authorization_servers?.[0] ?? "");
  assert.equal(server?.issuer, w.server.issuer);
  assert.equal(server?.token_endpoint, `${w.server.issuer}/token`);
  assert.ok(server?.token_endpoint_auth_methods_supported?.includes("private_key_jwt"));
  assert.ok(server?.grant_types_supported?.includes("client_credentials"));
});

test("2025-11-25: a client with its platform's token alone connects, and gets the next token when one is over", async () => {
  const provider = new StaticPrivateKeyJwtProvider({
    clientId: "release-bot",
    jwtBearerAssertion: w.workload("release-bot"),
    expectedIssuer: w.server.issuer,
    // This SDK does not ask for the scope that the challenge names.
    scope: "tickets",
  });
  const client = new Client({ name: "test", version: "1" });
  const transport = new StreamableHTTPClientTransport(URL_OF, { authProvider: provider });
  await client.connect(transport as Parameters<typeof client.connect>[0]);
  const call = async (): Promise<unknown> =>
    (await client.callTool({ name: "get_ticket", arguments: { id: 7 } })).content;
  assert.deepEqual(await call(), [{ type: "text", text: "ticket 7" }]);
  const first = provider.tokens()?.access_token;
  w.clock.advance(46);
  assert.deepEqual(await call(), [{ type: "text", text: "ticket 7" }], "in the same session");
  assert.notEqual(provider.tokens()?.access_token, first);
  await client.close();
});

test("a client that knows nothing but the address is told no where it would register: it sends nobody anywhere", async () => {
  const sent: string[] = [];
  const provider: OAuthClientProvider = {
    redirectUrl: "http://127.0.0.1:9/callback",
    clientMetadata: { redirect_uris: ["http://127.0.0.1:9/callback"] },
    clientInformation: () => undefined,
    saveClientInformation: () => void sent.push("registered"),
    tokens: () => undefined,
    saveTokens: () => void sent.push("tokens"),
    redirectToAuthorization: (to) => void sent.push(to.href),
    saveCodeVerifier: () => {},
    codeVerifier: () => "x",
  };
  await assert.rejects(auth(provider, { serverUrl: URL_OF }));
  const client = new Client({ name: "test", version: "1" });
  const transport = new StreamableHTTPClientTransport(URL_OF, { authProvider: provider });
  await assert.rejects(
    client.connect(transport as Parameters<typeof client.connect>[0]),
    (error) => !(error instanceof UnauthorizedError),
  );
  assert.deepEqual(sent, []);
});
