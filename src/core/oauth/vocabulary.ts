/**
 * Names that the standards registered, spelled once.
 *
 * @see RFC 8693 §3, RFC 7523 §2, draft-ietf-oauth-transaction-tokens-10, draft-ietf-oauth-identity-assertion-authz-grant-04
 */
export const GRANT_TYPE = {
  tokenExchange: "urn:ietf:params:oauth:grant-type:token-exchange",
  clientCredentials: "client_credentials",
  jwtBearer: "urn:ietf:params:oauth:grant-type:jwt-bearer",
} as const;

/** Token type identifiers of RFC 8693 §3 and of the drafts we speak; `task` is ours (CONTRACT §5). */
export const TOKEN_TYPE = {
  accessToken: "urn:ietf:params:oauth:token-type:access_token",
  refreshToken: "urn:ietf:params:oauth:token-type:refresh_token",
  idToken: "urn:ietf:params:oauth:token-type:id_token",
  jwt: "urn:ietf:params:oauth:token-type:jwt",
  txnToken: "urn:ietf:params:oauth:token-type:txn_token",
  idJag: "urn:ietf:params:oauth:token-type:id-jag",
  task: "urn:ephor:params:oauth:token-type:task",
} as const;

/** Client assertion types: RFC 7523 §2.2 and the SPIFFE client authentication draft. */
export const CLIENT_ASSERTION_TYPE = {
  jwtBearer: "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
  jwtSpiffe: "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe",
} as const;

/** `typ` header values of everything we sign. Each reader accepts exactly one (RFC 8725 §3.11). */
export const JWT_TYP = {
  accessToken: "at+jwt",
  txnToken: "txntoken+jwt",
  introspection: "token-introspection+jwt",
  securityEvent: "secevent+jwt",
  feed: "ephor-feed+jwt",
  receipt: "ephor-receipt+jwt",
  approval: "ephor-approval+jwt",
  head: "ephor-head+jwt",
  /** For clouds, which know no other; nothing of ours reads one. */
  webIdentity: "JWT",
} as const;

/** A `typ` value of something that Ephor signs. */
export type JwtTyp = (typeof JWT_TYP)[keyof typeof JWT_TYP];

/** The profile that tells MCP clients we redeem ID-JAGs. */
export const ID_JAG_GRANT_PROFILE = "urn:ietf:params:oauth:grant-profile:id-jag";

/** The `typ` of an ID-JAG (draft-ietf-oauth-identity-assertion-authz-grant §3). */
export const ID_JAG_TYP = "oauth-id-jag+jwt";
