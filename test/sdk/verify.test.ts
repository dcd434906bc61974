import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, test } from "node:test";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { actors, createVerifier, RefusedError, type Verifier } from "../../src/sdk/verify.ts";
import { signJws } from "../../src/system/jws-signature.ts";
import { dpopKey } from "../support/dpop-key.ts";
import { BILLING_SECRET, ID_TOKEN_TYPE, JWT_TYPE, TOKEN_EXCHANGE, world, type Form } from "../support/world.ts";

const BILLING = "https://billing.acme.example";
const READ = { scope: "billing:read_invoice" } as const;
const CHALLENGE = `resource_metadata="${BILLING}/.well-known/oauth-protected-resource"`;

const w = await world({ after });
const { issuer } = w.server;
const credential = { name: "billing", secret: BILLING_SECRET } as const;

const make = (more: object = {}): Verifier =>
  createVerifier({ issuer, resource: BILLING, revocation: "none", clock: w.clock, ...more });
const verifier = make();

const tokenOf = async (o: Form & { agent?: string } = {}, headers: Record<string, string> = {}): Promise<string> => {
  const { agent = "release-bot", ...form } = o;
  const answer = await w.post(
    "/token",
    {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.workload(agent),
      subject_token_type: JWT_TYPE,
      resource: BILLING,
      scope: READ.scope,
      ...form,
    },
    headers,
  );
  assert.equal(answer.status, 200, answer.text);
  return String(answer.body["access_token"]);
};

/** The refusal, with its three faces checked: status, code, and the reason for our own log. */
const refused = async (
  call: Promise<unknown>,
  face: { status: number; code: string; reason: string },
): Promise<RefusedError> => {
  const error = await call.then(
    () => assert.fail("it was served"),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof RefusedError, String(error));
  assert.deepEqual({ status: error.status, code: error.code, reason: error.reason }, face);
  return error;
};
const invalid = (reason: string) => ({ status: 401, code: "invalid_token", reason });

test("a token of the resource is served, with subject, actors and scopes as typed values", async () => {
  const verified = await verifier.verify(await tokenOf(), READ);
  assert.deepEqual(verified.subject, { kind: "agent", sub: "agent|release-bot", name: "release-bot" });
  assert.deepEqual(verified.actors, ["release-bot"]);
  assert.deepEqual(verified.scopes, ["billing:read_invoice"]);
  assert.equal(verified.claims.iss, issuer);
});

test("actors(token) gives the whole chain, oldest first, and the human it is for (RFC 8693 §4.1)", async () => {
  const human = { subject_token: w.human(), subject_token_type: ID_TOKEN_TYPE };
  const handOver = await tokenOf({
    ...human,
    resource: `${issuer}/agents/summary-bot`,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
  });
  const token = await tokenOf({
    subject_token: handOver,
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    actor_token: w.workload("summary-bot"),
    actor_token_type: JWT_TYPE,
  });
  const verified = await verifier.verify(token, READ);
  assert.deepEqual(actors(verified), ["triage-bot", "summary-bot"]);
  assert.deepEqual(actors(verified.claims), ["triage-bot", "summary-bot"]);
  assert.deepEqual(verified.subject, { kind: "human", sub: "okta|00u1ab", issuer: "okta", id: "00u1ab" });
});

test("no token is 401 with where the metadata is and no error code (RFC 6750 §3.1, RFC 9728 §5.1)", async () => {
  const request = new Request(`${BILLING}/invoices`);
  const error = await refused(verifier.verify(request, READ), {
    status: 401,
    code: "unauthorized",
    reason: "client_missing",
  });
  assert.equal(error.headers["www-authenticate"], `Bearer scope="billing:read_invoice", ${CHALLENGE}`);
});

