import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import {
  ACCESS_TOKEN_TYPE,
  ID_TOKEN_TYPE,
  JWT_TYPE,
  TOKEN_EXCHANGE,
  world,
  type Answer,
  type Form,
} from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const w = await world({ after });
const { granted, refused } = await faces(w);
const toSummary = `${w.server.issuer}/agents/summary-bot`;

/** An agent carries a human's ID token to `billing`. */
const carry = (agent: string, subject: string, form: Form = {}): Promise<Answer> =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload(agent),
    actor_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:read_invoice",
    ...form,
  });
/** An agent presents a token of ours as its subject. */
const present = (agent: string, token: string, form: Form = {}): Promise<Answer> =>
  carry(agent, token, { subject_token_type: ACCESS_TOKEN_TYPE, ...form });
const self = (form: Form = {}): Promise<Answer> =>
  w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice", ...form });

test("POST /token 200 with access_token, issued_token_type, token_type, expires_in and scope, and nothing more (RFC 8693 §2.2.1)", async () => {
  const { body } = granted(await self());
  const { access_token: token, ...rest } = body;
  assert.match(String(token), /^[\w-]+\.[\w-]+\.[\w-]+$/);
  assert.deepEqual(rest, {
    issued_token_type: ACCESS_TOKEN_TYPE,
    token_type: "Bearer",
    expires_in: 45,
    scope: "billing:read_invoice",
  });
});

test("requested_token_type access_token is a Bearer token, jwt the same thing as N_A (RFC 8693 §2.1, §2.2.1)", async () => {
  const asked = granted(await self({ requested_token_type: ACCESS_TOKEN_TYPE })).body;
  assert.deepEqual([asked["issued_token_type"], asked["token_type"]], [ACCESS_TOKEN_TYPE, "Bearer"]);
  const jwt = granted(await self({ requested_token_type: JWT_TYPE }));
  assert.deepEqual([jwt.body["issued_token_type"], jwt.body["token_type"]], [JWT_TYPE, "N_A"]);
  assert.equal(jwt.claims.aud, BILLING);
});

test("POST /token 400 invalid_request for a requested_token_type that is not served (RFC 8693 §2.1, §2.2.2)", async () => {
  for (const name of ["refresh_token", "id_token", "saml2", "id-jag", "txn_token", "nonsense"]) {
    const answer = await self({ requested_token_type: `urn:ietf:params:oauth:token-type:${name}` });
    await refused(answer, "invalid_request", "requested_token_type_unsupported", { label: name });
  }
});

test("POST /token 400 invalid_request without subject_token or subject_token_type (RFC 8693 §2.1)", async () => {
  for (const name of ["subject_token", "subject_token_type"]) {
    await refused(await self({ [name]: undefined }), "invalid_request", "parameter_missing", { label: name });
  }
});

test("POST /token 400 invalid_request for a subject_token_type that is not served (RFC 8693 §2.1, §3)", async () => {
  for (const type of ["refresh_token", "saml1", "saml2", "id-jag", "unsigned_json"]) {
    const answer = await self({ subject_token_type: `urn:ietf:params:oauth:token-type:${type}` });
    await refused(answer, "invalid_request", "token_type_unsupported", { label: type });
  }
  granted(await self({ subject_token_type: JWT_TYPE }));
});

test("POST /token 400 invalid_request when the subject token is not of the type that subject_token_type says (RFC 8693 §3)", async () => {
  granted(await carry("triage-bot", w.human("typed-1")));
  const idToken = await carry("triage-bot", w.human("typed-2"), { subject_token_type: ACCESS_TOKEN_TYPE });
  await refused(idToken, "invalid_request", "token_typ");
  const { token } = granted(await carry("triage-bot", w.human("typed-3"), { resource: toSummary }));
  await refused(
    await present("summary-bot", token, { subject_token_type: ID_TOKEN_TYPE }),
    "invalid_request",
    "token_typ",
  );
});

test("actor_token and actor_token_type go together: one without the other is invalid_request (RFC 8693 §2.1)", async () => {
  const human = w.human("pairs");
  for (const name of ["actor_token", "actor_token_type"]) {
    const answer = await carry("triage-bot", human, { [name]: undefined });
    await refused(answer, "invalid_request", "parameter_missing", { label: name });
  }
  await refused(await self({ actor_token_type: JWT_TYPE }), "invalid_request", "parameter_missing");
  granted(await carry("triage-bot", human));
});

