import { InvalidRequestError } from "../core/oauth/errors.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { handOverAudience } from "./origin.ts";
import type { StsDeps } from "./deps.ts";
import { contextOf } from "./introspection.ts";
import { readOwnTokenOfOld } from "./own-token.ts";
import { introspectionClient, type IntrospectionClient } from "./resource-server.ts";
import type { OAuthAnswer, OAuthRequest } from "./request.ts";
import { refused } from "./token-endpoint.ts";
import type { Trail } from "./trail.ts";

/**
 * `POST /revoke`: the holder, or the resource it is for, ends a token and all that was derived from it. 200 for a token
 * that is none of ours, already over, or somebody else's: the endpoint tells nothing about tokens.
 *
 * @see RFC 7009 §2
 */
export function createRevocationEndpoint(deps: StsDeps): (request: OAuthRequest) => Promise<OAuthAnswer> {
  return async function revoke(request) {
    const trail: Trail = { type: "token.revoke", requestId: request.requestId, remoteAddress: request.remoteAddress };
    try {
      await deps.keys.fresh();
      const context = contextOf(request);
      const client = await introspectionClient(deps, context);
      if (client.acting) trail.acting = client.acting;
      const token = context.form.get("token");
      if (token === undefined)
        throw new InvalidRequestError({ reason: "parameter_missing", help: "token is required." });
      const claims = await ownClaims(deps, token);
      if (claims && mayRevoke(deps, client, claims)) {
        await deps.revocation.killToken({
          jti: claims.jti,
          txn: claims.txn,
          sub: claims.sub,
          by: client.acting ? `agent:${client.name}` : `resource:${client.name}`,
          requestId: request.requestId,
        });
      }
      return { status: 200, headers: {}, body: "" };
    } catch (error) {
      throw await refused(deps, trail, error);
    }
  };
}

/** The hint is not looked at: there is one kind of token, and a wrong hint must not matter (RFC 7009 §2.1). */
async function ownClaims(deps: StsDeps, token: string): Promise<AccessTokenClaims | undefined> {
  try {
    const claims = await readOwnTokenOfOld(deps, token);
    // What was made of a hand-over lives on after it; of any other token nothing is left at its end.
    const isOver = claims.exp <= deps.clock.now() && !claims.aud.startsWith(handOverAudience(deps.issuer, ""));
    return isOver ? undefined : claims;
  } catch (error) {
    if (error instanceof RefusedToken) return undefined;
    throw error;
  }
}

function mayRevoke(deps: StsDeps, client: IntrospectionClient, claims: AccessTokenClaims): boolean {
  if (client.resources.some((resource) => resource.identifier === claims.aud)) return true;
  const agent = client.acting?.agent.name;
  return agent !== undefined && (claims.client_id === agent || claims.aud === handOverAudience(deps.issuer, agent));
}
