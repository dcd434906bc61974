/**
 * What MCP clients send, request by request. `@modelcontextprotocol/sdk` is no dependency of ours; the shapes are those of
 * its TypeScript client (discovery, `PrivateKeyJwtProvider`, `StaticPrivateKeyJwtProvider`, `CrossAppAccessProvider`) and
 * of the conformance suite's workload identity scenario. What it insists on in documents is in test/rfc/rfc8414.test.ts.
 */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { z } from "zod";
import { ASSERTION_TYPE, JWT_BEARER, world, type Answer, type Form } from "../support/world.ts";

const w = await world({ after });
const { issuer } = w.server;

await w.apply(
  `
resources:
  tickets: { mcp: "https://tickets.acme.example/mcp" }
grants:
  - { agent: watch-bot, resource: tickets, actions: [get_ticket] }
  - { agent: keyed-bot, resource: tickets, actions: [get_ticket] }
  - { agent: triage-bot, resource: tickets, actions: [get_ticket], on_behalf_of: { issuer: okta } }
`,
  "tickets.yaml",
);

/** `OAuthTokensSchema` and `OAuthErrorResponseSchema` of the SDK. */
const tokens = z.object({
  access_token: z.string(),
  token_type: z.string(),
  expires_in: z.number().optional(),
  scope: z.string().optional(),
  id_token: z.undefined().optional(),
  refresh_token: z.undefined().optional(),
});
const failure = z.object({
  error: z.string(),
  error_description: z.string().optional(),
  error_uri: z.string().optional(),
});
const HEADERS = { accept: "application/json", "mcp-protocol-version": "2026-07-28" };

interface Discovered {
  readonly resource: string;
  readonly tokenEndpoint: string;
  readonly scope: string | undefined;
}

/** From a server's URL to its token endpoint, as the SDK goes. `challenge` is the 401's header, where there was one. */
async function discover(serverUrl: string, challenge?: string): Promise<Discovered> {
  const { pathname } = new URL(serverUrl);
  const named = /resource_metadata="([^"]+)"/.exec(challenge ?? "")?.[1];
  const answer = await w.request("GET", named ?? `${issuer}/.well-known/oauth-protected-resource${pathname}`, {
    headers: HEADERS,
  });
  assert.equal(answer.status, 200, answer.text);
  const document = answer.body as { resource: string; authorization_servers: string[]; scopes_supported?: string[] };
  // The SDK refuses a resource that is not the server it called, or a parent of it.
  assert.ok(new URL(serverUrl).href.startsWith(new URL(document.resource).href));
  const [server = ""] = document.authorization_servers;
  const metadata = await w.request("GET", `${server}/.well-known/oauth-authorization-server`, { headers: HEADERS });
  assert.equal(metadata.body["issuer"], server);
  const scope = /scope="([^"]+)"/.exec(challenge ?? "")?.[1] ?? document.scopes_supported?.join(" ");
  return { resource: new URL(document.resource).href, tokenEndpoint: String(metadata.body["token_endpoint"]), scope };
}

const ask = ({ tokenEndpoint, resource, scope }: Discovered, form: Form): Promise<Answer> =>
  w.post(tokenEndpoint, { scope, resource, ...form }, HEADERS);
const granted = (answer: Answer): Record<string, unknown> => {
  assert.equal(answer.status, 200, answer.text);
  return decodeJwt(tokens.parse(answer.body).access_token);
};
const refused = (answer: Answer, error: string): void => {
  assert.ok(answer.status === 400 || answer.status === 401, answer.text);
  assert.equal(failure.parse(answer.body).error, error);
};
const asClient = (assertion: string): Form => ({ client_assertion: assertion, client_assertion_type: ASSERTION_TYPE });

