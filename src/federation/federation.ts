/*
 * `federation` owns the tokens that others issued: which issuer a token is of, that issuer's keys, the signature, audience and
 * times, the traps of each kind of issuer, and which agent a workload token is. It decides no permission, remembers no token
 * (what works once is the gate's matter) and knows no kill. `sts`, `operators` and the composition root may call it.
 */
import type { TrustIndex } from "../core/trust/compiled.ts";
import type { Agent, Issuer } from "../core/trust/model.ts";
import type { DatabaseClock } from "../system/clock.ts";
import type { Egress } from "../system/egress.ts";
import type { Log } from "../system/log.ts";
import type { Metrics } from "../system/metrics.ts";
import { createClientAssertionCheck, type VerifiedClientAssertion } from "./client-assertion.ts";
import { verifyIdToken, type ExpectedIdToken, type VerifiedIdToken } from "./id-token.ts";
import { verifyIdJag, type VerifiedIdJag } from "./id-jag.ts";
import { createJwksCache } from "./jwks-cache.ts";
import type { KeyState } from "./key-entry.ts";
import { LIMITS } from "./limits.ts";
import { matchAgent } from "./match.ts";
import { createSecurityEventCheck, type SecurityEventCheck } from "./security-event.ts";
import { createSignInEndpoints, type SignInEndpoints } from "./sign-in-endpoints.ts";
import { createSignatureMemo } from "./signature-memo.ts";
import { createSignatureCheck } from "./signature.ts";
import { verifyOutsideToken, type VerifiedToken, type VerifyDeps, type VerifyOptions } from "./verify.ts";

/** What the room needs. */
export interface FederationDeps {
  /** The live index of trust; asked anew for every token. */
  readonly trust: () => TrustIndex;
  readonly egress: Egress;
  readonly clock: DatabaseClock;
  /** Our issuer identifier. */
  readonly issuerUrl: string;
  readonly metrics?: Pick<Metrics, "issuerFetches" | "signatureMemoHits" | "signatureMemoMisses"> | undefined;
  readonly log?: Pick<Log, "info" | "warn" | "error"> | undefined;
}

/** One issuer, for `ephor doctor` and the readiness page. */
export interface IssuerStatus extends KeyState {
  readonly issuer: string;
}

/** Tokens of other issuers. Every refusal is a `RefusedToken`; the endpoint that asked maps it to its own error. */
export interface Federation {
  /** @throws {RefusedToken} see {@link verifyOutsideToken} */
  verify(token: string, options: VerifyOptions): Promise<VerifiedToken>;
  /** @throws {RefusedToken} see `matchAgent` in match.ts */
  matchAgent(verified: VerifiedToken, clientId?: string): Agent;
  /** @throws {RefusedToken} see `createClientAssertionCheck` */
  verifyPrivateKeyJwt(token: string, options?: { clientId?: string | undefined }): Promise<VerifiedClientAssertion>;
  /** @throws {RefusedToken} see `verifyIdJag` in id-jag.ts */
  verifyIdJag(token: string, agentName: string): Promise<VerifiedIdJag>;
  /** @throws {RefusedToken} see `verifyIdToken` in id-token.ts */
  verifyIdToken(token: string, expected: ExpectedIdToken): Promise<VerifiedIdToken>;
  /**
   * Where humans of an issuer sign in.
   *
   * @throws {RefusedToken} `token_issuer_unreachable`
   */
  signInEndpoints(issuer: Issuer): Promise<SignInEndpoints>;
  /** @throws {RefusedToken} see `createSecurityEventCheck` */
  readonly verifySecurityEvent: SecurityEventCheck;
  /** Fetches the issuer's keys unless they are fresh; undefined for an unknown name. Never throws for the issuer's failure. */
  warm(issuerName: string): Promise<IssuerStatus | undefined>;
  /** What is known of every issuer's keys; fetches nothing. */
  status(): readonly IssuerStatus[];
}

/** Opens the room. */
export function createFederation(deps: FederationDeps): Federation {
  const jwks = createJwksCache(deps);
  const memo = createSignatureMemo(LIMITS.rememberedSignatures);
  const checkSignature = createSignatureCheck({ jwks, memo, metrics: deps.metrics });
  const { trust, clock, issuerUrl } = deps;
  const verifying: VerifyDeps = { trust, clock, checkSignature, issuerUrl };
  const checkClientAssertion = createClientAssertionCheck({ trust, clock, issuerUrl });
  // Who sends events may be another than who issues tokens, and their keys are never mixed.
  const checkEvent = createSignatureCheck({
    jwks: createJwksCache({ ...deps, wellKnown: "ssf-configuration" }),
    memo: createSignatureMemo(LIMITS.rememberedEvents),
  });
  return {
    verifySecurityEvent: createSecurityEventCheck({ trust, clock, checkSignature: checkEvent }),
    verify: (token, options) => verifyOutsideToken(verifying, token, options),
    matchAgent: (verified, clientId) => matchAgent(trust(), verified, { clientId, now: clock.now() }),
    verifyPrivateKeyJwt: async (token, options) => checkClientAssertion(token, options),
    verifyIdToken: (token, expected) => verifyIdToken(verifying, token, expected),
    signInEndpoints: createSignInEndpoints(deps),
    verifyIdJag: (token, agentName) => verifyIdJag(verifying, token, agentName),
    async warm(issuerName) {
      const issuer = trust().issuerByName(issuerName);
      return issuer === undefined ? undefined : { issuer: issuerName, ...(await jwks.warm(issuer)) };
    },
    status: () =>
      trust()
        .all()
        .issuers.map((issuer) => ({ issuer: issuer.name, ...jwks.state(issuer) })),
  };
}