test("a token with another scope is 403 insufficient_scope that names the one needed (RFC 6750 §3.1)", async () => {
  const error = await refused(verifier.verify(await tokenOf(), { scope: ["billing:read_invoice", "billing:refund"] }), {
    status: 403,
    code: "insufficient_scope",
    reason: "insufficient_scope",
  });
  assert.match(error.headers["www-authenticate"] ?? "", /scope="billing:read_invoice billing:refund"/);
});

test("a token for another resource is refused, also one whose identifier differs by a slash (RFC 9068 §4)", async () => {
  const other = await tokenOf({
    agent: "triage-bot",
    subject_token: w.human(),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
    resource: "https://ledger.acme.example",
    scope: "ledger:read",
  });
  await refused(verifier.verify(other, { scope: [] }), invalid("token_audience"));
  await refused(make({ resource: `${BILLING}/` }).verify(await tokenOf(), READ), invalid("token_audience"));
});

test("a token of another issuer is refused, though it says that it is ours", async () => {
  await refused(verifier.verify(w.workload("release-bot"), READ), invalid("token_typ"));
  const { privateKey } = makeKeyPair("P-256");
  const [header = "", payload = ""] = (await tokenOf()).split(".");
  const claims = JSON.parse(Buffer.from(payload, "base64url").toString()) as Record<string, unknown>;
  const forged = signJws("ES256", privateKey, { encodedHeader: header, claims });
  await refused(verifier.verify(forged, READ), invalid("token_signature"));
  const unknown = Buffer.from('{"typ":"at+jwt","alg":"ES256","kid":"nobody"}').toString("base64url");
  await refused(
    verifier.verify(signJws("ES256", privateKey, { encodedHeader: unknown, claims }), READ),
    invalid("token_key_unknown"),
  );
});

test("a token is good until its exp by the clock and refused from then on (RFC 7519 §4.1.4)", async () => {
  const token = await tokenOf();
  w.clock.advance(44);
  await verifier.verify(token, READ);
  w.clock.advance(1);
  await refused(verifier.verify(token, READ), invalid("token_expired"));
});

test("a token of a minute or more is refused, whoever signed it (INV-01)", async () => {
  const fake = await fakeIssuer();
  const kind = createVerifier({ issuer: fake.url, resource: BILLING, revocation: "none", clock: w.clock });
  await kind.verify(fake.token({ exp: w.now() + 59 }), READ);
  await refused(kind.verify(fake.token({ exp: w.now() + 60 }), READ), invalid("token_lifetime"));
  await refused(kind.verify(fake.token({ exp: undefined }), READ), invalid("token_claim_missing"));
  await refused(kind.verify(fake.token({ aud: [BILLING, "https://x.example"] }), READ), invalid("token_claim_type"));
  await refused(kind.verify(fake.token({ iss: issuer }), READ), invalid("token_issuer_unknown"));
  await refused(kind.verify(fake.token({ act: { sub: "okta|1" } }), READ), invalid("token_claim_type"));
});

test("other kinds of token and tricks with alg are refused (RFC 8725 §3.1, §3.11)", async () => {
  const fake = await fakeIssuer();
  const kind = createVerifier({ issuer: fake.url, resource: BILLING, revocation: "none", clock: w.clock });
  for (const typ of ["JWT", "txntoken+jwt", "ephor-feed+jwt", undefined])
    await refused(kind.verify(fake.token({}, { typ }), READ), invalid("token_typ"));
  for (const alg of ["none", "HS256", "es256", "noNE"])
    await refused(kind.verify(fake.token({}, { alg }), READ), invalid("token_alg"));
  for (const more of [{ jwk: {} }, { jku: "https://x.example" }, { crit: ["exp"] }, { x5c: [] }])
    await refused(kind.verify(fake.token({}, more), READ), invalid("token_header_member"));
  await refused(kind.verify(fake.token({}, { alg: "ES384" }), READ), invalid("token_alg"));
  await refused(kind.verify(fake.token({}, { kid: undefined }), READ), invalid("token_key_unknown"));
  await refused(kind.verify(`${fake.token()}.x`, READ), invalid("token_malformed"));
  await refused(kind.verify(`${fake.token()}, ${fake.token()}`, READ), invalid("token_malformed"));
});

