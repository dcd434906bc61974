import assert from "node:assert/strict";
import { after, test } from "node:test";
import { ASSERTION_TYPE, JWT_TYPE, TOKEN_EXCHANGE, world, type Answer, type Form } from "../support/world.ts";
import { faces } from "./faces.ts";

const BILLING = "https://billing.acme.example";
const FORM_TYPE = "application/x-www-form-urlencoded";
const w = await world({ after });
const { granted, refused } = await faces(w);

/** `client_credentials` by an agent with a key of its own: the plainest request that succeeds. */
const plain = (form: Form = {}, headers?: Record<string, string>): Promise<Answer> =>
  w.post(
    "/token",
    {
      grant_type: "client_credentials",
      client_assertion: w.privateKeyJwt(),
      client_assertion_type: ASSERTION_TYPE,
      resource: BILLING,
      scope: "billing:refund",
      ...form,
    },
    headers,
  );
const raw = (body: string, type: string | undefined = FORM_TYPE): Promise<Answer> =>
  w.request("POST", "/token", { body, headers: type === "" ? {} : { "content-type": type } });

test("POST /token 200 is JSON with access_token, token_type, expires_in and scope, no-store, and no refresh token (RFC 6749 §5.1, §4.4.3)", async () => {
  const answer = await plain();
  const { body } = granted(answer);
  assert.deepEqual(Object.keys(body).sort(), ["access_token", "expires_in", "scope", "token_type"]);
  assert.equal(body["token_type"], "Bearer");
  assert.equal(body["expires_in"], 45);
  assert.equal(body["scope"], "billing:refund");
  assert.equal(answer.headers.get("content-type"), "application/json");
  assert.equal(answer.headers.get("cache-control"), "no-store");
  assert.equal(answer.headers.get("pragma"), "no-cache");
});

test("/token takes POST only: any other method is 405 with Allow (RFC 6749 §3.2)", async () => {
  for (const method of ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const answer = await w.request(method, "/token");
    assert.equal(answer.status, 405, method);
    assert.equal(answer.headers.get("allow"), "POST", method);
  }
  granted(await plain());
});

test("POST /token 400 invalid_request for parameters in the URL (RFC 6749 §3.2, §2.3.1)", async () => {
  const form = { grant_type: TOKEN_EXCHANGE, subject_token: w.workload("release-bot"), subject_token_type: JWT_TYPE };
  const query = "resource=https%3A%2F%2Fbilling.acme.example&scope=billing";
  await refused(await w.post(`/token?${query}`, form), "invalid_request", "parameter_in_query");
  granted(await w.post("/token", { ...form, resource: BILLING, scope: "billing" }));
});

test("POST /token 415 invalid_request for a body that is no form, or no UTF-8 (RFC 6749 §3.2, appendix B)", async () => {
  const types = ["application/json", "multipart/form-data; boundary=x", `${FORM_TYPE}; charset=iso-8859-1`];
  for (const type of types) {
    const answer = await raw("grant_type=client_credentials", type);
    await refused(answer, "invalid_request", "content_type", { status: 415, label: type });
  }
  granted(await plain({}, { "content-type": `${FORM_TYPE};charset=UTF-8` }));
});

test("POST /token 400 invalid_request for broken percent-encoding, bytes that are not UTF-8, and NUL (RFC 6749 appendix B)", async () => {
  for (const bad of ["scope=%zz", "scope=%", "scope=%ff%fe", "scope=a%00b", "%ff=x"]) {
    const answer = await raw(`grant_type=client_credentials&${bad}`);
    await refused(answer, "invalid_request", "malformed_request", { label: bad });
  }
  granted(await plain({ purpose: "naïve ☂ 100%" }));
});

test("POST /token 400 invalid_request when a parameter stands there twice, also with one value (RFC 6749 §3.2)", async () => {
  for (const name of ["grant_type", "scope", "client_id", "client_assertion", "subject_token", "purpose", "unknown"]) {
    const answer = await plain({ [name]: ["a", "a"] });
    await refused(answer, "invalid_request", "parameter_repeated", { label: name });
  }
  granted(await plain({ resource: [BILLING, BILLING] }));
});

test("a parameter without a value is one that was not sent (RFC 6749 §3.2)", async () => {
  const empty = {
    actor_token: "",
    actor_token_type: "",
    purpose: "",
    client_id: "",
    audience: "",
    ttl: "",
    requested_token_type: "",
  };
  assert.equal(granted(await plain(empty)).claims["purpose"], undefined);
  await refused(await plain({ grant_type: "" }), "invalid_request", "parameter_missing");
  await refused(await plain({ client_assertion: "" }), "invalid_request", "parameter_missing");
});

test("parameters that are not known are ignored, whatever their names (RFC 6749 §3.2)", async () => {
  const strange = {
    foo: "bar",
    __proto__x: "1",
    constructor: "x",
    toString: "x",
    "scope[]": "billing:read_invoice",
    Scope: "billing",
  };
  const { body } = granted(await plain({ ...strange, ["__proto__"]: "x" }));
  assert.equal(body["scope"], "billing:refund");
});

