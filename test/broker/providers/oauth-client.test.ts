import assert from "node:assert/strict";
import { generateKeyPairSync, type KeyObject } from "node:crypto";
import { after, beforeEach, test } from "node:test";
import { decodeProtectedHeader, jwtVerify } from "jose";
import { makeKeyPair } from "../../../src/system/key-pair.ts";
import { createEgress } from "../../../src/system/egress.ts";
import { readBasic } from "../../../src/core/oauth/basic.ts";
import { startFakeAuthorizationServer } from "../../support/fake-authorization-server.ts";
import { ANSWER_SECONDS, CANARY, NOW, failure, stage, type Ask } from "./oauth-stage.ts";

/** A client id and a secret with all that form-encoding and Basic trip over. */
const CLIENT_ID = "crm client:é+%";
const CLIENT_SECRET = `${CANARY}:+ &=%2B~"'`;

let authenticate: Parameters<typeof startFakeAuthorizationServer>[0] = () => false;
const server = await startFakeAuthorizationServer((request, form) => authenticate(request, form));
const egress = createEgress();
const { mint, destroy } = stage(egress);
after(() => {
  egress.close();
  server.stop();
});
beforeEach(() => {
  server.forget();
  server.meddle = undefined;
});

const settings = (rest: object): object => ({
  token_url: server.tokenUrl,
  revocation_url: server.revocationUrl,
  internal: true,
  client_id: CLIENT_ID,
  secret: "crm-client",
  grant: "client_credentials",
  ...rest,
});

const keyText = (key: KeyObject): string => key.export({ type: "pkcs8", format: "pem" }).toString();
const secretOf = (text: string): Ask => ({ secrets: { "crm-client": text } });

/** Mints one token and ends it; each request must prove the client. */
async function mintAndEnd(rest: object, ask: Ask): Promise<void> {
  const { handle } = await mint(settings(rest), ask);
  const token = handle["access_token"] ?? "";
  assert.ok(server.live.has(token));
  await destroy(settings(rest), handle, ask);
  assert.ok(!server.live.has(token));
  assert.equal(server.seen.length, 2);
}

test("RFC 6749 §2.3.1 client_secret_basic form-encodes both halves and says nothing of the client in the form", async () => {
  authenticate = ({ headers }, form) => {
    const basic = readBasic(headers.authorization);
    return basic?.clientId === CLIENT_ID && basic.clientSecret === CLIENT_SECRET && !form.has("client_id");
  };
  await mintAndEnd({}, secretOf(CLIENT_SECRET));
  const sent = Buffer.from((server.seen[0]?.headers.authorization ?? "").slice("Basic ".length), "base64").toString();
  assert.equal(sent, `crm+client%3A%C3%A9%2B%25:${CANARY}%3A%2B+%26%3D%252B%7E%22%27`);
  await failure(mint(settings({}), secretOf("wrong")), "credentials_refused", "invalid_client");
});

test("client_secret_post puts both into the form and sends no Authorization header", async () => {
  authenticate = ({ headers }, form) =>
    form.get("client_id") === CLIENT_ID &&
    form.get("client_secret") === CLIENT_SECRET &&
    headers.authorization === undefined;
  await mintAndEnd({ auth_method: "client_secret_post" }, secretOf(CLIENT_SECRET));
});

test("RFC 6749 §3.3 no client authentication sends the client id alone, or nothing", async () => {
  const token = async (): Promise<string> => "eyJ.web.identity";
  authenticate = ({ headers }, form) => headers.authorization === undefined && !form.has("client_secret");
  const rest = {
    auth_method: "none",
    secret: undefined,
    grant: "token_exchange",
    web_identity: { audience: "//iam.googleapis.com/x" },
  };
  await mint(settings(rest), { webIdentity: token });
  assert.equal(server.lastForm().get("client_id"), CLIENT_ID);
  await mint(settings({ ...rest, client_id: undefined }), { webIdentity: token });
  assert.equal(server.lastForm().has("client_id"), false);
});

const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
const ec = makeKeyPair("P-256");
const p384 = generateKeyPairSync("ec", { namedCurve: "P-384" });
const ed = makeKeyPair("Ed25519");

/** Verifies a `private_key_jwt` as RFC 7523 §3 tells servers to, and takes each only once. */
function assertionChecker(publicKey: KeyObject, expected: { alg: string; aud: string; kid?: string }) {
  const seen = new Set<string>();
  return async (_request: unknown, form: URLSearchParams): Promise<boolean> => {
    assert.equal(form.get("client_assertion_type"), "urn:ietf:params:oauth:client-assertion-type:jwt-bearer");
    assert.equal(form.has("client_secret"), false);
    const assertion = form.get("client_assertion") ?? "";
    const header = decodeProtectedHeader(assertion);
    assert.deepEqual([header.alg, header.kid, header.typ], [expected.alg, expected.kid, "JWT"]);
    const { payload } = await jwtVerify(assertion, publicKey, {
      currentDate: new Date((NOW + ANSWER_SECONDS) * 1000),
      issuer: CLIENT_ID,
      subject: CLIENT_ID,
      audience: expected.aud,
      algorithms: [expected.alg],
      requiredClaims: ["iss", "sub", "aud", "jti", "iat", "exp"],
    });
    const { iat = 0, exp = 0, jti = "" } = payload;
    assert.deepEqual([iat, exp], [NOW + ANSWER_SECONDS, NOW + ANSWER_SECONDS + 60]);
    assert.ok(jti.length >= 22 && !seen.has(jti));
    seen.add(jti);
    return true;
  };
}

