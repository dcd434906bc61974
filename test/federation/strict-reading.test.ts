import assert from "node:assert/strict";
import { after, test } from "node:test";
import { startIssuer } from "../support/oidc-issuer.ts";
import { issuerEntry, openFederation, OUR_ISSUER, refusedFor } from "./open-federation.ts";

const ci = await startIssuer(undefined, { algorithms: ["RS256", "ES256", "Ed25519"] });
const stranger = await startIssuer();
after(async () => {
  await ci.stop();
  await stranger.stop();
});

const SUBJECT = { use: "subject" } as const;
const b64 = (text: string): string => Buffer.from(text).toString("base64url");

test("A-JWT-02 A-JWT-03 unsigned, HMAC and unlisted algorithms are refused", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { algorithms: ["RS256"] })] });
  const payload = { aud: OUR_ISSUER, iat: now(), exp: now() + 60 };
  await federation.verify(ci.mint(payload, { now: now() }), SUBJECT);
  for (const alg of ["none", "None", "HS256", "PS256", "ES256", "EdDSA", "RS1", ""]) {
    await refusedFor(federation.verify(ci.mint(payload, { now: now(), header: { alg } }), SUBJECT), "token_alg", alg);
  }
});

test("A-JWT-03 an algorithm that the key is not for is refused, though the issuer's list has it", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  for (const alg of ["PS256", "ES256", "RS384"]) {
    const token = ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { alg } });
    await refusedFor(federation.verify(token, SUBJECT), "token_key_unknown", alg);
  }
});

test("A-JWT-04 header members that bring a key or change the meaning are refused without a connection", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  await ci.forgetRequests();
  await stranger.forgetRequests();
  const members: Record<string, unknown> = {
    jwk: ci.key().publicJwk,
    jku: stranger.jwksUri,
    x5u: stranger.url,
    x5c: ["MIIB"],
    zip: "DEF",
    b64: false,
    crit: ["exp"],
    cty: "JWT",
  };
  for (const [name, value] of Object.entries(members)) {
    const token = ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { [name]: value } });
    await refusedFor(federation.verify(token, SUBJECT), "token_header_member", name);
  }
  assert.equal((await ci.requests()).total + (await stranger.requests()).total, 0);
});

test("A-JWT-05 a member spelled twice is refused, though the signature is good", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const header = `{"alg":"RS256","kid":"${ci.key().kid}"}`;
  const payload = `{"iss":"${ci.url}","aud":"${OUR_ISSUER}","sub":"a","iat":${now()},"exp":${now() + 60}`;
  await federation.verify(ci.mintRaw(header, `${payload}}`), SUBJECT);
  for (const more of [',"sub":"b"}', ',"s\\u0075b":"b"}', ',"act":{"sub":"x","sub":"y"}}']) {
    await refusedFor(federation.verify(ci.mintRaw(header, payload + more), SUBJECT), "token_duplicate_member", more);
  }
});

test("A-JWT-06 A-JWT-07 A-JWT-08 times are whole, near, in order and not over", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const n = now();
  const verify = (claims: object): Promise<unknown> =>
    federation.verify(ci.mint({ aud: OUR_ISSUER, ...claims }, { now: n }), SUBJECT);
  await verify({ exp: n - 29, iat: n - 60 });
  await refusedFor(verify({ exp: n - 31, iat: n - 60 }), "token_expired");
  await verify({ iat: n + 30, nbf: n + 30, exp: n + 90 });
  await refusedFor(verify({ iat: n + 31, exp: n + 90 }), "token_not_yet_valid");
  await refusedFor(verify({ nbf: n + 31 }), "token_not_yet_valid");
  await refusedFor(verify({ exp: n, iat: n }), "token_lifetime");
  await verify({ exp: n + 86_400 });
  await refusedFor(verify({ exp: n + 86_401 }), "token_lifetime");
  await refusedFor(verify({ exp: undefined }), "token_claim_missing");
  await refusedFor(verify({ iat: undefined }), "token_claim_missing");
  for (const exp of ["1795348900", null, [n + 60], -1, n + 60.5, 1e300]) {
    await assert.rejects(verify({ exp }), { name: "RefusedToken" }, JSON.stringify(exp));
  }
});

test("A-JWT-07 the issuer's own bound of a token's life is kept", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { maxTokenAgeSeconds: 600 })] });
  await federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), ttl: 600 }), SUBJECT);
  await refusedFor(
    federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), ttl: 601 }), SUBJECT),
    "token_lifetime",
  );
});

test("A-JWT-09 A-JWT-10 A-JWT-12 what is no strict compact JWS is refused", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const good = ci.mint({ aud: OUR_ISSUER }, { now: now() });
  const [header = "", payload = "", signature = ""] = good.split(".");
  const bad = [
    `${header}.${payload}`,
    `${good}.${signature}`,
    `${good}.a.b`,
    `${header}..${signature}`,
    `.${payload}.${signature}`,
    `${header}.${payload}.`,
    " ",
    "",
    ` ${good}`,
    `${good}\n`,
    `Bearer ${good}`,
    `${good}=`,
    `${header}.${payload}.${signature.slice(0, -2)}+/`,
    ci.mintRaw(`{"alg":"RS256","kid":"${ci.key().kid}"}`, "[]"),
    ci.mintRaw(`{"alg":"RS256"}`, `"text"`),
    ci.mintRaw(`{"alg":"RS256"}`, "\uFEFF{}"),
    `${header}.${b64('{"sub":"\\ud800"}')}.${signature}`,
    `${header}.${b64('{"sub":"a\\u0000"}')}.${signature}`,
  ];
  for (const token of bad) await refusedFor(federation.verify(token, SUBJECT), "token_malformed", token.slice(0, 40));
});

