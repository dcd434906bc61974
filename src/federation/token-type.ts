import { checkTyp } from "../core/token/check.ts";
import { RefusedToken } from "../core/token/refused.ts";
import type { JoseHeader } from "../core/token/jws.ts";
import type { VerifiedClaims } from "../core/trust/subject.ts";
import { TOKEN_TYPE } from "../core/oauth/vocabulary.ts";

/** Claims that only ID tokens have (OpenID Connect Core 1.0 §2, §3.1.3.6, §3.3.2.11; Financial-grade API 1.0 part 2 §5.2.2.1). */
const ID_TOKEN_MARKS = ["nonce", "at_hash", "c_hash", "s_hash"];

/**
 * Refuses a token that is of another type than the caller says (A-TX-07). Few issuers type their tokens, so only what is
 * certain counts: `access_token` refuses a token without the `typ` of RFC 9068 that has an ID token's marks; `id_token` refuses
 * one with that `typ`; `jwt` takes both, and so does no type at all (a client assertion has none).
 *
 * @param tokenType `subject_token_type` or `actor_token_type`
 * @throws {RefusedToken} `token_type_unsupported`, `token_typ`
 * @see RFC 8693 §3, RFC 9068 §2.1
 */
export function checkTokenType(tokenType: string | undefined, header: JoseHeader, claims: VerifiedClaims): void {
  switch (tokenType) {
    case undefined:
    case TOKEN_TYPE.jwt:
      return;
    case TOKEN_TYPE.idToken:
      return checkTyp(header.typ, [undefined, "jwt", "jose"]);
    case TOKEN_TYPE.accessToken: {
      const hasMarks = ID_TOKEN_MARKS.some((name) => Object.hasOwn(claims, name));
      return checkTyp(header.typ, hasMarks ? ["at+jwt"] : [undefined, "jwt", "jose", "at+jwt"]);
    }
    default:
      throw new RefusedToken({ reason: "token_type_unsupported" });
  }
}