test("RFC 7523 §3 private_key_jwt is signed with the key's own algorithm, with a new jti each time", async () => {
  const jwk = (key: KeyObject, more: object): string => JSON.stringify({ ...key.export({ format: "jwk" }), ...more });
  const cases: [string, object, KeyObject, { alg: string; kid?: string }][] = [
    [keyText(rsa.privateKey), {}, rsa.publicKey, { alg: "RS256" }],
    [rsa.privateKey.export({ type: "pkcs1", format: "pem" }).toString(), {}, rsa.publicKey, { alg: "RS256" }],
    [
      keyText(rsa.privateKey),
      { assertion_algorithm: "PS256", key_id: "k1" },
      rsa.publicKey,
      { alg: "PS256", kid: "k1" },
    ],
    [keyText(ec.privateKey), {}, ec.publicKey, { alg: "ES256" }],
    [ec.privateKey.export({ type: "sec1", format: "pem" }).toString(), {}, ec.publicKey, { alg: "ES256" }],
    [keyText(p384.privateKey), {}, p384.publicKey, { alg: "ES384" }],
    [keyText(ed.privateKey), {}, ed.publicKey, { alg: "EdDSA" }],
    [jwk(ec.privateKey, { kid: "k2" }), {}, ec.publicKey, { alg: "ES256", kid: "k2" }],
    [jwk(rsa.privateKey, { kid: "k2", alg: "PS384" }), {}, rsa.publicKey, { alg: "PS384", kid: "k2" }],
    [jwk(rsa.privateKey, { kid: "k2" }), { key_id: "k3" }, rsa.publicKey, { alg: "RS256", kid: "k3" }],
  ];
  for (const [text, rest, publicKey, expected] of cases) {
    server.forget();
    authenticate = assertionChecker(publicKey, { ...expected, aud: server.tokenUrl });
    await mintAndEnd({ auth_method: "private_key_jwt", ...rest }, secretOf(text));
  }
});

test("assertion_audience stands in place of the token URL", async () => {
  authenticate = assertionChecker(ec.publicKey, { alg: "ES256", aud: "https://idp.example/" });
  const rest = { auth_method: "private_key_jwt", assertion_audience: "https://idp.example/" };
  await mintAndEnd(rest, secretOf(keyText(ec.privateKey)));
});

test("web_identity: a token of ours is the client assertion, and the client id is told beside it", async () => {
  const asked: string[] = [];
  authenticate = (_request, form) =>
    form.get("client_assertion") === "ours" &&
    form.get("client_assertion_type") === "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" &&
    form.get("client_id") === CLIENT_ID;
  const rest = {
    auth_method: "web_identity",
    secret: undefined,
    web_identity: { audience: "api://AzureADTokenExchange" },
  };
  const webIdentity = async (audience: string): Promise<string> => {
    asked.push(audience);
    return "ours";
  };
  await mintAndEnd(rest, { webIdentity });
  assert.deepEqual(asked, ["api://AzureADTokenExchange", "api://AzureADTokenExchange"]);
  await failure(mint(settings(rest)), "credentials_refused", "web_identity_unavailable");
});

test("a secret of another form is refused before anything is sent", async () => {
  authenticate = () => true;
  const small = generateKeyPairSync("rsa", { modulusLength: 1024 }).privateKey;
  const key = { auth_method: "private_key_jwt" };
  const cases: [object, string][] = [
    [{}, ""],
    [{}, `${CANARY}\n`],
    [{}, `${CANARY}é`],
    [{ auth_method: "client_secret_post" }, `${CANARY}\n`],
    [key, CANARY],
    [key, ""],
    [key, "{"],
    [key, `{"kty":"EC","crv":"P-256","d":"${CANARY}"}`],
    [key, `{"kty":"EC","kty":"RSA"}`],
    [key, JSON.stringify(ec.publicKey.export({ format: "jwk" }))],
    [key, keyText(small)],
    [key, keyText(generateKeyPairSync("ec", { namedCurve: "secp256k1" }).privateKey)],
    [{ ...key, assertion_algorithm: "ES256" }, keyText(rsa.privateKey)],
    [{ ...key, assertion_algorithm: "ES256" }, keyText(p384.privateKey)],
  ];
  for (const [rest, text] of cases) await failure(mint(settings(rest), secretOf(text)), "secret_malformed");
  await failure(mint(settings({}), { secrets: {} }), "secret_malformed");
  assert.equal(server.seen.length, 0);
});
