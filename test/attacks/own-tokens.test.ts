import assert from "node:assert/strict";
import { createPrivateKey, generateKeyPairSync, sign } from "node:crypto";
import { after, test } from "node:test";
import { BILLING_SECRET, world, type Answer } from "../support/world.ts";
import { BAD_TOKENS, signed, unchanged, withClaims, type Mint } from "./bad-tokens.ts";
import { BILLING } from "./doors.ts";
import { mintOfOurs, ownKey } from "./own-key.ts";
import { assertNothingLeaked, eventOf, granted, refusedNow } from "./refusals.ts";

// Our own tokens where they are read: at /introspect (inactive), at /v1 (401) and as a hand-over at /token. All are signed by
// our real key, so that nothing but the reader stands between them and their bearer.

const ELSEWHERE = "http://127.0.0.1:9";
const w = await world({ after });

const introspect = (token: string): Promise<Answer> =>
  w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });
/** A live token for `billing`, taken apart. */
const billing = async (): Promise<Mint> =>
  mintOfOurs(w, granted(await w.self("release-bot", { resource: BILLING, scope: "billing:read_invoice" })), ELSEWHERE);
/** One for our own API. */
const api = async (): Promise<Mint> =>
  mintOfOurs(
    w,
    granted(await w.self("watch-bot", { resource: `${w.server.issuer}/v1`, scope: "ephor:audit" })),
    ELSEWHERE,
  );
const audit = (token: string): Promise<Answer> =>
  w.request("GET", "/v1/audit?limit=1", { headers: { authorization: `Bearer ${token}` } });
const handOver = async (): Promise<Mint> =>
  mintOfOurs(
    w,
    granted(
      await w.self("release-bot", { resource: `${w.server.issuer}/agents/summary-bot`, scope: "billing:read_invoice" }),
    ),
    ELSEWHERE,
  );
const redeem = (token: string): Promise<Answer> =>
  w.post("/token", {
    grant_type: "urn:ietf:params:oauth:grant-type:token-exchange",
    subject_token: token,
    subject_token_type: "urn:ietf:params:oauth:token-type:access_token",
    actor_token: w.workload("summary-bot"),
    actor_token_type: "urn:ietf:params:oauth:token-type:jwt",
    resource: BILLING,
    scope: "billing:read_invoice",
  });

/** 200 `{"active":false}` and no other member (RFC 7662 §2.2). */
async function inactive(token: string, title: string): Promise<void> {
  const answer = await introspect(token);
  assert.equal(answer.status, 200, `${title}: ${answer.text}`);
  assert.equal(answer.text, '{"active":false}', title);
  assert.equal(answer.headers.get("cache-control"), "no-store", title);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/json/, title);
  assert.equal(answer.headers.get("access-control-allow-origin"), null, title);
}
/** RS401, in the words of RFC 6750 §3.1 and RFC 9457. */
async function unauthorized(token: string, title: string): Promise<void> {
  // What cannot stand in a header, or in a b64token, never reaches a reader of tokens.
  if (!/^[\x21-\x7e]+$/.test(token) || token.length > 12_000) return;
  const answer = await audit(token);
  assert.equal(answer.status, 401, `${title}: ${answer.text}`);
  assert.match(answer.headers.get("www-authenticate") ?? "", /^Bearer .*error="invalid_token"/, title);
  assert.match(answer.headers.get("content-type") ?? "", /^application\/problem\+json/, title);
  assert.equal(answer.headers.get("cache-control"), "no-store", title);
  assert.equal(answer.headers.get("access-control-allow-origin"), null, title);
  assert.doesNotMatch(answer.text, /eyJ|\bat \/|node_modules|\.ts\b/, title);
}
async function active(token: string, title: string): Promise<void> {
  assert.equal((await introspect(token)).body["active"], true, title);
}

test("our own key signs what is accepted, so that what is refused below is refused by the reader", async () => {
  await active(unchanged(await billing()), "signed again");
  assert.equal((await audit(unchanged(await api()))).status, 200);
  granted(await redeem(unchanged(await handOver())));
});

