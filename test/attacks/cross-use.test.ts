/** INV-05: every kind of token that exists, at every place that takes one. What is not in `ACCEPTED` is refused. */
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { after, test } from "node:test";
import { decodeJwt } from "jose";
import { makeKeyPair } from "../../src/system/key-pair.ts";
import { encodeJwsHeader, signJws } from "../../src/system/jws-signature.ts";
import {
  ACCESS_TOKEN_TYPE,
  ASSERTION_TYPE,
  BILLING_SECRET,
  ID_TOKEN_TYPE,
  JWT_BEARER,
  JWT_TYPE,
  TASK_TYPE,
  TOKEN_EXCHANGE,
  type Answer,
} from "../support/world.ts";
import { RISC, signalWorld } from "../support/signals.ts";
import { claimsOf, READ_INVOICE } from "./chain-world.ts";
import { ownKey, webIdentityToken } from "./own-key.ts";
import { granted } from "./refusals.ts";

const TRUST_DOMAIN = "https://acme.example/trust";
const w = await signalWorld({ after }, { env: { EPHOR_TRUST_DOMAIN: TRUST_DOMAIN } });
const { issuer } = w.server;

/** A key that anybody may make. */
const stranger = makeKeyPair("P-256");

/** Makes a fresh token of each kind, all of them good for something. */
const KINDS: Record<string, () => Promise<string>> = {
  workload: async () => w.workload("summary-bot"),
  human: async () => w.human(),
  humanAccess: async () =>
    w.humans.mint(
      { sub: "h", aud: "api://ephor", groups: ["support"], auth_time: w.now() },
      { now: w.now(), header: { typ: "at+jwt" } },
    ),
  privateKeyJwt: async () => w.privateKeyJwt(),
  idJag: async () =>
    w.humans.mint(
      { sub: "h", aud: issuer, client_id: "keyed-bot", jti: randomUUID() },
      { now: w.now(), ttl: 300, header: { typ: "oauth-id-jag+jwt" } },
    ),
  access: async () => granted(await w.onBehalf("summary-bot", w.human(), READ_INVOICE)),
  handOver: () => w.handed(),
  v1: async () => granted(await w.self("watch-bot", { resource: `${issuer}/v1`, scope: "ephor:read" })),
  txnToken: async () =>
    granted(
      await w.onBehalf("summary-bot", w.human(), {
        audience: TRUST_DOMAIN,
        scope: "billing:read_invoice",
        requested_token_type: "urn:ietf:params:oauth:token-type:txn_token",
      }),
    ),
  introspectionJwt: async () =>
    (
      await w.post(
        "/introspect",
        { token: await KINDS["access"]!(), client_id: "billing", client_secret: BILLING_SECRET },
        { accept: "application/token-introspection+jwt" },
      )
    ).text,
  receipt: async () => {
    const { jti } = claimsOf(await w.self("release-bot", READ_INVOICE));
    return (
      await w.request("POST", "/v1/kill", {
        body: { jti, reason: "test" },
        headers: { authorization: `Bearer ${w.operatorKey}`, accept: "application/jwt" },
      })
    ).text;
  },
  head: async () => {
    const [head] = await w.admin<{ jws: string }>("select jws from ephor.heads order by seq desc limit 1");
    return head?.jws ?? "no head yet";
  },
  securityEvent: async () => w.event(`${RISC}account-disabled`, { sub: "nobody" }),
  taskHandle: async () => claimsOf(await w.onBehalf("summary-bot", w.human(), READ_INVOICE)).txn,
  operatorKey: async () => w.operatorKey,
  clientSecret: async () => BILLING_SECRET,
  webIdentity: () => webIdentityToken(w),
  webIdentityForUs: () => webIdentityToken(w, { aud: issuer, sub: "agent|summary-bot" }),
  // All that makes an access token good, by the key that may sign none.
  accessByIdentityKey: async () => {
    const token = granted(await w.onBehalf("summary-bot", w.human(), READ_INVOICE));
    const { kid, privateKey } = await ownKey(w, "identity");
    return signJws("RS256", privateKey, {
      encodedHeader: encodeJwsHeader({ typ: "at+jwt", alg: "RS256", kid }),
      claims: decodeJwt(token),
    });
  },
  dpopProof: async () =>
    signJws("ES256", stranger.privateKey, {
      encodedHeader: Buffer.from(
        JSON.stringify({ typ: "dpop+jwt", alg: "ES256", jwk: stranger.publicKey.export({ format: "jwk" }) }),
      ).toString("base64url"),
      claims: { jti: randomUUID(), htm: "POST", htu: `${issuer}/token`, iat: w.now() },
    }),
  forged: async () =>
    signJws("ES256", stranger.privateKey, {
      encodedHeader: Buffer.from('{"typ":"at+jwt","alg":"ES256","kid":"x"}').toString("base64url"),
      claims: {
        iss: issuer,
        aud: `${issuer}/agents/summary-bot`,
        sub: "agent|release-bot",
        client_id: "release-bot",
        scope: "billing:refund",
        txn: "01J00000000000000000000000",
        jti: "01J00000000000000000000001",
        iat: w.now(),
        exp: w.now() + 45,
      },
    }),
};

