import { createHash, randomBytes } from "node:crypto";
import { decodeJwt } from "jose";
import type { JWTPayload } from "jose";
import type * as openid from "openid-client";
import { GRANT_TYPE, TOKEN_TYPE } from "../../core/oauth/vocabulary.ts";
import type { DemoIssuer } from "./issuer.ts";
import { NAMES } from "./trust-file.ts";

/** The library that plays every client; a public one, unmodified. */
type OpenidClient = typeof openid;

/** An answer of `/token` or its refusal. */
export type Answer =
  | {
      readonly ok: true;
      readonly token: string;
      readonly claims: JWTPayload & Record<string, unknown>;
      readonly seconds: number;
    }
  | { readonly ok: false; readonly status: number; readonly error: string };

/** Who plays in the story, and what they can do. */
export interface Cast {
  /** GitHub-shaped: what a job's token says. */
  ciToken(ref: string): Promise<string>;
  /** Kubernetes-shaped: what a pod's projected token says. */
  podToken(account: string): Promise<string>;
  /** Ada's ID token, as her browser session got it. */
  adaToken(): Promise<string>;
  /** Token exchange by an agent (RFC 8693). */
  exchange(agent: string, parameters: Readonly<Record<string, string>>): Promise<Answer>;
  /** A tool server asks about a token (RFC 7662). */
  introspect(resource: string, token: string): Promise<Record<string, unknown>>;
  readonly issuer: string;
  readonly jwksUri: string;
}

/** A secret for the tool servers, and its digest for the trust file. */
export function makeToolSecret(): { secret: string; hash: string } {
  const secret = randomBytes(32).toString("base64url");
  return { secret, hash: `sha256:${createHash("sha256").update(secret).digest("hex")}` };
}

/** @param at.secret of the tool servers */
export async function createCast(
  client: OpenidClient,
  at: { url: string; issuers: DemoIssuer; secret: string },
): Promise<Cast> {
  const { url, issuers, secret } = at;
  // Loopback has no TLS; the library wants to be told.
  const options = { algorithm: "oauth2" as const, execute: [client.allowInsecureRequests] };
  const discover = (id: string, auth: ReturnType<OpenidClient["None"]>): Promise<openid.Configuration> =>
    client.discovery(new URL(url), id, undefined, auth, options);
  const known = new Map<string, openid.Configuration>();
  const configOf = async (id: string, auth: ReturnType<OpenidClient["None"]>): Promise<openid.Configuration> => {
    const config = known.get(id) ?? (await discover(id, auth));
    known.set(id, config);
    return config;
  };
  const { issuer, jwks_uri: jwksUri } = (await configOf("release-bot", client.None())).serverMetadata();
  return {
    issuer,
    jwksUri: jwksUri ?? "",
    ciToken: (ref) =>
      issuers.mint("ci", {
        aud: url,
        sub: `repo:acme/registry:ref:${ref}`,
        repository: "acme/registry",
        repository_id: "987654321",
        repository_owner: "acme",
        repository_owner_id: "1234567",
        ref,
        event_name: "push",
        run_id: "4711",
        actor: "dana",
      }),
    podToken: (account) =>
      issuers.mint("cluster", {
        aud: [url],
        sub: `system:serviceaccount:support:${account}`,
        "kubernetes.io": {
          namespace: "support",
          serviceaccount: { name: account, uid: "6b1f" },
          pod: { name: `${account}-0`, uid: "90aa" },
        },
      }),
    adaToken: () =>
      issuers.mint("people", {
        aud: NAMES.app,
        sub: "ada",
        email: "ada@demo.example",
        groups: ["staff", "support"],
        auth_time: Math.floor(Date.now() / 1_000),
      }),
    async exchange(agent, parameters) {
      try {
        const config = await configOf(agent, client.None());
        const answer = await client.genericGrantRequest(config, GRANT_TYPE.tokenExchange, { ...parameters });
        return {
          ok: true,
          token: answer.access_token,
          claims: decodeJwt(answer.access_token),
          seconds: answer.expires_in ?? 0,
        };
      } catch (error) {
        if (!(error instanceof client.ResponseBodyError)) throw error;
        return { ok: false, status: error.status, error: error.error };
      }
    },
    async introspect(resource, token) {
      const config = await configOf(resource, client.ClientSecretBasic(secret));
      return { ...(await client.tokenIntrospection(config, token)) };
    },
  };
}

/** Parameters for an agent that acts for itself. */
export const forItself = (token: string): Record<string, string> => ({
  subject_token: token,
  subject_token_type: TOKEN_TYPE.jwt,
});

/** Parameters for an agent that acts on behalf of a subject, proved by its own workload token. */
export const onBehalf = (
  subject: string,
  type: "idToken" | "accessToken" | "task",
  actor: string,
): Record<string, string> => ({
  subject_token: subject,
  subject_token_type: TOKEN_TYPE[type],
  actor_token: actor,
  actor_token_type: TOKEN_TYPE.jwt,
});
