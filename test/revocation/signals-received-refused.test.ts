/** Security events that must not be heeded, each beside one that is (RFC 8935 §2.4, SSF §4.1, standards.md 20.7). */
import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { claimsOf, READ_INVOICE } from "../attacks/chain-world.ts";
import { assertNothingLeaked, badToken, eventOf, granted, refusedNow } from "../attacks/refusals.ts";
import type { Cleanup } from "../support/database.ts";
import { databaseProxy } from "../support/database-proxy.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import { ownDatabase } from "../support/own-database.ts";
import { CAEP, PARTNER_SECRET, RISC, signalWorld, STREAM, type EventOptions } from "../support/signals.ts";
import { ID_TOKEN_TYPE, JWT_TYPE, settled, type Answer } from "../support/world.ts";

const w = await signalWorld({ after });
const cleanup: Cleanup = { after };
const stranger = await startIssuer(cleanup);
const DISABLED = `${RISC}account-disabled`;
const event = (o: EventOptions = {}): string => w.event(DISABLED, { sub: "victim", ...o });
const iss = w.humans.url;

async function kills(): Promise<number> {
  const [row] = await w.admin<{ count: string }>("select count(*) from ephor.kills");
  return Number(row?.count);
}

/** What a transmitter sees of a refusal, and what the ledger keeps. */
async function refused(answer: Answer, err: string, reason: string, label: string): Promise<void> {
  assert.equal(answer.status, 400, `${label}: ${answer.text}`);
  assert.deepEqual(Object.keys(answer.body).sort(), ["description", "err"], label);
  assert.equal(answer.body["err"], err, label);
  assert.match(String(answer.body["description"]), /^[A-Za-z0-9 .,;'_-]{8,120}$/, label);
  assert.equal(answer.headers.get("content-language"), "en", label);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/, label);
  assert.equal(answer.headers.get("cache-control"), "no-store", label);
  const recorded = await eventOf(w, answer, label);
  assert.deepEqual([recorded.decision, recorded.reason], ["refused", reason], label);
}

const raw = (header: object | string, claims: object | string): string => {
  const text = (value: object | string): string => (typeof value === "string" ? value : JSON.stringify(value));
  return w.humans.mintRaw(text(header), text(claims));
};
const HEADER = { alg: "RS256", kid: w.humans.key().kid, typ: "secevent+jwt" };
const claims = (more: Record<string, unknown> = {}): Record<string, unknown> =>
  w.claims(DISABLED, { sub: "victim", claims: more });
const unsigned = (alg: string): string => {
  const input = [{ ...HEADER, alg }, claims()]
    .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
    .join(".");
  // By the public key as if it were a shared secret (A-JWT-02).
  const secret = JSON.stringify(w.humans.key().publicJwk);
  const signature = alg === "none" ? "" : createHmac("sha256", secret).update(input).digest("base64url");
  return `${input}.${signature}`;
};

const CASES: [name: string, token: () => string, err: string, reason: string, to?: string][] = [
  ["another iss", () => event({ claims: { iss: "https://else.example" } }), "invalid_issuer", "token_issuer_unknown"],
  ["no iss", () => event({ claims: { iss: undefined } }), "invalid_request", "token_claim_missing"],
  ["another aud", () => event({ claims: { aud: "api://ephor" } }), "invalid_audience", "token_audience"],
  ["no aud", () => event({ claims: { aud: undefined } }), "invalid_request", "token_claim_missing"],
  ["an empty aud", () => event({ claims: { aud: [] } }), "invalid_audience", "token_audience"],
  ["typ JWT", () => event({ header: { typ: "JWT" } }), "invalid_request", "token_typ"],
  ["no typ", () => event({ header: { typ: undefined } }), "invalid_request", "token_typ"],
  ["typ logout+jwt", () => event({ header: { typ: "logout+jwt" } }), "invalid_request", "token_typ"],
  ["exp", () => event({ claims: { exp: w.now() + 60 } }), "invalid_request", "signal_is_token"],
  ["sub", () => event({ claims: { sub: "victim" } }), "invalid_request", "signal_is_token"],
  ["no jti", () => event({ claims: { jti: undefined } }), "invalid_request", "token_claim_missing"],
  ["no iat", () => event({ claims: { iat: undefined } }), "invalid_request", "token_claim_missing"],
  ["iat as text", () => event({ claims: { iat: String(w.now()) } }), "invalid_request", "token_claim_type"],
  ["iat ahead", () => event({ claims: { iat: w.now() + 90 } }), "invalid_request", "token_not_yet_valid"],
  ["a week old", () => event({ claims: { iat: w.now() - 7 * 86_400 } }), "invalid_request", "token_expired"],
  ["no event", () => event({ claims: { events: {} } }), "invalid_request", "signal_events"],
  [
    "two events",
    () => event({ claims: { events: { [DISABLED]: {}, [`${CAEP}session-revoked`]: {} } } }),
    "invalid_request",
    "signal_events",
  ],
  [
    "an event that is no object",
    () => event({ claims: { events: { [DISABLED]: true } } }),
    "invalid_request",
    "signal_events",
  ],
  ["no sub_id", () => event({ claims: { sub_id: undefined } }), "invalid_request", "token_claim_missing"],
  [
    "another issuer's person",
    () => event({ claims: { sub_id: { format: "iss_sub", iss: w.partner.url, sub: "p" } } }),
    "access_denied",
    "signal_subject_foreign",
  ],
  [
    "another issuer's person in a complex subject",
    () =>
      event({ claims: { sub_id: { format: "complex", user: { format: "iss_sub", iss: w.partner.url, sub: "p" } } } }),
    "access_denied",
    "signal_subject_foreign",
  ],
  [
    "an e-mail address",
    () => event({ claims: { sub_id: { format: "email", email: "victim@acme.example" } } }),
    "invalid_request",
    "signal_subject_unsupported",
  ],
  [
    "a session without its user",
    () => event({ claims: { sub_id: { format: "complex", session: { format: "opaque", id: "s" } } } }),
    "invalid_request",
    "signal_subject_unsupported",
  ],
  [
    "an empty sub",
    () => event({ claims: { sub_id: { format: "iss_sub", iss, sub: "" } } }),
    "invalid_request",
    "signal_subject_unsupported",
  ],
  ["alg none", () => unsigned("none"), "invalid_request", "token_malformed"],
  ["HS256 by the public key", () => unsigned("HS256"), "invalid_key", "token_alg"],
  ["an unknown key", () => event({ header: { kid: "nobodys" } }), "invalid_key", "token_key_unknown"],
  [
    "another IdP's key",
    () => w.partner.mintRaw(JSON.stringify(HEADER), JSON.stringify(claims())),
    "invalid_key",
    "token_signature",
  ],
  ["another transmitter's address", () => event(), "invalid_key", "token_signature", "partner"],
  [
    "a key of its own in the header",
    () => event({ header: { jwk: w.humans.key().publicJwk } }),
    "invalid_request",
    "token_header_member",
  ],
  [
    "a repeated member",
    () => raw(HEADER, JSON.stringify(claims()).replace("{", '{"iss":"x",')),
    "invalid_request",
    "token_duplicate_member",
  ],
  [
    "a repeated event",
    () => raw(HEADER, JSON.stringify(claims()).replace(`"${DISABLED}":`, `"${DISABLED}":{},"${DISABLED}":`)),
    "invalid_request",
    "token_duplicate_member",
  ],
  ["an ID token", () => w.human("victim"), "invalid_request", "token_typ"],
  [
    "an ID token typed as an event",
    () => raw(HEADER, { ...claimsOf(w.human("victim")), aud: STREAM }),
    "invalid_request",
    "signal_is_token",
  ],
  ["no JWT at all", () => "x", "invalid_request", "token_malformed"],
  ["an issuer that is not there", () => event(), "invalid_key", "transmitter_unknown", "nobody"],
  ["an issuer without shared_signals", () => event(), "invalid_key", "transmitter_unknown", "cluster"],
  ["a name that is none", () => event(), "invalid_key", "transmitter_unknown", "%2e%2e%00"],
];
for (const [name, token, err, reason, to] of CASES) {
  test(`refused: ${name}`, async () => {
    const before = await kills();
    await refused(await w.push(token(), to === undefined ? {} : { name: to }), err, reason, name);
    assert.equal(await kills(), before);
    granted(await w.onBehalf("triage-bot", w.human("victim"), READ_INVOICE));
  });
}

test("the nearest events that are accepted: six days old, half a minute ahead, the full name of the type", async () => {
  for (const o of [
    { claims: { iat: w.now() - 6 * 86_400 } },
    { claims: { iat: w.now() + 29 } },
    { header: { typ: "application/secevent+jwt" } },
  ] satisfies EventOptions[]) {
    const answer = await w.push(event({ ...o, sub: randomUUID() }));
    assert.equal(answer.status, 202, answer.text);
  }
});

test("a wrong secret of the stream, and none, are refused; a stranger is told of the key alone", async () => {
  const by = (signer: typeof stranger): string => event({ signer, claims: { iss: w.partner.url } });
  for (const headers of [{}, { authorization: "Bearer wrong" }, { authorization: `Basic ${PARTNER_SECRET}` }]) {
    const answer = await w.push(by(w.partner), { name: "partner", headers });
    await refused(answer, "authentication_failed", "transmitter_secret_wrong", JSON.stringify(headers));
    await refused(
      await w.push(by(stranger), { name: "partner", headers }),
      "invalid_key",
      "token_signature",
      "stranger",
    );
  }
});

test("which issuers are there is not to be found out without their keys", async () => {
  const answers = await Promise.all(
    ["okta", "partner", "cluster", "nobody"].map((name) => w.push(event({ signer: stranger }), { name })),
  );
  for (const { status, text } of answers) assert.deepEqual([status, text], [400, answers[0]?.text]);
});

test("too large, of another media type, by another method, with a query: general errors of HTTP, and nothing happens", async () => {
  const before = await kills();
  const large = event({ members: { reason_admin: { en: "x".repeat(20_000) } } });
  assert.equal((await w.push(large)).status, 413);
  for (const type of ["application/json", "application/jwt", "text/plain"])
    assert.equal((await w.push(event(), { headers: { "content-type": type } })).status, 415, type);
  assert.equal((await w.request("GET", "/ssf/events/okta")).status, 405);
  const queried = await w.request("POST", "/ssf/events/okta?x=1", {
    body: event(),
    headers: { "content-type": "application/secevent+jwt" },
  });
  assert.equal(queried.status, 400);
  assert.equal(await kills(), before);
});

test("a security event is nobody's subject token, actor token or assertion (RFC 8417 §4.6)", async () => {
  const asToken: Record<string, unknown> = {
    aud: "api://ephor",
    sub: "victim",
    exp: w.now() + 300,
    auth_time: w.now(),
  };
  const forms: [string, string[]][] = [
    [event(), ["token_typ"]],
    [event({ claims: asToken }), ["token_typ"]],
    // Were it typed as a token, its event would still tell (OIDC Back-Channel Logout §2.4).
    [event({ claims: asToken, header: { typ: "JWT" } }), ["token_typ"]],
  ];
  for (const [token, reason] of forms) {
    for (const type of [ID_TOKEN_TYPE, JWT_TYPE]) {
      await refusedNow(w, badToken(reason as never), () =>
        w.post("/token", {
          grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
          actor_token: w.workload("triage-bot"),
          actor_token_type: JWT_TYPE,
          subject_token: token,
          subject_token_type: type,
          ...READ_INVOICE,
        }),
      );
    }
  }
});

test("a transmitter whose keys cannot be had is asked to try again, and then its event is done", async () => {
  const keys = await startIssuer(cleanup);
  await keys.misbehave("jwks", { status: 500 });
  await w.apply(
    `issuers:\n  away: { url: "${keys.url}", audience: x, identifies: humans, internal: true, shared_signals: { audience: "${STREAM}", jwks_uri: "${keys.jwksUri}" } }`,
    "away.yaml",
  );
  const token = event({ signer: keys });
  const answer = await w.push(token, { name: "away" });
  assert.equal(answer.status, 503, answer.text);
  assert.ok(Number(answer.headers.get("retry-after")) > 0);
  await keys.misbehave("jwks", null);
  w.clock.advance(31);
  assert.equal((await w.push(token, { name: "away" })).status, 202);
});

test("without the database nothing is acknowledged; sent again, the event acts", async (t) => {
  const database = await ownDatabase(t, { durable: false });
  const wire = await databaseProxy(t, database.url);
  const far = await signalWorld(t, { database: { ...database, url: wire.url } });
  const human = far.human("00u1ab");
  const token = granted(await far.onBehalf("triage-bot", human, READ_INVOICE));
  const sent = far.event(DISABLED);
  wire.cut();
  const answer = await far.push(sent);
  assert.equal(answer.status, 503, answer.text);
  assert.ok(Number(answer.headers.get("retry-after")) > 0);
  wire.restore();
  const again = await settled(() => far.push(sent));
  assert.equal(again.status, 202, again.text);
  // Whether a token lives is told from the next beat on.
  const live = await settled(() => far.introspect(token));
  assert.deepEqual([live.status, live.body["active"]], [200, false], live.text);
});

test("no event leaves a token in a log or in the ledger", () => assertNothingLeaked(w));