const exchange = (subject: string, type: string) =>
  w.post("/token", {
    grant_type: TOKEN_EXCHANGE,
    subject_token: subject,
    subject_token_type: type,
    actor_token: w.workload("summary-bot"),
    actor_token_type: JWT_TYPE,
    ...READ_INVOICE,
  });
const bearer = (method: string, path: string, token: string, body?: unknown): Promise<Answer> =>
  w.request(method, path, { headers: { authorization: `Bearer ${token}` }, ...(body === undefined ? {} : { body }) });

/** Every place that takes a token, with a request that is right in all but the token. */
const PLACES: Record<string, (token: string) => Promise<Answer>> = {
  subjectAsAccess: (token) => exchange(token, ACCESS_TOKEN_TYPE),
  subjectAsId: (token) => exchange(token, ID_TOKEN_TYPE),
  subjectAsJwt: (token) => exchange(token, JWT_TYPE),
  subjectAsTask: (token) => exchange(token, TASK_TYPE),
  actor: (token) => w.onBehalf("summary-bot", w.human(), { ...READ_INVOICE, actor_token: token }),
  actorAsAccess: (token) =>
    w.onBehalf("summary-bot", w.human(), { ...READ_INVOICE, actor_token: token, actor_token_type: ACCESS_TOKEN_TYPE }),
  clientAssertion: (token) =>
    w.post("/token", {
      grant_type: TOKEN_EXCHANGE,
      subject_token: w.human(),
      subject_token_type: ID_TOKEN_TYPE,
      client_assertion: token,
      client_assertion_type: ASSERTION_TYPE,
      ...READ_INVOICE,
    }),
  spiffeAssertion: (token) =>
    w.post("/token", {
      grant_type: "client_credentials",
      client_assertion: token,
      client_assertion_type: "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
      ...READ_INVOICE,
    }),
  assertion: (token) => w.post("/token", { grant_type: JWT_BEARER, assertion: token, ...READ_INVOICE }),
  assertionOfClient: (token) =>
    w.post("/token", {
      grant_type: JWT_BEARER,
      assertion: token,
      client_assertion: w.privateKeyJwt(),
      client_assertion_type: ASSERTION_TYPE,
      ...READ_INVOICE,
    }),
  introspected: (token) => w.introspect(token),
  introspectionSecret: (token) => w.introspect("t", { client_secret: token }),
  introspectionAssertion: (token) =>
    w.post("/introspect", { token: "t", client_assertion: token, client_assertion_type: ASSERTION_TYPE }),
  introspectionBearer: (token) => w.post("/introspect", { token: "t" }, { authorization: `Bearer ${token}` }),
  tokenBearer: (token) =>
    w.post("/token", { grant_type: "client_credentials", ...READ_INVOICE }, { authorization: `Bearer ${token}` }),
  read: (token) => bearer("GET", "/v1/agents", token),
  kill: (token) => bearer("POST", "/v1/kill", token, { agent: "nobody", reason: "test" }),
  openTask: (token) => bearer("POST", "/v1/tasks", token, { purpose: "cross-use" }),
  dpop: (token) => w.request("GET", "/v1/agents", { headers: { authorization: `DPoP ${token}` } }),
  signal: (token) => w.push(token),
};