test("whatever is wrong with the subject token, POST /token answers 400 invalid_request (RFC 8693 §2.2.2)", async () => {
  const good = w.workload("release-bot");
  const bad: [string, string, Reason][] = [
    [
      "expired",
      w.workload("release-bot", { iat: w.now() - 700, nbf: w.now() - 700, exp: w.now() - 100 }),
      "token_expired",
    ],
    ["not yet valid", w.workload("release-bot", { nbf: w.now() + 300 }), "token_not_yet_valid"],
    ["for somebody else", w.workload("release-bot", { aud: "https://elsewhere.example" }), "token_audience"],
    [
      "for us and somebody else",
      w.workload("release-bot", { aud: [w.server.issuer, "https://elsewhere.example"] }),
      "token_audience",
    ],
    ["of a stranger", w.workload("release-bot", { iss: "https://stranger.example" }), "token_issuer_unknown"],
    [
      "signed by another issuer",
      w.humans.mint(
        { iss: w.workloads.url, sub: "system:serviceaccount:agents:release-bot", aud: w.server.issuer },
        { now: w.now() },
      ),
      "token_signature",
    ],
    ["with another signature", `${good.slice(0, good.lastIndexOf("."))}.${"A".repeat(342)}`, "token_signature"],
    ["no JWT", "not-a-token", "token_malformed"],
    ["of nobody we know", w.workload("unheard-of"), "no_rule_matches"],
  ];
  for (const [label, subject, reason] of bad) {
    await refused(await self({ token: subject } as Form), "invalid_request", reason, { label });
  }
  granted(await self({ token: good } as Form));
});

test("whatever is wrong with the actor token, POST /token answers 400 invalid_request (RFC 8693 §2.2.2)", async () => {
  const human = w.human("actors");
  const bad: [string, string, Reason][] = [
    [
      "expired",
      w.workload("triage-bot", { iat: w.now() - 700, nbf: w.now() - 700, exp: w.now() - 100 }),
      "token_expired",
    ],
    ["for somebody else", w.workload("triage-bot", { aud: "https://elsewhere.example" }), "token_audience"],
    ["a human's", w.human("someone-else"), "actor_not_workload"],
    ["of nobody we know", w.workload("unheard-of"), "no_rule_matches"],
    ["no JWT", "x.y", "token_malformed"],
  ];
  for (const [label, actor, reason] of bad) {
    await refused(await carry("triage-bot", human, { actor_token: actor }), "invalid_request", reason, { label });
  }
  granted(await carry("triage-bot", human));
});

test("POST /token 400 invalid_target for a target that is not served, invalid_scope for scopes not granted there (RFC 8693 §2.2.2)", async () => {
  await refused(await self({ resource: "https://unknown.example" }), "invalid_target", "target_unknown");
  await refused(await self({ resource: undefined, audience: "unknown" }), "invalid_target", "target_unknown");
  await refused(await self({ scope: "billing:refund" }), "invalid_scope", "scope_not_granted");
});

test("audience takes the name of a target as well as its identifier; the token's aud is the identifier (RFC 8693 §2.1)", async () => {
  for (const audience of ["billing", BILLING]) {
    assert.equal(granted(await self({ resource: undefined, audience })).claims.aud, BILLING);
  }
});

test("delegation: sub stays the human and act names the agent, with identity claims only (RFC 8693 §1.1, §4.1)", async () => {
  const { claims } = granted(await carry("triage-bot", w.human("00u-act")));
  assert.equal(claims.sub, "okta|00u-act");
  assert.deepEqual(claims["act"], { sub: "agent|triage-bot" });
});

test("a chain nests: the outermost act is the current actor, earlier ones are inside (RFC 8693 §4.1)", async () => {
  const { token } = granted(await carry("triage-bot", w.human("00u-nest"), { resource: toSummary }));
  const { claims } = granted(await present("summary-bot", token));
  assert.equal(claims.sub, "okta|00u-nest");
  assert.deepEqual(claims["act"], { sub: "agent|summary-bot", act: { sub: "agent|triage-bot" } });
});

test("a chain that began with an agent has that agent as sub and its successor as act (RFC 8693 §4.1)", async () => {
  const { token, claims: own } = granted(await self({ resource: toSummary }));
  assert.equal(own["act"], undefined);
  const { claims } = granted(await present("summary-bot", token));
  assert.equal(claims.sub, "agent|release-bot");
  assert.deepEqual(claims["act"], { sub: "agent|summary-bot" });
});

test("an agent that is both subject and actor acts for itself: there is no act (RFC 8693 §4.1)", async () => {
  const actor = { actor_token: w.workload("release-bot"), actor_token_type: JWT_TYPE };
  assert.equal(granted(await self(actor)).claims["act"], undefined);
  const other = { actor_token: w.workload("triage-bot"), actor_token_type: JWT_TYPE };
  await refused(await self(other), "invalid_request", "client_mismatch");
});

