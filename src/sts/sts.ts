import type { StsDeps } from "./deps.ts";
import { createIntrospection } from "./introspection.ts";
import { createLiveTokens, type LiveTokens } from "./live-tokens.ts";
import type { OAuthAnswer, OAuthRequest } from "./request.ts";
import { createRevocationEndpoint } from "./revocation-endpoint.ts";
import { createTokenEndpoint } from "./token-endpoint.ts";

/** The room's endpoints. Each throws an `OAuthError` for a refusal, which is recorded by then. */
export interface Sts {
  token(request: OAuthRequest): Promise<OAuthAnswer>;
  introspect(request: OAuthRequest): Promise<OAuthAnswer>;
  revoke(request: OAuthRequest): Promise<OAuthAnswer>;
  readonly live: LiveTokens;
}

/** Opens the room. */
export function createSts(deps: StsDeps): Sts {
  const live = createLiveTokens(deps);
  return {
    token: createTokenEndpoint(deps),
    introspect: createIntrospection(deps, live),
    revoke: createRevocationEndpoint(deps),
    live,
  };
}
