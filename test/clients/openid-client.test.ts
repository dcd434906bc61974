import assert from "node:assert/strict";
import type { webcrypto } from "node:crypto";
import { after, test } from "node:test";
import * as client from "openid-client";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
// The client reads clocks of its own.
const w = await world({ after }, { clock: runningClock() });
const insecure = { execute: [client.allowInsecureRequests] };
const discover = (
  clientId: string,
  auth: client.ClientAuth,
  algorithm: "oidc" | "oauth2" = "oauth2",
): Promise<client.Configuration> =>
  client.discovery(new URL(w.server.issuer), clientId, undefined, auth, { ...insecure, algorithm });
const billing = (): Promise<client.Configuration> => discover("billing", client.ClientSecretBasic(BILLING_SECRET));
const carried = (sub: string): Record<string, string> => ({
  subject_token: w.human(sub),
  subject_token_type: ID_TOKEN_TYPE,
  actor_token: w.workload("triage-bot"),
  actor_token_type: JWT_TYPE,
  resource: BILLING,
  scope: "billing:refund",
});
/** The client's own kind of key. */
const agentKey = async (): Promise<webcrypto.CryptoKey> =>
  crypto.subtle.importKey(
    "jwk",
    w.agentKey.export({ format: "jwk" }) as webcrypto.JsonWebKey,
    { name: "ECDSA", namedCurve: "P-256" },
    false,
    ["sign"],
  );

test("openid-client discovers us by RFC 8414 and by OpenID Discovery, and refuses another issuer", async () => {
  for (const algorithm of ["oauth2", "oidc"] as const) {
    const config = await discover("triage-bot", client.None(), algorithm);
    assert.equal(config.serverMetadata().issuer, w.server.issuer);
    assert.equal(config.serverMetadata().token_endpoint, `${w.server.issuer}/token`);
  }
  const elsewhere = new URL(w.server.issuer.replace("127.0.0.1", "localhost"));
  await assert.rejects(client.discovery(elsewhere, "triage-bot", undefined, client.None(), insecure));
});

test("openid-client exchanges a human's token, and the resource server's own client introspects and revokes the answer", async () => {
  const config = await discover("triage-bot", client.None());
  const tokens = await client.genericGrantRequest(config, TOKEN_EXCHANGE, carried("00u-oc"));
  assert.equal(tokens.token_type, "bearer");
  assert.equal(tokens.expires_in, 45);
  // Its own countdown, by its own clock, began when the answer came.
  const left = tokens.expiresIn() ?? 0;
  assert.ok(left > 30 && left <= 45, `${left} s left`);
  assert.equal(tokens.scope, "billing:refund");

  const server = await billing();
  const live = await client.tokenIntrospection(server, tokens.access_token);
  assert.equal(live.active, true);
  assert.equal(live.sub, "okta|00u-oc");
  assert.deepEqual(live["act"], { sub: "agent|triage-bot" });

  await client.tokenRevocation(server, tokens.access_token);
  assert.deepEqual({ ...(await client.tokenIntrospection(server, tokens.access_token)) }, { active: false });
});

test("openid-client shows a refused exchange as what it is: error and description", async () => {
  const config = await discover("triage-bot", client.None());
  const asked = client.genericGrantRequest(config, TOKEN_EXCHANGE, {
    ...carried("00u-no"),
    scope: "billing:refund ledger:write",
  });
  await assert.rejects(
    asked,
    (error: unknown) =>
      error instanceof client.ResponseBodyError && error.error === "invalid_scope" && error.status === 400,
  );
});

test("openid-client uses client_credentials with PrivateKeyJwt, each time with a fresh assertion", async () => {
  const config = await discover("keyed-bot", client.PrivateKeyJwt(await agentKey()));
  for (let i = 0; i < 2; i++) {
    const tokens = await client.clientCredentialsGrant(config, { resource: BILLING, scope: "billing:refund" });
    assert.equal(tokens.scope, "billing:refund");
  }
  const stranger = await discover("release-bot", client.PrivateKeyJwt(await agentKey()));
  await assert.rejects(
    client.clientCredentialsGrant(stranger, { resource: BILLING, scope: "billing:read_invoice" }),
    (error: unknown) =>
      error instanceof client.WWWAuthenticateChallengeError ||
      (error instanceof client.ResponseBodyError && error.error === "invalid_client"),
  );
});

test("openid-client with a wrong secret is refused at introspection, by the scheme it used", async () => {
  for (const auth of [client.ClientSecretBasic(`${BILLING_SECRET}x`), client.ClientSecretPost(`${BILLING_SECRET}x`)]) {
    await assert.rejects(client.tokenIntrospection(await discover("billing", auth), "x"));
  }
  const post = await discover("billing", client.ClientSecretPost(BILLING_SECRET));
  assert.equal((await client.tokenIntrospection(post, "x")).active, false);
});

test("openid-client binds tokens with a DPoP handle: it takes our nonce by itself, also a later one", async () => {
  const config = await discover("triage-bot", client.None());
  const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair("ES256"));
  const first = await client.genericGrantRequest(config, TOKEN_EXCHANGE, carried("00u-dpop"), { DPoP });
  assert.equal(first.token_type, "dpop");
  const live = await client.tokenIntrospection(await billing(), first.access_token);
  assert.equal(live.token_type, "DPoP");
  assert.equal(live.cnf?.["jkt"], await DPoP.calculateThumbprint());
  // Two minutes later its nonce is too old; the client gets a new one and goes on.
  w.clock.advance(55);
  const second = await client.genericGrantRequest(config, TOKEN_EXCHANGE, carried("00u-dpop2"), { DPoP });
  assert.equal(second.token_type, "dpop");
});

test("openid-client reads our signed introspection answer (RFC 9701) and verifies it", async () => {
  const metadata = { client_secret: BILLING_SECRET, introspection_signed_response_alg: "ES256" };
  const config = await client.discovery(
    new URL(w.server.issuer),
    "billing",
    metadata,
    client.ClientSecretBasic(BILLING_SECRET),
    {
      algorithm: "oauth2",
      execute: [client.allowInsecureRequests, client.enableNonRepudiationChecks],
    },
  );
  const { access_token: token } = await client.genericGrantRequest(
    await discover("triage-bot", client.None()),
    TOKEN_EXCHANGE,
    carried("00u-9701"),
  );
  assert.equal((await client.tokenIntrospection(config, token)).active, true);
  assert.equal((await client.tokenIntrospection(config, "x")).active, false);
});
