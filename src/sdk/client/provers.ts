import type { JWK } from "jose";
import { readIssuer } from "./api.ts";
import { signAssertion } from "./assertion.ts";
import type { Proof } from "./exchange.ts";
import { findPlatformToken, readTokenFile } from "./platform-token.ts";

/** Proves the agent, anew for each request: platform tokens are renewed in place, and an assertion works once. */
export type Prover = () => Promise<Proof>;

/**
 * By the token of its platform, found where the platform puts it (GitHub Actions, GitLab, Kubernetes, SPIFFE, a file).
 *
 * @param o.audience the `aud` that the trust file names for this issuer
 * @param o.env where to look, such as `process.env`
 */
export function platformProof(o: {
  readonly audience: string;
  readonly env: Readonly<Record<string, string | undefined>>;
}): Prover {
  return async () => ({ workloadToken: (await findPlatformToken(o)).token });
}

/** By the token in a file, read anew each time. */
export function fileProof(path: string): Prover {
  return async () => ({ workloadToken: await readTokenFile(path) });
}

/**
 * By a key of its own (`private_key_jwt`).
 *
 * @param o.agent its name in the trust file
 * @param o.url the server's
 * @param o.privateJwk an ES256 key whose public part the trust file has
 */
export function keyProof(o: {
  readonly agent: string;
  readonly url: string;
  readonly privateJwk: JWK;
  readonly nowMs?: () => number;
}): Prover {
  const { agent, url, privateJwk, nowMs = () => Date.now() } = o;
  let issuer: Promise<string> | undefined;
  return async () => {
    // A server that was away at the first time is asked again.
    issuer ??= readIssuer(url).catch((error: unknown) => {
      issuer = undefined;
      throw error;
    });
    const nowSeconds = Math.floor(nowMs() / 1000);
    return { clientAssertion: await signAssertion({ agent, issuer: await issuer, privateJwk, nowSeconds }) };
  };
}