test("nobody is impersonated: a human's token without an actor is invalid_request (RFC 8693 §1.1)", async () => {
  const human = w.human("00u-alone");
  const answer = await carry("triage-bot", human, { actor_token: undefined, actor_token_type: undefined });
  await refused(answer, "invalid_request", "actor_missing");
  granted(await carry("triage-bot", human));
});

test("scope is a string and client_id the agent, as claims (RFC 8693 §4.2, §4.3)", async () => {
  const { claims } = granted(
    await carry("triage-bot", w.human("00u-claims"), { scope: "billing:refund billing:read_invoice" }),
  );
  assert.equal(typeof claims["scope"], "string");
  assert.deepEqual(String(claims["scope"]).split(" ").sort(), ["billing:read_invoice", "billing:refund"]);
  assert.equal(claims["client_id"], "triage-bot");
});

test("may_act in the subject token is obeyed: all its members must name the actor (RFC 8693 §4.4)", async () => {
  const named = { sub: "system:serviceaccount:agents:triage-bot", iss: w.workloads.url };
  for (const may_act of [named, { sub: named.sub }, { sub: "agent|triage-bot", iss: w.server.issuer }]) {
    granted(await carry("triage-bot", w.human("may", { may_act })), JSON.stringify(may_act));
  }
  const others = [
    { sub: "system:serviceaccount:agents:summary-bot" },
    { ...named, iss: "https://elsewhere.example" },
    { ...named, extra: "x" },
    {},
    [],
    "agent|triage-bot",
  ];
  for (const may_act of others) {
    const answer = await carry("triage-bot", w.human("may-not", { may_act }));
    await refused(answer, "invalid_request", "may_act_mismatch", { label: JSON.stringify(may_act) });
  }
});

test("claims about delegation in an outside token are not taken over (RFC 8693 §4.1, §4.2)", async () => {
  const foreign = {
    act: { sub: "agent|summary-bot" },
    scope: "billing:refund",
    client_id: "summary-bot",
    txn: "forged",
    once: true,
  };
  const { claims } = granted(await self({ token: w.workload("release-bot", foreign) } as Form));
  assert.equal(claims["act"], undefined);
  assert.equal(claims["scope"], "billing:read_invoice");
  assert.equal(claims["client_id"], "release-bot");
  assert.notEqual(claims["txn"], "forged");
  assert.equal(claims["once"], undefined);
});

test("a token of ours is a subject token only for the party that it is addressed to (RFC 8693 §2.1, §5)", async () => {
  const spent = granted(await self()).token;
  await refused(await present("release-bot", spent), "invalid_request", "subject_not_addressed");
  const { token } = granted(await carry("triage-bot", w.human("00u-addr"), { resource: toSummary }));
  await refused(await present("triage-bot", token), "invalid_request", "subject_not_addressed");
  await refused(await present("release-bot", token), "invalid_request", "subject_not_addressed");
  granted(await present("summary-bot", token));
});

test("an exchange never widens what was handed over, and may narrow it (RFC 8693 §1.1, §2.2.2)", async () => {
  const handOver = { resource: toSummary, scope: "billing:read_invoice ledger:read" };
  const { token } = granted(await carry("triage-bot", w.human("00u-wide"), handOver));
  assert.equal(granted(await present("summary-bot", token)).claims["scope"], "billing:read_invoice");
  const ledger = { resource: undefined, audience: "ledger" };
  await refused(
    await present("summary-bot", token, { ...ledger, scope: "ledger:write" }),
    "invalid_scope",
    "scope_above_ceiling",
  );
  granted(await present("summary-bot", token, { ...ledger, scope: "ledger:read" }));
});

test("an expired token of ours is no subject token (RFC 8693 §2.2.2)", async () => {
  const { token, claims } = granted(await carry("triage-bot", w.human("00u-old"), { resource: toSummary }));
  granted(await present("summary-bot", token));
  w.clock.advance(Number(claims.exp) - w.now());
  await refused(await present("summary-bot", token), "invalid_request", "token_expired");
});

test("a killed subject or actor is invalid_request, like a bad token (RFC 8693 §2.2.2)", async () => {
  const { token } = granted(await carry("triage-bot", w.human("00u-dead"), { resource: toSummary }));
  assert.equal((await w.operator("POST", "/v1/kill", { agent: "triage-bot", reason: "test" })).status, 200);
  await refused(await present("summary-bot", token), "invalid_request", "killed");
  await refused(await carry("triage-bot", w.human("00u-next")), "invalid_request", "killed");
  assert.equal((await w.operator("POST", "/v1/restore", { agent: "triage-bot", reason: "test" })).status, 200);
  granted(await carry("triage-bot", w.human("00u-next")));
});
