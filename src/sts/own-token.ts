import { checkTyp } from "../core/token/check.ts";
import { checkAccessToken } from "../core/token/access-token.ts";
import type { AccessTokenClaims } from "../core/token/claims.ts";
import { OWN_TOKEN_MAX_BYTES, readJws, type StrictJws } from "../core/token/jws.ts";
import { RefusedToken } from "../core/token/refused.ts";
import { JWT_TYP } from "../core/oauth/vocabulary.ts";
import type { StsDeps } from "./deps.ts";

/** How the header of every access token of ours begins, encoded: `{"typ":"at+jwt"` and three more characters. */
const OWN_PREFIX = Buffer.from('{"typ":"at+jwt","a').toString("base64url");

/**
 * Whether a token says that it is an access token of ours. A hint for which reader to use, nothing more: what is not ours
 * goes to the readers of outside tokens, where our issuer is not configured.
 */
export function looksOwn(deps: Pick<StsDeps, "issuer">, token: string): boolean {
  if (!token.startsWith(OWN_PREFIX)) return false;
  try {
    return readOwn(token).payload["iss"] === deps.issuer;
  } catch {
    return false;
  }
}

function readOwn(token: string): StrictJws {
  return readJws(token, { maxBytes: OWN_TOKEN_MAX_BYTES, ownHeader: true });
}

/**
 * An access token of ours: strictly read, signed by a token key that counts, of the right `typ`, live by its times. Whether
 * it was killed is not asked here.
 *
 * @param audience the only one accepted; absent where the endpoint judges it itself
 * @throws {RefusedToken} whatever is wrong with it
 */
export async function readOwnToken(
  deps: Pick<StsDeps, "issuer" | "keys" | "clock">,
  token: string,
  audience?: string,
): Promise<AccessTokenClaims> {
  const jws = readOwn(token);
  checkTyp(jws.header.typ, [JWT_TYP.accessToken]);
  if (!(await deps.keys.verifier.prove(jws))) throw new RefusedToken({ reason: "token_signature" });
  return checkAccessToken(jws.payload, {
    issuer: deps.issuer,
    now: deps.clock.now(),
    ...(audience === undefined ? {} : { audience }),
  });
}
