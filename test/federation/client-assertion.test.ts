import assert from "node:assert/strict";
import { after, test } from "node:test";
import { mintWith, startIssuer, type Members, type MintOptions } from "../support/oidc-issuer.ts";
import { agentEntry, openFederation, OUR_ISSUER, refusedFor } from "./open-federation.ts";

// Not an issuer here: a ring of keys that agents hold.
const ring = await startIssuer(undefined, { algorithms: ["ES256", "RS256", "Ed25519"] });
after(() => ring.stop());

const jwkOf = (algorithm: "ES256" | "RS256" | "Ed25519") => {
  const { kid, publicJwk } = ring.key({ algorithm });
  return { ...publicJwk, kid, kty: String(publicJwk["kty"]) };
};

function open(t: Parameters<typeof openFederation>[0]) {
  const agents = [
    agentEntry("triage-bot", [], { keys: [jwkOf("ES256"), jwkOf("Ed25519")] }),
    agentEntry("other-bot", [], { keys: [jwkOf("RS256")] }),
    agentEntry("keyless-bot", []),
  ];
  const world = openFederation(t, { agents });
  const assertion = (claims: Members = {}, options: MintOptions = {}): string =>
    mintWith(
      ring.key({ algorithm: options.algorithm ?? "ES256" }),
      { iss: "triage-bot", sub: "triage-bot", aud: OUR_ISSUER, jti: "j-1", ...claims },
      { now: world.now(), ttl: 60, ...options, header: { typ: "client-authentication+jwt", ...options.header } },
    );
  return {
    ...world,
    assertion,
    check: (token: string, clientId?: string) => world.federation.verifyPrivateKeyJwt(token, { clientId }),
  };
}

test("private_key_jwt proves the agent whose key signed it", async (t) => {
  const { assertion, check, now } = open(t);
  for (const [algorithm, typ] of [
    ["ES256", "client-authentication+jwt"],
    ["Ed25519", "JWT"],
    ["ES256", undefined],
  ] as const) {
    const verified = await check(assertion({}, { algorithm, header: { typ } }), "triage-bot");
    assert.equal(verified.agent.name, "triage-bot");
    assert.equal(verified.jti, "j-1");
    assert.equal(verified.exp, now() + 60);
  }
});

test("the key is found by kid, or is the only one that fits", async (t) => {
  const { assertion, check } = open(t);
  await check(assertion({}, { header: { kid: undefined } }));
  await refusedFor(check(assertion({}, { header: { kid: "another" } })), "token_signature");
});

test("A-CLI-04 another audience, an array, the token endpoint: refused", async (t) => {
  const { assertion, check } = open(t);
  for (const aud of [
    `${OUR_ISSUER}/token`,
    `${OUR_ISSUER}/`,
    "https://other.example",
    [OUR_ISSUER],
    [OUR_ISSUER, "x"],
  ]) {
    await refusedFor(check(assertion({ aud })), "token_audience", String(aud));
  }
  await refusedFor(check(assertion({ aud: undefined })), "token_claim_missing");
});

test("A-CLI-04 iss, sub and client_id that are not one name: refused", async (t) => {
  const { assertion, check } = open(t);
  await refusedFor(check(assertion({ sub: "other-bot" })), "client_mismatch");
  await refusedFor(check(assertion({ iss: "other-bot" })), "client_mismatch");
  await refusedFor(check(assertion(), "other-bot"), "client_mismatch");
  await refusedFor(check(assertion({ iss: undefined })), "token_claim_missing");
});

test("A-CLI-04 exp more than five minutes ahead, over, or missing, and no jti: refused", async (t) => {
  const { assertion, check, clock } = open(t);
  await check(assertion({}, { ttl: 300 }));
  await refusedFor(check(assertion({}, { ttl: 301 })), "token_lifetime");
  await refusedFor(check(assertion({ exp: undefined })), "token_claim_missing");
  await refusedFor(check(assertion({ jti: undefined })), "token_claim_missing");
  await check(assertion({ iat: undefined, nbf: undefined }));
  const token = assertion();
  clock.advance(89);
  await check(token);
  clock.advance(1);
  await refusedFor(check(token), "token_expired");
});

test("a key of another agent, an unknown agent and an agent without keys: refused", async (t) => {
  const { assertion, check } = open(t);
  await refusedFor(check(assertion({}, { algorithm: "RS256" })), "token_signature");
  await refusedFor(check(assertion({ iss: "other-bot", sub: "other-bot" })), "token_signature");
  await refusedFor(check(assertion({ iss: "keyless-bot", sub: "keyless-bot" })), "token_signature");
  for (const name of ["nobody", "__proto__", "constructor"])
    await refusedFor(check(assertion({ iss: name, sub: name })), "client_unknown");
});

test("a token of another kind is no client assertion", async (t) => {
  const { assertion, check } = open(t);
  for (const typ of ["at+jwt", "dpop+jwt", "oauth-id-jag+jwt"])
    await refusedFor(check(assertion({}, { header: { typ } })), "token_typ");
  await refusedFor(check(assertion({}, { header: { jwk: jwkOf("ES256") } })), "token_header_member");
});

test("an agent that is suspended, or loses its key, is refused from that moment on", async (t) => {
  const { assertion, check, put, remove } = open(t);
  await check(assertion());
  put({ agents: [agentEntry("triage-bot", [], { keys: [jwkOf("ES256")], status: "suspended" })] });
  await refusedFor(check(assertion()), "agent_suspended");
  put({ agents: [agentEntry("triage-bot", [], { keys: [jwkOf("RS256")] })] });
  await refusedFor(check(assertion()), "token_signature");
  remove("agents", "triage-bot");
  await refusedFor(check(assertion()), "client_unknown");
});

test("an assertion's name is by agent and jti", async (t) => {
  const { assertion, check } = open(t);
  const keyOf = async (claims: Members, options?: MintOptions): Promise<string> =>
    (await check(assertion(claims, options))).key;
  assert.equal(await keyOf({}), await keyOf({}, { ttl: 30 }));
  assert.notEqual(await keyOf({}), await keyOf({ jti: "j-2" }));
  assert.notEqual(await keyOf({}), await keyOf({ iss: "other-bot", sub: "other-bot" }, { algorithm: "RS256" }));
});
