import { z } from "zod";
import { component } from "./components.ts";

/** Authorization server metadata (RFC 8414 §2), also served as OpenID configuration. */
export const serverMetadata = component(
  "AuthorizationServerMetadata",
  z.looseObject({
    issuer: z.url(),
    token_endpoint: z.url(),
    authorization_endpoint: z
      .url()
      .describe("Answers `unsupported_response_type`: nobody signs in here. MCP clients insist on it."),
    jwks_uri: z.url(),
    introspection_endpoint: z.url(),
    revocation_endpoint: z.url(),
    grant_types_supported: z.array(z.string()),
    response_types_supported: z.array(z.string()),
    token_endpoint_auth_methods_supported: z.array(z.string()),
  }),
);

/** Protected resource metadata (RFC 9728 §2). */
export const resourceMetadata = component(
  "ProtectedResourceMetadata",
  z.strictObject({
    resource: z.url(),
    authorization_servers: z.array(z.url()),
    scopes_supported: z.array(z.string()),
    bearer_methods_supported: z.array(z.literal("header")),
    dpop_signing_alg_values_supported: z.array(z.string()),
    resource_name: z.string(),
  }),
);

/** A JWK set of public keys (RFC 7517 §5). */
export const jwksShape = component(
  "JsonWebKeySet",
  z.strictObject({ keys: z.array(z.looseObject({ kty: z.string() })) }),
);
