import { JWS_ALGORITHMS } from "../core/token/jws.ts";
import { DPOP_ALGORITHMS } from "../core/token/dpop.ts";
import { SSF_DELIVERY } from "../core/kill/ssf-vocabulary.ts";
import { GRANT_TYPE, ID_JAG_GRANT_PROFILE } from "../core/oauth/vocabulary.ts";
import type { House } from "./route.ts";

/** How agents prove themselves at `/token`: an assertion, or the workload token of the grant itself. They have no secrets. */
const TOKEN_AUTH_METHODS = ["private_key_jwt", "none"];
/** Resource servers also have secrets. */
const RESOURCE_AUTH_METHODS = ["client_secret_basic", "client_secret_post", "private_key_jwt"];

/** The facts of the house that metadata tells. Everything is by configuration; no header of a request has a say (A-CLI-10). */
export type MetadataFacts = Pick<House, "issuer" | "algorithm">;

/**
 * Authorization server metadata.
 *
 * @see RFC 8414 §2, RFC 9449 §5.1, RFC 9701 §7; MCP clients refuse a server without `authorization_endpoint`,
 * `response_types_supported` and `code_challenge_methods_supported`, although nobody signs in here
 */
export function serverMetadata({ issuer, algorithm }: MetadataFacts): object {
  return {
    issuer,
    token_endpoint: `${issuer}/token`,
    authorization_endpoint: `${issuer}/authorize`,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    introspection_endpoint: `${issuer}/introspect`,
    revocation_endpoint: `${issuer}/revoke`,
    grant_types_supported: Object.values(GRANT_TYPE),
    response_types_supported: ["code"],
    code_challenge_methods_supported: ["S256"],
    token_endpoint_auth_methods_supported: TOKEN_AUTH_METHODS,
    token_endpoint_auth_signing_alg_values_supported: JWS_ALGORITHMS,
    introspection_endpoint_auth_methods_supported: RESOURCE_AUTH_METHODS,
    introspection_endpoint_auth_signing_alg_values_supported: JWS_ALGORITHMS,
    introspection_signing_alg_values_supported: [algorithm],
    revocation_endpoint_auth_methods_supported: RESOURCE_AUTH_METHODS,
    revocation_endpoint_auth_signing_alg_values_supported: JWS_ALGORITHMS,
    dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
    authorization_grant_profiles_supported: [ID_JAG_GRANT_PROFILE],
    client_id_metadata_document_supported: false,
    service_documentation: `${issuer}/docs`,
  };
}

/** What a web-identity token says about its subject; AWS's own claims are for AWS alone. */
const IDENTITY_CLAIMS = ["iss", "sub", "aud", "iat", "exp", "jti"];

/**
 * The same for those that look for an OpenID provider only: clouds, Vault, Kubernetes, go-oidc (OpenID Discovery 1.0 §3).
 * RS256 is always there, as §3 demands, and signs what we say of ourselves to clouds.
 */
export function openIdConfiguration(facts: MetadataFacts): object {
  return {
    ...serverMetadata(facts),
    subject_types_supported: ["public"],
    id_token_signing_alg_values_supported: [...new Set([facts.algorithm, "RS256"])],
    claims_supported: IDENTITY_CLAIMS,
  };
}

/**
 * Protected resource metadata of something behind our proxy, of a credential that we vend, or of `/v1`.
 *
 * @param resource `scopes` is what a client without an idea should ask for
 * @see RFC 9728 §2, MCP authorization 2026-07-28
 */
export function resourceMetadata(
  issuer: string,
  resource: { identifier: string; name: string; scopes: readonly string[] },
): object {
  return {
    resource: resource.identifier,
    authorization_servers: [issuer],
    scopes_supported: resource.scopes,
    bearer_methods_supported: ["header"],
    dpop_signing_alg_values_supported: DPOP_ALGORITHMS,
    resource_name: resource.name,
  };
}

/**
 * What a receiver of Shared Signals must know. There are no endpoints for subjects: every stream carries all that its receiver
 * may know, and nobody can make us hold back a kill.
 *
 * @see SSF 1.0 §7.1; RFC 7617 and RFC 6749 are how receivers authenticate: a resource's secret, or a bearer token
 */
export function ssfConfiguration({ issuer }: Pick<MetadataFacts, "issuer">): object {
  return {
    spec_version: "1_0",
    issuer,
    jwks_uri: `${issuer}/.well-known/jwks.json`,
    delivery_methods_supported: [SSF_DELIVERY.push, SSF_DELIVERY.poll],
    configuration_endpoint: `${issuer}/ssf/stream`,
    status_endpoint: `${issuer}/ssf/status`,
    verification_endpoint: `${issuer}/ssf/verify`,
    critical_subject_members: ["session", "application"],
    authorization_schemes: [{ spec_urn: "urn:ietf:rfc:7617" }, { spec_urn: "urn:ietf:rfc:6749" }],
    default_subjects: "ALL",
  };
}
