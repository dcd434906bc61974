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

type ReaderDeps = Pick<StsDeps, "issuer" | "keys" | "clock">;

/**
 * An access token of ours: strictly read, signed by a token key that counts, of the right `typ`, live by its times. Whether
 * it was killed is not asked here.
 *
 * @param audience the only one accepted; absent where the endpoint judges it itself
 * @throws {RefusedToken} whatever is wrong with it
 */
export async function readOwnToken(deps: ReaderDeps, token: string, audience?: string): Promise<AccessTokenClaims> {
  return checkAccessToken(await signedPayload(deps, token), {
    issuer: deps.issuer,
    now: deps.clock.now(),
    ...(audience === undefined ? {} : { audience }),
  });
}

/**
 * As {@link readOwnToken}, after the token's end too: for whoever ends what was made of it.
 *
 * @throws {RefusedToken} whatever else is wrong with it
 */
export async function readOwnTokenOfOld(deps: ReaderDeps, token: string): Promise<AccessTokenClaims> {
  const payload = await signedPayload(deps, token);
  const exp = payload["exp"];
  const now = deps.clock.now();
  // Judged at its last moment: everything but its end must still be right.
  return checkAccessToken(payload, {
    issuer: deps.issuer,
    now: typeof exp === "number" ? Math.min(now, exp - 1) : now,
  });
}

async function signedPayload(deps: ReaderDeps, token: string): Promise<StrictJws["payload"]> {
  const jws = readOwn(token);
  checkTyp(jws.header.typ, [JWT_TYP.accessToken]);
  if (!(await deps.keys.verifier.prove(jws))) throw new RefusedToken({ reason: "token_signature" });
  return jws.payload;
}
