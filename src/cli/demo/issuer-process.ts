/**
 * A small OIDC issuer in a process of its own, for the demonstration: three issuers by path (a CI system, a cluster, a company's
 * IdP), each with a key of its own that never leaves this process. Tokens are asked for over the IPC channel; it ends with its
 * parent.
 */
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import type { CryptoKey, JWK } from "jose";

/** The issuers, by the first segment of their path. */
export type IssuerPath = "ci" | "cluster" | "people";

/** What the parent asks for: a token of an issuer with these claims, good for five minutes. */
export interface MintRequest {
  readonly id: number;
  readonly issuer: IssuerPath;
  readonly claims: Readonly<Record<string, unknown>>;
}

const TOKEN_SECONDS = 300;

const keys = new Map<string, { privateKey: CryptoKey; jwk: JWK }>();
for (const path of ["ci", "cluster", "people"]) {
  const { privateKey, publicKey } = await generateKeyPair("ES256");
  keys.set(path, { privateKey, jwk: { ...(await exportJWK(publicKey)), kid: `${path}-1`, use: "sig", alg: "ES256" } });
}

const server = createServer((request, response) => {
  const [, path = "", document = ""] =
    /^\/(ci|cluster|people)\/(jwks|\.well-known\/openid-configuration)$/.exec(request.url ?? "") ?? [];
  const key = keys.get(path);
  if (key === undefined) return void response.writeHead(404).end();
  const issuer = `${base()}/${path}`;
  response.writeHead(200, { "content-type": "application/json" });
  response.end(JSON.stringify(document === "jwks" ? { keys: [key.jwk] } : { issuer, jwks_uri: `${issuer}/jwks` }));
});

function base(): string {
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

process.on("message", ({ id, issuer, claims }: MintRequest) => {
  const key = keys.get(issuer);
  if (key === undefined) return;
  const now = Math.floor(Date.now() / 1_000);
  void new SignJWT({
    iat: now,
    nbf: now,
    exp: now + TOKEN_SECONDS,
    jti: randomUUID(),
    ...claims,
    iss: `${base()}/${issuer}`,
  })
    .setProtectedHeader({ alg: "ES256", kid: `${issuer}-1`, typ: "JWT" })
    .sign(key.privateKey)
    .then((token) => process.send?.({ id, token }));
});
process.on("disconnect", () => process.exit(0));
// Ctrl-C reaches every process of the terminal; the parent ends this one when it has cleaned up.
process.on("SIGINT", () => {});
server.listen(0, "127.0.0.1", () => process.send?.({ url: base() }));