const ids = [...new Set(BAD_TOKENS.map(({ title }) => title.slice(0, "A-JWT-00".length)))];
for (const id of ids) {
  test(`${id} a token of ours made so is inactive at /introspect and refused at /v1`, async () => {
    const [forBilling, forApi] = [await billing(), await api()];
    for (const { title, make } of BAD_TOKENS.filter((each) => each.title.startsWith(id))) {
      await inactive(make(forBilling), title);
      await unauthorized(make(forApi), title);
    }
    await active(unchanged(forBilling), "unchanged");
    assert.equal((await audit(unchanged(forApi))).status, 200);
  });
}

test("A-JWT-03 a token of ours by another algorithm than our keys have", async () => {
  const m = await billing();
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  for (const alg of ["RS256", "PS256", "EdDSA", "ES384"]) {
    const input = [{ ...m.header, alg }, m.claims]
      .map((part) => Buffer.from(JSON.stringify(part)).toString("base64url"))
      .join(".");
    await inactive(`${input}.${sign("sha256", Buffer.from(input), rsa.privateKey).toString("base64url")}`, alg);
    await inactive(`${input}.${unchanged(m).split(".")[2]}`, `${alg} with the signature of ES256`);
  }
});

test("A-JWT-04 a token of ours has alg, typ and kid in its header and nothing else", async () => {
  const m = await billing();
  for (const header of [
    { ...m.header, x: "y" },
    { ...m.header, nonce: "n" },
    { typ: m.header["typ"], alg: "ES256" },
  ]) {
    await inactive(signed(m.key, JSON.stringify(header), JSON.stringify(m.claims)), JSON.stringify(header).slice(-20));
  }
});

test("A-JWT-07 a token of ours that lives 60 seconds or longer is none, whoever signed it (INV-01)", async () => {
  const m = await billing();
  for (const life of [60, 61, 3_600, 86_400 * 365])
    await inactive(withClaims(m, { exp: Number(m.claims["iat"]) + life }), `${life} s`);
  await inactive(withClaims(m, { iat: m.now + 6, exp: m.now + 45 }), "iat beyond the replicas' skew");
  await active(withClaims(m, { exp: Number(m.claims["iat"]) + 59 }), "59 s");
  await active(withClaims(m, { iat: m.now + 5, exp: m.now + 45 }), "a replica 5 s ahead");
});

test("A-JWT-08 at exp a token of ours is over: no skew in its bearer's favour", async () => {
  const [m, forApi] = [await billing(), await api()];
  w.clock.advance(44);
  await active(unchanged(m), "a second before");
  assert.equal((await audit(unchanged(forApi))).status, 200);
  w.clock.advance(1);
  await inactive(unchanged(m), "at exp");
  await unauthorized(unchanged(forApi), "at exp");
  const given = await handOver();
  w.clock.advance(61);
  await refusedNow(w, { error: "invalid_request", reason: "token_expired" }, () => redeem(unchanged(given)));
});

test("A-JWT-11 a token of ours of more than 8 KiB (CONTRACT §5)", async () => {
  const m = await billing();
  const sized = (bytes: number): string => {
    const length = Math.floor(((bytes - withClaims(m, { x: "" }).length) * 3) / 4);
    return (
      [1, 0, -1, -2]
        .map((more) => withClaims(m, { x: "x".repeat(length + more) }))
        .find((token) => token.length <= bytes) ?? ""
    );
  };
  await inactive(sized(8_195), "more than 8 KiB");
  await active(sized(8_192), "8 KiB");
  const big = await introspect("a".repeat(70_000));
  assert.equal(big.status, 413);
});

test("A-JWT-12 a token of ours whose claims have other types than we write, or are missing", async () => {
  const m = await billing();
  const wrong: Record<string, readonly unknown[]> = {
    aud: [[BILLING], 1, null],
    client_id: [undefined, 1, "", null],
    scope: [undefined, 1, ["billing:read_invoice"], ""],
    txn: [undefined, 1, ""],
    jti: [undefined, 1, ""],
    purpose: [1, "", null],
    act: [1, "agent|x", [], null, {}, { sub: 1 }, { sub: "a", exp: 1, act: "x" }],
    cnf: [1, null, {}, { jkt: 1 }, { jkt: "short" }, { jwk: {} }, []],
    once: [false, 1, "true", null],
  };
  for (const [claim, values] of Object.entries(wrong)) {
    for (const value of values) await inactive(withClaims(m, { [claim]: value }), `${claim} ${JSON.stringify(value)}`);
  }
  let act: Record<string, unknown> = { sub: "agent|a" };
  for (let depth = 0; depth < 8; depth++) act = { sub: "agent|a", act };
  await inactive(withClaims(m, { act }), "nine actors");
});

