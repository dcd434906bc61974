import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { Provider } from "oidc-provider";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import { createOAuthProvider } from "../../../src/broker/providers/oauth.ts";
import type { LeaseFacts } from "../../../src/broker/provider.ts";
import { secretText } from "../../../src/broker/secret-text.ts";
import { createEgress } from "../../../src/system/egress.ts";

/** An authorization server that others wrote, at its own time. */
const now = (): number => Math.floor(Date.now() / 1000);
const SECRET = "s3cret:with%+signs and spaces, 32 bytes long";
const key = makeKeyPair("P-256");

const http = createServer();
http.listen(0, "127.0.0.1");
await once(http, "listening");
const issuer = `http://127.0.0.1:${(http.address() as AddressInfo).port}`;
const client = { redirect_uris: [], response_types: [], grant_types: ["client_credentials"], client_secret: SECRET };
const server = new Provider(issuer, {
  clients: [
    { ...client, client_id: "basic", token_endpoint_auth_method: "client_secret_basic" },
    { ...client, client_id: "post", token_endpoint_auth_method: "client_secret_post" },
    {
      ...client,
      client_id: "jwt",
      token_endpoint_auth_method: "private_key_jwt",
      jwks: { keys: [key.publicKey.export({ format: "jwk" })] },
    },
  ],
  scopes: ["read", "write"],
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
  },
});
http.on("request", server.callback());
const egress = createEgress();
after(() => {
  egress.close();
  http.closeAllConnections();
  http.close();
});

const provider = createOAuthProvider({ now });
const lease = { id: "lease_01JD9Z0000000000000000000", resource: "crm", sub: "agent|triage-bot" } as LeaseFacts;

async function isActive(token: string): Promise<boolean> {
  const response = await fetch(`${issuer}/token/introspection`, {
    method: "POST",
    body: new URLSearchParams({ token, client_id: "post", client_secret: SECRET }),
  });
  return ((await response.json()) as { active: boolean }).active;
}

for (const [id, method, secret] of [
  ["basic", "client_secret_basic", SECRET],
  ["post", "client_secret_post", SECRET],
  ["jwt", "private_key_jwt", key.privateKey.export({ type: "pkcs8", format: "pem" }).toString()],
] as const) {
  test(`oidc-provider gives a token to ${method}, and calls it dead once it is revoked`, async () => {
    const settings = provider.settings.parse({
      token_url: `${issuer}/token`,
      revocation_url: `${issuer}/token/revocation`,
      internal: true,
      client_id: id,
      auth_method: method,
      secret: "crm-client",
      grant: "client_credentials",
      scope: "read",
    });
    const common = { settings, lease, secrets: new Map([["crm-client", secretText(secret)]]), upstream: { egress } };
    const { signal } = new AbortController();
    const order = { ...common, policies: [], issuedAt: now(), endsAt: now() + 45 };
    const { credential, handle } = await provider.mint(order, signal);
    const token = String(credential["access_token"]);
    assert.equal(credential["scope"], "read");
    assert.equal(await isActive(token), true);
    await provider.destroy?.({ ...common, handle }, signal);
    assert.equal(await isActive(token), false);
    await provider.destroy?.({ ...common, handle }, signal);
  });
}