test("from a bare 401 through the challenge, resource and server metadata to a token that is let in (MCP authorization 2026-07-28)", async () => {
  const api = `${issuer}/v1/agents`;
  const bare = await w.request("GET", api);
  assert.equal(bare.status, 401);
  const found = await discover(api, bare.headers.get("www-authenticate") ?? "");
  assert.equal(found.scope, "ephor:read");
  const answer = await ask(found, { grant_type: "client_credentials", ...asClient(w.workload("watch-bot")) });
  granted(answer);
  const letIn = await w.request("GET", api, {
    headers: { authorization: `Bearer ${String(answer.body["access_token"])}` },
  });
  assert.equal(letIn.status, 200);
});

test("StaticPrivateKeyJwtProvider: a platform's token as client_assertion, no client_id, scope and resource from the metadata", async () => {
  const found = await discover(`${issuer}/mcp/tickets`);
  const claims = granted(await ask(found, { grant_type: "client_credentials", ...asClient(w.workload("watch-bot")) }));
  assert.equal(claims["aud"], `${issuer}/mcp/tickets`);
  assert.equal(claims["scope"], "tickets:get_ticket");
  refused(
    await ask(found, { grant_type: "client_credentials", ...asClient(w.workload("lonely-bot")) }),
    "invalid_scope",
  );
});

test("PrivateKeyJwtProvider: typ JWT, aud our issuer, five minutes, also when its clock is a second ahead", async () => {
  const found = await discover(`${issuer}/mcp/tickets`);
  for (const iat of [w.now(), w.now() + 1]) {
    const assertion = w.privateKeyJwt({ iat, exp: iat + 300, jti: `${iat}000-${randomUUID().slice(0, 11)}` });
    granted(await ask(found, { grant_type: "client_credentials", ...asClient(assertion) }));
  }
  const elsewhere = w.privateKeyJwt({ aud: "https://elsewhere.example" });
  refused(await ask(found, { grant_type: "client_credentials", ...asClient(elsewhere) }), "invalid_client");
});

test("workload identity (SEP-1933): jwt-bearer with the platform's token, method none, invalid_grant for a bad one", async () => {
  const found = await discover(`${issuer}/mcp/tickets`);
  const claims = granted(await ask(found, { grant_type: JWT_BEARER, assertion: w.workload("watch-bot") }));
  assert.equal(claims["sub"], "agent|watch-bot");
  refused(
    await ask(found, {
      grant_type: JWT_BEARER,
      assertion: w.workload("watch-bot", { aud: "https://elsewhere.example" }),
    }),
    "invalid_grant",
  );
  refused(
    await ask(
      { ...found, scope: "tickets:close_ticket" },
      { grant_type: JWT_BEARER, assertion: w.workload("watch-bot") },
    ),
    "invalid_scope",
  );
});

test("CrossAppAccessProvider: an ID-JAG with resource and scope, by a client that authenticates with an assertion, not a secret", async () => {
  const found = await discover(`${issuer}/mcp/tickets`);
  const idJag = (): string =>
    w.humans.mint(
      {
        sub: "00u-mcp",
        aud: issuer,
        client_id: "triage-bot",
        jti: randomUUID(),
        resource: found.resource,
        scope: found.scope,
      },
      { now: w.now(), ttl: 300, header: { typ: "oauth-id-jag+jwt" } },
    );
  const claims = granted(
    await ask(found, { grant_type: JWT_BEARER, assertion: idJag(), ...asClient(w.workload("triage-bot")) }),
  );
  assert.equal(claims["sub"], "okta|00u-mcp");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
  const secret = { client_id: "triage-bot", client_secret: "secret" };
  refused(await ask(found, { grant_type: JWT_BEARER, assertion: idJag(), ...secret }), "invalid_client");
});

test("a client that wants to sign a person in at our authorization endpoint is told that nobody signs in here", async () => {
  const query =
    "response_type=code&client_id=x&code_challenge=c&code_challenge_method=S256&redirect_uri=http%3A%2F%2F127.0.0.1%2Fcb";
  const answer = await w.request("GET", `${issuer}/authorize?${query}`);
  assert.equal(answer.headers.get("location"), null);
  refused(answer, "unsupported_response_type");
});