test("A-JWT-13 what else we sign, and what others sign in our name, is no access token", async () => {
  const m = await billing();
  const record = await ownKey(w, "record");
  const typed = (typ: unknown): string => signed(m.key, JSON.stringify({ ...m.header, typ }), JSON.stringify(m.claims));
  for (const typ of [
    "txntoken+jwt",
    "token-introspection+jwt",
    "secevent+jwt",
    "ephor-feed+jwt",
    "ephor-receipt+jwt",
    "ephor-approval+jwt",
    "ephor-head+jwt",
    "JWT",
    "jwt",
    "id_token+jwt",
    undefined,
    "",
    "at",
    "at+jwt ",
    1,
    null,
  ]) {
    await inactive(typed(typ), String(typ));
  }
  const byRecordKey = signed(
    record.privateKey,
    JSON.stringify({ ...m.header, kid: record.kid }),
    JSON.stringify(m.claims),
  );
  await inactive(byRecordKey, "by a record key");
  await inactive(
    signed(record.privateKey, JSON.stringify(m.header), JSON.stringify(m.claims)),
    "by a record key under a token key's name",
  );
  const answer = await w.post(
    "/introspect",
    { token: unchanged(m), client_id: "billing", client_secret: BILLING_SECRET },
    { accept: "application/token-introspection+jwt" },
  );
  await inactive(answer.text, "an introspection answer");
  await inactive(w.workload("release-bot"), "a workload's token");
  await inactive(w.human(), "a human's token");
  const outsider = w.workloads.key({ algorithm: "ES256" });
  await inactive(
    signed(
      createPrivateKey({ key: outsider.privateJwk, format: "jwk" }),
      JSON.stringify({ ...m.header, kid: outsider.kid }),
      JSON.stringify(m.claims),
    ),
    "our claims by a trusted issuer's key",
  );
  await active(typed("application/at+jwt"), "RFC 9068 §2.1");
});

test("A-JWT-14 a token with a key's name that is none of ours, also by the wrong one", async () => {
  const m = await billing();
  for (const kid of [undefined, "nonce", `${String(m.header["kid"])} `, String(m.header["kid"]).toLowerCase()]) {
    await inactive(signed(m.key, JSON.stringify({ ...m.header, kid }), JSON.stringify(m.claims)), String(kid));
  }
});

test("A-JWT-18 a token for another resource, or to nobody's knowledge, is inactive for this one", async () => {
  const m = await billing();
  for (const aud of [
    "https://ledger.acme.example",
    "billing",
    "ledger",
    w.server.issuer,
    `${w.server.issuer}/agents/release-bot`,
    `${w.server.issuer}/v1`,
  ]) {
    await inactive(withClaims(m, { aud }), aud);
  }
  await unauthorized(unchanged(m), "a token for billing at our API");
  await inactive(unchanged(await api()), "a token for our API at billing");
  await inactive(unchanged(await handOver()), "a hand-over at billing");
  await inactive(withClaims(m, { jti: "01J00000000000000000000000" }), "never recorded");
});

test("INV-29 who is refused at /v1 is recorded with the reason, as at the OAuth endpoints", async () => {
  const made: [string, (m: Mint) => string][] = [
    ["token_malformed", () => "eyJ.eyJ.x"],
    ["token_audience", (m) => withClaims(m, { aud: BILLING })],
    ["token_expired", (m) => withClaims(m, { exp: m.now - 1, iat: m.now - 20 })],
    ["token_lifetime", (m) => withClaims(m, { exp: m.now + 600 })],
    ["token_unknown", (m) => withClaims(m, { jti: "01J00000000000000000000000" })],
    ["client_missing", () => ""],
    ["operator_key_wrong", () => `ephor_op_${"x".repeat(43)}`],
  ];
  for (const [reason, make] of made) {
    w.clock.advance(61);
    const token = make(await api());
    const answer = await w.request("GET", "/v1/audit?limit=1", {
      headers: token === "" ? {} : { authorization: `Bearer ${token}` },
    });
    assert.equal(answer.status, 401, reason);
    const event = await eventOf(w, answer, reason);
    assert.deepEqual([event.decision, event.reason], ["refused", reason]);
  }
});

test("no refusal of this file leaked a token", async () => {
  await assertNothingLeaked(w);
});
