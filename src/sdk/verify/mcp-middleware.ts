import type { VerifiedToken } from "./actors.ts";
import { guarding, type NodeMiddleware, type NodeRequest } from "./express-middleware.ts";
import { RefusedError } from "./refusal.ts";
import type { Needs, Verifier } from "./verifier.ts";

/** `AuthInfo` of the MCP TypeScript SDK; tools find it in `extra.authInfo`. */
export interface McpAuthInfo {
  readonly token: string;
  readonly clientId: string;
  readonly scopes: string[];
  /** Epoch seconds. */
  readonly expiresAt: number;
  readonly resource: URL;
  /** `ephor` is the {@link VerifiedToken}. */
  readonly extra: { readonly ephor: VerifiedToken; readonly [name: string]: unknown };
}

/** A request that the SDK's `StreamableHTTPServerTransport.handleRequest` takes: it hands `auth` on to the tools. */
export interface McpRequest extends NodeRequest {
  auth?: McpAuthInfo;
}

/**
 * Middleware in the place of the SDK's `requireBearerAuth`: it checks DPoP as well, and its challenge names what is needed.
 * `app.post("/mcp", mcpMiddleware(verifier, { scope: [] }), handler)`; each tool then calls {@link requireScope}.
 */
export function mcpMiddleware(verifier: Verifier, needs: Needs): NodeMiddleware<McpRequest> {
  return guarding(verifier, needs, (request, verified) => {
    request.ephor = verified;
    request.auth = authInfo(tokenOf(request), verified);
  });
}

/**
 * An `OAuthTokenVerifier` for the SDK's own `requireBearerAuth({ verifier, requiredScopes, resourceMetadataUrl })`. Tokens that
 * are bound to a key are refused there, since it hands on no proof: use {@link mcpMiddleware} for them.
 *
 * @param errors the SDK's `InvalidTokenError` and `ServerError` from `server/auth/errors.js`: it answers 401 only for its own class
 */
export function mcpTokenVerifier(
  verifier: Verifier,
  errors: {
    readonly InvalidTokenError: new (message: string) => Error;
    readonly ServerError: new (message: string) => Error;
  },
): { verifyAccessToken(token: string): Promise<McpAuthInfo> } {
  return {
    async verifyAccessToken(token) {
      try {
        return authInfo(token, await verifier.verify(token, { scope: [] }));
      } catch (error) {
        if (!(error instanceof RefusedError)) throw error;
        const Face = error.status === 503 ? errors.ServerError : errors.InvalidTokenError;
        throw new Face(error.body.error_description);
      }
    },
  };
}

/** A tool was called by a token that does not carry its scope. */
export class ScopeMissingError extends Error {
  override readonly name = "ScopeMissingError";
  readonly scope: string;

  constructor(scope: string) {
    super(`This tool needs the scope ${scope}.`);
    this.scope = scope;
  }
}

/**
 * For the first line of a tool: whoever calls, if the token carries the scope.
 *
 * @param extra the second argument of a tool's handler
 * @throws {ScopeMissingError} which the SDK answers as an error of that call
 */
export function requireScope(
  extra: { readonly authInfo?: { readonly extra?: unknown } },
  scope: string,
): VerifiedToken {
  const verified = (extra.authInfo?.extra as { ephor?: VerifiedToken } | undefined)?.ephor;
  if (verified?.scopes.includes(scope) !== true) throw new ScopeMissingError(scope);
  return verified;
}

function authInfo(token: string, verified: VerifiedToken): McpAuthInfo {
  const { claims, scopes } = verified;
  return {
    token,
    clientId: claims.client_id,
    scopes: [...scopes],
    expiresAt: claims.exp,
    resource: new URL(claims.aud),
    extra: { ephor: verified },
  };
}

function tokenOf(request: NodeRequest): string {
  return String(request.headers["authorization"] ?? "").replace(/^\S+ +/, "");
}
