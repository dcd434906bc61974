import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Reason } from "../../src/core/oauth/reasons.ts";
import { dpopKey, type DpopKey, type ProofParts } from "../support/dpop-key.ts";
import { startIssuer } from "../support/oidc-issuer.ts";
import {
  ACCESS_TOKEN_TYPE,
  BILLING_SECRET,
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
const HTU = `${w.server.issuer}/token`;
const [key, another] = [await dpopKey(), await dpopKey()];

const ask = (dpop: string | undefined, form: Form = {}): Promise<Answer> =>
  w.post(
    "/token",
    {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.workload("release-bot"),
      subject_token_type: JWT_TYPE,
      resource: BILLING,
      scope: "billing:read_invoice",
      ...form,
    },
    dpop === undefined ? {} : { dpop },
  );
/** The nonce of the moment, as a client learns it. */
const nonceNow = async (): Promise<string> => {
  const answer = await ask(key.proof({ htu: HTU, iat: w.now() }));
  await refused(answer, "use_dpop_nonce", "dpop_nonce");
  return answer.headers.get("dpop-nonce") ?? "";
};
const good = async (by: DpopKey = key, more: Partial<ProofParts> = {}): Promise<string> =>
  by.proof({ htu: HTU, iat: w.now(), nonce: await nonceNow(), ...more });
const introspect = async (token: string): Promise<Answer> =>
  w.post("/introspect", { token, client_id: "billing", client_secret: BILLING_SECRET });

test("a proof binds the token to its key: token_type DPoP, and cnf.jkt in the token and at introspection (RFC 9449 §5, §6.1, §6.2)", async () => {
  const { body, claims, token } = granted(await ask(await good()));
  assert.equal(body["token_type"], "DPoP");
  assert.deepEqual(claims["cnf"], { jkt: key.jkt });
  const live = await introspect(token);
  assert.equal(live.body["token_type"], "DPoP");
  assert.deepEqual(live.body["cnf"], { jkt: key.jkt });
});

test("without a proof the token is a Bearer token and has no cnf (RFC 9449 §5)", async () => {
  const { body, claims } = granted(await ask(undefined));
  assert.equal(body["token_type"], "Bearer");
  assert.equal(claims["cnf"], undefined);
});

test("a proof without a nonce is 400 use_dpop_nonce, with one to use that may not be cached (RFC 9449 §8)", async () => {
  const answer = await ask(key.proof({ htu: HTU, iat: w.now() }));
  await refused(answer, "use_dpop_nonce", "dpop_nonce");
  const nonce = answer.headers.get("dpop-nonce") ?? "";
  assert.match(nonce, /^[\w-]{20,}$/);
  granted(await ask(key.proof({ htu: HTU, iat: w.now(), nonce })));
});

test("a nonce works for two minutes at most, and no other text does (RFC 9449 §8, §11.2)", async () => {
  const nonce = await nonceNow();
  w.clock.advance(59);
  granted(await ask(key.proof({ htu: HTU, iat: w.now(), nonce })));
  w.clock.advance(62);
  for (const bad of [nonce, `${nonce}x`, "", "nonce", "A".repeat(nonce.length)]) {
    const answer = await ask(key.proof({ htu: HTU, iat: w.now(), nonce: bad }));
    // A claim without text is malformed, not just unknown.
    if (bad === "") await refused(answer, "invalid_dpop_proof", "dpop_malformed");
    else await refused(answer, "use_dpop_nonce", "dpop_nonce", { label: bad });
  }
});

test("a granted answer brings the next nonce (RFC 9449 §8.2)", async () => {
  const answer = await ask(await good());
  granted(answer);
  const nonce = answer.headers.get("dpop-nonce") ?? "";
  granted(await ask(key.proof({ htu: HTU, iat: w.now(), nonce })));
  assert.equal((await ask(undefined)).headers.get("dpop-nonce"), null);
});

test("nonces of one replica work at another: they are of the server, not of a process (RFC 9449 §8)", async () => {
  const replica = await w.replica();
  const form = {
    grant_type: TOKEN_EXCHANGE,
    subject_token: w.workload("release-bot"),
    subject_token_type: JWT_TYPE,
    resource: BILLING,
    scope: "billing:read_invoice",
  };
  granted(await w.post(`${replica.url}/token`, form, { dpop: await good() }));
});

test("a proof works once, over all replicas (RFC 9449 §11.1)", async () => {
  const proof = await good();
  granted(await ask(proof));
  await refused(await ask(proof), "invalid_dpop_proof", "dpop_replayed");
  const replica = await w.replica();
  const elsewhere = await w.post(
    `${replica.url}/token`,
    {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.workload("release-bot"),
      subject_token_type: JWT_TYPE,
      resource: BILLING,
      scope: "billing:read_invoice",
    },
    { dpop: proof },
  );
  assert.deepEqual([elsewhere.status, elsewhere.body["error"]], [400, "invalid_dpop_proof"]);
});

test("a proof that came with a refused request is not spent by it (RFC 9449 §4.3)", async () => {
  const proof = await good();
  await refused(await ask(proof, { scope: "billing:refund" }), "invalid_scope", "scope_not_granted");
  granted(await ask(proof));
});

test("a proof for another method, URL or moment is 400 invalid_dpop_proof (RFC 9449 §4.3 no. 8 to 11)", async () => {
  const { issuer } = w.server;
  const bad: [string, Partial<ProofParts>][] = [
    ["GET", { htm: "GET" }],
    ["post", { htm: "post" }],
    ["another endpoint", { htu: `${issuer}/introspect` }],
    ["another host", { htu: "https://sts.elsewhere.example/token" }],
    ["https", { htu: HTU.replace("http:", "https:") }],
    ["a slash more", { htu: `${HTU}/` }],
    ["other case", { htu: `${issuer}/Token` }],
    ["a query", { htu: `${HTU}?a=b` }],
    ["a fragment", { htu: `${HTU}#a` }],
    ["too old", { iat: w.now() - 61 }],
    ["of the future", { iat: w.now() + 6 }],
  ];
  for (const [label, more] of bad)
    await refused(await ask(await good(key, more)), "invalid_dpop_proof", "dpop_invalid", { label });
  granted(await ask(await good(key, { iat: w.now() - 60 })));
  granted(await ask(await good(key, { htu: HTU.replace("http://", "HTTP://") })));
});

test("a proof needs jti, htm, htu and iat, its typ, an asymmetric alg and a public key that made it (RFC 9449 §4.2, §4.3 no. 1 to 7)", async () => {
  const bad: [string, Partial<ProofParts>, Reason][] = [
    ["no jti", { claims: { jti: undefined } }, "dpop_malformed"],
    ["no htm", { claims: { htm: undefined } }, "dpop_malformed"],
    ["no htu", { claims: { htu: undefined } }, "dpop_malformed"],
    ["no iat", { claims: { iat: undefined } }, "dpop_malformed"],
    ["typ JWT", { header: { typ: "JWT" } }, "dpop_malformed"],
    ["no typ", { header: { typ: undefined } }, "dpop_malformed"],
    ["no key", { header: { jwk: undefined } }, "dpop_malformed"],
    ["a private key", { header: { jwk: key.privateJwk } }, "dpop_malformed"],
    ["alg none", { header: { alg: "none" } }, "dpop_malformed"],
    ["alg HS256", { header: { alg: "HS256" } }, "dpop_malformed"],
    ["an alg that is not the key's", { header: { alg: "RS256" } }, "dpop_malformed"],
    ["a key beside one by reference", { header: { jku: "https://evil.example/jwks" } }, "dpop_malformed"],
    ["a critical extension", { header: { crit: ["x"], x: 1 } }, "dpop_malformed"],
    ["another key", { header: { jwk: another.jwk } }, "dpop_invalid"],
  ];
  for (const [label, more, reason] of bad)
    await refused(await ask(await good(key, more)), "invalid_dpop_proof", reason, { label });
  for (const text of ["x", "a.b.c", `${await good()},${await good()}`]) {
    await refused(await ask(text), "invalid_dpop_proof", "dpop_malformed", { label: text.slice(0, 10) });
  }
  granted(await ask(await good()));
});

test("a hand-over is never bound to a key, for its addressee has another (RFC 9449 §5, CONTRACT §5)", async () => {
  const { body, claims } = granted(await ask(await good(), { resource: `${w.server.issuer}/agents/summary-bot` }));
  assert.equal(body["token_type"], "Bearer");
  assert.equal(claims["cnf"], undefined);
  const given = {
    subject_token: String(body["access_token"]),
    subject_token_type: ACCESS_TOKEN_TYPE,
    actor_token: w.workload("summary-bot"),
    actor_token_type: JWT_TYPE,
  };
  assert.deepEqual(granted(await ask(await good(another), given)).claims["cnf"], { jkt: another.jkt });
});

test("a subject token that is bound to a key needs a proof by that key (RFC 9449 §7, RFC 7800 §3.1)", async () => {
  const bound = (): Form => ({
    subject_token: w.human("00u-bound", { cnf: { jkt: key.jkt } }),
    subject_token_type: ID_TOKEN_TYPE,
    actor_token: w.workload("triage-bot"),
    actor_token_type: JWT_TYPE,
  });
  await refused(await ask(undefined, bound()), "invalid_request", "token_bound");
  await refused(await ask(await good(another), bound()), "invalid_request", "token_bound");
  granted(await ask(await good(), bound()));
});

test("a single-use workload token opens one task, which the same key continues by fresh proofs and nobody else does (RFC 9449 §5, CONTRACT §5)", async (t) => {
  const ci = await startIssuer(t);
  await w.apply(
    `
issuers:
  ci: { url: "${ci.url}", audience: "${w.server.issuer}", internal: true, single_use: true }
agents:
  ci-bot: { owner: dana@acme.example, trust: [{ issuer: ci, claims: { sub: job-7 } }] }
grants:
  - { agent: ci-bot, resource: billing, actions: [read_invoice] }
`,
    "ci.yaml",
  );
  const mint = (): string =>
    ci.mint({ sub: "job-7", aud: w.server.issuer, jti: crypto.randomUUID() }, { now: w.now(), ttl: 600 });
  const bound = mint();
  const first = granted(await ask(await good(), { subject_token: bound }));
  w.clock.advance(120);
  const second = granted(await ask(await good(), { subject_token: bound }));
  assert.equal(second.claims["txn"], first.claims["txn"]);
  await refused(await ask(await good(another), { subject_token: bound }), "invalid_request", "single_use_spent");
  await refused(await ask(undefined, { subject_token: bound }), "invalid_request", "single_use_spent");

  const plain = mint();
  granted(await ask(undefined, { subject_token: plain }));
  await refused(await ask(undefined, { subject_token: plain }), "invalid_request", "single_use_spent");
  await refused(await ask(await good(), { subject_token: plain }), "invalid_request", "single_use_spent");
});

const forApi = async (dpop?: string): Promise<string> =>
  granted(
    await w.post(
      "/token",
      {
        grant_type: TOKEN_EXCHANGE,
        subject_token: w.workload("watch-bot"),
        subject_token_type: JWT_TYPE,
        resource: `${w.server.issuer}/v1`,
        scope: "ephor:read",
      },
      dpop === undefined ? {} : { dpop },
    ),
  ).token;
const atApi = (authorization: string, dpop?: string): Promise<Answer> =>
  w.request("GET", "/v1/agents?limit=1", { headers: { authorization, ...(dpop === undefined ? {} : { dpop }) } });
const apiProof = (by: DpopKey, token: string, more: Partial<ProofParts> = {}): string =>
  by.proof({ htu: `${w.server.issuer}/v1/agents`, htm: "GET", iat: w.now(), token, ...more });
const challenged = (answer: Answer, error: string, label: string): void => {
  assert.equal(answer.status, 401, `${label} ${answer.text}`);
  assert.match(answer.headers.get("www-authenticate") ?? "", new RegExp(`^DPoP .*error="${error}"`), label);
};

test("at our own API a bound token comes under DPoP with a proof by its key over it, without the URL's query (RFC 9449 §7.1, §4.3)", async () => {
  const token = await forApi(await good());
  const answer = await atApi(`DPoP ${token}`, apiProof(key, token));
  assert.equal(answer.status, 200, answer.text);
});

test("at our own API a bound token is refused as Bearer, without a proof, by another key, over another token, or for another URL (RFC 9449 §7.1, §7.2)", async () => {
  const token = await forApi(await good());
  const other = await forApi(await good());
  const asBearer = await atApi(`Bearer ${token}`);
  assert.equal(asBearer.status, 401);
  assert.equal((await atApi(`Bearer ${token}`, apiProof(key, token))).status, 401);
  challenged(await atApi(`DPoP ${token}`), "invalid_token", "no proof");
  const bad: [string, string][] = [
    ["another key", apiProof(another, token)],
    ["another token", apiProof(key, other)],
    ["no ath", apiProof(key, token, { claims: { ath: undefined } })],
    ["another URL", apiProof(key, token, { htu: `${w.server.issuer}/v1/grants` })],
    ["another method", apiProof(key, token, { htm: "POST" })],
  ];
  for (const [label, proof] of bad) challenged(await atApi(`DPoP ${token}`, proof), "invalid_dpop_proof", label);
  assert.equal((await atApi(`DPoP ${token}`, apiProof(key, token))).status, 200);
});

test("at our own API a proof works once, and an unbound token is no DPoP token (RFC 9449 §7.1, §11.1)", async () => {
  const token = await forApi(await good());
  const proof = apiProof(key, token);
  assert.equal((await atApi(`DPoP ${token}`, proof)).status, 200);
  assert.equal((await atApi(`DPoP ${token}`, proof)).status, 401);
  const plain = await forApi();
  assert.equal((await atApi(`DPoP ${plain}`, apiProof(key, plain))).status, 401);
  assert.equal((await atApi(`Bearer ${plain}`)).status, 200);
});
