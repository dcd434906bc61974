/**
 * The adapter for the MCP TypeScript SDK, against that SDK's contracts: `requireBearerAuth` calls `verifyAccessToken` and
 * answers by the class of what it throws; `StreamableHTTPServerTransport.handleRequest` hands `req.auth` to the tools as
 * `extra.authInfo`. `@modelcontextprotocol/sdk` is no dependency of ours, so both are spoken by hand here.
 */
import assert from "node:assert/strict";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import {
  createVerifier,
  mcpMiddleware,
  mcpTokenVerifier,
  requireScope,
  ScopeMissingError,
  type McpRequest,
} from "../../src/sdk/verify.ts";
import { settled, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const verifier = createVerifier({ issuer: w.server.issuer, resource: BILLING, revocation: "none", clock: w.clock });
const token = async (scope = "billing:read_invoice"): Promise<string> => {
  const answer = await settled(() => w.self("release-bot", { resource: BILLING, scope }));
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};

test("mcpMiddleware puts the SDK's AuthInfo on the request, and a tool asks for its own scope there", async () => {
  const guard = mcpMiddleware(verifier, { scope: [] });
  const server = createServer((request: McpRequest & IncomingMessage, response) => {
    void guard(request, response, () => {
      // As the transport does.
      const extra = { authInfo: request.auth };
      const read = requireScope(extra as never, "billing:read_invoice");
      assert.throws(() => requireScope(extra as never, "billing:refund"), ScopeMissingError);
      const { clientId, scopes, expiresAt, resource } = request.auth ?? assert.fail();
      response.end(JSON.stringify({ clientId, scopes, expiresAt, resource, actors: read.actors }));
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/mcp`;
  const post = (authorization?: string): Promise<Response> =>
    fetch(url, { method: "POST", headers: authorization === undefined ? {} : { authorization } });
  const served = await post(`Bearer ${await token()}`);
  assert.deepEqual(await served.json(), {
    clientId: "release-bot",
    scopes: ["billing:read_invoice"],
    expiresAt: w.now() + 45,
    resource: `${BILLING}/`,
    actors: ["release-bot"],
  });
  const refused = await post();
  assert.equal(refused.status, 401);
  assert.equal(
    refused.headers.get("www-authenticate"),
    `Bearer resource_metadata="${BILLING}/.well-known/oauth-protected-resource"`,
  );
});

test("a tool without a verified token behind it serves nobody", () => {
  assert.throws(() => requireScope({}, "billing:read_invoice"), ScopeMissingError);
  assert.throws(() => requireScope({ authInfo: { extra: {} } }, "billing:read_invoice"), ScopeMissingError);
});

test("mcpTokenVerifier throws the SDK's own classes: 401 for a bad token, a server's fault where nothing is known", async () => {
  class InvalidTokenError extends Error {}
  class ServerError extends Error {}
  const sdk = { InvalidTokenError, ServerError };
  const good = await mcpTokenVerifier(verifier, sdk).verifyAccessToken(await token());
  assert.equal(good.expiresAt, w.now() + 45);
  assert.equal(good.extra.ephor.subject.sub, "agent|release-bot");
  await assert.rejects(mcpTokenVerifier(verifier, sdk).verifyAccessToken("x.y.z"), InvalidTokenError);
  const away = createVerifier({ issuer: "http://127.0.0.1:9", resource: BILLING, revocation: "none", clock: w.clock });
  await assert.rejects(mcpTokenVerifier(away, sdk).verifyAccessToken(await token()), ServerError);
});
