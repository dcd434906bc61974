// The peer: oidc-provider with client_credentials, private_key_jwt and ES256 access tokens, all in memory.
import { Provider } from "oidc-provider";

process.on("disconnect", () => process.exit());
process.once("message", ({ issuer, port, signingJwk, clientJwk, resource, introspector }) => {
  const plain = {
    redirect_uris: [],
    response_types: [],
    grant_types: ["client_credentials"],
    scope: "read_invoice",
    id_token_signed_response_alg: "ES256",
  };
  const provider = new Provider(issuer, {
    jwks: { keys: [signingJwk] },
    clients: [
      {
        ...plain,
        client_id: "bot",
        token_endpoint_auth_method: "private_key_jwt",
        token_endpoint_auth_signing_alg: "ES256",
        jwks: { keys: [clientJwk] },
      },
      { ...plain, client_id: introspector.id, client_secret: introspector.secret },
    ],
    scopes: ["read_invoice"],
    clientAuthMethods: ["private_key_jwt", "client_secret_basic"],
    enabledJWA: { clientAuthSigningAlgValues: ["ES256"] },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      introspection: { enabled: true },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_ctx, indicator) => ({
          scope: "read_invoice",
          audience: indicator,
          accessTokenTTL: 45,
          accessTokenFormat: indicator === resource ? "jwt" : "opaque",
          ...(indicator === resource && { jwt: { sign: { alg: "ES256" } } }),
        }),
      },
    },
  });
  provider.on("server_error", (_ctx, error) => console.error(error));
  provider.listen(port, "127.0.0.1", () => process.send("ready"));
});
