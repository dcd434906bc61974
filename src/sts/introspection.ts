import { releaseOf } from "../authz/release.ts";
import {
  InvalidClientError,
  InvalidRequestError,
  OAuthError,
  TemporarilyUnavailableError,
} from "../core/oauth/errors.ts";
import { readForm } from "../core/oauth/form.ts";
import { readTraceparent } from "../core/oauth/traceparent.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { Permit } from "../core/permit.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { RefusedToken } from "../core/token/refused.ts";
import { consumeToken, readConsume } from "./consume.ts";
import type { StsDeps } from "./deps.ts";
import type { LiveTokens } from "./live-tokens.ts";
import { readOwnToken } from "./own-token.ts";
import { introspectionClient, type IntrospectionClient } from "./resource-server.ts";
import type { Context, OAuthAnswer, OAuthRequest } from "./request.ts";
import { refused } from "./token-endpoint.ts";
import type { Trail } from "./trail.ts";

const JWT_ANSWER = "application/token-introspection+jwt";

/**
 * `POST /introspect`: whether a token is live now, for the resource that asks. Reads kills in the database each time and
 * writes no audit row; with `consume=true` it uses the token, through the gate. Whatever is wrong with the token, the answer is
 * `{"active":false}`.
 *
 * @see RFC 7662 §2, RFC 9701
 */
export function createIntrospection(
  deps: StsDeps,
  liveTokens: LiveTokens,
): (request: OAuthRequest) => Promise<OAuthAnswer> {
  return async function introspect(request) {
    const trail: Trail = {
      type: "token.introspect",
      requestId: request.requestId,
      remoteAddress: request.remoteAddress,
    };
    try {
      await deps.keys.fresh();
      const context = contextOf(request);
      const { client, claims, lapsesAtMs, permit } = await asked(deps, liveTokens, { context, trail });
      deps.metrics.introspections.inc({ result: claims ? "active" : "inactive" });
      const answered = answer(deps, request, client, claims);
      // A use that was recorded stays used, also where its answer may not leave any more.
      if (permit) return { ...answered, ...releaseOf(deps, permit) };
      // As with a permit: after a pause in which there may have been a kill, nothing is said to be live.
      return claims ? { ...answered, release: () => deps.clock.monotonicMs() <= lapsesAtMs } : answered;
    } catch (error) {
      deps.metrics.introspections.inc({ result: "refused" });
      throw error instanceof OAuthError && error.status === 503 ? error : await refused(deps, trail, error);
    }
  };
}

/**
 * Who asks, and what is known of the token. Whoever may ask by trust that was changed before the token was looked up is asked
 * again who it is: a resource that was taken away, or whose secret was, is told nothing more.
 */
async function asked(
  deps: StsDeps,
  liveTokens: LiveTokens,
  { context, trail }: { context: Context; trail: Trail },
): Promise<{
  client: IntrospectionClient;
  claims: AccessTokenClaims | undefined;
  lapsesAtMs: number;
  /** Where the token was used by being asked about. */
  permit?: Permit | undefined;
}> {
  for (let attempt = 0; attempt < 2; attempt++) {
    const { version } = deps.trust();
    const client = await introspectionClient(deps, context);
    if (client.acting) trail.acting = client.acting;
    if (client.resources.length === 0) throw new InvalidClientError({ reason: "client_not_allowed" });
    const token = context.form.get("token");
    if (token === undefined) throw new InvalidRequestError({ reason: "parameter_missing", help: "token is required." });
    if (readConsume(context.form)) {
      const consumed = await consumeToken(deps, liveTokens, { client, token, trail });
      return { client, claims: consumed?.claims, lapsesAtMs: 0, permit: consumed?.permit };
    }
    const { claims, trustVersion, lapsesAtMs } = await liveClaims(deps, liveTokens, client, token);
    if (claims === undefined || trustVersion <= version) return { client, claims, lapsesAtMs };
    await deps.takeIn(trustVersion);
    // Its assertion was spent.
    if (client.acting) break;
  }
  throw new TemporarilyUnavailableError({ reason: "stale_trust" });
}

/** What the steps of an OAuth endpoint look at, for endpoints that take no DPoP proof. */
export function contextOf(request: OAuthRequest): Context {
  return {
    form: readForm(request.body),
    requestId: request.requestId,
    remoteAddress: request.remoteAddress,
    traceId: readTraceparent(request.traceparent)?.traceId,
    authorization: request.authorization,
    proof: undefined,
  };
}

async function liveClaims(
  deps: StsDeps,
  liveTokens: LiveTokens,
  client: IntrospectionClient,
  token: string,
): Promise<{ claims: AccessTokenClaims | undefined; trustVersion: number; lapsesAtMs: number }> {
  const none = { claims: undefined, trustVersion: 0, lapsesAtMs: 0 };
  let claims: AccessTokenClaims;
  try {
    claims = await readOwnToken(deps, token);
  } catch (error) {
    if (error instanceof RefusedToken) return none;
    throw error;
  }
  // Only tokens addressed to it: the endpoint is no oracle for tokens that came to the wrong hands.
  if (!client.resources.some((resource) => resource.identifier === claims.aud)) return none;
  // Before it is looked whether it lives, so that the answer is what was so at one moment.
  if (claims.once === true && (await liveTokens.isSpent(claims.jti))) return none;
  const { live, ...read } = await liveTokens.isLive(claims.jti);
  return live ? { claims, ...read } : none;
}

function answer(
  deps: StsDeps,
  request: OAuthRequest,
  client: IntrospectionClient,
  claims: AccessTokenClaims | undefined,
): OAuthAnswer {
  const body = claims ? { active: true, token_type: claims.cnf ? "DPoP" : "Bearer", ...claims } : { active: false };
  if (!wantsJwt(request.accept)) {
    return { status: 200, headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  }
  const jwt = deps.keys.attestor.sign(JWT_TYP.introspection, {
    iss: deps.issuer,
    aud: client.name,
    iat: deps.clock.now(),
    token_introspection: body,
  });
  return { status: 200, headers: { "content-type": JWT_ANSWER }, body: jwt };
}

/** RFC 9701 §4: the caller asks by `Accept`. */
function wantsJwt(accept: string | undefined): boolean {
  return (
    accept !== undefined && accept.split(",").some((entry) => entry.split(";")[0]?.trim().toLowerCase() === JWT_ANSWER)
  );
}