test("without the published keys nothing is known: 503, not 401", async () => {
  const away = createVerifier({ issuer: "http://127.0.0.1:9", resource: BILLING, revocation: "none", clock: w.clock });
  const error = await refused(away.verify(await tokenOf(), READ), {
    status: 503,
    code: "temporarily_unavailable",
    reason: "keys_unavailable",
  });
  assert.equal(error.headers["retry-after"], "1");
});

test("a bound token is served with a fresh proof by its key, and refused without, replayed, or for another request", async () => {
  const key = await dpopKey();
  const bound = await boundToken(key);
  const url = `${BILLING}/invoices/7`;
  const proof = (more: object = {}): string => key.proof({ htu: url, htm: "GET", iat: w.now(), token: bound, ...more });
  const call = (dpop: string | undefined, scheme = "DPoP", at = `${url}?page=2`): Promise<unknown> =>
    verifier.verify(
      new Request(at, { headers: { authorization: `${scheme} ${bound}`, ...(dpop !== undefined && { dpop }) } }),
      READ,
    );
  const once = proof();
  await call(once);
  await refused(call(once), { status: 401, code: "invalid_dpop_proof", reason: "dpop_replayed" });
  const bare = await refused(call(undefined), invalid("dpop_missing"));
  assert.match(bare.headers["www-authenticate"] ?? "", /^DPoP error="invalid_token".*algs="ES256/);
  await refused(call(proof(), "Bearer"), invalid("dpop_missing"));
  await refused(verifier.verify(bound, READ), invalid("dpop_missing"));
  const bad = { status: 401, code: "invalid_dpop_proof", reason: "dpop_invalid" };
  await refused(call(proof({ htm: "POST" })), bad);
  await refused(call(proof(), "DPoP", `${BILLING}/invoices/8`), bad);
  await refused(call(proof({ token: `${bound}x` })), bad);
  await refused(call(proof({ iat: w.now() - 61 })), bad);
  await refused(call(`${proof()}, ${proof()}`), { ...bad, reason: "dpop_malformed" });
  const stranger = await dpopKey();
  await refused(
    call(stranger.proof({ htu: url, htm: "GET", iat: w.now(), token: bound })),
    invalid("dpop_key_mismatch"),
  );
  // The stranger shows the right key and signs with his own.
  await refused(
    call(stranger.proof({ htu: url, htm: "GET", iat: w.now(), token: bound, header: { jwk: key.jwk } })),
    bad,
  );
});

test("a proof beside a token that is bound to no key is refused (RFC 9449 §7.1)", async () => {
  const token = await tokenOf();
  const headers = {
    authorization: `DPoP ${token}`,
    dpop: (await dpopKey()).proof({ htu: BILLING, iat: w.now(), token }),
  };
  await refused(verifier.verify(new Request(BILLING, { headers }), READ), invalid("dpop_key_mismatch"));
});

test("introspect: a killed token is refused at once; without revocation it is good until it expires", async () => {
  const asking = make({ revocation: "introspect", credential });
  const token = await tokenOf({ agent: "keyed-bot", subject_token: undefined, ...keyed() });
  const other = await tokenOf();
  await asking.verify(token, READ);
  const kill = await w.operator("POST", "/v1/kill", { agent: "keyed-bot", reason: "test" });
  assert.equal(kill.status, 200, kill.text);
  await refused(asking.verify(token, READ), invalid("token_revoked"));
  await asking.verify(other, READ);
  await verifier.verify(token, READ);
});

test("introspect: a wrong credential or no server decides nothing: 503", async () => {
  const face = { status: 503, code: "temporarily_unavailable", reason: "introspection_unavailable" };
  const wrong = make({ revocation: "introspect", credential: { name: "billing", secret: "x".repeat(43) } });
  await refused(wrong.verify(await tokenOf(), READ), face);
});

test("once-only tokens are consumed at the server, and refused where that cannot be done", async () => {
  const fake = await fakeIssuer();
  const plain = createVerifier({ issuer: fake.url, resource: BILLING, revocation: "none", clock: w.clock });
  await refused(plain.verify(fake.token({ once: true }), READ), invalid("once_unsupported"));
  const consuming = createVerifier({
    issuer: fake.url,
    resource: BILLING,
    revocation: "none",
    credential,
    clock: w.clock,
  });
  const token = fake.token({ once: true });
  await consuming.verify(token, READ);
  await refused(consuming.verify(token, READ), invalid("token_revoked"));
  assert.equal(fake.consumed.length, 2);
});

test("options that leave kills unseen by accident are refused, each with its mend", () => {
  const bad = (options: object, words: RegExp): void =>
    assert.throws(() => createVerifier({ issuer, resource: BILLING, ...options } as never), words);
  bad({}, /credential: .*resources secret/);
  bad({ revocation: "introspect" }, /credential/);
  bad({ revocation: "maybe", credential }, /revocation/);
  bad({ credential, boundSeconds: 1.9 }, /boundSeconds: 2 to 30/);
  bad({ credential, boundSeconds: 31 }, /boundSeconds: 2 to 30/);
  bad({ issuer: "http://sts.acme.example", revocation: "none" }, /issuer: the https URL/);
  bad({ resource: "billing", revocation: "none" }, /resource/);
});

/** A token bound to a key, with the nonce that the server asks for. */
async function boundToken(key: Awaited<ReturnType<typeof dpopKey>>): Promise<string> {
  const form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("release-bot"),
    subject_token_type: JWT_TYPE,
    resource: BILLING,
    scope: READ.scope,
  };
  const htu = `${issuer}/token`;
  const first = await w.post("/token", form, { dpop: key.proof({ htu, iat: w.now() }) });
  const nonce = first.headers.get("dpop-nonce") ?? "";
  return await tokenOf({}, { dpop: key.proof({ htu, iat: w.now(), nonce }) });
}

