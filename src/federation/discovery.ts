import type { Issuer } from "../core/trust/model.ts";
import type { Egress } from "../system/egress.ts";
import { fetchIssuerDocument, IssuerDocumentError } from "./issuer-document.ts";
import { LIMITS } from "./limits.ts";

/**
 * Where an issuer publishes its keys, by OIDC Discovery. The document's `issuer` must be the configured one byte for byte; the
 * keys may live on another host (Google's and Entra's do), but only at https, or, for an internal issuer, at loopback http.
 *
 * @throws {IssuerDocumentError} also with `issuer_mismatch` and `jwks_uri`
 * @see OpenID Connect Discovery 1.0 §4
 */
export async function discoverJwksUri(egress: Egress, issuer: Issuer & { readonly url: string }): Promise<string> {
  const { members } = await fetchIssuerDocument(egress, discoveryUrl(issuer.url), {
    issuer,
    maxBytes: LIMITS.discoveryBytes,
    timeoutMs: LIMITS.fetchMs,
    accept: "application/json",
  });
  if (members["issuer"] !== issuer.url) throw new IssuerDocumentError("issuer_mismatch");
  const jwksUri = members["jwks_uri"];
  // Which addresses http: may lead to is the egress guard's rule; any other scheme ends here.
  if (typeof jwksUri !== "string" || !/^https?:\/\//.test(jwksUri)) throw new IssuerDocumentError("jwks_uri");
  if (jwksUri.startsWith("http:") && !issuer.internal) throw new IssuerDocumentError("jwks_uri");
  return jwksUri;
}

/** OpenID Connect Discovery 1.0 §4.1: a terminating slash of the issuer is removed first. */
function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
}