/**
 * What is right. `summary-bot` holds grants on behalf of humans only, so its workload's token as a subject proves it and is
 * then refused for its scope; the same for `keyed-bot` with a human.
 */
const ACCEPTED: Record<string, readonly string[]> = {
  subjectAsAccess: ["humanAccess", "handOver"],
  subjectAsId: ["human"],
  subjectAsJwt: ["human", "humanAccess", "handOver"],
  subjectAsTask: ["taskHandle"],
  actor: ["workload"],
  actorAsAccess: ["workload"],
  clientAssertion: ["workload"],
  spiffeAssertion: [],
  assertion: [],
  assertionOfClient: [],
  introspected: ["access"],
  introspectionSecret: ["clientSecret"],
  introspectionAssertion: [],
  introspectionBearer: [],
  tokenBearer: [],
  read: ["v1", "operatorKey"],
  kill: ["operatorKey"],
  openTask: ["workload", "privateKeyJwt", "v1"],
  dpop: [],
  signal: ["securityEvent"],
};
/** Proved, and refused for want of a grant: these may say so. */
const PROVED: Record<string, readonly string[]> = {
  subjectAsAccess: ["workload"],
  subjectAsJwt: ["workload"],
  subjectAsId: ["workload"],
  clientAssertion: ["privateKeyJwt"],
  assertion: ["workload"],
  assertionOfClient: ["idJag"],
  introspectionAssertion: ["workload", "privateKeyJwt"],
};

for (const [place, send] of Object.entries(PLACES)) {
  test(`INV-05 at ${place} only what belongs there is taken`, async () => {
    for (const [kind, make] of Object.entries(KINDS)) {
      const answer = await send(await make());
      const label = `${kind} at ${place}: ${answer.status} ${answer.text.slice(0, 200)}`;
      const isIn = isAccepted(place, answer);
      assert.equal(isIn, ACCEPTED[place]?.includes(kind) ?? false, label);
      if (isIn) continue;
      assert.ok((answer.status >= 400 && answer.status < 500) || place === "introspected", label);
      if (place === "introspected") assert.equal(answer.text, '{"active":false}', label);
      const isAboutScope = answer.body["error"] === "invalid_scope";
      assert.ok(!isAboutScope || PROVED[place]?.includes(kind), label);
    }
  });
}

test("INV-05 each kind of token of ours has a typ of its own", async () => {
  const typ = async (kind: string): Promise<unknown> => {
    const token = (await KINDS[kind]?.()) ?? "";
    return (JSON.parse(Buffer.from(token.split(".")[0] ?? "", "base64url").toString()) as { typ?: string }).typ;
  };
  assert.equal(await typ("access"), "at+jwt");
  assert.equal(await typ("handOver"), "at+jwt");
  assert.equal(await typ("txnToken"), "txntoken+jwt");
  assert.equal(await typ("introspectionJwt"), "token-introspection+jwt");
  assert.equal(await typ("receipt"), "ephor-receipt+jwt");
  assert.equal(await typ("webIdentity"), "JWT");
});

/** A kill of somebody unknown is a 404: who asked was let in. */
function isAccepted(place: string, answer: Answer): boolean {
  if (place === "introspected") return answer.body["active"] === true;
  if (place === "kill") return answer.status === 404;
  return [200, 201, 202].includes(answer.status);
}
