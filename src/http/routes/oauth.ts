import {
  introspectAnswer,
  introspectForm,
  oauthErrorShape,
  revokeForm,
  tokenAnswer,
  tokenForm,
} from "../../api/oauth-token.ts";
import type { FormRoute, ResponseSpec } from "../route.ts";

const error = (description: string): ResponseSpec => ({ description, body: oauthErrorShape });

/** What every form endpoint may answer beside success. */
const ERRORS: Readonly<Record<number, ResponseSpec>> = {
  400: error("`invalid_request`, `invalid_scope`, `invalid_target`, `invalid_grant`, `unsupported_grant_type`, …"),
  401: error("`invalid_client`."),
  405: error("Use POST."),
  413: error("The body is larger than 64 KiB."),
  415: error("The body must be application/x-www-form-urlencoded in UTF-8."),
  503: error("The service cannot decide right now; see `Retry-After`. Nothing was issued."),
};

/** The OAuth endpoints as the document shows them; `raw.ts` serves them. */
export const formRoutes: readonly FormRoute[] = [
  {
    method: "POST",
    path: "/token",
    operationId: "issueToken",
    summary: "Token exchange, client_credentials, jwt-bearer",
    description:
      "RFC 8693, RFC 6749 §4.4, RFC 7523. The acting agent proves itself by `actor_token`, `client_assertion`, or by its own `subject_token`. " +
      "A header `DPoP` binds the token to a key (RFC 9449). Unknown parameters are ignored; repeated ones, but `resource` and `audience`, are refused.",
    tag: "OAuth",
    auth: "client",
    form: tokenForm,
    responses: { 200: { description: "A token that lives less than a minute.", body: tokenAnswer }, ...ERRORS },
  },
  {
    method: "POST",
    path: "/introspect",
    operationId: "introspectToken",
    summary: "What a token is, and whether it still lives (RFC 7662)",
    description:
      "With `Accept: application/token-introspection+jwt` the answer is signed (RFC 9701). With `consume=true` the token is used " +
      "by this: recorded, and active for one caller only, over all replicas, if it is once-only. After a 503 it may have been used.",
    tag: "OAuth",
    auth: "client",
    form: introspectForm,
    responses: { 200: { description: 'Its claims, or `{"active":false}`.', body: introspectAnswer }, ...ERRORS },
  },
  {
    method: "POST",
    path: "/revoke",
    operationId: "revokeToken",
    summary: "Kills one token (RFC 7009)",
    tag: "OAuth",
    auth: "client",
    form: revokeForm,
    responses: { 200: { description: "It is dead, or was never alive." }, ...ERRORS },
  },
];
