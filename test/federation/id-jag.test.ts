import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startIssuer, type Members, type MintOptions } from "../support/oidc-issuer.ts";
import { issuerEntry, openFederation, OUR_ISSUER, refusedFor } from "./open-federation.ts";

const idp = await startIssuer(undefined, { algorithms: ["ES256"] });
after(() => idp.stop());

function open(t: Parameters<typeof openFederation>[0], changes = {}) {
  const world = openFederation(t, {
    issuers: [issuerEntry(idp, { name: "okta", identifies: "humans", audience: ["api://ephor"], ...changes })],
  });
  const grant = (claims: Members = {}, options: MintOptions = {}): string =>
    idp.mint(
      { aud: OUR_ISSUER, sub: "00u1", client_id: "triage-bot", jti: "j-1", ...claims },
      { now: world.now(), algorithm: "ES256", ...options, header: { typ: "oauth-id-jag+jwt", ...options.header } },
    );
  return { ...world, grant, check: (token: string) => world.federation.verifyIdJag(token, "triage-bot") };
}

test("an ID-JAG names a person for this agent; what it binds is handed on", async (t) => {
  const { grant, check, now } = open(t);
  const plain = await check(grant({ aud: [OUR_ISSUER] }));
  assert.deepEqual(
    [plain.issuer.name, plain.sub, plain.jti, plain.iat, plain.exp],
    ["okta", "00u1", "j-1", now(), now() + 300],
  );
  assert.deepEqual([plain.jkt, plain.resource, plain.scope], [undefined, undefined, undefined]);
  const resource = `${OUR_ISSUER}/mcp/tickets`;
  const bound = await check(
    grant({ cnf: { jkt: "abc" }, resource, scope: "tickets:get_ticket", auth_time: now() - 5 }),
  );
  assert.deepEqual(
    [bound.jkt, bound.resource, bound.scope, bound.authTime],
    ["abc", [resource], "tickets:get_ticket", now() - 5],
  );
});

test("aud must be our issuer, alone: not the audience of the issuer's other tokens", async (t) => {
  const { grant, check } = open(t);
  for (const aud of [
    "api://ephor",
    [OUR_ISSUER, "https://other.example"],
    [],
    `${OUR_ISSUER}/`,
    `${OUR_ISSUER}/token`,
  ]) {
    await refusedFor(check(grant({ aud })), "token_audience", String(aud));
  }
});

test("another agent's ID-JAG is refused", async (t) => {
  const { grant, check } = open(t);
  await refusedFor(check(grant({ client_id: "other-bot" })), "client_mismatch");
  await refusedFor(check(grant({ client_id: undefined })), "token_claim_missing");
});

test("only the ID-JAG's own typ is accepted, and an ID-JAG is no subject token", async (t) => {
  const { grant, check, federation } = open(t, { audience: [OUR_ISSUER] });
  for (const typ of [undefined, "JWT", "at+jwt", "client-authentication+jwt"])
    await refusedFor(check(grant({}, { header: { typ } })), "token_typ");
  await check(grant({}, { header: { typ: "application/oauth-id-jag+jwt" } }));
  await refusedFor(federation.verify(grant(), { use: "subject" }), "token_typ");
});

test("jti, exp, iat and sub are required, and an hour is the longest life", async (t) => {
  const { grant, check } = open(t);
  for (const claim of ["jti", "exp", "iat", "sub"])
    await refusedFor(check(grant({ [claim]: undefined })), "token_claim_missing", claim);
  await check(grant({}, { ttl: 3_600 }));
  await refusedFor(check(grant({}, { ttl: 3_601 })), "token_lifetime");
});

test("an issuer of workloads, and one that is not configured, cannot assert a person", async (t) => {
  const workloads = open(t, { identifies: "workloads" });
  await refusedFor(workloads.check(workloads.grant()), "subject_not_human");
  const { grant, check } = open(t);
  await refusedFor(check(grant({ iss: "https://evil.example" })), "token_issuer_unknown");
});

test("a binding or a resource that we cannot read refuses the assertion", async (t) => {
  const { grant, check } = open(t);
  await refusedFor(check(grant({ cnf: { "x5t#S256": "abc" } })), "token_bound");
  for (const resource of [7, [], [7], "", {}]) await refusedFor(check(grant({ resource })), "token_claim_type");
  await refusedFor(check(grant({ scope: ["a"] })), "token_claim_type");
});