function keyed(): Form {
  return {
    grant_type: "client_credentials",
    subject_token_type: undefined,
    client_assertion: w.privateKeyJwt(),
    client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  };
}

/** An issuer whose every word is the test's, for tokens that Ephor would never sign. */
async function fakeIssuer(): Promise<{
  url: string;
  consumed: string[];
  token(claims?: Record<string, unknown>, header?: Record<string, unknown>): string;
}> {
  const { privateKey, publicKey } = makeKeyPair("P-256");
  const keys = [{ ...publicKey.export({ format: "jwk" }), kid: "k", alg: "ES256", use: "sig" }];
  const consumed: string[] = [];
  const server = createServer(async (request, response) => {
    let body = "";
    for await (const chunk of request) body += String(chunk);
    response.setHeader("content-type", "application/json");
    if (request.url === "/introspect") {
      assert.equal(new URLSearchParams(body).get("consume"), "true");
      assert.equal(
        request.headers.authorization,
        `Basic ${Buffer.from(`billing:${BILLING_SECRET}`).toString("base64")}`,
      );
      consumed.push(body);
      return void response.end(JSON.stringify(consumed.length === 1 ? { active: true, jti: "j" } : { active: false }));
    }
    response.end(JSON.stringify({ keys }));
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => server.close());
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    url,
    consumed,
    token(claims = {}, header = {}) {
      const text = JSON.stringify({ typ: "at+jwt", alg: "ES256", kid: "k", ...header });
      return signJws("ES256", privateKey, {
        encodedHeader: Buffer.from(text).toString("base64url"),
        claims: {
          iss: url,
          aud: BILLING,
          sub: "agent|a",
          client_id: "a",
          scope: READ.scope,
          txn: "t",
          jti: "j",
          iat: w.now(),
          exp: w.now() + 45,
          ...claims,
        },
      });
    },
  };
}
