import { DPOP_ALGORITHMS } from "../../core/token/dpop.ts";

/** What a tool server says about itself (RFC 9728 §2). */
export interface ResourceMetadata {
  readonly resource: string;
  readonly authorization_servers: readonly string[];
  readonly bearer_methods_supported: readonly ["header"];
  readonly dpop_signing_alg_values_supported: readonly string[];
  readonly scopes_supported?: readonly string[];
}

/** Metadata of a resource, for the tool server to serve. */
export function resourceMetadata(issuer: string, resource: string, scopes?: readonly string[]): ResourceMetadata {
  return {
    resource,
    authorization_servers: [issuer],
    bearer_methods_supported: ["header"],
    dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
    ...(scopes !== undefined && { scopes_supported: scopes }),
  };
}

/**
 * Where the metadata of a resource belongs: the well-known part stands between its host and its path.
 *
 * @see RFC 9728 §3.1
 */
export function resourceMetadataUrl(resource: string): string {
  const { origin, pathname, search } = new URL(resource);
  return `${origin}/.well-known/oauth-protected-resource${pathname === "/" ? "" : pathname}${search}`;
}