test("POST /token 400 invalid_request without grant_type, unsupported_grant_type for one that is not served (RFC 6749 §5.2)", async () => {
  await refused(await plain({ grant_type: undefined }), "invalid_request", "parameter_missing");
  const others = [
    "authorization_code",
    "password",
    "refresh_token",
    "implicit",
    "Client_Credentials",
    "urn:ietf:params:oauth:grant-type:saml2-bearer",
  ];
  for (const grantType of others) {
    const answer = await plain({ grant_type: grantType });
    await refused(answer, "unsupported_grant_type", "grant_type_unsupported", { label: grantType });
  }
});

test("POST /token 400 invalid_request for two client authentication methods at once (RFC 6749 §2.3)", async () => {
  const basic = `Basic ${Buffer.from("keyed-bot:secret").toString("base64")}`;
  await refused(await plain({}, { authorization: basic }), "invalid_request", "client_several_methods");
  await refused(await plain({ client_secret: "secret" }), "invalid_request", "client_several_methods");
});

test("POST /token 401 invalid_client names the scheme that was tried (RFC 6749 §5.2)", async () => {
  const none = { client_assertion: undefined, client_assertion_type: undefined };
  const tried = [
    ["Basic", `Basic ${Buffer.from("keyed-bot:secret").toString("base64")}`],
    ["Bearer", `Bearer ${w.workload("release-bot")}`],
  ] as const;
  for (const [scheme, authorization] of tried) {
    const answer = await plain(none, { authorization });
    await refused(answer, "invalid_client", "client_not_allowed", { label: scheme });
    assert.match(answer.headers.get("www-authenticate") ?? "", new RegExp(`^${scheme} realm="`));
  }
});

test("POST /token 401 invalid_client without client authentication, with a secret, and for an unknown client (RFC 6749 §4.4.2, §5.2)", async () => {
  const none = { client_assertion: undefined, client_assertion_type: undefined };
  await refused(await plain(none), "invalid_client", "client_missing");
  await refused(await plain({ ...none, client_id: "keyed-bot" }), "invalid_client", "client_missing");
  await refused(
    await plain({ ...none, client_id: "keyed-bot", client_secret: "x" }),
    "invalid_client",
    "client_not_allowed",
  );
  const stranger = w.privateKeyJwt({ iss: "nobody", sub: "nobody" });
  await refused(await plain({ client_assertion: stranger }), "invalid_client", "client_unknown");
});

test("client_id may be sent, and must then name the client that authenticated (RFC 6749 §3.2.1)", async () => {
  granted(await plain({ client_id: "keyed-bot" }));
  await refused(await plain({ client_id: "release-bot" }), "invalid_client", "client_mismatch");
  const form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("release-bot"),
    subject_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing",
  };
  granted(await w.post("/token", { ...form, client_id: "release-bot" }));
  await refused(await w.post("/token", { ...form, client_id: "triage-bot" }), "invalid_request", "client_mismatch");
});

test("client_credentials is the agent for itself: sub and client_id name it, and nobody acts (RFC 6749 §4.4)", async () => {
  const { claims } = granted(await plain());
  assert.equal(claims.sub, "agent|keyed-bot");
  assert.equal(claims["client_id"], "keyed-bot");
  assert.equal(claims["act"], undefined);
});

test("scope is a set of case-sensitive words parted by single blanks; anything else is invalid_scope (RFC 6749 §3.3, §5.2)", async () => {
  const both = granted(await plain({ scope: "billing:refund billing:read_invoice billing:refund" })).body["scope"];
  assert.deepEqual(String(both).split(" ").sort(), ["billing:read_invoice", "billing:refund"]);
  const malformed = [
    "billing:refund  billing:read_invoice",
    " billing:refund",
    "billing:refund ",
    "billing:refund\tx",
    'billing:"x"',
    "billing:a\\b",
    "billing:é",
  ];
  for (const scope of malformed)
    await refused(await plain({ scope }), "invalid_scope", "scope_malformed", { label: scope });
  await refused(await plain({ scope: "billing:Refund" }), "invalid_scope", "scope_unknown");
});

test("POST /token 400 invalid_scope when no scope is named: there is no default (RFC 6749 §3.3)", async () => {
  for (const scope of [undefined, ""]) await refused(await plain({ scope }), "invalid_scope", "scope_missing");
});

test("the answer lists the scope that was granted where it is not what was asked for (RFC 6749 §5.1)", async () => {
  const { body, claims } = granted(await plain({ scope: "billing" }));
  assert.deepEqual(String(body["scope"]).split(" ").sort(), ["billing:read_invoice", "billing:refund"]);
  assert.equal(claims["scope"], body["scope"]);
});

test("POST /token 400 invalid_scope for one scope that is not granted beside one that is: never narrowed (RFC 6749 §5.2)", async () => {
  const self = (scope: string) => w.self("release-bot", { resource: BILLING, scope });
  granted(await self("billing:read_invoice"));
  await refused(await self("billing:read_invoice billing:refund"), "invalid_scope", "scope_not_granted");
});

test("no text of the request comes back in an error (RFC 6749 §5.2)", async () => {
  const evil = "<b>0wned</b>";
  for (const form of [
    { grant_type: evil },
    { scope: evil },
    { resource: evil },
    { client_assertion: evil },
    { client_assertion_type: evil },
  ]) {
    const answer = await plain(form);
    assert.ok(answer.status === 400 || answer.status === 401);
    assert.ok(!answer.text.includes("0wned"), answer.text);
  }
});