test("A-JWT-11 a workload token above 8 KiB is refused unverified; a person's may be larger", async (t) => {
  await ci.forgetRequests();
  const workloads = openFederation(t, { issuers: [issuerEntry(ci)] });
  const large = (now: number): string => ci.mint({ aud: OUR_ISSUER, groups: "g".repeat(7_000) }, { now });
  await refusedFor(workloads.federation.verify(large(workloads.now()), SUBJECT), "token_too_large");
  assert.equal((await ci.requests()).total, 0);
  const humans = openFederation(t, { issuers: [issuerEntry(ci, { identifies: "humans" })] });
  await humans.federation.verify(large(humans.now()), SUBJECT);
});

test("A-JWT-13 types that are no workload token's are refused", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  const verify = (typ: unknown): Promise<unknown> =>
    federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { typ } }), SUBJECT);
  for (const typ of [undefined, "JWT", "jwt", "application/jwt", "at+jwt"]) await verify(typ);
  for (const typ of [
    "oauth-id-jag+jwt",
    "dpop+jwt",
    "logout+jwt",
    "secevent+jwt",
    "txntoken+jwt",
    "ephor-approval+jwt",
    "client-authentication+jwt",
    "token-introspection+jwt",
    "wit+jwt",
    "",
  ]) {
    await refusedFor(verify(typ), "token_typ", typ);
  }
});

test("A-JWT-14 strange key ids are just unknown, and cost one refresh at most", async (t) => {
  const { federation, now, clock } = openFederation(t, { issuers: [issuerEntry(ci)] });
  await federation.warm("ci");
  clock.advance(60);
  await ci.forgetRequests();
  for (const kid of ["nobody", "../../etc/passwd", "' OR 1=1", "__proto__", "constructor", ""]) {
    await refusedFor(
      federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { kid } }), SUBJECT),
      "token_key_unknown",
      kid,
    );
  }
  for (const kid of ["k".repeat(10_000), 7, null, {}]) {
    await assert.rejects(federation.verify(ci.mint({ aud: OUR_ISSUER }, { now: now(), header: { kid } }), SUBJECT), {
      name: "RefusedToken",
    });
  }
  assert.equal((await ci.requests()).jwks, 1);
});

test("A-JWT-15 a changed, empty, zero or foreign signature is refused", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  for (const algorithm of ["RS256", "ES256", "Ed25519"] as const) {
    const good = ci.mint({ aud: OUR_ISSUER }, { now: now(), algorithm });
    const at = good.lastIndexOf(".") + 1;
    const bytes = Buffer.from(good.slice(at), "base64url");
    const zero = Buffer.alloc(bytes.length);
    const flipped = Buffer.from(bytes).fill((bytes[5] ?? 0) ^ 1, 5, 6);
    for (const signature of [zero, flipped, bytes.subarray(1), Buffer.concat([bytes, Buffer.of(0)])]) {
      await refusedFor(
        federation.verify(good.slice(0, at) + signature.toString("base64url"), SUBJECT),
        "token_signature",
        algorithm,
      );
    }
    const other = ci.mint({ aud: OUR_ISSUER, sub: "other" }, { now: now(), algorithm });
    await refusedFor(federation.verify(good.slice(0, at) + other.split(".")[2], SUBJECT), "token_signature", algorithm);
  }
});

test("A-JWT-17 an iss that differs by case, slash, port, dot or encoding is another issuer", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci)] });
  for (const iss of [
    `${ci.url}/`,
    ci.url.toUpperCase(),
    `${ci.url}.`,
    ci.url.replace("127", "%3127"),
    `${ci.url}?`,
    ` ${ci.url}`,
    "",
  ]) {
    await refusedFor(
      federation.verify(ci.mint({ iss, aud: OUR_ISSUER }, { now: now() }), SUBJECT),
      "token_issuer_unknown",
      iss,
    );
  }
  await refusedFor(
    federation.verify(ci.mint({ iss: undefined, aud: OUR_ISSUER }, { now: now() }), SUBJECT),
    "token_claim_missing",
  );
  await refusedFor(
    federation.verify(ci.mint({ iss: [ci.url], aud: OUR_ISSUER }, { now: now() }), SUBJECT),
    "token_claim_type",
  );
});

test("A-JWT-18 aud is exactly one of the issuer's audiences and nothing else", async (t) => {
  const second = "api://ephor";
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(ci, { audience: [OUR_ISSUER, second] })] });
  const verify = (aud: unknown): Promise<unknown> => federation.verify(ci.mint({ aud }, { now: now() }), SUBJECT);
  for (const aud of [OUR_ISSUER, second, [OUR_ISSUER]]) await verify(aud);
  for (const aud of [
    [OUR_ISSUER, "https://other.example"],
    [OUR_ISSUER, second],
    [],
    "HTTPS://sts.acme.example",
    `${OUR_ISSUER} `,
    `${OUR_ISSUER}/`,
  ]) {
    await refusedFor(verify(aud), "token_audience", JSON.stringify(aud));
  }
  for (const aud of [[[OUR_ISSUER]], 7, {}, null])
    await refusedFor(verify(aud), "token_claim_type", JSON.stringify(aud));
  await refusedFor(verify(undefined), "token_claim_missing");
});

test("A-JWT-13 an outside token with our own iss is refused, even where somebody made an entry for it", async (t) => {
  const { federation, now } = openFederation(t, { issuers: [issuerEntry(OUR_ISSUER, { jwksUri: ci.jwksUri })] });
  const token = ci.mint({ iss: OUR_ISSUER, aud: OUR_ISSUER }, { now: now() });
  await refusedFor(federation.verify(token, SUBJECT), "token_issuer_unknown");
});
