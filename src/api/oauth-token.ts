import { z } from "zod";
import { CLIENT_ASSERTION_TYPE, GRANT_TYPE, TOKEN_TYPE } from "../core/oauth/vocabulary.ts";
import { component } from "./components.ts";

/*
 * Documentation only: forms are read by core/oauth/form and each grant, since RFC 6749 §3.2 wants unknown parameters
 * ignored and repeats refused, which no schema says.
 */

const clientAssertionTypes = z.enum([CLIENT_ASSERTION_TYPE.jwtBearer, CLIENT_ASSERTION_TYPE.jwtSpiffe]);

/** The form of `POST /token` (CONTRACT §5; RFC 8693 §2.1, RFC 6749 §4.4, RFC 7523 §2.1). */
export const tokenForm = component(
  "TokenRequest",
  z.object({
    grant_type: z.enum([GRANT_TYPE.tokenExchange, GRANT_TYPE.clientCredentials, GRANT_TYPE.jwtBearer]),
    subject_token: z
      .string()
      .optional()
      .describe("A human's or a workload's token, a hand-over token, or a task handle."),
    subject_token_type: z
      .enum([TOKEN_TYPE.idToken, TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt, TOKEN_TYPE.task])
      .optional(),
    actor_token: z.string().optional().describe("The acting agent's workload token."),
    actor_token_type: z.enum([TOKEN_TYPE.idToken, TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt]).optional(),
    client_assertion: z.string().optional(),
    client_assertion_type: clientAssertionTypes.optional(),
    client_id: z.string().optional(),
    assertion: z.string().optional().describe("Grant jwt-bearer: a workload token or an ID-JAG."),
    resource: z
      .union([z.url(), z.array(z.url())])
      .optional()
      .describe("Where the token will be spent (RFC 8707)."),
    audience: z
      .union([z.string(), z.array(z.string())])
      .optional()
      .describe("A resource's name, or its identifier."),
    scope: z
      .string()
      .optional()
      .describe("Space-delimited `<resource>:<action>`, or `<resource>` for what is granted there."),
    purpose: z.string().max(200).optional(),
    ttl: z
      .string()
      .regex(/^[1-9][0-9]?$/)
      .optional()
      .describe("Seconds wanted, 1 to 59."),
    requested_token_type: z.enum([TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt, TOKEN_TYPE.txnToken]).optional(),
  }),
);

/** A token (RFC 8693 §2.2.1, RFC 6749 §5.1). */
export const tokenAnswer = component(
  "TokenResponse",
  z.strictObject({
    access_token: z.string(),
    issued_token_type: z.string(),
    token_type: z.enum(["Bearer", "DPoP", "N_A"]),
    expires_in: z.int().min(1).max(59),
    scope: z.string(),
  }),
);

/** An error by RFC 6749 §5.2. */
export const oauthErrorShape = component(
  "OAuthError",
  z.looseObject({
    error: z.string(),
    error_description: z.string().optional(),
  }),
);

/** The form of `POST /introspect` (RFC 7662 §2.1). */
export const introspectForm = component(
  "IntrospectionRequest",
  z.object({
    token: z.string(),
    token_type_hint: z.string().optional(),
    consume: z
      .enum(["true", "false"])
      .optional()
      .describe("`true`: the token is used now; a once-only one is active once."),
    client_id: z.string().optional(),
    client_secret: z.string().optional(),
    client_assertion: z.string().optional(),
    client_assertion_type: clientAssertionTypes.optional(),
  }),
);

/** What is known of a token (RFC 7662 §2.2): its claims, or `{"active":false}` and nothing else. */
export const introspectAnswer = component("IntrospectionResponse", z.looseObject({ active: z.boolean() }));

/** The form of `POST /revoke` (RFC 7009 §2.1). */
export const revokeForm = component(
  "RevocationRequest",
  z.object({
    token: z.string(),
    token_type_hint: z.string().optional(),
    client_id: z.string().optional(),
    client_secret: z.string().optional(),
    client_assertion: z.string().optional(),
    client_assertion_type: clientAssertionTypes.optional(),
  }),
);
