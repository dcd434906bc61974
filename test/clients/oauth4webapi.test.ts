import assert from "node:assert/strict";
import { after, test } from "node:test";
import * as oauth from "oauth4webapi";
import { runningClock } from "../support/hand-clock.ts";
import { BILLING_SECRET, ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, world } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after }, { clock: runningClock() });
const insecure = { [oauth.allowInsecureRequests]: true } as const;
const issuer = new URL(w.server.issuer);
const agent: oauth.Client = { client_id: "triage-bot" };

const discovered = async (algorithm: "oauth2" | "oidc" = "oauth2"): Promise<oauth.AuthorizationServer> =>
  oauth.processDiscoveryResponse(issuer, await oauth.discoveryRequest(issuer, { ...insecure, algorithm }));
const parameters = (form: Record<string, string> = {}): Record<string, string> => ({
  subject_token: w.human("00u-o4w"),
  subject_token_type: ID_TOKEN_TYPE,
  actor_token: w.workload("triage-bot"),
  actor_token_type: JWT_TYPE,
  resource: BILLING,
  scope: "billing:refund",
  ...form,
});
const as = await discovered();
/** A token as the client gets it; with a handle it is bound to the handle's key. */
async function exchanged(
  form: Record<string, string> = {},
  DPoP?: oauth.DPoPHandle,
): Promise<oauth.TokenEndpointResponse> {
  const ask = async (): Promise<oauth.TokenEndpointResponse> => {
    const options = { ...insecure, ...(DPoP === undefined ? {} : { DPoP }) };
    const response = await oauth.genericTokenEndpointRequest(
      as,
      agent,
      oauth.None(),
      TOKEN_EXCHANGE,
      parameters(form),
      options,
    );
    return await oauth.processGenericTokenEndpointResponse(as, agent, response);
  };
  return await ask().catch((error: unknown) => {
    if (DPoP !== undefined && oauth.isDPoPNonceError(error)) return ask();
    throw error;
  });
}
/** What a tool server does with a request. */
const validate = (request: Request, audience = BILLING): Promise<oauth.JWTAccessTokenClaims> =>
  oauth.validateJwtAccessToken(as, request, audience, insecure);
const call = (authorization: string, url = `${BILLING}/invoices/7`): Request =>
  new Request(url, { headers: { authorization } });

test("oauth4webapi processes our metadata by both discovery algorithms", async () => {
  for (const algorithm of ["oauth2", "oidc"] as const) {
    assert.equal((await discovered(algorithm)).issuer, w.server.issuer);
  }
  const elsewhere = new URL("https://elsewhere.example");
  await assert.rejects(oauth.processDiscoveryResponse(elsewhere, await oauth.discoveryRequest(issuer, insecure)), {
    code: oauth.JSON_ATTRIBUTE_COMPARISON,
  });
});

test("oauth4webapi gets a token by exchange and, as resource server, accepts it by our keys (RFC 9068)", async () => {
  const { access_token: token, token_type: type } = await exchanged();
  assert.equal(type, "bearer");
  const claims = await validate(call(`Bearer ${token}`));
  assert.equal(claims.sub, "okta|00u-o4w");
  assert.equal(claims.client_id, "triage-bot");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
});

test("oauth4webapi as resource server refuses our token for another audience, an outside token, a changed one, and none", async () => {
  const { access_token: token } = await exchanged();
  await assert.rejects(validate(call(`Bearer ${token}`), "https://ledger.acme.example"), {
    code: oauth.JWT_CLAIM_COMPARISON,
  });
  await assert.rejects(validate(call(`Bearer ${w.workload("triage-bot")}`)));
  await assert.rejects(validate(call(`Bearer ${token.slice(0, -6)}AAAAAA`)));
  await assert.rejects(validate(new Request(BILLING)));
  await validate(call(`Bearer ${token}`));
});

test("oauth4webapi as resource server accepts a DPoP-bound token with a proof by its key, and nothing less (RFC 9449 §7)", async () => {
  const keys = await oauth.generateKeyPair("ES256");
  const DPoP = oauth.DPoP(agent, keys);
  const { access_token: token, token_type: type } = await exchanged({}, DPoP);
  assert.equal(type, "dpop");
  const sent: Request[] = [];
  const proved = async (by: oauth.DPoPHandle): Promise<Request> => {
    await oauth.protectedResourceRequest(token, "GET", new URL(`${BILLING}/invoices/7`), undefined, undefined, {
      DPoP: by,
      [oauth.customFetch]: async (url, init) => {
        sent.push(new Request(url, init as RequestInit));
        return new Response();
      },
    });
    return sent.at(-1) as Request;
  };
  const claims = await validate(await proved(DPoP));
  assert.equal(claims.cnf?.jkt, await DPoP.calculateThumbprint());
  await assert.rejects(validate(await proved(oauth.DPoP(agent, await oauth.generateKeyPair("ES256")))));
  await assert.rejects(validate(call(`Bearer ${token}`)));
  await assert.rejects(validate(call(`DPoP ${token}`)));
});

test("oauth4webapi understands N_A: a jwt is no access token to it", async () => {
  await assert.rejects(exchanged({ requested_token_type: JWT_TYPE }), { code: oauth.UNSUPPORTED_OPERATION });
});

test("oauth4webapi redeems a workload's token by the jwt-bearer grant with no client authentication", async () => {
  const client = { client_id: "release-bot" };
  const form = { assertion: w.workload("release-bot"), resource: BILLING, scope: "billing:read_invoice" };
  const ask = async (more: Record<string, string> = {}): Promise<oauth.TokenEndpointResponse> => {
    const type = "urn:ietf:params:oauth:grant-type:jwt-bearer";
    const response = await oauth.genericTokenEndpointRequest(
      as,
      client,
      oauth.None(),
      type,
      { ...form, ...more },
      insecure,
    );
    return await oauth.processGenericTokenEndpointResponse(as, client, response);
  };
  const { access_token: token } = await ask();
  assert.equal((await validate(call(`Bearer ${token}`))).sub, "agent|release-bot");
  await assert.rejects(
    ask({ assertion: w.human() }),
    (error: unknown) => error instanceof oauth.ResponseBodyError && error.error === "invalid_grant",
  );
});

test("oauth4webapi introspects and revokes as the resource server", async () => {
  const client = { client_id: "billing" };
  const auth = oauth.ClientSecretBasic(BILLING_SECRET);
  const { access_token: token } = await exchanged();
  const isActive = async (): Promise<boolean> => {
    const response = await oauth.introspectionRequest(as, client, auth, token, insecure);
    return (await oauth.processIntrospectionResponse(as, client, response)).active;
  };
  assert.equal(await isActive(), true);
  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, token, insecure));
  assert.equal(await isActive(), false);
});

test("oauth4webapi finds the metadata of our own API as a protected resource (RFC 9728)", async () => {
  const resource = new URL(`${w.server.issuer}/v1`);
  const found = await oauth.processResourceDiscoveryResponse(
    resource,
    await oauth.resourceDiscoveryRequest(resource, insecure),
  );
  assert.deepEqual(found.authorization_servers, [w.server.issuer]);
});
