import type { Issuer } from "../core/trust/model.ts";
import type { Egress } from "../system/egress.ts";
import { fetchIssuerDocument, IssuerDocumentError } from "./issuer-document.ts";
import { LIMITS } from "./limits.ts";

/** A metadata document that names an issuer's keys. */
export type WellKnown = "openid-configuration" | "ssf-configuration";

/**
 * Where an issuer publishes its keys, by OIDC Discovery or a transmitter's metadata. The document's `issuer` must be the configured one byte for byte; the
 * keys may live on another host (Google's and Entra's do), but only at https, or, for an internal issuer, at loopback http.
 *
 * @throws {IssuerDocumentError} also with `issuer_mismatch` and `jwks_uri`
 * @see OpenID Connect Discovery 1.0 §4, SSF 1.0 §7.1 and §7.2
 */
export async function discoverJwksUri(
  egress: Egress,
  issuer: Issuer & { readonly url: string },
  wellKnown: WellKnown,
): Promise<string> {
  const { jwks_uri: jwksUri } = await fetchDiscovery(egress, issuer, wellKnown);
  // Which addresses http: may lead to is the egress guard's rule; any other scheme ends here.
  if (typeof jwksUri !== "string" || !/^https?:\/\//.test(jwksUri)) throw new IssuerDocumentError("jwks_uri");
  if (jwksUri.startsWith("http:") && !issuer.internal) throw new IssuerDocumentError("jwks_uri");
  return jwksUri;
}

/**
 * An issuer's metadata document, whose `issuer` is the configured one byte for byte.
 *
 * @throws {IssuerDocumentError} also with `issuer_mismatch`
 */
export async function fetchDiscovery(
  egress: Egress,
  issuer: Issuer & { readonly url: string },
  wellKnown: WellKnown,
): Promise<Readonly<Record<string, unknown>>> {
  const url = wellKnown === "ssf-configuration" ? ssfUrl(issuer.url) : discoveryUrl(issuer.url);
  const { members } = await fetchIssuerDocument(egress, url, {
    issuer,
    maxBytes: LIMITS.discoveryBytes,
    timeoutMs: LIMITS.fetchMs,
    accept: "application/json",
  });
  if (members["issuer"] !== issuer.url) throw new IssuerDocumentError("issuer_mismatch");
  return members;
}

/** OpenID Connect Discovery 1.0 §4.1: a terminating slash of the issuer is removed first. */
function discoveryUrl(issuer: string): string {
  return `${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`;
}

/** SSF 1.0 §7.2.1: between the host and the path, whose terminating slash is removed. */
function ssfUrl(issuer: string): string {
  const [, origin = issuer, path = ""] = /^(https?:\/\/[^/?#]+)(\/.*)?$/.exec(issuer) ?? [];
  return `${origin}/.well-known/ssf-configuration${path.replace(/\/$/, "")}`;
}
