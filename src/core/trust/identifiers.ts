import { canonicalTarget, isReservedTarget, isTargetUri } from "../oauth/target.ts";
import { TRUST_LIMITS } from "./limits.ts";

/** Identifier of an MCP server behind our proxy: where its clients find it, as RFC 9728 wants. */
export function mcpIdentifier(issuerUrl: string, name: string): string {
  return `${issuerUrl}/mcp/${name}`;
}

/** Identifier of an HTTP API behind our proxy. */
export function httpIdentifier(issuerUrl: string, name: string): string {
  return `${issuerUrl}/http/${name}`;
}

/** Identifier of a credential that we vend. */
export function credentialIdentifier(issuerUrl: string, name: string): string {
  return `${issuerUrl}/credentials/${name}`;
}

/** Identifier of Ephor's own API. */
export function ephorIdentifier(issuerUrl: string): string {
  return `${issuerUrl}/v1`;
}

/**
 * Why a text cannot be the identifier of a `verify` resource, or undefined.
 *
 * @param issuerUrl our own issuer: everything below it is named by us alone
 * @see RFC 8707 §2, CONTRACT §4 (identifiers of cloud token services)
 */
export function identifierProblem(text: string, issuerUrl: string): string | undefined {
  if (isReservedTarget(text)) return "is the identifier of a cloud's token service";
  if (text.length > TRUST_LIMITS.urlCharacters) return `is longer than ${TRUST_LIMITS.urlCharacters} characters`;
  if (!isTargetUri(text)) return "must be an absolute URI without a fragment, user or password";
  const own = canonicalTarget(issuerUrl).toLowerCase();
  const canonical = canonicalTarget(text).toLowerCase();
  if (canonical === own || canonical.startsWith(`${own}/`) || canonical.startsWith(`${own}?`))
    return "lies below our own issuer";
  return undefined;
}
